//! A rule for clients that comes into force holds for everybody: connections that came in by the one before serve no further
//! request. What is on its way finishes; what is no change of the rule changes nothing.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use harness::{
    client::{Client, Connection, Failure, get},
    eventually::eventually,
    mesh::{HOST, Mesh, SHOP},
    pki::{Pki, authority, spiffe},
    raw::Raw,
    reply::Reply,
    scripted::Scripted,
    tls_peer::TlsClient,
    websocket::WebSocket,
    workload::service,
    yaml::{self, peer_authentication, virtual_service},
};
use serde_json::{Value, json};
use tls::authority::Authority;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    sync::watch,
    task::JoinHandle,
};

const HELLO: &str = "- directResponse: {status: 200, body: {string: hello}}";

/// An application that answers what asks for `/slow` when it is told to, and ends the answer to `/drip` then.
struct Slow {
    seen: Arc<Mutex<Vec<String>>>,
    release: watch::Sender<bool>,
    _server: Scripted,
}

impl Slow {
    async fn start(address: std::net::SocketAddr) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (release, released) = watch::channel(false);
        let log = Arc::clone(&seen);
        let server = Scripted::start(address, move |mut raw: Raw| {
            let (log, mut released) = (Arc::clone(&log), released.clone());
            async move {
                while let Ok(head) = raw.read_until("\r\n\r\n").await {
                    let line = head.lines().next().unwrap_or_default().to_owned();
                    let (slow, drip) = (line.contains("/slow"), line.contains("/drip"));
                    log.lock().expect("nobody panics with it").push(line);
                    raw.send(if drip { "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nnot" } else { "" }).await.ok();
                    if (slow || drip) && released.wait_for(|released| *released).await.is_err() {
                        return;
                    }
                    let rest = if drip { "done" } else { "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone" };
                    raw.send(rest).await.ok();
                }
            }
        });
        Self { seen, release, _server: server.await }
    }

    fn count(&self, part: &str) -> usize {
        self.seen.lock().expect("nobody panics with it").iter().filter(|line| line.contains(part)).count()
    }
}

/// A request on its way, with its connection.
fn begin(mut connection: Connection, url: String) -> JoinHandle<(Connection, Result<Reply, Failure>)> {
    tokio::spawn(async move {
        let reply = connection.send(get(&url)).await;
        (connection, reply)
    })
}

fn ca_secret(ca: &Authority) -> String {
    let metadata = json!({"name": "edge-cert-cacert", "namespace": "istio-system"});
    let data = json!({"ca.crt": ca.root_pem()});
    format!("{}\n---\n", json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}))
}

/// The Gateway of most stories, where clients have to show a certificate.
fn mutual_gateway() -> String {
    yaml::edge_gateway("edge-cert", &["*.example.com"]).replace("SIMPLE", "MUTUAL")
}

fn client(mesh: &Mesh, ca: &Authority) -> TlsClient {
    let identity = ca.issue_client("somebody", &["client.example"]).expect("a certificate");
    TlsClient::identified(mesh.pki.edge.root_pem(), &identity)
}

#[tokio::test]
async fn when_a_server_becomes_mutual_what_is_on_its_way_finishes_and_nothing_else_is_served() {
    let mesh = Mesh::with_edge();
    let app = Slow::start(mesh.workload("reviews").declare()).await;
    mesh.route_all_to("reviews");
    let _gateway = mesh.gateway().await;
    let (one, two) = (mesh.browser(), mesh.browser().h2());
    let mut idle = Vec::new();
    let mut fresh = Vec::new();
    let mut busy = Vec::new();
    for browser in [&one, &two] {
        let mut connection = browser.connect(HOST).await.expect("HTTPS works");
        assert_eq!(connection.send(get(SHOP)).await.expect("an answer").code(), 200);
        idle.push(connection);
        fresh.push(browser.connect(HOST).await.expect("HTTPS works"));
        busy.push(begin(browser.connect(HOST).await.expect("HTTPS works"), format!("{SHOP}/slow")));
    }
    let mut carrier = two.connect(HOST).await.expect("HTTPS works");
    let shared = begin(carrier.share(), format!("{SHOP}/slow"));
    eventually("three requests are on their way", async || app.count("/slow") == 3).await;

    let ca = authority("CA of clients");
    mesh.write("ca.yaml", &ca_secret(&ca));
    mesh.write("edge.yaml", &mutual_gateway());
    eventually("a certificate is asked for", async || one.status(SHOP).await == 0).await;

    for mut connection in idle.into_iter().chain(fresh) {
        eventually("a connection that carries nothing is closed", async || connection.is_closed()).await;
        assert!(connection.send(get(SHOP)).await.is_err());
    }
    // What comes before it has heard GOAWAY is refused all the same.
    if let Ok(reply) = carrier.send(get(&format!("{SHOP}/further"))).await {
        assert_eq!(reply.code(), 421);
    }
    assert!(busy.iter().chain([&shared]).all(|busy| !busy.is_finished()), "what is on its way is not cut");
    app.release.send_replace(true);
    for (busy, http2) in busy.into_iter().zip([false, true]).chain([(shared, true)]) {
        let (connection, reply) = busy.await.expect("it does not panic");
        let reply = reply.expect("an answer");
        assert_eq!((reply.code(), reply.text()), (200, "done".to_owned()));
        assert_eq!(reply.header("connection"), if http2 { "" } else { "close" });
        eventually("it is closed behind the answer", async || connection.is_closed()).await;
    }
    assert_eq!(app.count("/further"), 0);
    assert_eq!(Client::https(mesh.block.at(1, 8443), client(&mesh, &ca)).status(SHOP).await, 200);
}

#[tokio::test]
async fn a_request_behind_one_that_is_on_its_way_is_not_served() {
    let mesh = Mesh::with_edge();
    let app = Slow::start(mesh.workload("reviews").declare()).await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway().await;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let mut waits = Raw::over(mesh.browser().dial(HOST).await.expect("HTTPS works"));
    waits.send(ask("/slow") + &ask("/behind")).await.expect("it reads");
    let mut drips = Raw::over(mesh.browser().dial(HOST).await.expect("HTTPS works"));
    drips.send(ask("/drip")).await.expect("it reads");
    drips.read_until("not").await.expect("the answer begins");
    eventually("both are on their way", async || app.count("/slow") + app.count("/drip") == 2).await;

    mesh.write("ca.yaml", &ca_secret(&authority("CA of clients")));
    mesh.write("edge.yaml", &mutual_gateway());
    eventually("a certificate is asked for", async || mesh.browser().status(SHOP).await == 0).await;
    drips.send(ask("/behind")).await.expect("it reads");
    app.release.send_replace(true);

    let heard = waits.hear(Duration::from_secs(10)).await;
    // Listeners hear of a rule a moment after it is in force; what is looked at in between is refused.
    assert!([vec![200], vec![200, 421]].contains(&heard.statuses()), "{heard:?}");
    assert!(heard.text.contains("connection: close") && heard.closed, "{heard:?}");
    let heard = drips.hear(Duration::from_secs(10)).await;
    assert!(heard.text.starts_with("done") && heard.closed, "{heard:?}");
    // Whether the connection ends before it has looked at what comes behind, or refuses that, is a matter of moments.
    assert!([vec![], vec![421]].contains(&heard.statuses()), "{heard:?}");
    if heard.statuses() == [421] {
        gateway.logs("request for shop.example.com refused with 421").await;
    }
    assert_eq!(app.count("/behind"), 0);
}

#[tokio::test]
async fn what_has_no_end_of_its_own_has_the_time_of_a_drain() {
    let mesh = Mesh::with_edge();
    let _app = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway_with(&["--drain-time", "2s"]).await;
    let mut socket = WebSocket::open(&mesh.browser(), "wss://shop.example.com/live").await.expect("an open WebSocket");
    assert_eq!(socket.ask("hello").await.expect("an echo"), "hello");

    mesh.write("ca.yaml", &ca_secret(&authority("CA of clients")));
    mesh.write("edge.yaml", &mutual_gateway());
    eventually("a certificate is asked for", async || mesh.browser().status(SHOP).await == 0).await;
    assert_eq!(socket.ask("still").await.expect("an echo"), "still");

    eventually("the WebSocket is cut", async || socket.ask("there?").await.is_err()).await;
    eventually("the access log says why", async || gateway.access_log().contains("connection_outdated")).await;
}

#[tokio::test]
async fn a_stream_of_http_2_that_goes_on_is_cut_after_the_time_of_a_drain() {
    let mesh = Mesh::with_edge();
    let app = Slow::start(mesh.workload("reviews").declare()).await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway_with(&["--drain-time", "1s"]).await;
    let connection = mesh.browser().h2().connect(HOST).await.expect("HTTPS works");
    let stream = begin(connection, format!("{SHOP}/drip"));
    eventually("it is on its way", async || app.count("/drip") == 1).await;

    mesh.write("ca.yaml", &ca_secret(&authority("CA of clients")));
    mesh.write("edge.yaml", &mutual_gateway());

    let (connection, reply) = stream.await.expect("it does not panic");
    assert!(reply.is_err(), "half of an answer is none");
    eventually("its connection is closed", async || connection.is_closed()).await;
    gateway.logs("its last requests have had the time of a drain").await;
}

/// The same where its connection was on its way out already: it takes no further stream, but has one that goes on.
#[tokio::test]
async fn a_stream_of_a_connection_that_has_its_age_is_cut_as_well() {
    let mesh = Mesh::with_edge();
    let app = Slow::start(mesh.workload("reviews").declare()).await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway_with(&["--drain-time", "1s", "--connection-age", "1s"]).await;
    let connection = mesh.browser().h2().connect(HOST).await.expect("HTTPS works");
    let stream = begin(connection.share(), format!("{SHOP}/drip"));
    eventually("it is on its way", async || app.count("/drip") == 1).await;
    let another = async || connection.share().send(get(&format!("{SHOP}/another"))).await;
    eventually("its connection takes no other", async || another().await.is_err()).await;

    mesh.write("ca.yaml", &ca_secret(&authority("CA of clients")));
    mesh.write("edge.yaml", &mutual_gateway());

    let (_, reply) = stream.await.expect("it does not panic");
    assert!(reply.is_err(), "half of an answer is none");
    gateway.logs("its last requests have had the time of a drain").await;
}

/// A change of the configuration.
type Change<'a> = (&'a str, Box<dyn Fn(&Mesh) + 'a>);

/// Writes the Gateway of most stories with a change of its servers.
fn servers<'a>(change: fn(&mut Value)) -> Box<dyn Fn(&Mesh) + 'a> {
    Box::new(move |mesh| {
        let text = mutual_gateway();
        let mut object: Value = serde_json::from_str(text.trim_end_matches("\n---\n")).expect("JSON");
        change(&mut object["spec"]["servers"]);
        mesh.write("edge.yaml", &object.to_string());
    })
}

/// A further server that asks for nothing.
fn add(servers: &mut Value, host: &str) {
    let mut server = servers[0].clone();
    server["hosts"] = json!([host]);
    server["port"]["name"] = "added".into();
    server["tls"]["mode"] = "SIMPLE".into();
    servers.as_array_mut().expect("a list").push(server);
}

/// What is another rule for [`HOST`], and what is none.
fn changes(other: &Authority) -> (Vec<Change<'_>>, Vec<Change<'_>>) {
    let certificate = |mesh: &Mesh| mesh.write("edge-cert.yaml", &mesh.edge_secret(&["*.example.com"]));
    let keeps: Vec<Change<'_>> = vec![
        ("another certificate of the server", Box::new(certificate)),
        ("other routes", Box::new(|mesh| mesh.routes("- directResponse: {status: 200, body: {string: other}}"))),
        ("TLS 1.3 alone", servers(|all| all[0]["tls"]["minProtocolVersion"] = "TLSV1_3".into())),
        ("a host beside it", servers(|all| add(all, "beside.example.com"))),
    ];
    let ends: Vec<Change<'_>> = vec![
        ("another CA", Box::new(|mesh| mesh.write("ca.yaml", &ca_secret(other)))),
        ("no CA", Box::new(|mesh| mesh.remove("ca.yaml"))),
        ("a name", servers(|all| all[0]["tls"]["subjectAltNames"] = json!(["other.example"]))),
        ("no demand", servers(|all| all[0]["tls"]["mode"] = "OPTIONAL_MUTUAL".into())),
        ("no question", servers(|all| all[0]["tls"]["mode"] = "SIMPLE".into())),
        ("another rule for a host that is more exact", servers(|all| add(all, HOST))),
    ];
    (keeps, ends)
}

#[tokio::test]
async fn every_other_rule_ends_connections_and_no_other_change_does() {
    let (ca, other) = (authority("CA of clients"), authority("another CA"));
    let (keeps, ends) = changes(&other);
    let mesh = Mesh::with_edge();
    let begin = |mesh: &Mesh| {
        mesh.write("ca.yaml", &ca_secret(&ca));
        mesh.write("edge.yaml", &mutual_gateway());
        mesh.routes(HELLO);
    };
    begin(&mesh);
    let proxy = mesh.gateway().await;
    let tls = client(&mesh, &ca);
    let address = mesh.block.at(1, 8443);
    for (change, ends) in
        keeps.into_iter().map(|change| (change, false)).chain(ends.into_iter().map(|change| (change, true)))
    {
        let (what, change) = change;
        begin(&mesh);
        let known = || Client::https(address, tls.clone());
        let holds = async || known().status(SHOP).await == 200 && mesh.browser().status(SHOP).await == 0;
        eventually("the rule of the beginning holds", holds).await;
        let mut plain = mesh.plain_browser().connect("").await.expect("plain HTTP works");
        let mut open =
            [known().connect(HOST).await.expect("TLS works"), known().h2().connect(HOST).await.expect("TLS works")];
        for connection in &mut open {
            assert_eq!(connection.send(get(SHOP)).await.expect("an answer").code(), 200, "before {what}");
        }
        let installed = proxy.log().matches("snapshot installed").count();
        change(&mesh);
        eventually(what, async || proxy.log().matches("snapshot installed").count() > installed).await;

        for connection in &mut open {
            if ends {
                eventually(&format!("{what} ends it"), async || connection.is_closed()).await;
            } else {
                assert_eq!(connection.send(get(SHOP)).await.expect(what).code(), 200, "after {what}");
            }
        }
        assert_eq!(
            plain.send(get("http://shop.example.com/")).await.expect("its rule is the same").code(),
            200,
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_plain_port_that_becomes_https_ends_its_plain_connections() {
    let mesh = Mesh::with_edge();
    mesh.routes(HELLO);
    let _gateway = mesh.gateway().await;
    let mut plain = mesh.plain_browser().connect("").await.expect("plain HTTP works");
    assert_eq!(plain.send(get("http://shop.example.com/")).await.expect("an answer").code(), 200);

    let text = yaml::edge_gateway("edge-cert", &["*.example.com"]);
    let mut object: Value = serde_json::from_str(text.trim_end_matches("\n---\n")).expect("JSON");
    object["spec"]["servers"][1]["port"]["protocol"] = "HTTPS".into();
    object["spec"]["servers"][1]["tls"] = object["spec"]["servers"][0]["tls"].clone();
    mesh.write("edge.yaml", &object.to_string());

    eventually("it is closed", async || plain.is_closed()).await;
    assert_eq!(Client::https(mesh.block.at(1, 8080), mesh.edge_trust()).status(SHOP).await, 200);
}

#[tokio::test]
async fn openssl_s_client_is_told_that_its_connection_ends() {
    let mesh = Mesh::with_edge();
    mesh.routes(HELLO);
    let _gateway = mesh.gateway().await;
    let address = mesh.block.at(1, 8443).to_string();
    let mut openssl = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &address, "-servername", HOST])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("openssl is installed");
    let (mut to, mut from) = (openssl.stdin.take().expect("piped"), openssl.stdout.take().expect("piped"));
    to.write_all(b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await.expect("it takes a request");
    let mut heard = String::new();
    while !heard.ends_with("hello") {
        let mut buffer = [0; 4096];
        let count = from.read(&mut buffer).await.expect("it answers");
        assert!(count > 0, "{heard}");
        heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert!(!heard.contains("connection: close"), "{heard}");

    mesh.write("ca.yaml", &ca_secret(&authority("CA of clients")));
    mesh.write("edge.yaml", &mutual_gateway());

    let ended = tokio::time::timeout(Duration::from_secs(10), openssl.wait()).await;
    assert!(ended.expect("it ends in time").is_ok());
}

/// A mesh with a sidecar in front of `reviews`, which answers HTTP on 8080 and whatever it is on 9000.
async fn sidecar(mode: &str) -> (Mesh, harness::workload::Workload) {
    let mesh = Mesh::new();
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "http"), (9000, "tcp")]));
    mesh.write("peers.yaml", &peer_authentication("shop", mode));
    let reviews = mesh.workload("reviews").ports(&[8080, 9000]).sidecar().flags(&["--drain-time", "2s"]).start().await;
    (mesh, reviews)
}

#[tokio::test]
async fn strict_ends_plain_text_that_was_let_in_before_it() {
    let (mesh, reviews) = sidecar("PERMISSIVE").await;
    let plain = Client::plain(reviews.address);
    let url = "http://reviews:8080/";
    let mut idle =
        [plain.connect("").await.expect("it listens"), plain.clone().h2().connect("").await.expect("it listens")];
    for connection in &mut idle {
        assert_eq!(connection.send(get(url)).await.expect("an answer").code(), 200);
    }
    let mesh_client = |http: &str| Client::over(reviews.address, mesh.mesh_peer("shop", "ratings", http));
    let mut mutual = [
        mesh_client("http/1.1").connect("reviews").await.expect("mesh TLS works"),
        mesh_client("h2").http2().connect("reviews").await.expect("mesh TLS works"),
    ];
    let mut busy = Raw::connect(reviews.address).await.expect("it listens");
    busy.send("POST / HTTP/1.1\r\nHost: reviews:8080\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .await
        .expect("sent");
    let interim = busy.read_until("\r\n\r\n").await.expect("the app asks for the body");
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    let mut relay = Raw::connect(std::net::SocketAddr::new(reviews.address.ip(), 9000)).await.expect("it listens");
    relay.send("GET / HTTP/1.1\r\nHost: reviews\r\n\r\n").await.expect("it takes bytes");
    relay.read_until("\r\n\r\n").await.expect("the app answers");
    mesh.write("peers.yaml", &peer_authentication("shop", "STRICT"));
    for connection in &mut idle {
        eventually("plain text is closed", async || connection.is_closed()).await;
        assert!(connection.send(get(url)).await.is_err());
    }
    busy.send("hello").await.expect("what is on its way is not cut");
    let heard = busy.hear(Duration::from_secs(10)).await;
    assert!(heard.status() == 200 && heard.text.contains("connection: close") && heard.closed, "{heard:?}");
    let heard = relay.hear(Duration::from_secs(10)).await;
    assert!(heard.closed, "bytes that nobody understands go on for the time of a drain: {heard:?}");
    reviews.proxy().logs("connection cut: it was opened under another rule").await;
    for connection in &mut mutual {
        assert_eq!(connection.send(get("https://reviews/")).await.expect("mesh TLS goes on").code(), 200);
    }
}

#[tokio::test]
async fn another_root_of_the_mesh_ends_connections_and_another_certificate_does_not() {
    let (mesh, reviews) = sidecar("STRICT").await;
    let mesh_client = |http: &str| Client::over(reviews.address, mesh.mesh_peer("shop", "ratings", http));
    let mut open = [
        mesh_client("http/1.1").connect("reviews").await.expect("mesh TLS works"),
        mesh_client("h2").http2().connect("reviews").await.expect("mesh TLS works"),
    ];
    let proxy = reviews.proxy();
    let loaded = || proxy.log().matches("workload identity loaded").count();

    let before = loaded();
    mesh.pki.write_identity(&reviews.identity, &spiffe("shop", "reviews"));
    eventually("the new certificate is taken over", async || loaded() > before).await;
    let installed = async || mesh_client("http/1.1").status("https://reviews/").await == 200;
    eventually("it serves", installed).await;
    for connection in &mut open {
        assert_eq!(connection.send(get("https://reviews/")).await.expect("it goes on").code(), 200);
    }

    Pki::new().write_identity(&reviews.identity, &spiffe("shop", "reviews"));
    for connection in &mut open {
        eventually("another root ends it", async || connection.is_closed()).await;
    }
    assert_eq!(mesh_client("http/1.1").status("https://reviews/").await, 0);
}

#[tokio::test]
async fn istio_mutual_at_a_gateway_follows_the_roots_of_the_mesh() {
    let mesh = Mesh::new();
    mesh.write("services.yaml", &service("reviews"));
    let text = yaml::edge_gateway("unused", &["*.example.com"]).replace("SIMPLE", "ISTIO_MUTUAL");
    mesh.write(
        "edge.yaml",
        &text.replace(",\"credentialName\":\"unused\"", "").replace("\"credentialName\":\"unused\",", ""),
    );
    mesh.write("routes.yaml", &virtual_service("routes", HOST, HELLO));
    let folder = mesh.identity("istio-system", "istio-ingressgateway", "gateway");
    let proxy = mesh.gateway().await;
    let peer = Client::over(proxy.addresses().main, mesh.mesh_peer("shop", "ratings", "http/1.1"));
    let mut open = peer.connect(HOST).await.expect("mesh TLS works");
    assert_eq!(open.send(get(SHOP)).await.expect("an answer").code(), 200);

    Pki::new().write_identity(&folder, &spiffe("istio-system", "istio-ingressgateway"));

    eventually("another root ends it", async || open.is_closed()).await;
    assert_eq!(peer.status(SHOP).await, 0);
}
