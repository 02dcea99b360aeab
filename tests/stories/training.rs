//! Traffic of every kind at full speed, for `make release`: what an executable that counts has run then tells the compiler what
//! to make fast. It is no part of the suite.

use std::time::Duration;

use harness::{
    client::{Client, get, request, with_body},
    grpc::Grpc,
    load::Load,
    mesh::{HOST, Mesh},
    websocket::WebSocket,
    workload::Workload,
    yaml,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

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

/// Many requests at once on each of few connections.
async fn at_once(client: &Client, path: &str) -> usize {
    let (mut streams, end) = (JoinSet::new(), Instant::now() + SPAN);
    for _ in 0..SHARED {
        let connection = client.connect(HOST).await.expect("the gateway speaks HTTP/2");
        for _ in 0..STREAMS {
            let (mut stream, url) = (connection.share(), url(path));
            streams.spawn(async move {
                let mut sent = 0;
                while Instant::now() < end {
                    assert_eq!(stream.send(get(&url)).await.expect("an answer").code(), 200, "{url}");
                    sent += 1;
                }
                sent
            });
        }
    }
    streams.join_all().await.iter().sum()
}

/// Each request on a connection of its own.
async fn fresh(client: &Client) -> usize {
    let (mut tasks, end) = (JoinSet::new(), Instant::now() + SPAN);
    for _ in 0..CONNECTIONS {
        let client = client.clone();
        tasks.spawn(async move {
            let mut sent = 0;
            while Instant::now() < end {
                assert_eq!(client.status(&url("/fresh")).await, 200);
                sent += 1;
            }
            sent
        });
    }
    tasks.join_all().await.iter().sum()
}

async fn uploads(client: &Client) -> usize {
    let (mut connection, end) = (client.connect(HOST).await.expect("the gateway listens"), Instant::now() + SPAN);
    let mut sent = 0;
    while Instant::now() < end {
        let body = with_body(request("POST", &url("/upload")), vec![b'x'; 100_000]);
        assert_eq!(connection.send(body).await.expect("an answer").code(), 200);
        sent += 1;
    }
    sent
}

async fn websockets(client: &Client) -> usize {
    let mut socket = WebSocket::open(client, &format!("wss://{HOST}/live")).await.expect("an upgrade");
    let (mut sent, end) = (0, Instant::now() + SPAN);
    while Instant::now() < end {
        assert_eq!(socket.ask("hello").await.expect("an echo"), "hello");
        sent += 1;
    }
    socket.close().await;
    sent
}

async fn calls(client: &Client) -> usize {
    let channel = Grpc::connect(client, &url("")).await.expect("the gateway speaks HTTP/2");
    let (mut sent, end) = (0, Instant::now() + SPAN);
    while Instant::now() < end {
        channel.unary("/echo.Echo/Unary", "hello").await.expect("an answer");
        sent += 1;
    }
    sent
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
    for sidecar in endpoints.into_iter().filter_map(|it| it.sidecar) {
        let mut sidecar = sidecar;
        sidecar.sigterm();
        assert!(sidecar.wait_exit(PATIENCE).await.success());
    }
}
