use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{SendRequest, handshake};
use tokio::{
    io::{AsyncReadExt as _, DuplexStream, duplex},
    net::TcpSocket,
    time::Instant,
};

use super::*;
use crate::grpc::server::plain;
use crate::telemetry::exposition::Format;

/// Takes as long as the path says.
struct Slow;

impl Answer for Slow {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, _: Peer) -> Reply {
        sleep(Duration::from_secs(request.uri().path()[1..].parse().unwrap())).await;
        plain(http::StatusCode::OK, "well\n")
    }
}

/// A connection that is served, and its end: when it came, and what was counted.
fn served() -> (DuplexStream, tokio::task::JoinHandle<(Duration, String)>) {
    let (near, far) = duplex(64 << 10);
    let begin = Instant::now();
    let ended = tokio::spawn(async move {
        let metrics = Arc::new(CaMetrics::new());
        let tally = Tally(Some((Arc::clone(&metrics), "ca")));
        let (_stop, stops) = watch::channel(false);
        let peer = Peer { address: SocketAddr::from(([10, 0, 0, 1], 1)), identity: None };
        drop(speak(far, peer, Arc::new(Slow), stops, (SMALL, &tally)).await);
        (begin.elapsed(), metrics.render(Format::Text))
    });
    (near, ended)
}

fn counted(text: &str, reason: &str) -> bool {
    text.contains(&format!("sluice_control_connections_ended_total{{listener=\"ca\",reason=\"{reason}\"}} 1\n"))
}

/// A client that answers pings for as long as the connection lasts.
async fn client(near: DuplexStream) -> SendRequest<Full<Bytes>> {
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut SendRequest<Full<Bytes>>, seconds: u64) -> http::StatusCode {
    let request = Request::get(format!("http://ca/{seconds}")).body(Full::default()).unwrap();
    sender.send_request(request).await.unwrap().status()
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_not_waited_for() {
    let (_near, ended) = served();
    let (time, text) = ended.await.unwrap();
    assert!(time <= PATIENCE + LAST_CALLS, "{time:?}");
    assert!(counted(&text, "silent"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn who_speaks_http_2_and_asks_nothing_is_not_waited_for() {
    let (near, ended) = served();
    let _sender = client(near).await;
    let (time, text) = ended.await.unwrap();
    assert!(time <= PATIENCE + LAST_CALLS, "{time:?}");
    assert!(counted(&text, "silent"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_lasts_while_there_are_calls_and_a_while_longer() {
    let (near, ended) = served();
    let mut sender = client(near).await;
    assert_eq!(ask(&mut sender, 0).await, 200);
    sleep(IDLE - Duration::from_secs(1)).await;
    assert_eq!(ask(&mut sender, 3 * IDLE.as_secs()).await, 200, "a call that takes long is no pause");
    sleep(IDLE - Duration::from_secs(1)).await;
    assert_eq!(ask(&mut sender, 0).await, 200);
    let (time, text) = ended.await.unwrap();
    let expected = 6 * IDLE;
    assert!((expected - Duration::from_secs(2)..=expected + LAST_CALLS).contains(&time), "{time:?}");
    assert!(counted(&text, "idle"), "{text}");
}

#[tokio::test]
async fn one_address_cannot_take_the_places_of_others() {
    let metrics = Arc::new(CaMetrics::new());
    let door = Door::bind("--ca", SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let (address, door) = (door.address, Door { places: Shares::new(10, 2), ..door.counted(&metrics, "ca") });
    let (_stop, stops) = watch::channel(false);
    tokio::spawn(door.serve(None, Arc::new(Slow), stops));
    let from = async |last: u8| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0)).unwrap();
        socket.connect(address).await.unwrap()
    };
    let mut held = Vec::new();
    for _ in 0..2 {
        let (mut sender, connection) =
            handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(from(2).await)).await.unwrap();
        tokio::spawn(connection);
        assert_eq!(ask(&mut sender, 0).await, 200);
        held.push(sender);
    }
    let mut third = from(2).await;
    let closed = timeout(Duration::from_secs(5), third.read(&mut [0; 1])).await.expect("it is closed at once");
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    assert!(counted(&metrics.render(Format::Text), "address"));
    assert!(metrics.render(Format::Text).contains("sluice_control_connections{listener=\"ca\"} 2\n"));
    let (mut other, connection) =
        handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(from(3).await)).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(ask(&mut other, 0).await, 200);
}
