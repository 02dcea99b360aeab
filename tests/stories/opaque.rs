//! Connections that are no HTTP: TLS that is passed on, bytes both ways, servers with the first word.

use std::{io::ErrorKind, net::SocketAddr, process::Stdio, time::Duration};

use harness::{
    client::Client,
    eventually::eventually,
    gateway::Proxy,
    listening::Listening,
    mesh::Mesh,
    tls_peer,
    yaml::{self, peer_authentication},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

pub(super) const GREETING: &str = "220 ready\n";

/// Says its name first, then counts what it gets, and says the count when that has ended.
pub(super) async fn counting(address: SocketAddr, name: &'static str) -> Listening {
    Listening::start(address, move |mut stream: TcpStream| async move {
        let _ = stream.write_all(name.as_bytes()).await;
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got).await;
        let _ = stream.write_all(format!("{} bytes\n", got.len()).as_bytes()).await;
    })
    .await
}

pub(super) fn gateway(servers: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: bytes, namespace: istio-system}}\n\
         spec:\n  selector: {{istio: ingressgateway}}\n  servers:\n{servers}"
    )
}

pub(super) fn entry(name: &str, port: u16, endpoints: &[SocketAddr]) -> String {
    let endpoints: Vec<String> =
        endpoints.iter().map(|it| format!("{{address: {}, ports: {{tcp: {}}}}}", it.ip(), it.port())).collect();
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{hosts: [{name}.test], resolution: STATIC, ports: [{{number: {port}, name: tcp, protocol: TCP}}], \
         endpoints: [{}]}}\n",
        endpoints.join(", ")
    )
}

pub(super) fn routes(host: &str, body: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: bytes, namespace: shop}}\n\
         spec:\n  hosts: ['{host}']\n  gateways: [istio-system/bytes]\n{body}"
    )
}

pub(super) const PLAIN: &str = "  - {port: {number: 8080, name: tcp, protocol: TCP}, hosts: ['*']}\n";

/// A gateway whose port 8080 is plain bytes for these endpoints.
async fn plain(mesh: &Mesh, more: &str, endpoints: &[SocketAddr]) -> Proxy {
    let tcp = routes("*", "  tcp: [{route: [{destination: {host: db.test}}]}]\n");
    mesh.write("bytes.yaml", &(gateway(PLAIN) + &tcp + &entry("db", 3306, endpoints) + more));
    mesh.gateway().await
}

pub(super) async fn say(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.expect("the proxy listens");
    stream.write_all(bytes).await.expect("the proxy takes it");
    stream.shutdown().await.expect("an end of our own");
    let mut heard = String::new();
    // A reset is told by what is missing.
    let _ = stream.read_to_string(&mut heard).await;
    heard
}

#[tokio::test]
async fn a_server_has_the_first_word_and_the_last_after_the_client_has_ended() {
    let mesh = Mesh::new();
    let db = mesh.block.at(80, 3306);
    let _db = counting(db, GREETING).await;
    let proxy = plain(&mesh, "", &[db]).await;
    let mut stream = TcpStream::connect(proxy.addresses().second).await.expect("the gateway listens");

    let mut greeting = vec![0; GREETING.len()];
    stream.read_exact(&mut greeting).await.expect("nothing had to be said first");
    assert_eq!(greeting, GREETING.as_bytes());
    let many = vec![b'x'; 3 << 20];
    stream.write_all(&many).await.expect("the gateway takes it");
    stream.shutdown().await.expect("an end of our own");
    let mut last = String::new();
    stream.read_to_string(&mut last).await.expect("the other way is still open");

    assert_eq!(last, format!("{} bytes\n", many.len()));
    eventually("the log says it", async || {
        proxy.access_log().contains(&format!("\"- - -\" 0 - - - \"-\" {} {}", many.len(), GREETING.len() + last.len()))
    })
    .await;
}

#[tokio::test]
async fn weights_are_shares_of_connections() {
    let mesh = Mesh::new();
    let (one, two) = (mesh.block.at(80, 3306), mesh.block.at(81, 3306));
    let (_one, _two) = (counting(one, "one ").await, counting(two, "two ").await);
    let tcp = "  tcp: [{route: [{destination: {host: one.test}, weight: 80}, {destination: {host: two.test}, weight: 20}]}]\n";
    let objects = gateway(PLAIN) + &routes("*", tcp) + &entry("one", 3306, &[one]) + &entry("two", 3306, &[two]);
    mesh.write("bytes.yaml", &objects);
    let proxy = mesh.gateway().await;

    let mut first = 0;
    for _ in 0..300 {
        first += usize::from(say(proxy.addresses().second, b"").await.starts_with("one "));
    }

    assert!((205..=275).contains(&first), "{first} of 300 went to the one with 80 %");
}

#[tokio::test]
async fn bytes_count_while_a_connection_lives() {
    let mesh = Mesh::new();
    let db = mesh.block.at(80, 3306);
    let _db = counting(db, GREETING).await;
    let proxy = plain(&mesh, "", &[db]).await;
    let mut stream = TcpStream::connect(proxy.addresses().second).await.expect("the gateway listens");
    stream.write_all(b"12345").await.expect("the gateway takes it");

    let sum = async |name: &str| proxy.metrics().await.sum(name, &[("destination_service", "db.test")]);
    eventually("what was sent is counted", async || {
        sum("istio_tcp_received_bytes_total").await == 5.0
            && sum("istio_tcp_sent_bytes_total").await == GREETING.len() as f64
    })
    .await;
    assert_eq!(sum("istio_tcp_connections_opened_total").await, 1.0);
    assert_eq!(sum("istio_tcp_connections_closed_total").await, 0.0, "it is still open");
    drop(stream);
    eventually("its end is counted", async || sum("istio_tcp_connections_closed_total").await == 1.0).await;
}

#[tokio::test]
async fn an_endpoint_that_takes_nothing_stalls_nobody_else() {
    let mesh = Mesh::new();
    let (deaf, db) = (mesh.block.at(80, 3306), mesh.block.at(81, 3306));
    let _deaf = Listening::start(deaf, |stream: TcpStream| async move {
        let _kept = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let _db = counting(db, GREETING).await;
    let servers = format!("{PLAIN}  - {{port: {{number: 9001, name: deaf, protocol: TCP}}, hosts: ['*']}}\n");
    let tcp = "  tcp:\n  - {match: [{port: 9001}], route: [{destination: {host: deaf.test}}]}\n  \
               - {route: [{destination: {host: db.test}}]}\n";
    let objects = gateway(&servers) + &routes("*", tcp) + &entry("db", 3306, &[db]) + &entry("deaf", 3306, &[deaf]);
    mesh.write("bytes.yaml", &objects);
    let proxy = mesh.gateway().await;
    let deaf = SocketAddr::new(proxy.addresses().second.ip(), 9001);

    let mut pushing = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(deaf).await.expect("the gateway listens");
        let piece = vec![0; 64 << 10];
        let mut taken = 0_usize;
        while let Ok(count) = timeout(Duration::from_millis(50), stream.write(&piece)).await {
            taken += count.expect("the connection is open");
            assert!(taken < 64 << 20, "what nobody takes is not held");
        }
        pushing.push(stream);
    }

    let answered = timeout(Duration::from_secs(5), say(proxy.addresses().second, b"hello")).await;
    assert_eq!(answered.expect("in time"), format!("{GREETING}5 bytes\n"));
}

/// `openssl` with these arguments; `None` = it is not there, which is said loudly.
fn openssl(story: &str, arguments: &[&str]) -> Option<Command> {
    let found = std::process::Command::new("openssl").arg("version").output().is_ok();
    if !found {
        eprintln!("SKIPPED story {story}: needs openssl");
        return None;
    }
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    Some(command)
}

#[tokio::test]
async fn openssl_speaks_through_the_gateway_to_openssl() {
    let story = "openssl_speaks_through_the_gateway_to_openssl";
    let mesh = Mesh::new();
    let server = mesh.block.at(80, 9443);
    let issued = mesh.pki.server(&["a.passed.test"]);
    let (chain, key) = (mesh.state().join("a.pem"), mesh.state().join("a.key"));
    std::fs::create_dir_all(mesh.state()).expect("a folder");
    std::fs::write(&chain, &issued.chain_pem).expect("written");
    std::fs::write(&key, &issued.key_pem).expect("written");
    let accept = server.to_string();
    let files = ["-cert", &chain.display().to_string(), "-key", &key.display().to_string()].map(str::to_owned);
    let arguments = ["s_server", "-quiet", "-rev", "-accept", &accept, &files[0], &files[1], &files[2], &files[3]];
    let Some(mut server_command) = openssl(story, &arguments) else { return };
    let _server = server_command.spawn().expect("openssl starts");
    eventually("openssl listens", async || TcpStream::connect(server).await.is_ok()).await;
    let tls = routes(
        "a.passed.test",
        "  tls: [{match: [{sniHosts: [a.passed.test]}], route: [{destination: {host: db.test}}]}]\n",
    );
    let servers =
        "  - {port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.passed.test'], tls: {mode: PASSTHROUGH}}\n";
    mesh.write("bytes.yaml", &(gateway(servers) + &tls + &entry("db", 9443, &[server])));
    let proxy = mesh.gateway().await;
    let at = proxy.addresses().main.to_string();

    let client = ["s_client", "-quiet", "-connect", &at, "-servername", "a.passed.test"];
    let mut client = openssl(story, &client).expect("it was there").spawn().expect("openssl starts");
    client.stdin.as_mut().expect("piped").write_all(b"desrever\n").await.expect("openssl reads");
    let mut heard = vec![0; 9];
    client.stdout.as_mut().expect("piped").read_exact(&mut heard).await.expect("an answer");
    assert_eq!(heard, b"reversed\n");

    let stranger = ["s_client", "-connect", &at, "-servername", "b.passed.test"];
    let mut command = openssl(story, &stranger).expect("it was there");
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output().await.expect("openssl ends");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("unrecognized name"), "{told}");
    proxy.logs("no tls route is for the name b.passed.test").await;
}

#[tokio::test]
async fn what_is_passed_on_ends_when_its_server_begins_to_end_tls_itself() {
    let mesh = Mesh::new();
    let db = mesh.block.at(80, 9443);
    let _db = counting(db, "").await;
    let server = |mode: &str| {
        format!("  - {{port: {{number: 443, name: tls, protocol: TLS}}, hosts: [a.passed.test], tls: {{{mode}}}}}\n")
    };
    let tls = "  tls: [{match: [{sniHosts: [a.passed.test]}], route: [{destination: {host: db.test}}]}]\n  \
               tcp: [{route: [{destination: {host: db.test}}]}]\n";
    let rest = routes("a.passed.test", tls) + &entry("db", 9443, &[db]);
    mesh.write("cert.yaml", &mesh.edge_secret(&["a.passed.test"]));
    mesh.write("bytes.yaml", &(gateway(&server("mode: PASSTHROUGH")) + &rest));
    let proxy = mesh.gateway_with(&["--drain-time", "1s"]).await;
    let mut stream = TcpStream::connect(proxy.addresses().main).await.expect("the gateway listens");
    stream.write_all(&hello("a.passed.test")).await.expect("taken");
    let active = async || proxy.metrics().await.sum("istio_tcp_connections_opened_total", &[]) == 1.0;
    eventually("it is passed on", active).await;

    mesh.write("bytes.yaml", &(gateway(&server("mode: SIMPLE, credentialName: edge-cert")) + &rest));

    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection is cut");
    proxy.logs("connection cut: it was opened under another rule").await;
}

/// What a server hears of one connection, and how that ends.
async fn hearing(address: SocketAddr) -> (Listening, UnboundedReceiver<(Vec<u8>, Option<ErrorKind>)>) {
    let (tell, told) = unbounded_channel();
    let listening = Listening::start(address, move |mut stream: TcpStream| {
        let tell = tell.clone();
        async move {
            let mut heard = Vec::new();
            let end = stream.read_to_end(&mut heard).await;
            tell.send((heard, end.err().map(|error| error.kind()))).ok();
        }
    })
    .await;
    (listening, told)
}

#[tokio::test]
async fn a_client_whose_tls_just_ends_is_cut_off_for_the_server() {
    let mesh = Mesh::new();
    let db = mesh.block.at(80, 3306);
    let (_db, mut told) = hearing(db).await;
    let server = "  - {port: {number: 443, name: tls, protocol: TLS}, hosts: [db.test], tls: {mode: SIMPLE, credentialName: edge-cert}}\n";
    let tcp = "  tcp: [{route: [{destination: {host: db.test}}]}]\n";
    mesh.write("cert.yaml", &mesh.edge_secret(&["db.test"]));
    mesh.write("bytes.yaml", &(gateway(server) + &routes("db.test", tcp) + &entry("db", 3306, &[db])));
    let proxy = mesh.gateway().await;

    for (says_so, end) in [(true, None), (false, Some(ErrorKind::ConnectionReset))] {
        let mut stream = mesh.edge_trust().connect(proxy.addresses().main, "db.test").await.expect("TLS works");
        stream.write_all(b"half of it").await.expect("sent");
        stream.flush().await.expect("sent");
        match says_so {
            true => stream.shutdown().await.expect("an end"),
            false => stream.get_mut().0.shutdown().await.expect("an end"),
        }
        let heard = timeout(Duration::from_secs(10), told.recv()).await.expect("the server hears of it");
        assert_eq!(heard, Some((b"half of it".to_vec(), end)));
    }
    eventually("the log says it", async || proxy.access_log().contains(" DC downstream_ended_without_close_notify "))
        .await;
}

#[tokio::test]
async fn a_server_whose_tls_just_ends_is_cut_off_for_the_client() {
    let mesh = Mesh::new();
    let db = mesh.block.at(80, 3306);
    let tls = TlsAcceptor::from(tls_peer::server(&mesh.pki.server(&["db.test"]), None, &[]));
    let _db = Listening::start(db, move |stream: TcpStream| {
        let tls = tls.clone();
        async move {
            let Ok(mut stream) = tls.accept(stream).await else { return };
            stream.write_all(GREETING.as_bytes()).await.ok();
            stream.flush().await.ok();
            stream.get_mut().0.shutdown().await.ok();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await;
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: db, namespace: shop}\n\
                spec: {host: db.test, trafficPolicy: {tls: {mode: SIMPLE, sni: db.test, insecureSkipVerify: true}}}\n";
    let proxy = plain(&mesh, rule, &[db]).await;
    let mut stream = TcpStream::connect(proxy.addresses().second).await.expect("the gateway listens");

    let mut heard = Vec::new();
    let end = stream.read_to_end(&mut heard).await;

    assert_eq!(heard, GREETING.as_bytes());
    assert_eq!(end.expect_err("no proper end").kind(), ErrorKind::ConnectionReset);
    eventually("the log says it", async || proxy.access_log().contains(" UC upstream_ended_without_close_notify "))
        .await;
}

/// A ClientHello for a name.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let config =
        rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let name = name.to_owned().try_into().expect("a name");
    let mut connection = rustls::ClientConnection::new(std::sync::Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("a Vec takes everything");
    bytes
}

#[tokio::test]
async fn bytes_between_sidecars_are_mutual_tls_with_both_names_in_the_metrics() {
    let mesh = Mesh::new();
    mesh.write("services.yaml", &yaml::service("shop", "db", &[(3306, "tcp-db")]));
    mesh.write("strict.yaml", &peer_authentication("shop", "STRICT"));
    let db = mesh.workload("db").ports(&[3306]).sidecar().start().await;
    let web = mesh.workload("web").sidecar().start().await;
    let bind = web.address.ip();
    mesh.write(
        "sidecar.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: web, namespace: shop}}\n\
             spec:\n  workloadSelector: {{labels: {{app: web}}}}\n  egress:\n  \
             - {{port: {{number: 3306, name: tcp, protocol: TCP}}, bind: {bind}, hosts: ['./db.shop.svc.cluster.local']}}\n  \
             - {{hosts: ['*/*']}}\n"
        ),
    );
    let local = SocketAddr::new(bind, 3306);
    eventually("the sidecar listens for it", async || TcpStream::connect(local).await.is_ok()).await;

    // The echo app speaks HTTP, and nobody in between looks.
    let reply = Client::plain(local).get("http://whoever/through/bytes").await;

    assert_eq!(reply.code(), 200, "{}", reply.text());
    assert_eq!(reply.echoed("path"), "/through/bytes");
    let labels = [
        ("reporter", "destination"),
        ("connection_security_policy", "mutual_tls"),
        ("source_principal", &*web.spiffe()),
        ("destination_service", "db.shop.svc.cluster.local"),
    ];
    let counted = async || db.proxy().metrics().await.sum("istio_tcp_connections_opened_total", &labels) >= 1.0;
    eventually("the destination knows who called", counted).await;
    let labels = [("reporter", "source"), ("destination_principal", &*db.spiffe())];
    let counted = async || web.proxy().metrics().await.sum("istio_tcp_connections_opened_total", &labels) >= 1.0;
    eventually("the source knows who answers", counted).await;
}
