use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use tokio::{
    io::{AsyncReadExt as _, DuplexStream, duplex},
    net::TcpSocket,
    time::Instant,
};

use super::*;
use tls::{
    authority::Authority,
    client::{self, ClientSpec, ClientTls, Names, Roots},
    server::{CertifiedPem, ClientAuth, ServerSpec},
    workload::WorkloadIdentity,
};

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
        let peer = Peer { address: SocketAddr::from(([10, 0, 0, 1], 1)), proof: None };
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

/// Says what the client's certificate says.
struct Mirror;

impl Answer for Mirror {
    async fn answer(self: Arc<Self>, _: Request<Incoming>, peer: Peer) -> Reply {
        let proof = peer.proof.expect("it shows one");
        let text = proof.now().map_or_else(|why| why, |it| it.spiffe.as_deref().unwrap_or_default().to_owned());
        http::Response::new(Full::new(Bytes::from(text)).boxed_unsync())
    }
}

fn server(ca: &Authority, crl: Option<&str>) -> ServerTls {
    let own = ca.issue_server(&["localhost"], IDLE).unwrap();
    let client = ClientAuth::Optional {
        roots_pem: ca.root_pem().into(),
        crl: crl.map(|crl| crl.as_bytes().to_vec()),
        sans: Vec::new(),
    };
    let certificates = vec![CertifiedPem { chain: own.chain_pem.into(), key: own.key_pem.into(), ocsp: None }];
    let spec = ServerSpec { certificates, client, alpn: vec![b"h2".to_vec()], ..ServerSpec::default() };
    ServerTls::build(&spec, None).unwrap()
}

#[tokio::test]
async fn a_certificate_that_is_revoked_or_strange_meanwhile_proves_nothing_any_more() {
    const ID: &str = "spiffe://td/ns/a/sa/b";
    let (ca, other) = (Authority::new("mesh").unwrap(), Authority::new("another").unwrap());
    let issued = ca.issue_workload(ID, IDLE).unwrap();
    let own = [issued.chain_pem.as_bytes(), issued.key_pem.as_bytes(), ca.root_pem().as_bytes()];
    let own = WorkloadIdentity::from_pem(own[0], own[1], own[2]).unwrap();
    let spec = ClientSpec {
        roots: Roots::Pem(ca.root_pem().into()),
        names: Names::Host,
        certificate: client::Certificate::Mesh,
        alpn: vec![b"h2".to_vec()],
        crl: None,
        cipher_suites: Vec::new(),
        curves: Vec::new(),
    };
    let asking = ClientTls::build(&spec, Some(&own)).unwrap();
    let (certificate, certified) = watch::channel(Some(server(&ca, None)));
    let door = Door::bind("--ca", SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = door.address;
    let (_stop, stops) = watch::channel(false);
    tokio::spawn(door.serve(Some(certified), Arc::new(Mirror), stops));
    let stream = asking.connect("localhost", TcpStream::connect(address).await.unwrap()).await.unwrap();
    let (mut sender, connection) =
        handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut says = async |server: Option<ServerTls>| {
        if let Some(server) = server {
            certificate.send_replace(Some(server));
        }
        let request = Request::get("https://localhost/").body(Full::default()).unwrap();
        let body = sender.send_request(request).await.unwrap().into_body();
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    };
    let list = |revoked: &[&str]| ca.revocation_list(revoked).unwrap();
    assert_eq!(says(None).await, ID);
    assert_eq!(says(Some(server(&ca, Some(&list(&[]))))).await, ID);
    let revoked = says(Some(server(&ca, Some(&list(&[&issued.chain_pem]))))).await;
    assert!(revoked.ends_with("is revoked"), "{revoked}");
    let strange = says(Some(server(&other, None))).await;
    assert!(strange.ends_with("was not issued by a trusted CA"), "{strange}");
    assert_eq!(says(Some(server(&ca, None))).await, ID);
}
