//! Faults on purpose, where time and chance are what is shown.

use std::time::{Duration, Instant};

use harness::{
    client::get,
    eventually::eventually,
    mesh::{Mesh, SHOP},
    yaml::destination_rule,
};
use tokio::time::timeout;

const ROUTE: &str = "route: [{destination: {host: reviews, port: {number: 8080}}}]";

#[tokio::test]
async fn an_abort_takes_its_share_of_the_requests() {
    let mesh = Mesh::with_edge();
    let _pod = mesh.workload("reviews").start().await;
    mesh.routes(&format!("- fault: {{abort: {{httpStatus: 555, percentage: {{value: 30}}}}}}\n  {ROUTE}"));
    let _gateway = mesh.gateway().await;

    let mut connection = mesh.browser().connect("shop.example.com").await.expect("HTTPS works");
    let mut aborted = 0;
    for _ in 0..400 {
        let reply = connection.send(get(SHOP)).await.expect("an answer");
        assert!([200, 555].contains(&reply.code()), "{}", reply.code());
        aborted += usize::from(reply.code() == 555);
    }

    assert!((75..=165).contains(&aborted), "30 % of 400 is 120, give or take five deviations: {aborted}");
}

#[tokio::test]
async fn a_request_that_is_held_back_takes_no_place_at_its_endpoint() {
    let mesh = Mesh::with_edge();
    let _pod = mesh.workload("reviews").start().await;
    mesh.write(
        "rule.yaml",
        &destination_rule("reviews", "trafficPolicy: {connectionPool: {http: {http2MaxRequests: 1}}}"),
    );
    mesh.routes(&format!(
        "- match: [{{uri: {{prefix: /held}}}}]\n  fault: {{delay: {{fixedDelay: 2s, percentage: {{value: 100}}}}}}\n  {ROUTE}\n- {ROUTE}"
    ));
    let gateway = mesh.gateway().await;

    let (browser, other) = (mesh.browser(), mesh.browser().h2());
    let held = tokio::spawn(async move { browser.get(&format!("{SHOP}/held")).await });
    let connected = async || gateway.metrics().await.sum("sluice_downstream_connections_active", &[]) >= 1.0;
    eventually("the request is there", connected).await;
    let begun = Instant::now();
    assert_eq!(other.status(SHOP).await, 200);
    assert!(begun.elapsed() < Duration::from_secs(2), "it waited for the one that is held back");
    assert!(!held.is_finished());

    assert_eq!(held.await.expect("it is answered").code(), 200);
}

#[tokio::test]
async fn a_client_that_goes_ends_its_delay() {
    let mesh = Mesh::with_edge();
    let _pod = mesh.workload("reviews").start().await;
    mesh.routes(&format!("- fault: {{delay: {{fixedDelay: 600s, percentage: {{value: 100}}}}}}\n  {ROUTE}"));
    let gateway = mesh.gateway().await;

    for browser in [mesh.browser(), mesh.browser().h2()] {
        let gone = timeout(Duration::from_millis(300), browser.get(SHOP)).await;
        assert!(gone.is_err(), "it is held back");
    }

    gateway.counts(2.0, &[("response_flags", "DI,DC"), ("response_code", "0")]).await;
}
