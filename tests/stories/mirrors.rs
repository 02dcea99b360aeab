//! Mirrors are nobody's burden: whatever they do, requests do not notice, and what they hold is bounded.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use harness::{
    client::{Client, get, request, with_body},
    endpoint::{Call, Endpoint},
    eventually::eventually,
    gateway::Proxy,
    mesh::{HOST, Mesh, SHOP},
    message::{Answer, Ask, Version},
    raw::Raw,
    scripted::Scripted,
    talk::talk,
    yaml,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A gateway that sends everything to `reviews`, an echo app, and copies it to `ratings`.
async fn mirrored(mesh: &Mesh) -> Proxy {
    mesh.routes(
        "- {mirror: {host: ratings, port: {number: 8080}}, route: [{destination: {host: reviews, port: {number: 8080}}}]}",
    );
    mesh.gateway_with(&["--workers", "1"]).await
}

/// Waits until so many copies have come to this.
async fn counts(gateway: &Proxy, result: &str, copies: f64) {
    let what = format!("{copies} copies are counted as {result}");
    eventually(&what, async || copied(gateway, result).await >= copies).await;
}

async fn copied(gateway: &Proxy, result: &str) -> f64 {
    gateway.metrics().await.sum("sluice_mirrored_requests_total", &[("result", result)])
}

async fn ask(browser: &Client, count: usize) {
    let mut connection = browser.connect(HOST).await.expect("HTTPS works");
    for number in 0..count {
        assert_eq!(connection.send(get(SHOP)).await.expect("an answer").code(), 200, "request {number}");
    }
}

#[tokio::test]
async fn a_mirror_that_never_answers_holds_a_bounded_number_of_connections() {
    let mesh = Mesh::with_edge();
    let _reviews = mesh.workload("reviews").start().await;
    let silent = Scripted::start(mesh.workload("ratings").declare(), async |mut raw: Raw| {
        raw.read_until("\r\n\r\n").await.ok();
        raw.read(1).await.ok();
    })
    .await;
    let gateway = mirrored(&mesh).await;

    ask(&mesh.browser(), 300).await;

    counts(&gateway, "in_flight", 172.0).await;
    assert!(silent.connections() <= 128, "{}", silent.connections());
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_copied_and_passes() {
    let mesh = Mesh::with_edge();
    let _reviews = mesh.workload("reviews").start().await;
    let ratings = Scripted::start(mesh.workload("ratings").declare(), async |_| ()).await;
    let gateway = mirrored(&mesh).await;

    let post = with_body(request("POST", SHOP), "x".repeat(1_100_000));
    assert_eq!(mesh.browser().call(post).await.code(), 200);

    counts(&gateway, "body_too_large", 1.0).await;
    assert_eq!(ratings.connections(), 0);
}

#[tokio::test]
async fn copies_have_connections_of_their_own_and_keep_them() {
    let mesh = Mesh::with_edge();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&seen);
    let number = AtomicUsize::new(0);
    let server = Scripted::start(mesh.workload("reviews").declare(), move |mut raw: Raw| {
        let (heard, number) = (Arc::clone(&heard), number.fetch_add(1, Ordering::Relaxed));
        async move {
            while raw.read_until("\r\n\r\n").await.is_ok() {
                heard.lock().expect("no panic").push(number);
                if raw.send(OK).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    mesh.routes(
        "- {mirror: {host: reviews, port: {number: 8080}}, route: [{destination: {host: reviews, port: {number: 8080}}}]}",
    );
    let gateway = mesh.gateway_with(&["--workers", "1"]).await;

    let mut connection = mesh.browser().connect(HOST).await.expect("HTTPS works");
    for copies in 1..=10 {
        assert_eq!(connection.send(get(SHOP)).await.expect("an answer").code(), 200);
        counts(&gateway, "answered", f64::from(copies)).await;
    }

    assert_eq!(server.connections(), 2, "one for requests, one for copies");
    let of_first = seen.lock().expect("no panic").iter().filter(|number| **number == 0).count();
    assert_eq!(of_first, 10, "each carries what it is for");
}

#[tokio::test]
async fn trailers_are_copied_and_a_copy_is_whole() {
    let mesh = Mesh::with_edge();
    mesh.write(
        "services.yaml",
        &[("reviews", "http2"), ("ratings", "http2")]
            .map(|(name, protocol)| yaml::service("shop", name, &[(8080, protocol)]))
            .join("---\n"),
    );
    let seen = Arc::new(Mutex::new(Vec::new()));
    let play = |name: &'static str| {
        let seen = Arc::clone(&seen);
        move |mut call: Call| {
            let seen = Arc::clone(&seen);
            async move {
                let (body, trailers) = call.read().await;
                let trailer = trailers.get("x-end").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
                seen.lock().expect("no panic").push((name, body.len(), trailer));
                call.answer(Answer::new(200, name)).await;
            }
        }
    };
    let _reviews = Endpoint::start(mesh.workload("reviews").declare(), Version::Two, play("reviews")).await;
    let _ratings = Endpoint::start(mesh.workload("ratings").declare(), Version::Two, play("ratings")).await;
    let gateway = mirrored(&mesh).await;

    let post = Ask::post("/", "x".repeat(500_000)).trailer("x-end", "here");
    let answer = talk(&mesh.browser().h2(), Version::Two, HOST, post).await.expect("an answer");

    assert_eq!((answer.status, answer.text().as_str()), (200, "reviews"));
    counts(&gateway, "answered", 1.0).await;
    let mut seen = seen.lock().expect("no panic").clone();
    seen.sort();
    let whole = |name| (name, 500_000, Some("here".to_owned()));
    assert_eq!(seen, [whole("ratings"), whole("reviews")]);
}
