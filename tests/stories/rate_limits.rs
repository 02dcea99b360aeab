//! Limits that many clients reach at once.

use std::time::{Duration, Instant};

use harness::{
    client::get,
    eventually::SOON,
    gateway::Proxy,
    mesh::{Mesh, SHOP},
};
use tokio::task::JoinSet;

fn limited(limit: &str) -> String {
    format!(
        "apiVersion: policy.sluice.dev/v1alpha1\nkind: RateLimit\nmetadata: {{name: edge, namespace: istio-system}}\nspec: \
         {{rules: [{{limit: {limit}}}]}}\n"
    )
}

#[tokio::test]
async fn connections_of_all_workers_together_get_exactly_the_burst() {
    let mesh = Mesh::with_edge();
    let _pod = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews");
    mesh.write("limit.yaml", &limited("{requests: 1, per: day, burst: 300}"));
    let gateway = mesh.gateway().await;

    let mut clients = JoinSet::new();
    for number in 0..12 {
        let browser = if number % 2 == 0 { mesh.browser() } else { mesh.browser().h2() };
        clients.spawn(async move {
            let mut connection = browser.connect("shop.example.com").await.expect("HTTPS works");
            let mut passed = 0;
            for _ in 0..60 {
                let reply = connection.send(get(SHOP)).await.expect("an answer");
                assert!([200, 429].contains(&reply.code()), "{}", reply.code());
                passed += usize::from(reply.code() == 200);
            }
            passed
        });
    }
    let passed: usize = clients.join_all().await.into_iter().sum();

    assert_eq!(passed, 300, "of 720");
    let refused = gateway.metrics().await.sum("sluice_rate_limit_total", &[("result", "refused")]);
    assert!((refused - 420.0).abs() < 0.5, "{refused}");
}

#[tokio::test]
async fn what_drips_in_passes_and_no_more() {
    let mesh = Mesh::with_edge();
    let _pod = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews");
    mesh.write("limit.yaml", &limited("{requests: 50, per: second, burst: 10}"));
    let _gateway = mesh.gateway().await;

    let mut connection = mesh.browser().connect("shop.example.com").await.expect("HTTPS works");
    let (begun, mut passed) = (Instant::now(), 0_u32);
    while begun.elapsed() < Duration::from_secs(2) {
        passed += u32::from(connection.send(get(SHOP)).await.expect("an answer").code() == 200);
    }

    let due = 10.0 + 50.0 * begun.elapsed().as_secs_f64();
    assert!(f64::from(passed) <= due + 1.0, "{passed} of {due}");
    assert!(f64::from(passed) >= 0.6 * due, "{passed} of {due}: somebody asked all the time");
}

async fn ready(gateway: &Proxy) -> (u16, String) {
    let answer = gateway.readiness().await.expect("an answer");
    (answer.code(), answer.text())
}

#[tokio::test]
async fn a_limit_that_cannot_be_read_keeps_its_last_good_version_and_without_one_is_told() {
    let mesh = Mesh::with_edge();
    let _pod = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews");
    mesh.write("limit.yaml", &limited("{requests: 1, per: day}"));
    let mut gateway = mesh.gateway_with(&["--drain-time", "1s"]).await;
    let browser = mesh.browser();
    assert_eq!((browser.status(SHOP).await, browser.status(SHOP).await), (200, 429));
    assert_eq!(ready(&gateway).await, (200, "ready\n".to_owned()));

    let broken = limited("{requests: 0, per: day}");
    mesh.write("limit.yaml", &broken);
    gateway.logs("last good version").await;
    assert_eq!(browser.status(SHOP).await, 429, "the last good one holds");
    assert_eq!(ready(&gateway).await, (200, "ready\n".to_owned()));
    gateway.sigterm();
    gateway.wait_exit(SOON).await;

    let gateway = mesh.gateway().await;
    assert_eq!(
        (browser.status(SHOP).await, browser.status(SHOP).await),
        (200, 200),
        "nobody is turned away by mistake"
    );
    gateway.logs("nothing is limited by it until it can").await;
    let said = "ready, but RateLimit istio-system/edge cannot be read and limits nothing\n";
    assert_eq!(ready(&gateway).await, (200, said.to_owned()));
}
