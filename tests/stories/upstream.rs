//! Upstreams that misbehave, and clients that leave.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use harness::{
    client::{get, request, with_body},
    eventually::eventually,
    gateway::Proxy,
    grpc::Grpc,
    mesh::{HOST, Mesh, SHOP},
    raw::Raw,
    scripted::Scripted,
    yaml,
};
use http_body_util::BodyExt;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A gateway in front of a server that plays `script` on each connection.
async fn behind<F>(script: impl Fn(Raw) -> F + Send + 'static) -> (Mesh, Proxy, Scripted)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mesh = Mesh::with_edge();
    let server = Scripted::start(mesh.workload("reviews").declare(), script).await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway().await;
    (mesh, gateway, server)
}

#[tokio::test]
async fn connections_that_the_upstream_closes_while_idle_fail_no_request() {
    let (mesh, _gateway, server) = behind(async |mut raw: Raw| {
        raw.read_until("\r\n\r\n").await.ok();
        raw.send(OK).await.ok();
        raw.finish().await;
    })
    .await;
    let mut connection = mesh.browser().connect(HOST).await.expect("HTTPS works");

    for number in 0..20 {
        let reply = connection.send(get(SHOP)).await.expect("an answer");
        assert_eq!(reply.code(), 200, "request {number}: {}", reply.text());
        eventually("the gateway has seen the end", async || server.connections() > number).await;
    }
}

#[tokio::test]
async fn an_answer_without_a_length_ends_with_the_connection() {
    let (mesh, _gateway, _server) = behind(async |mut raw: Raw| {
        raw.read_until("\r\n\r\n").await.ok();
        raw.send("HTTP/1.1 200 OK\r\n\r\nas long as it lasts").await.ok();
    })
    .await;

    assert_eq!(mesh.browser().get(SHOP).await.text(), "as long as it lasts");
    assert_eq!(mesh.browser().h2().get(SHOP).await.text(), "as long as it lasts");
}

#[tokio::test]
async fn a_truncated_answer_is_never_taken_for_a_whole_one() {
    let (mesh, _gateway, _server) = behind(async |mut raw: Raw| {
        let chunked = raw.read_until("\r\n\r\n").await.unwrap_or_default().contains("/chunked");
        let head = if chunked { "Transfer-Encoding: chunked\r\n\r\n5\r\n" } else { "Content-Length: 10\r\n\r\n" };
        raw.send(format!("HTTP/1.1 200 OK\r\n{head}half.")).await.ok();
    })
    .await;

    for path in ["/length", "/chunked"] {
        let url = format!("{SHOP}{path}");
        assert!(mesh.browser().send(get(&url)).await.is_err(), "HTTP/1.1 {path}");
        assert!(mesh.browser().h2().send(get(&url)).await.is_err(), "HTTP/2 {path}");
    }
}

#[tokio::test]
async fn an_upstream_that_speaks_no_http_or_hangs_up_is_a_5xx() {
    let (mesh, gateway, _server) = behind(async |mut raw: Raw| {
        let silent = raw.read_until("\r\n\r\n").await.unwrap_or_default().contains("/silent");
        if !silent {
            raw.send("220 mail.example.com ESMTP\r\n\r\n").await.ok();
        }
    })
    .await;

    let garbage = mesh.browser().get(&format!("{SHOP}/garbage")).await;
    let silent = mesh.browser().call(with_body(request("POST", &format!("{SHOP}/silent")), "x")).await;

    assert!([502, 503].contains(&garbage.code()), "{}", garbage.code());
    assert_eq!(silent.code(), 503);
    let flagged = async || gateway.access_log().contains(" 503 UC ");
    eventually("the access log has the flag UC", flagged).await;
}

#[tokio::test]
async fn a_refusal_during_the_upload_reaches_the_client() {
    let (mesh, _gateway, _server) = behind(async |mut raw: Raw| {
        raw.read_until("\r\n\r\n").await.ok();
        raw.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.ok();
        raw.hear(Duration::from_secs(5)).await;
    })
    .await;
    let mut raw = Raw::over(mesh.browser().dial(HOST).await.expect("HTTPS works"));

    let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100000000\r\n\r\nthe beginning");
    raw.send(head).await.expect("sent");
    let head = raw.read_until("\r\n\r\n").await.expect("an answer before the body is complete");

    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
}

#[tokio::test]
async fn large_answer_heads_pass() {
    let (mesh, _gateway, _server) = behind(async |mut raw: Raw| {
        raw.read_until("\r\n\r\n").await.ok();
        let cookie = "x".repeat(20_000);
        raw.send(format!("HTTP/1.1 200 OK\r\nSet-Cookie: {cookie}\r\nContent-Length: 2\r\n\r\nok")).await.ok();
    })
    .await;

    assert_eq!(mesh.browser().get(SHOP).await.header("set-cookie").len(), 20_000);
}

#[tokio::test]
async fn several_headers_of_one_name_stay_several() {
    let (mesh, _gateway, _server) = behind(async |mut raw: Raw| {
        raw.read_until("\r\n\r\n").await.ok();
        raw.send("HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok").await.ok();
    })
    .await;

    let reply = mesh.browser().h2().get(SHOP).await;

    let cookies: Vec<_> = reply.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_upstream_request_with_it() {
    let ended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&ended);
    let (mesh, gateway, _server) = behind(move |mut raw: Raw| {
        let ended = Arc::clone(&seen);
        async move {
            raw.read_until("\r\n\r\n").await.ok();
            let heard = raw.hear(Duration::from_secs(10)).await;
            ended.store(heard.closed, Ordering::Relaxed);
        }
    })
    .await;
    let mut raw = Raw::over(mesh.browser().dial(HOST).await.expect("HTTPS works"));
    raw.send(format!("GET /left HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await.expect("sent");
    raw.hear(Duration::from_millis(200)).await;

    drop(raw);

    eventually("the upstream connection is closed", async || ended.load(Ordering::Relaxed)).await;
    eventually("the access log has the flag DC", async || gateway.access_log().contains(" 0 DC ")).await;
}

#[tokio::test]
async fn a_dead_endpoint_among_living_ones_fails_no_request() {
    let mesh = Mesh::with_edge();
    let _living = mesh.workload("reviews").start().await;
    let _dead = mesh.workload("reviews").version("dead").declare();
    mesh.route_all_to("reviews");
    let _gateway = mesh.gateway().await;
    let mut connection = mesh.browser().connect(HOST).await.expect("HTTPS works");

    for number in 0..40 {
        let reply = connection.send(get(SHOP)).await.expect("an answer");
        assert_eq!(reply.code(), 200, "request {number}: {}", reply.text());
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_no_memory() {
    let mesh = Mesh::with_edge();
    let _reviews = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway().await;
    let memory = async || gateway.metrics().await.sum("process_resident_memory_bytes", &[]);
    let before = memory().await;

    let mut readers = Vec::new();
    for browser in [mesh.browser(), mesh.browser().h2(), mesh.plain_browser()] {
        let mut connection = browser.connect(HOST).await.expect("the gateway listens");
        let mut answer = connection.open(get(&format!("{SHOP}/bytes/1000000000"))).await.expect("a download starts");
        answer.body_mut().frame().await.expect("a first frame").expect("data");
        readers.push((connection, answer));
    }
    // Settled: twenty looks in a row without growth. A gateway that reads on for a stalled client never gets there.
    let (mut last, mut same) = (before, 0);
    eventually("the gateway stops reading for clients that do not", async || {
        let now = memory().await;
        same = if now <= last { same + 1 } else { 0 };
        last = now;
        same >= 20
    })
    .await;

    let grown = memory().await - before;
    assert!(grown < 32e6, "{} MB more", grown / 1e6);
}

#[tokio::test]
async fn two_hundred_streams_share_one_http2_connection() {
    let mesh = Mesh::with_edge();
    let _reviews = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews");
    let _gateway = mesh.gateway().await;
    let connection = mesh.browser().h2().connect(HOST).await.expect("HTTP/2 works");

    let streams = (0..200).map(|number| {
        let mut shared = connection.share();
        let url = format!("{SHOP}/delay/100?{number}");
        async move { shared.send(get(&url)).await.map(|reply| reply.code()) }
    });
    let codes = futures::future::join_all(streams).await;

    assert!(codes.iter().all(|code| matches!(code, Ok(200))), "{codes:?}");
}

#[tokio::test]
async fn a_grpc_call_to_an_upstream_that_is_gone_is_unavailable_and_finished() {
    let mesh = Mesh::with_edge();
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "grpc")]));
    let _nobody_listens = mesh.workload("reviews").declare();
    mesh.route_all_to("reviews");
    let _gateway = mesh.gateway().await;
    let channel = Grpc::connect(&mesh.browser().h2(), SHOP).await.expect("HTTP/2 works");

    let mut streaming = channel.open("/echo.Echo/BidiStream").await.expect("an open call");
    streaming.send("still sending").expect("the call is open");
    let streaming = streaming.outcome().await.expect("a finished answer, not a reset");
    let unary = channel.unary("/echo.Echo/Unary", "ping").await.expect("a finished answer, not a reset");

    assert_eq!((streaming.status, unary.status), (Some(14), Some(14)), "{streaming:?} {unary:?}");
    assert!(streaming.trailers_only && unary.trailers_only);
}

#[tokio::test]
async fn http2_clients_get_whole_answers_for_failures_with_and_without_a_body() {
    let mesh = Mesh::with_edge();
    let _nobody_listens = mesh.workload("reviews").declare();
    mesh.route_all_to("reviews");
    let _gateway = mesh.gateway().await;
    let mut connection = mesh.browser().h2().connect(HOST).await.expect("HTTP/2 works");

    for method in ["GET", "HEAD", "POST"] {
        let reply = connection.send(with_body(request(method, SHOP), "x")).await.expect("a finished answer");
        assert_eq!(reply.code(), 503, "{method}");
    }
}
