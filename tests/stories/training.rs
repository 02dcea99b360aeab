//! Traffic of every kind at full speed, for `make release`: what an executable that counts has run then tells the compiler what
//! to make fast. It is no part of the suite.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use harness::{
    client::{Client, Connection, get, request, with_body},
    grpc::Grpc,
    load::Load,
    mesh::{HOST, Mesh},
    websocket::WebSocket,
    workload::Workload,
    yaml,
};
use http::Request;
use http_body_util::Full;
use tokio::time::{Instant, sleep};

/// How long one kind goes on.
const SPAN: Duration = Duration::from_millis(1500);
/// Until everything has ended and the counts are written.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECTIONS: usize = 32;
/// Of HTTP/2: few connections with many streams.
const SHARED: usize = 4;
const STREAMS: usize = 16;

fn url(path: &str) -> String {
    format!("https://{HOST}{path}")
}

/// One endpoint behind its sidecar, one that speaks plain text, and one that speaks HTTP/2 behind its sidecar.
async fn endpoints(mesh: &Mesh) -> [Workload; 3] {
    let service = |name: &str, protocol: &str| yaml::service("shop", name, &[(8080, protocol)]);
    mesh.write(
        "services.yaml",
        &(service("reviews", "http") + &service("ratings", "http") + &service("details", "http2")),
    );
    mesh.routes(
        "- match: [{uri: {prefix: /ratings}}, {uri: {prefix: /upload}}]\n  \
           route: [{destination: {host: ratings, port: {number: 8080}}}]\n\
         - match: [{uri: {prefix: /details}}, {uri: {prefix: /echo.Echo}}]\n  \
           route: [{destination: {host: details, port: {number: 8080}}}]\n\
         - route: [{destination: {host: reviews, port: {number: 8080}}}]",
    );
    [
        mesh.workload("reviews").sidecar().start().await,
        mesh.workload("ratings").start().await,
        mesh.workload("details").sidecar().start().await,
    ]
}

/// One request after the other on each of some connections.
async fn one_by_one(client: &Client, path: &str) -> usize {
    let load = Load::start(client, CONNECTIONS, &url(path));
    sleep(SPAN).await;
    let told = load.stop().await;
    assert_eq!(told.failed, 0, "{path}: {:?}", told.failures);
    told.sent
}

/// Does something again and again; how often.
async fn repeat(mut once: impl AsyncFnMut()) -> usize {
    let (mut done, end) = (0, Instant::now() + SPAN);
    while Instant::now() < end {
        once().await;
        done += 1;
    }
    done
}

async fn succeeds(connection: &mut Connection, request: Request<Full<Bytes>>) {
    assert_eq!(connection.send(request).await.expect("an answer").code(), 200);
}

/// Many requests at once on each of few connections.
async fn at_once(client: &Client, path: &str) -> usize {
    let mut streams = Vec::new();
    for _ in 0..SHARED {
        let connection = client.connect(HOST).await.expect("the gateway speaks HTTP/2");
        streams.extend((0..STREAMS).map(|_| connection.share()));
    }
    let each =
        streams.into_iter().map(async |mut stream| repeat(async || succeeds(&mut stream, get(&url(path))).await).await);
    join_all(each).await.iter().sum()
}

/// Each request on a connection of its own.
async fn fresh(client: &Client) -> usize {
    let each = (0..CONNECTIONS).map(|_| repeat(async || assert_eq!(client.status(&url("/fresh")).await, 200)));
    join_all(each).await.iter().sum()
}

async fn uploads(client: &Client) -> usize {
    let mut connection = client.connect(HOST).await.expect("the gateway listens");
    let upload = || with_body(request("POST", &url("/upload")), vec![b'x'; 100_000]);
    repeat(async || succeeds(&mut connection, upload()).await).await
}

async fn websockets(client: &Client) -> usize {
    let mut socket = WebSocket::open(client, &format!("wss://{HOST}/live")).await.expect("an upgrade");
    let asked = repeat(async || assert_eq!(socket.ask("hello").await.expect("an echo"), "hello")).await;
    socket.close().await;
    asked
}

async fn calls(client: &Client) -> usize {
    let channel = Grpc::connect(client, &url("")).await.expect("the gateway speaks HTTP/2");
    repeat(async || drop(channel.unary("/echo.Echo/Unary", "hello").await.expect("an answer"))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "teaches the compiler: make release"]
async fn traffic_of_every_kind() {
    let mesh = Mesh::with_edge();
    let endpoints = endpoints(&mesh).await;
    let (one, two) = (mesh.browser(), mesh.browser().h2());
    for flags in [&[][..], &["--access-log", "off"]] {
        let mut gateway = mesh.gateway_with(flags).await;
        for path in ["/reviews", "/ratings", "/details", "/bytes/65536", "/bytes/1000000"] {
            println!("{path}: {} over HTTP/1.1", one_by_one(&one, path).await);
            println!("{path}: {} over HTTP/2", at_once(&two, path).await);
        }
        for (name, client) in [("HTTP/1.1", &one), ("HTTP/2", &two)] {
            println!("fresh connections: {} over {name}", fresh(client).await);
            println!("uploads: {} over {name}", uploads(client).await);
        }
        println!("messages of a WebSocket: {}", websockets(&one).await);
        println!("calls of gRPC: {}", calls(&two).await);
        gateway.sigterm();
        assert!(gateway.wait_exit(PATIENCE).await.success());
    }
    for mut sidecar in endpoints.into_iter().filter_map(|it| it.sidecar) {
        sidecar.sigterm();
        assert!(sidecar.wait_exit(PATIENCE).await.success());
    }
}
