//! A leader that is killed in mid-order loses nothing and nothing is ordered twice: whoever leads next, the same process
//! started again or another one that shares the folder, goes on where it stopped.

use std::time::Duration;

use harness::{
    acme::AcmeMesh,
    ca_proxy::{Moment, Step},
    eventually::{SOON, eventually},
    mesh::{HOST, SHOP},
};

/// Who goes on.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// The same process, started again.
    Again,
    /// One that was there already, and answers on another address.
    Standby,
}

/// What a CA that saw this step twice may have accepted.
fn most(at: (Step, Moment), step: Step) -> usize {
    let lost = at == (step, Moment::After);
    // An order whose answer was lost cannot be found again; accounts are found by their key.
    let twice = lost && [Step::NewOrder, Step::NewAccount].contains(&step);
    if twice { 2 } else { 1 }
}

async fn killed(at: (Step, Moment), next: Next) {
    let story = format!("of a leader killed at {at:?}, {next:?}");
    let Some(acme) = AcmeMesh::start(&story, &[HOST]).await else { return };
    let number = if matches!(next, Next::Standby) { 2 } else { 1 };
    // Whoever lives on answers: a check by the CA at the moment of the kill would fail, and rightly so.
    acme.dns.set_a(HOST, &[acme.mesh.block.ip(number)]).await;
    let mut held = acme.ca.hold_next(at.0, at.1);
    // Nothing begins before the other is there to answer.
    let mut gate = acme.ca.hold_next(Step::Directory, Moment::Before);
    let mut leader = acme.replica(1).await;
    gate.reached().await;
    let standby = match next {
        Next::Again => None,
        Next::Standby => Some(acme.replica(2).await),
    };
    gate.release();
    held.reached().await;
    if at == (Step::Challenge, Moment::After) || at.0 == Step::Order {
        let answers = standby.as_ref().unwrap_or(&leader);
        let looks = || answers.access_log().matches("GET /.well-known/acme-challenge/").count();
        eventually("the CA has looked, as often as pebble does", async || looks() >= 3).await;
    }
    leader.kill();
    leader.wait_exit(SOON).await;
    drop(held);
    let follower = match standby {
        Some(standby) => standby,
        None => acme.replica(1).await,
    };

    let served = acme.served_within(Duration::from_secs(20), number, HOST).await;
    assert_eq!(acme.pebble.issued(), [served.facts.serial], "{story}");
    assert_eq!(acme.browser(number).status(SHOP).await, 200);
    for step in [Step::NewAccount, Step::NewOrder, Step::Finalize] {
        let accepted = acme.ca.accepted(step);
        assert!((1..=most(at, step)).contains(&accepted), "{story}: {step:?} was accepted {accepted} times");
    }
    assert!(!acme.pebble.log().contains("There are now 2 accounts"), "{story}");
    let log = follower.log();
    assert!(!log.contains("no certificate") && !log.contains("ERROR"), "{story}: {log}");
}

async fn killed_at(step: Step) {
    for moment in [Moment::Before, Moment::After] {
        for next in [Next::Again, Next::Standby] {
            killed((step, moment), next).await;
        }
    }
}

#[tokio::test]
async fn a_leader_killed_while_it_registers_leaves_one_account() {
    killed_at(Step::NewAccount).await;
}

#[tokio::test]
async fn a_leader_killed_while_it_orders_leaves_at_most_an_order_that_nobody_answers() {
    killed_at(Step::NewOrder).await;
}

#[tokio::test]
async fn a_leader_killed_while_it_asks_what_to_prove_leaves_an_order_to_go_on_with() {
    killed_at(Step::Authorization).await;
}

#[tokio::test]
async fn a_leader_killed_while_it_tells_the_ca_to_look_leaves_challenges_that_others_answer() {
    killed_at(Step::Challenge).await;
}

#[tokio::test]
async fn a_leader_killed_while_it_asks_how_the_order_is_doing_leaves_it_as_it_is() {
    killed_at(Step::Order).await;
}

#[tokio::test]
async fn a_leader_killed_while_it_sends_its_key_leaves_the_key() {
    killed_at(Step::Finalize).await;
}

#[tokio::test]
async fn a_leader_killed_while_it_fetches_the_certificate_leaves_it_to_be_fetched() {
    killed_at(Step::Certificate).await;
}
