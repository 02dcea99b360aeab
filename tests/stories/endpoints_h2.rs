//! Endpoints that speak HTTP/2: how many requests share a connection, and when a connection is given up.

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use harness::{
    client::get,
    eventually::{eventually, within},
    frames::{Frames, MAX_CONCURRENT_STREAMS},
    gateway::Proxy,
    mesh::{HOST, Mesh, SHOP},
    raw::Raw,
    scripted::Scripted,
    yaml,
};
use tokio::sync::Notify;

/// A gateway of one worker in front of `reviews`, which speaks HTTP/2 and plays `script` on each connection.
async fn behind<F>(script: impl Fn(Raw) -> F + Send + 'static) -> (Mesh, Proxy, Scripted)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mesh = Mesh::with_edge();
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "http2")]));
    let server = Scripted::start(mesh.workload("reviews").declare(), script).await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway_with(&["--workers", "1"]).await;
    (mesh, gateway, server)
}

#[tokio::test]
async fn more_requests_than_an_endpoint_takes_at_a_time_open_further_connections() {
    let (waiting, go, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (arrived, gate, longest) = (Arc::clone(&waiting), Arc::clone(&go), Arc::clone(&most));
    // Answers the requests of a connection when it is told to.
    let (mesh, _gateway, server) = behind(move |raw: Raw| {
        let (arrived, gate, longest) = (Arc::clone(&arrived), Arc::clone(&gate), Arc::clone(&longest));
        async move {
            let Ok(mut frames) = Frames::begin(raw, &[(MAX_CONCURRENT_STREAMS, 5)]).await else { return };
            let mut streams = Vec::new();
            let mut told = std::pin::pin!(gate.notified());
            told.as_mut().enable();
            loop {
                tokio::select! {
                    () = &mut told => break,
                    stream = frames.request() => match stream {
                        Ok(stream) => streams.push(stream),
                        Err(_) => return,
                    },
                }
                longest.fetch_max(streams.len(), Ordering::Relaxed);
                arrived.fetch_add(1, Ordering::Relaxed);
            }
            for stream in streams {
                frames.answer(stream).await.ok();
            }
            while let Ok(stream) = frames.request().await {
                frames.answer(stream).await.ok();
            }
        }
    })
    .await;
    let connection = mesh.browser().h2().connect(HOST).await.expect("HTTP/2 works");

    let requests = (0..18).map(|_| {
        let mut shared = connection.share();
        async move { shared.send(get(SHOP)).await.map(|reply| reply.code()) }
    });
    let all = tokio::spawn(join_all(requests));
    eventually("all of them have arrived", async || waiting.load(Ordering::Relaxed) == 18).await;
    let connections = server.connections();
    go.notify_waiters();
    let codes = all.await.expect("no panic");

    assert!(codes.iter().all(|code| matches!(code, Ok(200))), "{codes:?}");
    assert_eq!((most.load(Ordering::Relaxed), connections), (5, 4), "the most on one connection, and connections");
    let mut again = mesh.browser().connect(HOST).await.expect("HTTPS works");
    assert_eq!(again.send(get(SHOP)).await.expect("an answer").code(), 200);
    assert_eq!(server.connections(), 4, "they are used again");
}

#[tokio::test]
async fn requests_that_come_at_once_share_the_connection_that_is_being_made() {
    let (mesh, _gateway, server) = behind(async |raw: Raw| {
        let Ok(mut frames) = Frames::begin(raw, &[]).await else { return };
        while let Ok(stream) = frames.request().await {
            frames.answer(stream).await.ok();
        }
    })
    .await;
    let connection = mesh.browser().h2().connect(HOST).await.expect("HTTP/2 works");

    let requests = (0..50).map(|_| {
        let mut shared = connection.share();
        async move { shared.send(get(SHOP)).await.map(|reply| reply.code()) }
    });
    let codes = join_all(requests).await;

    assert!(codes.iter().all(|code| matches!(code, Ok(200))), "{codes:?}");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn an_endpoint_that_answers_no_ping_is_given_up_with_its_requests() {
    // The first connection takes requests and says nothing more.
    let connections = AtomicUsize::new(0);
    let (mesh, _gateway, server) = behind(move |raw: Raw| {
        let silent = connections.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            let Ok(mut frames) = Frames::begin(raw, &[]).await else { return };
            frames.pongs = !silent;
            loop {
                match frames.request().await {
                    Ok(stream) if !silent => frames.answer(stream).await.unwrap_or_default(),
                    Err(error) if error.kind() != ErrorKind::TimedOut => return,
                    Ok(_) | Err(_) => {}
                }
            }
        }
    })
    .await;
    let mut connection = mesh.browser().connect(HOST).await.expect("HTTPS works");
    let stuck = tokio::spawn(async move { connection.open(get(SHOP)).await.map(|answer| answer.status().as_u16()) });

    let took = within(PATIENCE, "the request is given up", async || stuck.is_finished()).await;

    assert_eq!(stuck.await.expect("no panic").expect("an answer"), 503, "after {took:?}");
    assert_eq!(mesh.browser().status(SHOP).await, 200);
    assert_eq!(server.connections(), 2);
}

/// The gateway asks every 30 s and waits 10 s for an answer.
const PATIENCE: Duration = Duration::from_secs(50);
