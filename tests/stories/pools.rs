//! Istio's connectionPool: how many connections and requests a cluster may have, and what becomes of the rest.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use harness::{
    client::Client,
    eventually::eventually,
    frames::{Frames, kind},
    gateway::Proxy,
    mesh::{Mesh, SHOP},
    raw::Raw,
    scripted::Scripted,
    yaml::{self, destination_rule},
};
use tokio::{
    sync::{Barrier, Semaphore},
    task::JoinSet,
};

const UO: &str = "upstream connect error or disconnect/reset before headers. reset reason: overflow";

/// An endpoint of HTTP/1.1 that keeps connections and answers when it is allowed to.
#[derive(Default)]
struct Counts {
    open: AtomicUsize,
    most: AtomicUsize,
    asked: AtomicUsize,
}

struct Held {
    counts: Arc<Counts>,
    answers: Arc<Semaphore>,
    server: Scripted,
}

impl Held {
    async fn behind(mesh: &Mesh) -> Self {
        let (counts, answers) = (Arc::new(Counts::default()), Arc::new(Semaphore::new(0)));
        let (seen, allowed) = (Arc::clone(&counts), Arc::clone(&answers));
        let server = Scripted::start(mesh.workload("reviews").declare(), move |mut raw: Raw| {
            let (seen, allowed) = (Arc::clone(&seen), Arc::clone(&allowed));
            async move {
                let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
                seen.most.fetch_max(open, Ordering::SeqCst);
                while raw.read_until("\r\n\r\n").await.is_ok() {
                    seen.asked.fetch_add(1, Ordering::SeqCst);
                    let Ok(permit) = allowed.acquire().await else { break };
                    permit.forget();
                    if raw.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
                        break;
                    }
                }
                seen.open.fetch_sub(1, Ordering::SeqCst);
            }
        })
        .await;
        mesh.route_all_to("reviews");
        Self { counts, answers, server }
    }

    fn asked(&self) -> usize {
        self.counts.asked.load(Ordering::SeqCst)
    }
}

/// A mesh whose service `reviews` has this connectionPool.
fn pooled(pool: &str) -> Mesh {
    let mesh = Mesh::with_edge();
    mesh.write("pool.yaml", &destination_rule("reviews", &format!("trafficPolicy: {{connectionPool: {pool}}}")));
    mesh
}

async fn limited(gateway: &Proxy, limit: &str) -> f64 {
    gateway.metrics().await.sum("sluice_cluster_limited_active", &[("limit", limit)])
}

fn requests(client: &Client, count: usize) -> JoinSet<u16> {
    (0..count).map(|_| client.clone()).map(|client| async move { client.status(SHOP).await }).collect()
}

#[tokio::test]
async fn over_the_connections_requests_wait_and_over_those_who_wait_they_are_refused() {
    let mesh = pooled("{tcp: {maxConnections: 2}, http: {http1MaxPendingRequests: 1}}");
    let held = Held::behind(&mesh).await;
    let gateway = mesh.gateway().await;
    let mut answers = JoinSet::new();
    for number in 1..=2 {
        answers.spawn({
            let browser = mesh.browser();
            async move { browser.status(SHOP).await }
        });
        eventually("the endpoint is asked", async || held.asked() == number).await;
    }
    answers.spawn({
        let browser = mesh.browser();
        async move { browser.status(SHOP).await }
    });
    eventually("a request waits", async || limited(&gateway, "pending").await == 1.0).await;

    let refused = mesh.browser().get(SHOP).await;

    assert_eq!((refused.code(), refused.text().as_str()), (503, UO));
    assert_eq!(refused.header("x-envoy-overloaded"), "true");
    let overflows = gateway.metrics().await.sum("sluice_cluster_overflow_total", &[("limit", "pending")]);
    assert_eq!(overflows, 1.0);
    held.answers.add_permits(100);
    assert_eq!(answers.join_all().await, [200; 3]);
    assert_eq!(held.counts.most.load(Ordering::SeqCst), 2);
    eventually("nobody waits", async || limited(&gateway, "pending").await == 0.0).await;
    let line = " 503 UO upstream_reset_before_response_started{overflow} ";
    eventually("it is logged", async || gateway.access_log().contains(line)).await;
}

#[tokio::test]
async fn a_request_that_waits_leaves_with_its_client_and_at_the_routes_timeout() {
    let mesh = pooled("{tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 5}}");
    let held = Held::behind(&mesh).await;
    mesh.routes("- timeout: 1s\n  match: [{uri: {prefix: /late}}]\n  route: [{destination: {host: reviews}}]\n- route: [{destination: {host: reviews}}]");
    let gateway = mesh.gateway().await;
    let mut first = requests(&mesh.browser(), 1);
    eventually("the endpoint is asked", async || held.asked() == 1).await;

    let late = mesh.browser().get(&format!("{SHOP}/late")).await;
    assert_eq!((late.code(), late.text().as_str()), (504, "upstream request timeout"));

    for browser in [mesh.browser(), mesh.browser().h2()] {
        let mut impatient = requests(&browser, 1);
        eventually("a request waits", async || limited(&gateway, "pending").await == 1.0).await;
        impatient.abort_all();
        eventually("it has left", async || limited(&gateway, "pending").await == 0.0).await;
    }

    held.answers.add_permits(1);
    assert_eq!(first.join_next().await.expect("a request").expect("no panic"), 200);
    assert_eq!(held.asked(), 1);
}

#[tokio::test]
async fn the_limit_is_the_processes_and_no_worker_keeps_a_connection_from_another() {
    let mesh = pooled("{tcp: {maxConnections: 3}}");
    let held = Held::behind(&mesh).await;
    held.answers.add_permits(10_000);
    let gateway = mesh.gateway_with(&["--workers", "4"]).await;

    for _ in 0..4 {
        let codes = requests(&mesh.browser(), 60).join_all().await;
        assert_eq!(codes, [200; 60]);
    }

    // The endpoint may not have looked yet at one that was closed when another worker opens its own: one for each of the others.
    let most = held.counts.most.load(Ordering::SeqCst);
    assert!((1..=3 + 3).contains(&most), "{most} connections");
    eventually("they rest", async || limited(&gateway, "connections").await <= 3.0).await;
    assert!(held.server.connections() < 240, "some were used again: {}", held.server.connections());
}

#[tokio::test]
async fn a_connection_of_http2_that_rests_makes_room_for_one_of_http1() {
    let mesh = pooled("{tcp: {maxConnections: 1}, http: {useClientProtocol: true}}");
    let counted = Arc::new(AtomicUsize::new(0));
    let server = Scripted::start(mesh.workload("reviews").declare(), move |mut raw: Raw| {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if !first {
                while raw.read_until("\r\n\r\n").await.is_ok() {
                    raw.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.ok();
                }
                return;
            }
            let Ok(mut frames) = Frames::begin(raw, &[]).await else { return };
            while let Ok(stream) = frames.request().await {
                frames.answer(stream).await.ok();
            }
        }
    })
    .await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway().await;

    assert_eq!(mesh.browser().h2().status(SHOP).await, 200);
    assert_eq!(limited(&gateway, "connections").await, 1.0);
    assert_eq!(mesh.browser().status(SHOP).await, 200);

    assert_eq!(server.connections(), 2);
    assert_eq!(limited(&gateway, "connections").await, 1.0);
}

#[tokio::test]
async fn a_lower_limit_holds_from_then_on_and_none_frees_who_waits() {
    let mesh = pooled("{tcp: {maxConnections: 1}}");
    let held = Held::behind(&mesh).await;
    let gateway = mesh.gateway().await;
    let answers = requests(&mesh.browser(), 3);
    eventually("the endpoint is asked", async || held.asked() == 1).await;

    mesh.write("pool.yaml", "");

    eventually("all are asked for", async || held.asked() == 3).await;
    held.answers.add_permits(3);
    assert_eq!(answers.join_all().await, [200; 3]);
    drop(gateway);
}

#[tokio::test]
async fn requests_beyond_the_most_are_refused_and_the_others_go_on() {
    let mesh = pooled("{http: {http2MaxRequests: 2}}");
    let held = Held::behind(&mesh).await;
    let gateway = mesh.gateway().await;
    let answers = requests(&mesh.browser(), 2);
    eventually("the endpoint is asked", async || held.asked() == 2).await;

    assert_eq!(mesh.browser().get(SHOP).await.text(), UO);

    held.answers.add_permits(3);
    assert_eq!(answers.join_all().await, [200; 2]);
    eventually("they are done", async || limited(&gateway, "requests").await == 0.0).await;
    assert_eq!(mesh.browser().status(SHOP).await, 200);
}

#[tokio::test]
async fn a_connection_serves_nothing_new_at_the_age_that_the_rule_says() {
    let mesh = pooled("{tcp: {maxConnectionDuration: 300ms}}");
    let held = Held::behind(&mesh).await;
    held.answers.add_permits(100);
    let _gateway = mesh.gateway().await;

    assert_eq!(mesh.browser().status(SHOP).await, 200);
    eventually("the connection has its age", async || held.counts.open.load(Ordering::SeqCst) == 0).await;
    assert_eq!(mesh.browser().status(SHOP).await, 200);
    assert_eq!(held.server.connections(), 2);
}

#[tokio::test]
async fn a_port_has_its_own_limits_and_what_is_left_out_there_has_none() {
    let mesh = Mesh::with_edge();
    let spec = "trafficPolicy:\n  connectionPool: {http: {http2MaxRequests: 1}}\n  portLevelSettings:\n  - port: {number: 8080}\n    loadBalancer: {simple: ROUND_ROBIN}";
    mesh.write("pool.yaml", &destination_rule("reviews", spec));
    let held = Held::behind(&mesh).await;
    let _gateway = mesh.gateway().await;

    let answers = requests(&mesh.browser(), 3);
    eventually("all are asked for", async || held.asked() == 3).await;
    held.answers.add_permits(3);
    assert_eq!(answers.join_all().await, [200; 3]);
}

/// An endpoint that reads a PROXY header in front of the requests of each connection, and answers with it.
async fn told(mesh: &Mesh, version: &str) -> Scripted {
    let server = Scripted::start(mesh.workload("reviews").declare(), |mut raw: Raw| async move {
        let Ok(first) = raw.read(16).await else { return };
        let header = if first.starts_with(b"PROXY ") {
            String::from_utf8_lossy(&first).into_owned() + &raw.read_until("\r\n").await.unwrap_or_default()
        } else {
            let rest = raw.read(usize::from(first[15])).await.unwrap_or_default();
            let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
            let ip = |at: usize| rest[at..at + 4].iter().map(u8::to_string).collect::<Vec<_>>().join(".");
            format!("v{:x} {} {} {} {}", first[12], ip(0), ip(4), port(8), port(10))
        };
        while raw.read_until("\r\n\r\n").await.is_ok() {
            let body = header.trim_end();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if raw.send(answer).await.is_err() {
                return;
            }
        }
    })
    .await;
    let spec = format!("trafficPolicy: {{proxyProtocol: {{version: {version}}}}}");
    mesh.write("pool.yaml", &destination_rule("reviews", &spec));
    mesh.route_all_to("reviews");
    server
}

#[tokio::test]
async fn endpoints_are_told_of_the_client_and_no_other_client_uses_that_connection() {
    for (version, word) in [("V1", "PROXY TCP4"), ("V2", "v21")] {
        let mesh = Mesh::with_edge();
        let server = told(&mesh, version).await;
        let gateway = mesh.gateway().await;
        let front = gateway.addresses().second;

        let mut seen = Vec::new();
        for client in 0..2 {
            let mut raw = Raw::connect(front).await.expect("somebody listens");
            for _ in 0..2 {
                raw.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await.expect("sent");
                let head = raw.read_until("\r\n\r\n").await.expect("a head");
                let length = head.split("ontent-").find_map(|part| {
                    part.to_lowercase()
                        .strip_prefix("length: ")
                        .and_then(|rest| rest.split("\r\n").next()?.parse().ok())
                });
                let body = raw.read(length.expect("a length")).await.expect("a body");
                seen.push(String::from_utf8(body).expect("text"));
            }
            assert_eq!(server.connections(), client + 1, "one for each client");
        }
        let words: Vec<&str> = seen[0].split(' ').collect();
        assert!(seen[0].starts_with(word), "{seen:?}");
        assert_eq!(words[words.len() - 3], front.ip().to_string(), "{seen:?}");
        assert_eq!(words[words.len() - 1], front.port().to_string(), "{seen:?}");
        assert!(seen[0] == seen[1] && seen[2] == seen[3] && seen[0] != seen[2], "{seen:?}");
    }
}

#[tokio::test]
async fn streams_of_one_connection_are_limited_and_an_idle_one_is_asked_whether_it_lives() {
    let mesh = pooled("{http: {maxConcurrentStreams: 2, http2KeepAlive: {interval: 100ms, timeout: 10s}}}");
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "http2")]));
    let (both, pings) = (Arc::new(Barrier::new(2)), Arc::new(AtomicUsize::new(0)));
    let (reached, pinged) = (Arc::clone(&both), Arc::clone(&pings));
    let address = mesh.workload("reviews").declare();
    let server = Scripted::start(address, move |raw: Raw| {
        let (both, pings) = (Arc::clone(&reached), Arc::clone(&pinged));
        async move {
            let Ok(mut frames) = Frames::begin(raw, &[]).await else { return };
            let streams = [frames.request().await, frames.request().await];
            // The other two are on another connection.
            both.wait().await;
            for stream in streams.into_iter().flatten() {
                frames.answer(stream).await.ok();
            }
            frames.pongs = false;
            while let Ok(frame) = frames.next().await {
                pings.fetch_add(usize::from(frame.kind == kind::PING), Ordering::SeqCst);
            }
        }
    })
    .await;
    mesh.route_all_to("reviews");
    let _gateway = mesh.gateway_with(&["--workers", "1"]).await;

    assert_eq!(requests(&mesh.browser(), 4).join_all().await, [200; 4]);

    assert_eq!(server.connections(), 2);
    eventually("they are asked", async || pings.load(Ordering::SeqCst) >= 2).await;
}

#[tokio::test]
async fn a_connection_of_http2_that_is_too_old_and_has_a_stream_without_end_keeps_nobody_waiting() {
    let mesh = pooled("{tcp: {maxConnections: 1, maxConnectionDuration: 300ms}}");
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "http2")]));
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&asked);
    let server = Scripted::start(mesh.workload("reviews").declare(), move |raw: Raw| {
        let seen = Arc::clone(&seen);
        async move {
            let Ok(mut frames) = Frames::begin(raw, &[]).await else { return };
            while let Ok(stream) = frames.request().await {
                // The first one never gets an answer.
                if seen.fetch_add(1, Ordering::SeqCst) > 0 {
                    frames.answer(stream).await.ok();
                }
            }
        }
    })
    .await;
    mesh.route_all_to("reviews");
    let _gateway = mesh.gateway_with(&["--workers", "1"]).await;
    let client = mesh.browser();

    let endless = requests(&client, 1);
    eventually("it is on its way", async || asked.load(Ordering::SeqCst) > 0).await;
    eventually("there is another connection", async || {
        let answered = tokio::time::timeout(std::time::Duration::from_secs(5), requests(&client, 1).join_all()).await;
        assert_eq!(answered.expect("nobody waits"), [200]);
        server.connections() == 2
    })
    .await;
    assert_eq!(endless.len(), 1, "it goes on");
}
