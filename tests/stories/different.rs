//! Requests of which no two are alike: hosts, paths, methods, principals and workloads that anybody may choose make no series
//! without end, and no memory.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use harness::{
    client::{Client, request, with_body},
    gateway::Proxy,
    mesh::{Mesh, SHOP},
    peer_metadata, yaml,
};
use tokio::task::JoinSet;

/// Connections at once.
const WIDTH: usize = 8;
/// What series of requests may come to, and the one that those beyond share (README).
const MOST_SERIES: f64 = 10_000.0;

/// How many of each.
#[derive(Clone, Copy)]
struct Crowd {
    /// Through the gateway, each with a host, a path and a method of its own.
    outside: usize,
    /// Into the sidecar, each with a host, a path, a method and a workload of its own.
    inside: usize,
    /// Identities that these have between them.
    identities: usize,
}

/// What a proxy keeps.
#[derive(Debug)]
struct Kept {
    requests: f64,
    series: f64,
    /// MiB.
    memory: f64,
    /// Bytes of a scrape.
    scrape: usize,
}

async fn kept(proxy: &Proxy) -> Kept {
    let text = proxy.admin("/stats/prometheus").await.text();
    let samples = harness::metrics::Samples::parse(&text);
    Kept {
        requests: samples.sum("istio_requests_total", &[]),
        series: samples.find("istio_requests_total", &[]).len() as f64,
        memory: samples.sum("process_resident_memory_bytes", &[]) / f64::from(1 << 20),
        scrape: text.len(),
    }
}

/// Each worker's requests one after the other, on connections that go on; every answer but a refusal of the connection is one.
async fn share(count: usize, worker: usize, client: Client, sni: String, of: impl Fn(usize) -> http::request::Builder) {
    let mut open = None;
    for number in (worker..count).step_by(WIDTH) {
        let connection = match open.take() {
            Some(connection) => open.insert(connection),
            None => open.insert(client.connect(&sni).await.expect("a connection")),
        };
        let reply = connection.send(with_body(of(number), "")).await.expect("an answer");
        assert!(matches!(reply.code(), 200 | 404 | 405 | 501), "{} {}", reply.code(), reply.text());
        if connection.is_closed() || reply.header("connection").eq_ignore_ascii_case("close") {
            open = None;
        }
    }
}

async fn outside(mesh: &Mesh, crowd: Crowd) {
    let mut tasks = JoinSet::new();
    for worker in 0..WIDTH {
        let client = mesh.browser();
        tasks.spawn(share(crowd.outside, worker, client, "shop.example.com".into(), |number| {
            // Half of the hosts are nobody's.
            let domain = if number.is_multiple_of(2) { "shop.example.com" } else { "nowhere.example.com" };
            request(&format!("M{number}"), &format!("https://h{number}.{domain}/p{number}?q={number}"))
        }));
    }
    tasks.join_all().await;
}

async fn inside(mesh: &Arc<Mesh>, crowd: Crowd, to: std::net::SocketAddr) {
    let mut tasks = JoinSet::new();
    let each = crowd.inside / crowd.identities;
    for worker in 0..WIDTH {
        let mesh = Arc::clone(mesh);
        tasks.spawn(async move {
            for identity in (worker..crowd.identities).step_by(WIDTH) {
                let client = Client::over(to, mesh.mesh_peer("shop", &format!("caller-{identity}"), "http/1.1"));
                let mut connection = client.connect("reviews").await.expect("the mesh trusts it");
                for number in identity * each..(identity + 1) * each {
                    let told = peer_metadata::header(&peer_metadata::of(&format!("w{number}-v{number}")));
                    let call = request(&format!("M{number}"), &format!("https://h{number}.example/p{number}"))
                        .header("x-envoy-peer-metadata", told)
                        .header("x-envoy-peer-metadata-id", format!("sidecar~10.0.0.7~w{number}.shop~x"));
                    let reply = connection.send(with_body(call, "")).await.expect("an answer");
                    assert!(matches!(reply.code(), 200 | 405), "{} {}", reply.code(), reply.text());
                }
            }
        });
    }
    tasks.join_all().await;
}

async fn all_different(crowd: Crowd) {
    let mesh = Mesh::with_edge();
    mesh.write("strict.yaml", &yaml::peer_authentication("shop", "STRICT"));
    let reviews = mesh.workload("reviews").sidecar().start().await;
    let to_all = "- route:\n  - destination:\n      host: reviews\n      port: {number: 8080}";
    mesh.write("routes.yaml", &yaml::virtual_service("any", "*.shop.example.com", to_all));
    mesh.write("more.yaml", &yaml::virtual_service("shop", "shop.example.com", to_all));
    let gateway = mesh.gateway().await;
    let client = mesh.browser();
    assert_eq!(client.status(SHOP).await, 200);
    let before = (kept(&gateway).await, kept(reviews.proxy()).await);

    let begun = Instant::now();
    outside(&mesh, crowd).await;
    let (after, took) = (kept(&gateway).await, begun.elapsed());
    told("gateway", crowd.outside, took, &before.0, &after);
    assert!(after.requests >= before.0.requests + crowd.outside as f64, "{after:?}");
    assert!(after.series <= before.0.series + 4.0, "hosts, paths and methods make no series: {after:?}");

    let (begun, mesh) = (Instant::now(), Arc::new(mesh));
    inside(&mesh, crowd, reviews.address).await;
    let (after, took) = (kept(reviews.proxy()).await, begun.elapsed());
    told("sidecar", crowd.inside, took, &before.1, &after);
    assert!(after.requests >= before.1.requests + crowd.inside as f64, "{after:?}");
    assert!(after.series <= MOST_SERIES + 1.0, "workloads and principals make no series without end: {after:?}");
    let most = before.1.memory + after.series * 16.0 / 1024.0 + 24.0;
    assert!(after.memory < most, "more than {most:.0} MiB: {after:?}");
    let dropped = reviews.proxy().metrics().await.sum("sluice_metrics_series_dropped_total", &[]);
    assert_eq!(dropped > 0.0, crowd.inside as f64 > MOST_SERIES, "{dropped} requests share the last series");
}

fn told(role: &str, count: usize, took: Duration, before: &Kept, after: &Kept) {
    println!(
        "{role}: {count} requests in {:.1} s; series {} and {}, memory {:.1} and {:.1} MiB, a scrape {} and {} bytes",
        took.as_secs_f64(),
        before.series,
        after.series,
        before.memory,
        after.memory,
        before.scrape,
        after.scrape,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_callers_choose_makes_no_series() {
    all_different(Crowd { outside: 2_000, inside: 500, identities: 20 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes long: make different"]
async fn a_million_different_requests_stay_within_the_bounds() {
    all_different(Crowd { outside: 500_000, inside: 500_000, identities: 2_000 }).await;
}
