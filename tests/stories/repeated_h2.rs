//! What is repeated towards endpoints that speak HTTP/2: only what they say they have not looked at.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use harness::{
    client::{Client, request, with_body},
    frames::{Frames, code},
    gateway::Proxy,
    mesh::{HOST, Mesh, SHOP},
    raw::Raw,
    scripted::Scripted,
    yaml,
};

/// What an endpoint does with the first requests; all later ones are answered.
#[derive(Clone, Copy, Debug)]
enum First {
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this last stream and this code, then the end.
    GoAway(u32, u32),
    /// The end, without a word.
    Close,
}

struct Scene {
    mesh: Mesh,
    _gateway: Proxy,
    server: Scripted,
    requests: Arc<AtomicUsize>,
}

impl Scene {
    /// The first `times` requests meet `first`.
    async fn stand(policy: &str, first: First, times: usize) -> Self {
        let mesh = Mesh::with_edge();
        mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "http2")]));
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        let play = move |raw| {
            let count = Arc::clone(&count);
            async move { drop(serve(raw, &count, first, times).await) }
        };
        let server = Scripted::start(mesh.workload("reviews").declare(), play).await;
        mesh.routes(&format!("- {{{policy}route: [{{destination: {{host: reviews, port: {{number: 8080}}}}}}]}}"));
        let gateway = mesh.gateway().await;
        Self { mesh, _gateway: gateway, server, requests }
    }

    /// The status of a request, and how often it has arrived.
    async fn send(&self, browser: &Client, method: &str) -> (u16, usize) {
        let before = self.requests.load(Ordering::Relaxed);
        let reply = browser.call(with_body(request(method, SHOP), "a body")).await;
        (reply.code(), self.requests.load(Ordering::Relaxed) - before)
    }
}

async fn serve(raw: Raw, requests: &AtomicUsize, first: First, times: usize) -> io::Result<()> {
    let mut frames = Frames::begin(raw, &[]).await?;
    loop {
        let stream = frames.request().await?;
        if requests.fetch_add(1, Ordering::Relaxed) >= times {
            frames.answer(stream).await?;
            continue;
        }
        match first {
            First::Reset(code) => frames.reset(stream, code).await?,
            First::GoAway(last, code) => return frames.go_away(last, code).await,
            First::Close => return Ok(()),
        }
    }
}

const NONE: &str = "retries: {attempts: 0}, ";

#[tokio::test]
async fn a_refused_stream_is_repeated_as_istio_does_by_itself() {
    let scene = Scene::stand("", First::Reset(code::REFUSED_STREAM), 1).await;

    assert_eq!(scene.send(&scene.mesh.browser(), "POST").await, (200, 2));
}

#[tokio::test]
async fn a_refused_stream_is_not_repeated_more_often_than_the_policy_says() {
    let scene = Scene::stand("", First::Reset(code::REFUSED_STREAM), usize::MAX).await;
    assert_eq!(scene.send(&scene.mesh.browser().h2(), "GET").await, (503, 3), "by itself 2 attempts");

    let scene = Scene::stand(NONE, First::Reset(code::REFUSED_STREAM), usize::MAX).await;
    assert_eq!(scene.send(&scene.mesh.browser(), "GET").await, (503, 1), "attempts: 0");
}

#[tokio::test]
async fn streams_beyond_the_last_of_a_goaway_are_repeated_on_another_connection() {
    for method in ["GET", "POST"] {
        let scene = Scene::stand("", First::GoAway(0, code::NO_ERROR), 1).await;
        assert_eq!(scene.send(&scene.mesh.browser(), method).await, (200, 2), "{method}");
        assert_eq!(scene.server.connections(), 2, "{method}");

        let scene = Scene::stand(NONE, First::GoAway(0, code::NO_ERROR), 1).await;
        assert_eq!(scene.send(&scene.mesh.browser(), method).await, (503, 1), "{method}, attempts: 0");
    }
}

#[tokio::test]
async fn a_stream_that_a_goaway_includes_is_not_repeated() {
    for method in ["GET", "POST"] {
        let scene = Scene::stand("", First::GoAway(1, code::NO_ERROR), 1).await;
        assert_eq!(scene.send(&scene.mesh.browser(), method).await, (503, 1), "{method}");
    }
}

#[tokio::test]
async fn a_stream_that_an_endpoint_gave_up_is_not_repeated() {
    for first in [First::Reset(code::INTERNAL_ERROR), First::Reset(code::CANCEL), First::Close] {
        let scene = Scene::stand("", first, 1).await;
        let (status, times) = scene.send(&scene.mesh.browser(), "GET").await;
        assert!([502, 503].contains(&status), "{first:?}: {status}");
        assert_eq!(times, 1, "{first:?}");
    }
}

#[tokio::test]
async fn a_policy_repeats_streams_that_an_endpoint_gave_up() {
    for first in [First::Reset(code::INTERNAL_ERROR), First::Close, First::GoAway(1, code::NO_ERROR)] {
        let scene = Scene::stand("retries: {attempts: 2, retryOn: reset}, ", first, 2).await;
        assert_eq!(scene.send(&scene.mesh.browser().h2(), "POST").await, (200, 3), "{first:?}");
    }
}

#[tokio::test]
async fn a_connection_that_said_goaway_takes_no_further_request() {
    let mesh = Mesh::with_edge();
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "http2")]));
    let server = Scripted::start(mesh.workload("reviews").declare(), async |raw: Raw| {
        let Ok(mut frames) = Frames::begin(raw, &[]).await else { return };
        let Ok(stream) = frames.request().await else { return };
        frames.go_away(stream, code::NO_ERROR).await.ok();
        frames.answer(stream).await.ok();
        frames.closed().await;
    })
    .await;
    mesh.routes(&format!("- {{{NONE}route: [{{destination: {{host: reviews, port: {{number: 8080}}}}}}]}}"));
    let _gateway = mesh.gateway().await;
    let mut connection = mesh.browser().connect(HOST).await.expect("HTTPS works");

    for number in 1..=5 {
        let reply = connection.send(with_body(request("POST", SHOP), "a body")).await.expect("an answer");
        assert_eq!((reply.code(), server.connections()), (200, number));
    }
}
