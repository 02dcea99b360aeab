//! A leader that orders a certificate and dies, stands still or loses its API server: another one goes on, and the CA is
//! asked for nothing twice.

use std::time::Duration;

use futures::future::join_all;
use harness::{
    acme::{AcmeMesh, SECRET, Setting},
    acme_cluster::WORKLOAD,
    ca_proxy::{Held, Moment, Step},
    eventually::{SOON, eventually},
    gateway::Proxy,
    mesh::HOST,
};

/// A Lease ends after 15 s; then the silent replica is waited for once more, since it may still answer the CA.
const TAKEOVER: Duration = Duration::from_secs(45);

/// Two replicas, of which the first leads and is held at a step of its order.
struct Stage {
    acme: AcmeMesh,
    leader: Proxy,
    other: Proxy,
    /// The first one's name.
    name: String,
}

async fn stage(story: &str, (step, moment): (Step, Moment)) -> Option<(Stage, Held)> {
    let acme = AcmeMesh::in_cluster(story, &[HOST], Setting::default()).await?;
    let asks = acme.gateway_object();
    let mut silent = asks.clone();
    silent["metadata"]["annotations"].take();
    acme.write("edge.yaml", &silent);
    // Whoever leads, the CA reaches the one that is left.
    acme.dns.set_a(HOST, &[acme.mesh.block.ip(2)]).await;
    let leader = acme.replica(1).await;
    let name = acme.led_within(SOON, "").await;
    let other = acme.replica(2).await;
    acme.replicas_tell(2).await;
    let mut held = acme.ca.hold_next(step, moment);
    acme.write("edge.yaml", &asks);
    held.reached().await;
    Some((Stage { acme, leader, other, name }, held))
}

/// The other one finishes, and nothing was done twice.
async fn finished_by_the_other(stage: &Stage, at: (Step, Moment)) {
    let acme = &stage.acme;
    let served = acme.served_within(TAKEOVER, 2, HOST).await;
    assert_eq!(acme.pebble.issued(), [served.facts.serial], "{at:?}");
    // Of an order that was made while its maker died nobody knows the URL.
    let orders = if at == (Step::NewOrder, Moment::After) { 2 } else { 1 };
    assert_eq!(acme.ca.accepted(Step::NewOrder), orders, "{at:?}");
    assert_eq!(acme.ca.accepted(Step::Finalize), 1, "{at:?}");
    // An account that was made while its maker died is found again by its key.
    let accounts = if at == (Step::NewAccount, Moment::After) { 2 } else { 1 };
    assert_eq!(acme.ca.accepted(Step::NewAccount), accounts, "{at:?}");
    let orders = stage.other.metrics().await.sum("sluice_acme_orders_total", &[("result", "failed")]);
    assert_eq!(orders, 0.0, "{at:?}");
    assert_eq!(acme.mesh.refusals(), Vec::<String>::new(), "{at:?}");
}

async fn killed_at(step: Step, moment: Moment) {
    let Some((mut stage, held)) = stage("of a leader that is killed", (step, moment)).await else { return };
    stage.leader.kill();
    stage.leader.wait_exit(SOON).await;
    // What the CA was asked for before it is asked no more, and what it answered is lost.
    drop(held);
    finished_by_the_other(&stage, (step, moment)).await;
}

const STEPS: [Step; 7] = [
    Step::NewAccount,
    Step::NewOrder,
    Step::Authorization,
    Step::Challenge,
    Step::Order,
    Step::Finalize,
    Step::Certificate,
];

// Each takeover lasts as long as a Lease does, so they happen side by side.

#[tokio::test]
async fn a_leader_killed_before_the_ca_hears_of_a_step_is_followed_by_one_that_orders_nothing_twice() {
    join_all(STEPS.map(|step| killed_at(step, Moment::Before))).await;
}

#[tokio::test]
async fn a_leader_killed_before_it_hears_the_answer_to_a_step_is_followed_by_one_that_orders_nothing_twice() {
    join_all(STEPS.map(|step| killed_at(step, Moment::After))).await;
}

#[tokio::test]
async fn a_leader_that_ends_in_mid_order_hands_it_over_at_once() {
    let at = (Step::Challenge, Moment::Before);
    let Some((mut stage, held)) = stage("of a leader that ends in mid-order", at).await else { return };
    stage.leader.sigterm();
    stage.acme.led_within(Duration::from_secs(5), &stage.name).await;
    drop(held);
    stage.leader.wait_exit(SOON).await;
    stage.acme.served_within(SOON, 2, HOST).await;
    finished_by_the_other(&stage, at).await;
}

/// The leader stands still while another one takes over and finishes, and then goes on where it was.
async fn frozen_at(step: Step, moment: Moment) {
    let Some((stage, held)) = stage("of a leader that stands still", (step, moment)).await else { return };
    stage.leader.freeze();
    finished_by_the_other(&stage, (step, moment)).await;
    let acme = &stage.acme;
    let orders = async || acme.secret(&format!("acme-order-{SECRET}")).await.expect("the record stays");
    eventually("the order has ended", async || {
        let admin = stage.other.admin_json("/certs").await;
        admin.to_string().contains("issued")
    })
    .await;
    let before = [acme.stored_within(SOON).await, orders().await];

    stage.leader.thaw();
    held.release();
    stage.leader.logs("this replica does not lead any more").await;

    // It follows what the other one wrote.
    let served = acme.served_within(SOON, 1, HOST).await;
    assert_eq!(acme.pebble.issued(), [served.facts.serial], "{step:?} {moment:?}");
    let after = [acme.stored_within(SOON).await, orders().await];
    assert!(before == after, "{step:?} {moment:?}: the old leader has written over what the new one wrote");
    assert_ne!(acme.leader(WORKLOAD).await, stage.name);
}

#[tokio::test]
async fn a_leader_that_stood_still_in_mid_order_writes_nothing_over_what_its_successor_wrote() {
    let steps = [(Step::NewOrder, Moment::After), (Step::Finalize, Moment::After), (Step::Certificate, Moment::After)];
    join_all(steps.map(|(step, moment)| frozen_at(step, moment))).await;
}

#[tokio::test]
async fn an_api_server_that_is_away_in_mid_order_delays_the_certificate_and_costs_none() {
    let Some(acme) = AcmeMesh::in_cluster("of an API server that is away", &[HOST], Setting::default()).await else {
        return;
    };
    let mut held = acme.ca.hold_next(Step::Finalize, Moment::Before);
    let gateway = acme.replica(1).await;
    held.reached().await;
    acme.mesh.api().stop().await;
    held.release();
    eventually("the CA has given the certificate", async || acme.ca.accepted(Step::Certificate) == 1).await;
    gateway.logs("the certificate cannot be looked after").await;
    acme.mesh.api().start_again().await;

    let served = acme.served_within(TAKEOVER, 1, HOST).await;
    acme.comes_to("ResolvedRefs", ["True", "ResolvedRefs"]).await;
    assert_eq!(acme.pebble.issued(), [served.facts.serial]);
    assert_eq!(acme.ca.accepted(Step::NewOrder), 1);
}
