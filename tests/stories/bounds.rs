//! How much there may be of everything: what is beyond is given up in order, and counted.

use std::time::Duration;

use harness::{
    client::get,
    eventually::eventually,
    load::Load,
    mesh::{HOST, Mesh},
    origin::Origin,
    raw::{Raw, probe},
};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(5);

async fn stand(flags: &[&str]) -> (Mesh, Origin, harness::gateway::Proxy) {
    let mesh = Mesh::with_edge();
    let origin = Origin::plain(mesh.workload("reviews").declare()).await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway_with(flags).await;
    (mesh, origin, gateway)
}

#[tokio::test]
async fn a_listener_holds_as_many_connections_as_it_may() {
    let (_mesh, _origin, gateway) = stand(&["--workers", "2", "--listener-connections", "2"]).await;
    let address = gateway.addresses().second;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect(address).await.expect("the gateway listens");
        raw.send(REQUEST).await.expect("it reads");
        raw.read_until("\r\n\r\n").await.expect("it answers");
        held.push(raw);
    }

    let third = probe(address, REQUEST).await;

    assert!(third.closed && third.text.is_empty(), "{third:?}");
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("sluice_shed_total", &[("limit", "listener_connections")]), 1.0);
    held.pop();
    eventually("a place is free again", async || probe(address, REQUEST).await.status() == 200).await;
}

#[tokio::test]
async fn short_of_memory_it_serves_nobody_new_and_goes_on_living() {
    let (_mesh, origin, gateway) = stand(&["--memory-limit", "1Mi"]).await;

    gateway.logs("short of memory: new connections are closed").await;
    let heard = probe(gateway.addresses().second, REQUEST).await;

    assert!(heard.closed && heard.text.is_empty(), "{heard:?}");
    assert!(origin.requests().is_empty());
    assert!(gateway.metrics().await.sum("sluice_shed_total", &[("limit", "memory")]) >= 1.0);
}

#[tokio::test]
async fn short_of_memory_requests_on_open_connections_are_told_to_come_back() {
    let (mesh, _origin, mut gateway) = stand(&[]).await;
    let used = gateway.metrics().await.sum("process_resident_memory_bytes", &[]);
    gateway.kill();
    gateway.wait_exit(PATIENCE).await;
    let limit = format!("{}", (used * 1.2) as u64);
    let gateway = mesh.gateway_with(&["--memory-limit", &limit]).await;
    let address = gateway.addresses().second;
    let mut raw = Raw::connect(address).await.expect("the gateway listens");
    raw.send(REQUEST).await.expect("it reads");
    let before = raw.read_until("\r\n\r\n").await.expect("it answers");
    let length = before.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    raw.read(length.parse().expect("a number")).await.expect("the body comes");

    // Each half of a head holds a buffer; what an idle proxy gives back meanwhile has to be filled, too.
    let mut halves = Vec::new();
    let (heard, rest) = loop {
        for _ in 0..100 {
            let mut half = Raw::connect(address).await.expect("the gateway listens");
            half.send("GET / HTTP/1.1\r\nHost: ").await.ok();
            halves.push(half);
        }
        assert!(halves.len() < 10_000, "memory never gets short");
        raw.send(REQUEST).await.expect("it reads");
        let head = raw.read_until("\r\n\r\n").await.expect("it answers");
        if !head.starts_with("HTTP/1.1 200") {
            break (head, raw.hear(PATIENCE).await);
        }
        raw.read(length.parse().expect("a number")).await.expect("the body comes");
    };
    gateway.logs("short of memory").await;

    assert!(before.starts_with("HTTP/1.1 200"), "{before}");
    assert!(heard.starts_with("HTTP/1.1 503") && heard.contains("retry-after: 1"), "{heard}");
    assert!(rest.closed, "{rest:?}");
    eventually("the access log tells", async || gateway.access_log().contains(" 503 OM ")).await;
}

#[tokio::test]
async fn who_rests_keeps_less_of_the_program_in_memory() {
    let (mesh, _origin, gateway) = stand(&[]).await;

    for _ in 0..2 {
        let load = Load::start(&mesh.browser(), 4, &format!("https://{HOST}/"));
        load.reaches(500).await;
        let working = gateway.files_in_memory();
        let told = load.stop().await;
        assert_eq!(told.failed, 0, "{:?}", told.failures);
        let less = working * 3 / 4;
        eventually("the program's code is given back", async || gateway.files_in_memory() < less).await;
    }
}

#[tokio::test]
async fn an_old_connection_ends_in_order() {
    let (mesh, _origin, gateway) = stand(&["--connection-age", "500ms"]).await;
    let mut raw = Raw::connect(gateway.addresses().second).await.expect("the gateway listens");
    let mut two = mesh.browser().h2().connect(HOST).await.expect("the gateway serves TLS");
    let url = format!("https://{HOST}/");

    let mut answers = 0;
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            raw.send(REQUEST).await.expect("it reads");
            let head = raw.read_until("\r\n\r\n").await.expect("every request is answered");
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            answers += 1;
            if head.contains("connection: close") {
                return raw.hear(PATIENCE).await.closed;
            }
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            raw.read(length.parse().expect("a number")).await.expect("the body comes");
        }
    });
    assert!(ended.await.expect("it ends in time"));
    assert!(answers > 1);
    eventually("the HTTP/2 connection is told to go", async || two.send(get(&url)).await.is_err() || two.is_closed())
        .await;
}
