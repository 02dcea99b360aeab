//! No request is run twice by itself: what is repeated is either known to be untouched, or the route says so.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use harness::{
    client::{Client, Connection, get, request, with_body},
    gateway::Proxy,
    mesh::{HOST, Mesh, SHOP},
    raw::Raw,
    scripted::Scripted,
};
use http::{Request, header::CONTENT_LENGTH};
use http_body_util::Full;

/// Requests as an endpoint of HTTP/1.1 has read them: method, target and body.
#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<Vec<(String, String)>>>);

impl Arrivals {
    /// Reads a whole request and remembers it; `None` = none came.
    async fn read(&self, raw: &mut Raw) -> Option<String> {
        let head = raw.read_until("\r\n\r\n").await.ok()?;
        let lower = head.to_ascii_lowercase();
        let length = lower.split_once("content-length: ").and_then(|(_, rest)| rest.split_once('\r')?.0.parse().ok());
        let body = raw.read(length.unwrap_or(0)).await.ok()?;
        let line = head.split(" HTTP/").next()?.to_owned();
        self.0.lock().expect("no panic").push((line.clone(), String::from_utf8_lossy(&body).into_owned()));
        Some(line)
    }

    /// How often this request has come.
    fn of(&self, line: &str) -> usize {
        self.0.lock().expect("no panic").iter().filter(|(seen, _)| seen == line).count()
    }

    fn bodies(&self) -> Vec<String> {
        self.0.lock().expect("no panic").iter().map(|(_, body)| body.clone()).collect()
    }
}

struct Scene {
    mesh: Mesh,
    _gateway: Proxy,
    _server: Scripted,
    arrivals: Arrivals,
}

impl Scene {
    /// `rest` is what the route has besides its destination: a retry policy.
    async fn stand<F>(rest: &str, script: impl Fn(Raw, Arrivals) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Option<()>> + Send + 'static,
    {
        let mesh = Mesh::with_edge();
        let arrivals = Arrivals::default();
        let seen = arrivals.clone();
        let play = move |raw| {
            let playing = script(raw, seen.clone());
            async { playing.await.unwrap_or_default() }
        };
        let server = Scripted::start(mesh.workload("reviews").declare(), play).await;
        mesh.routes(&format!("- {{{rest}route: [{{destination: {{host: reviews, port: {{number: 8080}}}}}}]}}"));
        let gateway = mesh.gateway().await;
        Self { mesh, _gateway: gateway, _server: server, arrivals }
    }

    fn browsers(&self) -> [(&'static str, Client); 2] {
        [("h1", self.mesh.browser()), ("h2", self.mesh.browser().h2())]
    }
}

const NO_POLICY: &str = "";
const NONE: &str = "retries: {attempts: 0}, ";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn call(method: &str, path: &str) -> Request<Full<bytes::Bytes>> {
    let body = if matches!(method, "PUT" | "POST" | "PATCH") { "a body" } else { "" };
    with_body(request(method, &format!("{SHOP}{path}")), body)
}

/// Reads a request and ends the connection.
async fn read_and_drop(mut raw: Raw, arrivals: Arrivals) -> Option<()> {
    arrivals.read(&mut raw).await.map(drop)
}

#[tokio::test]
async fn a_request_that_an_endpoint_has_read_and_dropped_is_not_repeated() {
    for policy in [NO_POLICY, NONE] {
        let scene = Scene::stand(policy, read_and_drop).await;
        for (version, browser) in scene.browsers() {
            for method in ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"] {
                let path = format!("/{version}");
                let reply = browser.call(call(method, &path)).await;
                assert_eq!(reply.code(), 503, "{method} {path} {policy}");
                assert_eq!(scene.arrivals.of(&format!("{method} {path}")), 1, "{method} {path} {policy}");
            }
        }
    }
}

/// Answers the first request of the first connection, and drops every other one once it is read.
fn drops_after_the_first() -> impl Fn(Raw, Arrivals) -> futures::future::BoxFuture<'static, Option<()>> + Send {
    let connections = AtomicUsize::new(0);
    move |mut raw, arrivals| {
        let first = connections.fetch_add(1, Ordering::Relaxed) == 0;
        Box::pin(async move {
            arrivals.read(&mut raw).await?;
            if first {
                raw.send(OK).await.ok()?;
                arrivals.read(&mut raw).await?;
            }
            Some(())
        })
    }
}

/// A connection of the client, whose worker keeps one of the endpoint's.
async fn warm(browser: &Client) -> Connection {
    let mut connection = browser.connect(HOST).await.expect("HTTPS works");
    assert_eq!(connection.send(get(&format!("{SHOP}/warm"))).await.expect("an answer").code(), 200);
    connection
}

#[tokio::test]
async fn an_idempotent_request_on_a_kept_connection_that_ends_is_repeated_exactly_once() {
    for policy in [NO_POLICY, NONE] {
        for method in ["GET", "PUT", "DELETE"] {
            let scene = Scene::stand(policy, drops_after_the_first()).await;
            let mut connection = warm(&scene.mesh.browser()).await;
            let reply = connection.send(call(method, "/again")).await.expect("an answer");
            assert_eq!(reply.code(), 503, "{method} {policy}");
            assert_eq!(scene.arrivals.of(&format!("{method} /again")), 2, "{method} {policy}");
        }
    }
}

#[tokio::test]
async fn a_request_that_is_not_idempotent_on_a_kept_connection_that_ends_is_not_repeated() {
    for method in ["POST", "PATCH"] {
        let scene = Scene::stand(NO_POLICY, drops_after_the_first()).await;
        let mut connection = warm(&scene.mesh.browser().h2()).await;
        let reply = connection.send(call(method, "/again")).await.expect("an answer");
        assert_eq!(reply.code(), 503, "{method}");
        assert_eq!(scene.arrivals.of(&format!("{method} /again")), 1, "{method}");
    }
}

#[tokio::test]
async fn the_repetition_of_a_request_on_a_kept_connection_is_whole_and_answered() {
    let scene = Scene::stand(NO_POLICY, async |mut raw: Raw, arrivals: Arrivals| {
        arrivals.read(&mut raw).await?;
        raw.send(OK).await.ok()?;
        arrivals.read(&mut raw).await.map(drop)
    })
    .await;
    let body = "0123456789".repeat(5000);

    for (version, browser) in scene.browsers() {
        let mut connection = warm(&browser).await;
        let put = with_body(request("PUT", &format!("{SHOP}/{version}")), body.clone());
        assert_eq!(connection.send(put).await.expect("an answer").code(), 200, "{version}");
        let mut bodies = scene.arrivals.bodies();
        bodies.retain(|body| !body.is_empty());
        assert_eq!(bodies.len(), 2, "{version}");
        assert!(bodies.iter().all(|seen| *seen == body), "{version}");
        scene.arrivals.0.lock().expect("no panic").clear();
    }
}

#[tokio::test]
async fn a_kept_connection_that_ends_after_the_first_byte_of_an_answer_repeats_nothing() {
    let scene = Scene::stand(NO_POLICY, async |mut raw: Raw, arrivals: Arrivals| {
        arrivals.read(&mut raw).await?;
        raw.send(OK).await.ok()?;
        arrivals.read(&mut raw).await?;
        raw.send("HTTP/1.1 2").await.ok()
    })
    .await;
    let mut connection = warm(&scene.mesh.browser()).await;

    let reply = connection.send(call("GET", "/again")).await.expect("an answer");

    assert!([502, 503].contains(&reply.code()), "{}", reply.code());
    assert_eq!(scene.arrivals.of("GET /again"), 1);
}

#[tokio::test]
async fn a_policy_repeats_as_often_as_it_says() {
    let scene = Scene::stand("retries: {attempts: 3, retryOn: 'reset'}, ", read_and_drop).await;

    for (version, browser) in scene.browsers() {
        for method in ["GET", "POST"] {
            let path = format!("/{version}");
            assert_eq!(browser.call(call(method, &path)).await.code(), 503, "{method} {version}");
            assert_eq!(scene.arrivals.of(&format!("{method} {path}")), 4, "{method} {version}");
        }
    }
}

#[tokio::test]
async fn a_policy_without_resets_repeats_none_of_them() {
    let scene =
        Scene::stand("retries: {attempts: 3, retryOn: 'connect-failure,refused-stream'}, ", read_and_drop).await;

    assert_eq!(scene.mesh.browser().call(call("GET", "/")).await.code(), 503);
    assert_eq!(scene.arrivals.of("GET /"), 1);
}

#[tokio::test]
async fn a_policy_for_resets_before_the_request_repeats_nothing_that_an_endpoint_has_read() {
    // As in Envoy it is about requests whose head has not been sent (envoyproxy/envoy#35074); `reset` is about the others.
    let scene = Scene::stand("retries: {attempts: 3, retryOn: reset-before-request}, ", read_and_drop).await;

    assert_eq!(scene.mesh.browser().call(call("POST", "/")).await.code(), 503);
    assert_eq!(scene.arrivals.of("POST /"), 1);
}

/// Drops the first request of each path when it is read, half or whole, and answers the second one.
fn drops_the_first() -> impl Fn(Raw, Arrivals) -> futures::future::BoxFuture<'static, Option<()>> + Send {
    let seen = Arc::new(Mutex::new(Vec::new()));
    move |mut raw, arrivals| {
        let seen = Arc::clone(&seen);
        Box::pin(async move {
            let head = raw.read_until("\r\n\r\n").await.ok()?;
            let lower = head.to_ascii_lowercase();
            let length: usize = lower.split_once("content-length: ")?.1.split_once('\r')?.0.parse().ok()?;
            let path = head.split(' ').nth(1)?.to_owned();
            let first = !seen.lock().expect("no panic").contains(&path);
            seen.lock().expect("no panic").push(path.clone());
            let read = if first && path.contains("half") { length / 2 } else { length };
            let body = raw.read(read).await.ok()?;
            arrivals.0.lock().expect("no panic").push((path, String::from_utf8_lossy(&body).into_owned()));
            if first { Some(()) } else { raw.send(OK).await.ok() }
        })
    }
}

#[tokio::test]
async fn a_body_is_sent_again_whole() {
    let scene = Scene::stand("retries: {attempts: 2, retryOn: reset}, ", drops_the_first()).await;
    let body: String = (0..10_000).map(|number| format!("{number:05}")).collect();

    for (version, browser) in scene.browsers() {
        for path in ["half", "whole"] {
            let url = format!("{SHOP}/{version}/{path}");
            let call = request("POST", &url).header(CONTENT_LENGTH, body.len());
            assert_eq!(browser.call(with_body(call, body.clone())).await.code(), 200, "{url}");
            let bodies = scene.arrivals.bodies();
            assert!(bodies.last().is_some_and(|last| *last == body), "{url}: {} bodies", bodies.len());
        }
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_to_keep_is_not_sent_again() {
    let scene = Scene::stand("retries: {attempts: 2, retryOn: reset}, ", drops_the_first()).await;
    let body = "x".repeat(1_100_000);

    for (version, browser) in scene.browsers() {
        let call = request("POST", &format!("{SHOP}/{version}")).header(CONTENT_LENGTH, body.len());
        assert_eq!(browser.call(with_body(call, body.clone())).await.code(), 503, "{version}");
        assert_eq!(scene.arrivals.of(&format!("/{version}")), 1, "{version}");
    }
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_followed_by_another() {
    let tries = AtomicUsize::new(0);
    let policy = "retries: {attempts: 2, perTryTimeout: 200ms, retryOn: 5xx}, ";
    let scene = Scene::stand(policy, move |mut raw: Raw, arrivals: Arrivals| {
        let number = tries.fetch_add(1, Ordering::Relaxed);
        async move {
            let line = arrivals.read(&mut raw).await?;
            if number.is_multiple_of(2) || line.contains("/never") {
                raw.hear(Duration::from_secs(10)).await;
                return None;
            }
            raw.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await.ok()?;
            Some(())
        }
    })
    .await;

    for (version, browser) in scene.browsers() {
        let reply = browser.call(call("POST", &format!("/{version}"))).await;
        assert_eq!(reply.code(), 200, "{version}");
        assert_eq!(scene.arrivals.of(&format!("POST /{version}")), 2, "{version}");
    }
    assert!([503, 504].contains(&scene.mesh.browser().call(call("GET", "/never")).await.code()));
    assert_eq!(scene.arrivals.of("GET /never"), 3);
    assert!(scene.arrivals.bodies().iter().all(|body| body.is_empty() || body == "a body"));
}

#[tokio::test]
async fn a_status_is_another_try_only_when_the_policy_names_it() {
    let script = async |mut raw: Raw, arrivals: Arrivals| {
        let line = arrivals.read(&mut raw).await?;
        let again = arrivals.of(&line) > 1;
        let status = if again { "200 OK" } else { "503 Service Unavailable" };
        raw.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")).await.ok()
    };

    for (policy, code, times) in
        [("retries: {attempts: 2, retryOn: '503'}, ", 200, 2), (NO_POLICY, 503, 1), (NONE, 503, 1)]
    {
        let scene = Scene::stand(policy, script).await;
        for method in ["GET", "POST"] {
            assert_eq!(scene.mesh.browser().call(call(method, "/")).await.code(), code, "{method} {policy}");
            assert_eq!(scene.arrivals.of(&format!("{method} /")), times, "{method} {policy}");
        }
    }
}
