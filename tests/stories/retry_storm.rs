//! Endpoints that answer 503 to everything: they get a little more than the requests there are, and recover at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use harness::{
    eventually::within,
    load::Load,
    mesh::{Mesh, SHOP},
    raw::Raw,
    scripted::Scripted,
    yaml::destination_rule,
};

/// Requests that endpoints have read, and whether they are well.
#[derive(Clone, Default)]
struct Ward {
    attempts: Arc<AtomicUsize>,
    well: Arc<AtomicBool>,
}

impl Ward {
    async fn serve(self, mut raw: Raw) {
        while raw.read_until("\r\n\r\n").await.is_ok() {
            self.attempts.fetch_add(1, Ordering::Relaxed);
            let status = if self.well.load(Ordering::Relaxed) { "200 OK" } else { "503 Service Unavailable" };
            if raw.send(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nab")).await.is_err() {
                return;
            }
        }
    }
}

/// Requests at full speed for so many of them, with the attempts that endpoints saw; then they heal, and every answer has to be
/// 200 within 2 s.
async fn storm(rule: &str) -> (usize, usize) {
    let mesh = Mesh::with_edge();
    let ward = Ward::default();
    let play = ward.clone();
    let _one = Scripted::start(mesh.workload("reviews").declare(), move |raw| play.clone().serve(raw)).await;
    let play = ward.clone();
    let second = mesh.workload("reviews").version("v2").declare();
    let _two = Scripted::start(second, move |raw| play.clone().serve(raw)).await;
    mesh.write("rule.yaml", rule);
    mesh.routes(
        "- {retries: {attempts: 3, retryOn: 5xx, backoff: 1ms}, route: [{destination: {host: reviews, port: {number: 8080}}}]}",
    );
    let gateway = mesh.gateway().await;

    let load = Load::start(&mesh.browser(), 20, SHOP);
    load.reaches(2_000).await;
    let result = load.stop().await;
    assert_eq!(result.failed, result.sent, "nobody is well: {:?}", result.failures);
    let attempts = ward.attempts.load(Ordering::Relaxed);
    let metrics = gateway.metrics().await;
    assert!(metrics.sum("sluice_retries_total", &[("result", "over_budget")]) > 0.0);
    let begun = metrics.sum("sluice_retries_total", &[("result", "begun")]);
    assert_eq!(begun as usize, attempts - result.sent);

    ward.well.store(true, Ordering::Relaxed);
    let load = Load::start(&mesh.browser(), 20, SHOP);
    within(Duration::from_secs(2), "requests are answered", async || load.sent() > 100).await;
    let healed = load.stop().await;
    assert_eq!(healed.failed, 0, "{:?}", healed.failures);
    (result.sent, attempts)
}

#[tokio::test]
async fn a_storm_of_retries_stays_within_the_default_budget() {
    let (requests, attempts) = storm("").await;
    println!("{requests} requests, {attempts} attempts");
    assert!(attempts <= requests + requests / 5, "{attempts} attempts for {requests} requests");
    assert!(attempts > requests, "what is within the budget is tried");
}

#[tokio::test]
async fn a_storm_of_retries_stays_within_a_budget_that_is_given() {
    let rule = destination_rule("reviews", "trafficPolicy: {retryBudget: {percent: 10, minRetryConcurrency: 1}}");
    let (requests, attempts) = storm(&rule).await;
    println!("{requests} requests, {attempts} attempts");
    assert!(attempts <= requests + requests / 10, "{attempts} attempts for {requests} requests");
    assert!(attempts > requests, "what is within the budget is tried");
}
