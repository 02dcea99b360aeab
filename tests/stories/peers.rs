//! Who calls is known where it arrives: what proxies of the mesh tell each other of their workloads, in headers and before the first
//! byte of connections that carry no HTTP.

use std::{io::ErrorKind, net::SocketAddr, sync::Arc, time::Duration};

use harness::{
    client::{Client, request, with_body},
    eventually::eventually,
    gateway::Proxy,
    listening::Listening,
    mesh::{Mesh, SHOP},
    peer_metadata::{self, PROTOCOL},
    pki::spiffe,
    tls_peer::{self, TlsClient},
    workload::{Workload, service},
    yaml::{self, peer_authentication},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::opaque::{PLAIN, gateway, routes, say};

const METADATA: &str = "x-envoy-peer-metadata";
const METADATA_ID: &str = "x-envoy-peer-metadata-id";

/// A STRICT mesh with `reviews`, whose sidecar learns who calls.
async fn reviews() -> (Mesh, Workload) {
    let mesh = Mesh::with_edge();
    mesh.write("strict.yaml", &peer_authentication("shop", "STRICT"));
    let reviews = mesh.workload("reviews").sidecar().start().await;
    (mesh, reviews)
}

/// A mesh peer of service account `ratings` that tells something in this header.
async fn told(mesh: &Mesh, to: &Workload, value: Option<&str>) -> harness::reply::Reply {
    let call = value.into_iter().fold(request("GET", "https://reviews.example/"), |call, value| {
        call.header(METADATA, value).header(METADATA_ID, "sidecar~10.0.0.7~peer.shop~shop.svc.cluster.local")
    });
    Client::over(to.address, mesh.mesh_peer("shop", "ratings", "http/1.1")).call(with_body(call, "")).await
}

async fn claims(proxy: &Proxy, result: &str) -> f64 {
    proxy.metrics().await.sum("sluice_peer_metadata_total", &[("result", result)])
}

#[tokio::test]
async fn a_destination_knows_the_workload_that_calls_and_its_application_is_told_nothing() {
    let (mesh, reviews) = reviews().await;
    mesh.route_all_to("reviews");
    let web = mesh.workload("web").version("v3").sidecar().start().await;
    let _gateway = mesh.gateway().await;

    let replies = [
        Client::plain(web.outbound()).get("http://reviews:8080/").await,
        mesh.browser().get(&format!("{SHOP}/")).await,
        mesh.browser().h2().get(&format!("{SHOP}/")).await,
    ];

    for reply in replies {
        assert_eq!(reply.code(), 200, "{}", reply.text());
        assert_eq!(
            (reply.saw(METADATA), reply.saw(METADATA_ID)),
            (String::new(), String::new()),
            "its proxy's business"
        );
        assert_eq!((reply.header(METADATA), reply.header(METADATA_ID)), ("", ""), "and nobody's who asks");
    }
    let from_web = [
        ("reporter", "destination"),
        ("source_workload", "web-v3"),
        ("source_workload_namespace", "shop"),
        ("source_canonical_service", "web"),
        ("source_canonical_revision", "v3"),
        ("source_app", "web"),
        ("source_version", "v3"),
        ("source_cluster", "Kubernetes"),
        ("source_principal", &*spiffe("shop", "web")),
        ("response_code", "200"),
    ];
    reviews.proxy().counts(1.0, &from_web).await;
    let from_edge = [("source_workload", "istio-ingressgateway"), ("source_workload_namespace", "istio-system")];
    reviews.proxy().counts(2.0, &from_edge).await;
    let known = claims(reviews.proxy(), "known").await;
    assert!((2.0..=3.0).contains(&known), "once on each connection, of which the gateway has one or two: {known}");
}

#[tokio::test]
async fn what_a_proxy_of_istio_tells_is_read_and_answered() {
    let (mesh, reviews) = reviews().await;

    let reply = told(&mesh, &reviews, Some(&peer_metadata::header(&peer_metadata::of("ratings-v7")))).await;

    assert_eq!((reply.code(), reply.saw(METADATA)), (200, String::new()), "{}", reply.text());
    let own = peer_metadata::read_header(reply.header(METADATA));
    for (key, value) in [
        ("NAMESPACE", "shop"),
        ("WORKLOAD_NAME", "reviews-v1"),
        ("CLUSTER_ID", "Kubernetes"),
        ("IDENTITY", &*spiffe("shop", "reviews")),
        ("LABELS.app", "reviews"),
        ("LABELS.service.istio.io/canonical-name", "reviews"),
    ] {
        assert_eq!(own.get(key).map(String::as_str), Some(value), "{own:?}");
    }
    let node = format!("sidecar~{}~reviews-v1.shop~shop.svc.cluster.local", reviews.address.ip());
    assert_eq!(reply.header(METADATA_ID), node);
    let labels = [("source_workload", "ratings-v7"), ("source_cluster", "west"), ("source_version", "v7")];
    reviews.proxy().counts(1.0, &labels).await;

    assert_eq!(told(&mesh, &reviews, None).await.header(METADATA), "", "nobody is told who does not ask");
    reviews.proxy().counts(1.0, &[("source_workload", "unknown"), ("source_workload_namespace", "shop")]).await;
}

#[tokio::test]
async fn a_claim_is_worth_what_its_certificate_proves_and_makes_no_series_without_end() {
    let (mesh, reviews) = reviews().await;
    let proxy = reviews.proxy();
    let mut forged = peer_metadata::of("payroll-v1");
    forged.insert("NAMESPACE".to_owned(), "admin".to_owned());

    assert_eq!(told(&mesh, &reviews, Some(&peer_metadata::header(&forged))).await.code(), 200);
    proxy.counts(1.0, &[("source_workload", "payroll-v1"), ("source_workload_namespace", "shop")]).await;
    assert_eq!(claims(proxy, "contradicted").await, 1.0);

    for broken in ["%%%", "AAAA", "", &"A".repeat(20_000)] {
        assert_eq!(told(&mesh, &reviews, Some(broken)).await.code(), 200, "a request is none the worse for it");
    }
    proxy.counts(4.0, &[("source_workload", "unknown")]).await;
    assert_eq!(claims(proxy, "broken").await, 4.0);

    for number in 0..300 {
        let claim = peer_metadata::header(&peer_metadata::of(&format!("made-{number}")));
        assert_eq!(told(&mesh, &reviews, Some(&claim)).await.code(), 200);
    }
    let samples = proxy.counts(305.0, &[]).await;
    let series = samples.find("istio_requests_total", &[("source_app", "made")]);
    assert!(series.len() <= 256, "{} workloads of one identity", series.len());
    assert!(claims(proxy, "crowded").await >= 44.0);
}

#[tokio::test]
async fn nobody_is_believed_who_has_proven_nothing_and_nobody_outside_is_told() {
    let (mesh, _strict) = reviews().await;
    mesh.write("strict.yaml", &peer_authentication("shop", "PERMISSIVE"));
    let ratings = mesh.workload("ratings").sidecar().start().await;
    let bare = mesh.workload("bare").start().await;
    mesh.write("bare.yaml", &service("bare"));
    let claim = peer_metadata::header(&peer_metadata::of("admin-v1"));
    let call = |url: &str| with_body(request("GET", url).header(METADATA, &claim).header(METADATA_ID, "x"), "");

    let plain = Client::plain(ratings.address).call(call("http://ratings:8080/")).await;
    assert_eq!((plain.code(), plain.saw(METADATA)), (200, String::new()));
    assert_eq!(plain.header(METADATA), "", "no word about us either");
    ratings.proxy().counts(1.0, &[("source_workload", "unknown"), ("source_principal", "unknown")]).await;
    assert_eq!(claims(ratings.proxy(), "known").await, 0.0);

    // Neither what an application forges goes on, nor our own word to whoever has no sidecar.
    eventually("bare is known", async || Client::plain(ratings.outbound()).status("http://bare:8080/").await == 200)
        .await;
    let outside = Client::plain(ratings.outbound()).call(call("http://bare:8080/")).await;
    assert_eq!((outside.code(), outside.saw(METADATA), outside.saw(METADATA_ID)), (200, String::new(), String::new()));
    assert_eq!(outside.echoed("service"), "bare", "{}", bare.address);
}

/// What the application of `db` says first.
const FIRST: &str = "220 db v1 (db-v1) is ready\n";

/// A `db` of bytes behind our sidecar, whose application has the first word.
async fn database(mesh: &Mesh) -> Workload {
    mesh.write("services.yaml", &yaml::service("shop", "db", &[(3306, "tcp-db")]));
    mesh.write("strict.yaml", &peer_authentication("shop", "STRICT"));
    mesh.workload("db").ports(&[3306]).lines().sidecar().start().await
}

/// What a mesh client offers that speaks no HTTP.
fn bytes_peer(mesh: &Mesh, offered: &[&str]) -> TlsClient {
    let identity = mesh.pki.workload(&spiffe("shop", "ratings"));
    TlsClient::for_mesh(mesh.pki.mesh.root_pem(), Some(&identity)).offering(offered)
}

#[tokio::test]
async fn bytes_between_two_sidecars_begin_with_who_they_are() {
    let mesh = Mesh::new();
    let db = database(&mesh).await;
    let tcp = "  tcp: [{route: [{destination: {host: db.shop.svc.cluster.local}}]}]\n";
    mesh.write("bytes.yaml", &(gateway(PLAIN) + &routes("*", tcp)));
    let proxy = mesh.gateway().await;

    let many = "a line\n".repeat(100_000);
    let heard = say(proxy.addresses().second, many.as_bytes()).await;
    assert!(heard.starts_with(FIRST), "{}", heard.chars().take(100).collect::<String>());
    assert_eq!(heard.matches("250 db-v1: a line\n").count(), 100_000);
    assert_eq!(say(proxy.addresses().second, b"").await, FIRST, "who we are is not for the application");

    let labels = [("source_workload", "istio-ingressgateway"), ("source_canonical_service", "istio-ingressgateway")];
    let opened = async || db.proxy().metrics().await.sum("istio_tcp_connections_opened_total", &labels);
    eventually("both are known", async || opened().await == 2.0).await;
    let received = db.proxy().metrics().await.sum("istio_tcp_received_bytes_total", &labels);
    assert_eq!(received, many.len() as f64, "who we are is no byte of the connection's");
}

#[tokio::test]
async fn a_client_that_agrees_says_who_it_is_in_whatever_pieces_and_hears_who_we_are_first() {
    let mesh = Mesh::new();
    let db = database(&mesh).await;
    let offered = [PROTOCOL, "istio"];

    let mut stream = bytes_peer(&mesh, &offered).connect(db.address, "db.example").await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(PROTOCOL.as_bytes()));
    // As Envoy in front of a client that waits for the greeting: it says nothing until it has heard who we are.
    let own = peer_metadata::read_announcement(&mut stream).await.expect("an announcement");
    assert_eq!(own.get("WORKLOAD_NAME").map(String::as_str), Some("db-v1"), "{own:?}");
    let said = peer_metadata::announcement(&peer_metadata::of("ratings-v7"));
    for piece in [&said[..2], &said[2..9], &said[9..]] {
        stream.write_all(piece).await.expect("it is read");
        stream.flush().await.expect("it is read");
        tokio::task::yield_now().await;
    }
    stream.write_all(b"hello\n").await.expect("it is read");
    stream.shutdown().await.expect("an end");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.expect("an answer");
    assert_eq!(heard, format!("{FIRST}250 db-v1: hello\n"));
    let labels = [("source_workload", "ratings-v7"), ("source_cluster", "west"), ("source_workload_namespace", "shop")];
    let opened = async || db.proxy().metrics().await.sum("istio_tcp_connections_opened_total", &labels) == 1.0;
    eventually("it is known", opened).await;

    // Whoever does not agree hears nothing of it.
    let mut stream = bytes_peer(&mesh, &["istio"]).connect(db.address, "db.example").await.expect("a handshake");
    let mut first = vec![0; FIRST.len()];
    stream.read_exact(&mut first).await.expect("the greeting");
    assert_eq!(first, FIRST.as_bytes());
}

#[tokio::test]
async fn a_client_that_agrees_and_says_nonsense_is_unknown_or_refused() {
    let mesh = Mesh::new();
    let db = database(&mesh).await;
    let ask = async |said: &[u8]| {
        let mut stream = bytes_peer(&mesh, &[PROTOCOL]).connect(db.address, "db.example").await.expect("a handshake");
        peer_metadata::read_announcement(&mut stream).await.expect("an announcement");
        stream.write_all(said).await.expect("it is read");
        let _ = stream.shutdown().await;
        let mut heard = String::new();
        let _ = stream.read_to_string(&mut heard).await;
        heard
    };

    // Bytes of its own are the application's, a description that is none is nobody's.
    let answered = format!("{FIRST}250 db-v1: hello\n");
    assert_eq!(ask(b"hello\n").await, answered);
    assert_eq!(ask(b"\x3d\x23\x04\x67\x00\x00\x00\x03abchello\n").await, answered);
    assert_eq!(claims(db.proxy(), "broken").await, 1.0);
    assert_eq!(ask(b"\x3d\x23\x04\x67\x7f\x00\x00\x00hello").await, "");
    db.proxy().logs("the client's announcement is longer than").await;
}

/// A server of the mesh on the address of pod `db` that has the first word: which protocol was agreed on, what came first.
async fn raw_server(mesh: &Mesh, pod: SocketAddr, alpn: &'static [&'static str]) -> Listening {
    let identity = mesh.pki.workload(&spiffe("shop", "db"));
    let acceptor = TlsAcceptor::from(tls_peer::server(&identity, Some(mesh.pki.mesh.root_pem()), alpn));
    let own = Arc::new(peer_metadata::announcement(&peer_metadata::of("db-v7")));
    Listening::start(pod, move |tcp: TcpStream| {
        let (acceptor, own) = (acceptor.clone(), Arc::clone(&own));
        async move {
            let Ok(mut stream) = acceptor.accept(tcp).await else { return };
            let agreed = stream.get_ref().1.alpn_protocol() == Some(PROTOCOL.as_bytes());
            let mut who = "nobody".to_owned();
            if agreed {
                let told = peer_metadata::read_announcement(&mut stream).await.expect("the client says who it is");
                who = told["WORKLOAD_NAME"].clone();
                stream.write_all(&own).await.expect("it is read");
            }
            stream.write_all(format!("hello {who}\n").as_bytes()).await.expect("it is read");
            let mut got = Vec::new();
            let _ = stream.read_to_end(&mut got).await;
            let _ = stream.write_all(format!("{} bytes\n", got.len()).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

#[tokio::test]
async fn an_endpoint_that_agrees_hears_who_we_are_and_what_it_says_of_itself_reaches_nobody() {
    let mesh = Mesh::new();
    mesh.write("services.yaml", &yaml::service("shop", "db", &[(3306, "tcp-db")]));
    let pod = mesh.workload("db").ports(&[3306]).sidecar().declare();
    let tcp = "  tcp: [{route: [{destination: {host: db.shop.svc.cluster.local}}]}]\n";
    mesh.write("bytes.yaml", &(gateway(PLAIN) + &routes("*", tcp)));
    let proxy = mesh.gateway().await;

    let agreeing = raw_server(&mesh, pod, &[PROTOCOL, "h2", "http/1.1"]).await;
    assert_eq!(say(proxy.addresses().second, b"12345").await, "hello istio-ingressgateway\n5 bytes\n");
    agreeing.stop().await;
    let _other = raw_server(&mesh, pod, &["istio"]).await;
    assert_eq!(
        say(proxy.addresses().second, b"12345").await,
        "hello nobody\n5 bytes\n",
        "nor is one told that does not agree"
    );
}

#[tokio::test]
async fn an_announcement_that_never_comes_is_waited_for_ten_seconds_and_no_longer() {
    let mesh = Mesh::new();
    let db = database(&mesh).await;
    let mut stream = bytes_peer(&mesh, &[PROTOCOL]).connect(db.address, "db.example").await.expect("a handshake");
    peer_metadata::read_announcement(&mut stream).await.expect("an announcement");
    stream.write_all(&[0x3d, 0x23]).await.expect("it is read");
    let mut heard = Vec::new();
    let ended = timeout(Duration::from_secs(20), stream.read_to_end(&mut heard)).await.expect("it ends in time");
    assert!(heard.is_empty(), "{heard:?}");
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() != ErrorKind::TimedOut));
    db.proxy().logs("the client agreed to say who it is and did not within 10 s").await;
}
