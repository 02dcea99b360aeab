//! Which hosts a connection may ask for: those whose server asks of client certificates what the connection has met.

use harness::{
    client::{Connection, get},
    mesh::Mesh,
    origin::Origin,
    pki::{authority, spiffe},
    program::run,
    tls_peer::TlsClient,
    yaml,
};
use rustls::{HandshakeKind, SupportedProtocolVersion, version};
use serde_json::{Value, json};
use tls::authority::{Authority, Issued};

/// Who comes: with a certificate of which CA.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Who {
    Nobody,
    One,
    Two,
    Mesh,
}

/// The servers of port 443, and of port 9443 behind them: host, mode, the CA of clients, the names that their certificates
/// must have.
const SERVERS: [(u16, &str, &str, Who, &str); 11] = [
    (443, "open.example.com", "SIMPLE", Who::Nobody, ""),
    (443, "also-open.example.com", "SIMPLE", Who::Nobody, ""),
    (443, "one.example.com", "MUTUAL", Who::One, ""),
    (443, "one-too.example.com", "MUTUAL", Who::One, ""),
    (443, "two.example.com", "MUTUAL", Who::Two, ""),
    (443, "named.example.com", "MUTUAL", Who::One, "client.example"),
    (443, "maybe.example.com", "OPTIONAL_MUTUAL", Who::One, ""),
    (443, "*.wild.example.com", "MUTUAL", Who::One, ""),
    (443, "exact.wild.example.com", "SIMPLE", Who::Nobody, ""),
    (443, "mesh.example.com", "ISTIO_MUTUAL", Who::Mesh, ""),
    (9443, "elsewhere.example.com", "MUTUAL", Who::Two, ""),
];

/// What is asked for on each connection, in the order of the answers below.
const HOSTS: [&str; 16] = [
    "open.example.com",
    "also-open.example.com",
    "one.example.com",
    "one-too.example.com",
    "two.example.com",
    "named.example.com",
    "maybe.example.com",
    "b.wild.example.com",
    "exact.wild.example.com",
    "x.exact.wild.example.com",
    "mesh.example.com",
    "elsewhere.example.com",
    "nobody.example.org",
    "ONE.Example.com",
    "one.example.com.",
    "one.example.com:443",
];

/// Port, SNI (empty: none), who comes, and an answer per host: `.` 200, `x` 421, `-` 404.
const ANSWERS: [(u16, &str, Who, &str); 13] = [
    (443, "open.example.com", Who::Nobody, "..xxxxxx.xxx-xxx"),
    // A certificate that nobody asks for changes nothing.
    (443, "also-open.example.com", Who::One, "..xxxxxx.xxx-xxx"),
    (443, "one.example.com", Who::One, "xx..xxx.x.xx-..."),
    (443, "one-too.example.com", Who::One, "xx..xxx.x.xx-..."),
    (443, "two.example.com", Who::Two, "xxxx.xxxxxx--xxx"),
    (443, "named.example.com", Who::One, "xxxxx.xxxxxx-xxx"),
    (443, "maybe.example.com", Who::One, "xxxxxx.xxxxx-xxx"),
    (443, "maybe.example.com", Who::Nobody, "xxxxxx.xxxxx-xxx"),
    (443, "a.wild.example.com", Who::One, "xx..xxx.x.xx-..."),
    (443, "exact.wild.example.com", Who::Nobody, "..xxxxxx.xxx-xxx"),
    (443, "mesh.example.com", Who::Mesh, "xxxxxxxxxx.x-xxx"),
    (9443, "elsewhere.example.com", Who::Two, "xxxx-xxxxxx.-xxx"),
    (9443, "", Who::Two, "xxxx-xxxxxx.-xxx"),
];

const HELLO: &str = "- directResponse: {status: 200, body: {string: hello}}";

struct Stand {
    mesh: Mesh,
    one: Authority,
    two: Authority,
}

impl Stand {
    /// Every server of the table, all with the same names in their certificates: what a browser needs to reuse a connection.
    fn new(routes: &str) -> Self {
        let this = Self { mesh: Mesh::new(), one: authority("CA one"), two: authority("CA two") };
        let mut servers = Vec::new();
        for (number, (port, host, mode, who, name)) in SERVERS.iter().enumerate() {
            let mut tls = json!({"mode": mode});
            if *mode != "ISTIO_MUTUAL" {
                tls["credentialName"] = format!("server-{number}").into();
                this.mesh.write(&format!("server-{number}.yaml"), &this.secret(number, *who).to_string());
            }
            if !name.is_empty() {
                tls["subjectAltNames"] = json!([name]);
            }
            let port = json!({"number": port, "name": format!("https-{number}"), "protocol": "HTTPS"});
            servers.push(json!({"port": port, "hosts": [host], "tls": tls}));
        }
        let gateway = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": "istio-system"},
            "spec": {"selector": {"istio": "ingressgateway"}, "servers": servers},
        });
        this.mesh.write("gateway.yaml", &gateway.to_string());
        this.mesh.write("routes.yaml", &yaml::virtual_service("routes", "*.example.com", routes));
        this
    }

    fn secret(&self, number: usize, who: Who) -> Value {
        let names = ["*.example.com", "*.wild.example.com", "*.exact.wild.example.com"];
        let issued = self.mesh.pki.server(&names);
        let mut data = json!({"tls.crt": issued.chain_pem, "tls.key": issued.key_pem});
        match who {
            Who::One => data["ca.crt"] = self.one.root_pem().into(),
            Who::Two => data["ca.crt"] = self.two.root_pem().into(),
            Who::Nobody | Who::Mesh => {}
        }
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("server-{number}"), "namespace": "istio-system"},
            "stringData": data,
        })
    }

    fn certificate(&self, who: Who) -> Option<Issued> {
        let client = |ca: &Authority| ca.issue_client("somebody", &["client.example"]).expect("a certificate");
        match who {
            Who::Nobody => None,
            Who::One => Some(client(&self.one)),
            Who::Two => Some(client(&self.two)),
            Who::Mesh => Some(self.mesh.pki.workload(&spiffe("shop", "caller"))),
        }
    }

    fn client(&self, who: Who, tls: &'static SupportedProtocolVersion) -> TlsClient {
        let root = if who == Who::Mesh { self.mesh.pki.mesh.root_pem() } else { self.mesh.pki.edge.root_pem() };
        TlsClient::with(root, self.certificate(who).as_ref(), &[tls]).for_any_name(root)
    }

    fn address(&self, port: u16) -> std::net::SocketAddr {
        self.mesh.block.at(1, if port == 443 { 8443 } else { port })
    }
}

/// What one connection is answered, in the letters of the table.
async fn ask(connection: &mut Connection) -> String {
    let mut heard = String::new();
    for host in HOSTS {
        let reply = connection.send(get(&format!("https://{host}/"))).await.expect("an answer");
        heard.push(match reply.code() {
            200 => '.',
            421 => 'x',
            404 => '-',
            other => panic!("{host} is answered with {other}: {}", reply.text()),
        });
        assert_eq!(reply.code() == 200, reply.text() == "hello", "{host}");
    }
    heard
}

#[tokio::test]
async fn a_request_reaches_a_host_only_by_a_connection_that_met_its_client_policy() {
    let stand = Stand::new(HELLO);
    let _gateway = stand.mesh.gateway().await;
    let mut cases = 0;
    let mut wrong = Vec::new();
    for (port, sni, who, right) in ANSWERS {
        for (tls, http2) in
            [(&version::TLS12, false), (&version::TLS12, true), (&version::TLS13, false), (&version::TLS13, true)]
        {
            let protocol = if http2 { "h2" } else { "http/1.1" };
            let client = stand.client(who, tls).offering(&[protocol]);
            let address = stand.address(port);
            let name = if sni.is_empty() { address.ip().to_string() } else { sni.to_owned() };
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let stream =
                    client.connect(address, &name).await.unwrap_or_else(|error| panic!("{sni} {who:?}: {error}"));
                let hands = stream.get_ref().1.handshake_kind();
                assert!(
                    hands == Some(kind) || hands != Some(HandshakeKind::Resumed) && kind == HandshakeKind::Full,
                    "{sni}: {hands:?}"
                );
                let mut connection = Connection::over(Box::new(stream), http2).await.expect("HTTP begins");
                let heard = ask(&mut connection).await;
                cases += heard.len();
                if heard != right {
                    wrong.push(format!(
                        "{port} {sni:?} {who:?} {tls:?} {protocol} {kind:?}\n  is {heard}\n  not {right}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases >= 800, "{cases}");
}

/// A certificate in files, as openssl and curl want them.
fn files(mesh: &Mesh, name: &str, issued: &Issued) -> (String, String) {
    let write =
        |ending: &str, text: &str| mesh.config.write(&format!("{name}.{ending}.txt"), text).display().to_string();
    (write("crt", &issued.chain_pem), write("key", &issued.key_pem))
}

#[tokio::test]
async fn openssl_and_curl_see_421_and_no_other_servers_application() {
    let stand = Stand::new("- route: [{destination: {host: reviews, port: {number: 8080}}}]");
    let mesh = &stand.mesh;
    mesh.write("services.yaml", &harness::workload::service("reviews"));
    let origin = Origin::plain(mesh.workload("reviews").declare()).await;
    let _gateway = mesh.gateway().await;
    let address = stand.address(443);
    let root = mesh.config.write("root.pem.txt", mesh.pki.edge.root_pem()).display().to_string();
    let (crt, key) = files(mesh, "one", &stand.certificate(Who::One).expect("it has one"));

    for protocol in ["--http1.1", "--http2"] {
        for (url, host, right) in [
            ("one", "one-too", "200"),
            ("one", "two", "421"),
            ("one", "open", "421"),
            ("open", "one", "421"),
            ("open", "also-open", "200"),
            ("open", "maybe", "421"),
        ] {
            let resolve = format!("{url}.example.com:{}:{}", address.port(), address.ip());
            let url = format!("https://{url}.example.com:{}/{host}", address.port());
            let host = format!("Host: {host}.example.com");
            let flags = ["-sS", protocol, "--cacert", &root, "--cert", &crt, "--key", &key, "--resolve", &resolve];
            let rest = ["-o", "/dev/null", "-w", "%{http_code}", "-H", &host, &url];
            let output = run("curl".as_ref(), &[&flags[..], &rest[..]].concat(), b"").await;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(said, right, "{protocol} {url} {host}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    let reached = origin.requests().into_iter().map(|seen| seen.line).collect::<Vec<_>>();
    assert_eq!(reached, ["GET /one-too", "GET /also-open", "GET /one-too", "GET /also-open"]);
}

#[tokio::test]
async fn openssl_cannot_take_a_session_from_one_server_to_another() {
    let stand = Stand::new(HELLO);
    let mesh = &stand.mesh;
    let _gateway = mesh.gateway().await;
    let address = stand.address(443).to_string();
    let (crt, key) = files(mesh, "one", &stand.certificate(Who::One).expect("it has one"));
    let session = |name: &str| mesh.state().join(name).display().to_string();
    let talk = async |version: &str, sni: &str, rest: &[&str]| {
        let flags = ["s_client", version, "-connect", &address, "-servername", sni, "-ign_eof"];
        let request = format!("GET / HTTP/1.1\r\nHost: {sni}\r\nConnection: close\r\n\r\n");
        let output = run("openssl".as_ref(), &[&flags[..], rest].concat(), request.as_bytes()).await;
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let (open, one) = (session(&format!("open{version}")), session(&format!("one{version}")));
        let heard = talk(version, "open.example.com", &["-sess_out", &open]).await;
        assert!(heard.contains("HTTP/1.1 200"), "{heard}");
        let heard = talk(version, "one.example.com", &["-cert", &crt, "-key", &key, "-sess_out", &one]).await;
        assert!(heard.contains("HTTP/1.1 200"), "{heard}");

        let again = talk(version, "one.example.com", &["-sess_in", &one]).await;
        assert!(
            again.contains("Reused, ") && again.contains("HTTP/1.1 200"),
            "{version}: its own server knows it: {again}"
        );
        for (from, sni) in [(&open, "one.example.com"), (&one, "two.example.com"), (&one, "named.example.com")] {
            let heard = talk(version, sni, &["-sess_in", from]).await;
            assert!(!heard.contains("Reused, ") && !heard.contains("HTTP/1.1 200"), "{version} {from} {sni}: {heard}");
        }
        let heard = talk(version, "maybe.example.com", &["-sess_in", &one]).await;
        assert!(heard.contains("New, ") && heard.contains("HTTP/1.1 200"), "{version}: without a certificate: {heard}");
    }
}

#[tokio::test]
async fn a_catch_all_lets_nobody_in_by_another_servers_door() {
    let mesh = Mesh::new();
    let ca = authority("CA of clients");
    let secret = |name: &str| {
        let issued = mesh.pki.server(&["*.example.com"]);
        let data = json!({"tls.crt": issued.chain_pem, "tls.key": issued.key_pem, "ca.crt": ca.root_pem()});
        let metadata = json!({"name": name, "namespace": "istio-system"});
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}).to_string()
    };
    mesh.write("all.yaml", &secret("all"));
    let server = |name: &str, host: &str, mode: &str| {
        let port = json!({"number": 443, "name": name, "protocol": "HTTPS"});
        json!({"port": port, "hosts": [host], "tls": {"mode": mode, "credentialName": "all"}})
    };
    // A mesh certificate cannot be named by its digest: the server is not opened.
    let mut rejected = server("rejected", "rejected.example.com", "ISTIO_MUTUAL");
    rejected["tls"]["credentialName"].take();
    rejected["tls"]["verifyCertificateHash"] =
        json!(["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]);
    let servers = [server("all", "*", "SIMPLE"), server("vault", "vault.example.com", "MUTUAL"), rejected];
    let gateway = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
        "metadata": {"name": "edge", "namespace": "istio-system"},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": servers},
    });
    mesh.write("gateway.yaml", &gateway.to_string());
    mesh.write("routes.yaml", &yaml::virtual_service("routes", "*.example.com", HELLO));
    let gateway = mesh.gateway().await;
    let address = mesh.block.at(1, 8443);
    let root = mesh.pki.edge.root_pem();
    let identity = ca.issue_client("somebody", &["client.example"]).expect("a certificate");
    let known = TlsClient::identified(root, &identity).for_any_name(root);
    let unknown = TlsClient::for_mesh(root, None);

    for (client, sni, vault, other) in [
        // Without a name, and with names that nobody has.
        (&unknown, address.ip().to_string(), 421, 200),
        (&known, address.ip().to_string(), 421, 200),
        (&unknown, "other.example.com".to_owned(), 421, 200),
        (&unknown, "x.vault.example.com".to_owned(), 421, 200),
        (&known, "vault.example.com".to_owned(), 200, 421),
    ] {
        for (protocol, http2) in [("http/1.1", false), ("h2", true)] {
            let stream = client.clone().offering(&[protocol]).connect(address, &sni).await.expect("it shakes hands");
            let mut connection = Connection::over(Box::new(stream), http2).await.expect("HTTP begins");
            for (host, right) in [("vault", vault), ("other", other), ("rejected", 421)] {
                let reply = connection.send(get(&format!("https://{host}.example.com/"))).await.expect("an answer");
                assert_eq!(reply.code(), right, "{sni} {protocol} {host}");
            }
        }
    }
    assert!(known.connect(address, "rejected.example.com").await.is_err());
    gateway.logs("the server of this host was rejected").await;
}
