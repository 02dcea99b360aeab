//! TLS at the edge: certificates by SNI, Secrets that come late, versions, redirects, coalescing.

use std::time::Duration;

use harness::{
    client::{Client, get},
    eventually::{eventually, within},
    mesh::{HOST, Mesh, SHOP},
    tls_peer::TlsClient,
    yaml::{self, virtual_service},
};

const HELLO: &str = "- directResponse: {status: 200, body: {string: hello}}";

/// A Gateway of namespace istio-system with these servers, a YAML list.
fn gateway(name: &str, servers: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: istio-system}}\n\
         spec:\n  selector: {{istio: ingressgateway}}\n  servers:\n{}\n---\n",
        yaml::indent(servers, 2)
    )
}

fn https(name: &str, host: &str, credential: &str) -> String {
    format!(
        "- port: {{number: 443, name: {name}, protocol: HTTPS}}\n  hosts: [\"{host}\"]\n  \
         tls: {{mode: SIMPLE, credentialName: {credential}}}\n"
    )
}

/// The certificate a server shows for this SNI, as openssl prints its names.
async fn names_shown(mesh: &Mesh, sni: &str) -> String {
    let stream = mesh.edge_trust().connect(mesh.block.at(1, 8443), sni).await.expect("the handshake works");
    let chain = stream.get_ref().1.peer_certificates().expect("a server shows a certificate");
    tls::identity::PeerIdentity::from_der(&chain[0]).expect("a certificate").dns_sans.join(",")
}

#[tokio::test]
async fn an_exact_host_gets_its_own_certificate_before_the_wildcard() {
    let mesh = Mesh::new();
    mesh.write(
        "gateway.yaml",
        &gateway("edge", &(https("all", "*.example.com", "wild") + &https("one", HOST, "exact"))),
    );
    mesh.write("wild.yaml", &yaml::tls_secret("istio-system", "wild", &mesh.pki.server(&["*.example.com"])));
    mesh.write("exact.yaml", &yaml::tls_secret("istio-system", "exact", &mesh.pki.server(&[HOST])));
    let _gateway = mesh.gateway().await;

    assert_eq!(names_shown(&mesh, HOST).await, HOST);
    assert_eq!(names_shown(&mesh, "other.example.com").await, "*.example.com");
}

#[tokio::test]
async fn a_server_without_its_secret_refuses_with_an_alert_and_starts_when_it_comes() {
    let mesh = Mesh::with_edge();
    mesh.routes(HELLO);
    mesh.remove("edge-cert.yaml");
    let gateway = mesh.gateway().await;

    let refusal = mesh.browser().dial(HOST).await.err().expect("there is no certificate to show").to_string();
    assert!(refusal.contains("alert"), "{refusal}");
    gateway.logs("edge-cert").await;

    mesh.write("edge-cert.yaml", &mesh.edge_secret(&["*.example.com"]));
    within(Duration::from_secs(1), "HTTPS works", async || mesh.browser().status(SHOP).await == 200).await;
}

#[tokio::test]
async fn a_secret_whose_key_belongs_to_another_certificate_refuses_only_its_own_server() {
    let mesh = Mesh::new();
    let mut mismatch = mesh.pki.server(&["broken.example.com"]);
    mismatch.key_pem = mesh.pki.server(&["broken.example.com"]).key_pem;
    let servers = https("broken", "broken.example.com", "broken") + &https("fine", HOST, "fine");
    mesh.write("gateway.yaml", &gateway("edge", &servers));
    mesh.write("broken.yaml", &yaml::tls_secret("istio-system", "broken", &mismatch));
    mesh.write("fine.yaml", &yaml::tls_secret("istio-system", "fine", &mesh.pki.server(&[HOST])));
    mesh.routes(HELLO);
    let gateway = mesh.gateway().await;

    assert!(mesh.browser().dial("broken.example.com").await.is_err());
    assert_eq!(mesh.browser().status(SHOP).await, 200);
    gateway.logs("broken").await;
}

#[tokio::test]
async fn a_name_that_no_server_has_is_refused() {
    let mesh = Mesh::with_edge();
    let _gateway = mesh.gateway().await;

    let refusal = mesh.browser().dial("stranger.example.org").await.err().expect("no server has this name");

    assert!(refusal.to_string().contains("alert"), "{refusal}");
}

#[tokio::test]
async fn the_minimum_protocol_version_holds() {
    let mesh = Mesh::with_edge();
    let server =
        https("https", "*.example.com", "edge-cert").replace("SIMPLE,", "SIMPLE, minProtocolVersion: TLSV1_3,");
    mesh.write("edge.yaml", &gateway("edge", &server));
    mesh.routes(HELLO);
    let _gateway = mesh.gateway().await;
    let old = TlsClient::with(mesh.pki.edge.root_pem(), None, &[&rustls::version::TLS12]);

    assert!(Client::https(mesh.block.at(1, 8443), old).dial(HOST).await.is_err());
    assert_eq!(mesh.browser().status(SHOP).await, 200);
}

#[tokio::test]
async fn tls_1_2_works_unless_it_is_forbidden() {
    let mesh = Mesh::with_edge();
    mesh.routes(HELLO);
    let _gateway = mesh.gateway().await;
    let old = TlsClient::with(mesh.pki.edge.root_pem(), None, &[&rustls::version::TLS12]);

    assert_eq!(Client::https(mesh.block.at(1, 8443), old).status(SHOP).await, 200);
}

#[tokio::test]
async fn https_redirect_answers_301_with_host_path_and_query_kept() {
    let mesh = Mesh::with_edge();
    let server = "- port: {number: 80, name: http, protocol: HTTP}\n  hosts: [\"*.example.com\"]\n  \
                  tls: {httpsRedirect: true}\n";
    mesh.write("edge.yaml", &gateway("edge", server));
    mesh.routes(HELLO);
    let _gateway = mesh.gateway().await;

    let reply = mesh.plain_browser().get("http://shop.example.com/a/b?c=d").await;

    assert_eq!(reply.code(), 301);
    assert_eq!(reply.header("location"), "https://shop.example.com/a/b?c=d");
}

#[tokio::test]
async fn a_redirect_to_https_never_names_the_port_that_speaks_no_tls() {
    let mesh = Mesh::with_edge();
    let plain = "- port: {number: 80, name: http, protocol: HTTP}\n  hosts: [\"*.example.com\"]\n";
    let redirecting = format!("{plain}  tls: {{httpsRedirect: true}}\n");
    mesh.write("edge.yaml", &gateway("edge", &(redirecting.clone() + &https("shop", "*.example.com", "edge-cert"))));
    mesh.routes(HELLO);
    let _gateway = mesh.gateway().await;
    let location = async |host: &str| {
        let reply = mesh.plain_browser().get(&format!("http://{host}/a?b")).await;
        reply.header("location").to_owned()
    };
    // The stories' gateways have the port map of the demo: 80 is seen as 8080 and 443 as 8443.
    assert_eq!(location("shop.example.com:8080").await, "https://shop.example.com:8443/a?b");
    assert_eq!(location("shop.example.com").await, "https://shop.example.com/a?b");
    assert_eq!(location("shop.example.com:8000").await, "https://shop.example.com:8000/a?b", "as it was sent");

    // The same by a route.
    mesh.write("edge.yaml", &gateway("edge", &(plain.to_owned() + &https("shop", "*.example.com", "edge-cert"))));
    mesh.routes("- redirect: {scheme: https, uri: /c}");
    eventually("the route is live", async || {
        location("shop.example.com:8080").await == "https://shop.example.com:8443/c?b"
    })
    .await;
    assert_eq!(location("shop.example.com:8000").await, "https://shop.example.com:8000/c?b");

    // And nobody speaks TLS for this host.
    mesh.write("edge.yaml", &gateway("edge", &redirecting));
    eventually("the listener is gone", async || {
        location("shop.example.com:8080").await == "https://shop.example.com:8080/a?b"
    })
    .await;
}

#[tokio::test]
async fn alpn_picks_h2_when_both_sides_can_and_http_1_1_else() {
    let mesh = Mesh::with_edge();
    mesh.routes(HELLO);
    let _gateway = mesh.gateway().await;

    let modern = mesh.browser().h2().get(SHOP).await;
    let old = mesh.browser().get(SHOP).await;
    let silent = Client::over(mesh.block.at(1, 8443), mesh.edge_trust()).get(SHOP).await;
    let odd = Client::over(mesh.block.at(1, 8443), mesh.edge_trust().offering(&["spdy/3"])).get(SHOP).await;

    assert_eq!((modern.version, old.version), (http::Version::HTTP_2, http::Version::HTTP_11));
    assert_eq!((modern.code(), old.code(), silent.code(), odd.code()), (200, 200, 200, 200));
}

#[tokio::test]
async fn a_coalesced_http2_connection_gets_the_route_of_the_host_it_asks_for() {
    let mesh = Mesh::with_edge();
    let servers = https("shop", HOST, "edge-cert") + &https("blog", "blog.example.com", "edge-cert");
    mesh.write("edge.yaml", &gateway("edge", &servers));
    mesh.routes("- directResponse: {status: 200, body: {string: the shop}}");
    let blog = virtual_service("blog", "blog.example.com", "- directResponse: {status: 200, body: {string: the blog}}");
    mesh.write("blog.yaml", &blog);
    let _gateway = mesh.gateway().await;

    let mut connection = mesh.browser().h2().connect(HOST).await.expect("HTTP/2 works");
    let shop = connection.send(get(SHOP)).await.expect("the shop answers");
    let blog = connection.send(get("https://blog.example.com/")).await.expect("the blog answers");

    assert_eq!(shop.text(), "the shop");
    assert_eq!(blog.text(), "the blog");
}

#[tokio::test]
async fn curl_is_content_with_the_certificate() {
    let mesh = Mesh::with_edge();
    mesh.routes(HELLO);
    let _gateway = mesh.gateway().await;
    let root = mesh.config.write("ca.pem.txt", mesh.pki.edge.root_pem());

    let resolve = format!("{HOST}:8443:{}", mesh.block.ip(1));
    let output = tokio::process::Command::new("curl")
        .args(["-sS", "--http2", "--cacert"])
        .arg(root)
        .args(["--resolve", &resolve, "https://shop.example.com:8443/"])
        .output()
        .await
        .expect("curl is installed");

    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello", "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_secret_may_be_opaque_with_cert_and_key() {
    let mesh = Mesh::with_edge();
    mesh.routes(HELLO);
    let secret = mesh.edge_secret(&["*.example.com"]).replace("kubernetes.io/tls", "Opaque");
    mesh.write("edge-cert.yaml", &secret.replace("tls.crt", "cert").replace("tls.key", "key"));
    let _gateway = mesh.gateway().await;

    assert_eq!(mesh.browser().status(SHOP).await, 200);
}

#[tokio::test]
async fn a_port_is_opened_and_closed_with_its_server() {
    let mesh = Mesh::with_edge();
    mesh.routes(HELLO);
    let _gateway = mesh.gateway().await;
    let late = "- port: {number: 9080, name: late, protocol: HTTP}\n  hosts: [\"*.example.com\"]\n";
    let client = Client::plain(mesh.block.at(1, 9080));
    assert_eq!(client.status("http://shop.example.com/").await, 0);
    let routes = virtual_service("late", HOST, HELLO).replace("istio-system/edge", "istio-system/late");

    mesh.write("late.yaml", &(gateway("late", late) + &routes));
    let serves = async |status| client.status("http://shop.example.com/").await == status;
    within(Duration::from_secs(1), "the new port serves", async || serves(200).await).await;

    mesh.remove("late.yaml");
    within(Duration::from_secs(1), "the port is closed", async || serves(0).await).await;
}

#[tokio::test]
async fn a_namespace_before_the_host_keeps_other_namespaces_out() {
    let mesh = Mesh::with_edge();
    mesh.write("edge.yaml", &gateway("edge", &https("https", "bank/*.example.com", "edge-cert")));
    let intruder = virtual_service("intruder", HOST, HELLO);
    mesh.write("intruder.yaml", &intruder);
    mesh.write(
        "bank.yaml",
        &intruder
            .replace("intruder", "bank")
            .replace("shop.example", "bank.example")
            .replace("namespace: shop", "namespace: bank"),
    );
    let _gateway = mesh.gateway().await;

    assert_eq!(mesh.browser().status(SHOP).await, 404);
    assert_eq!(mesh.browser().status("https://bank.example.com/").await, 200);
}

#[tokio::test]
async fn cipher_suites_limit_what_tls_1_2_negotiates() {
    let mesh = Mesh::with_edge();
    let only = "SIMPLE, maxProtocolVersion: TLSV1_2, cipherSuites: [ECDHE-ECDSA-AES256-GCM-SHA384],";
    let server = https("https", "*.example.com", "edge-cert").replace("SIMPLE,", only);
    mesh.write("edge.yaml", &gateway("edge", &server));
    let _gateway = mesh.gateway().await;

    let stream = mesh.edge_trust().connect(mesh.block.at(1, 8443), HOST).await.expect("the handshake works");

    let suite = stream.get_ref().1.negotiated_cipher_suite().expect("a finished handshake").suite();
    assert_eq!(suite, rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384);
}

#[tokio::test]
async fn a_browser_that_comes_back_resumes_its_session() {
    let mesh = Mesh::with_edge();
    mesh.routes(HELLO);
    let _gateway = mesh.gateway().await;
    let trust = mesh.edge_trust().offering(&["http/1.1"]);
    let browser = Client::over(mesh.block.at(1, 8443), trust.clone());
    assert_eq!(browser.status(SHOP).await, 200);

    let stream = trust.connect(mesh.block.at(1, 8443), HOST).await.expect("the handshake works");

    assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
}

#[tokio::test]
async fn gateways_for_other_labels_are_not_served() {
    let mesh = Mesh::with_edge();
    mesh.routes(HELLO);
    let _gateway = mesh.gateway_with(&["--labels", "istio=other"]).await;

    assert_eq!(mesh.browser().status(SHOP).await, 0);
}

/// `open.example.com` for everybody and `guarded.example.com` for clients with a certificate, on one port.
fn open_and_guarded(mesh: &Mesh) {
    let mutual = https("guarded", "guarded.example.com", "guarded").replace("SIMPLE", "MUTUAL");
    mesh.write("gateway.yaml", &gateway("edge", &(https("open", "open.example.com", "open") + &mutual)));
    mesh.write("open.yaml", &yaml::tls_secret("istio-system", "open", &mesh.pki.server(&["*.example.com"])));
    mesh.write("guarded.yaml", &yaml::tls_secret("istio-system", "guarded", &mesh.pki.server(&["*.example.com"])));
    mesh.write(
        "guarded-cacert.yaml",
        &serde_json::json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "guarded-cacert", "namespace": "istio-system"},
            "stringData": {"ca.crt": mesh.pki.mesh.root_pem()},
        })
        .to_string(),
    );
    mesh.write("routes.yaml", &virtual_service("routes", "*.example.com", HELLO));
}

const OPEN: &str = "https://open.example.com";
const GUARDED: &str = "https://guarded.example.com";

#[tokio::test]
async fn a_mutual_server_takes_only_clients_with_a_certificate_of_its_ca() {
    let mesh = Mesh::new();
    open_and_guarded(&mesh);
    let _gateway = mesh.gateway().await;
    let address = mesh.block.at(1, 8443);
    let client = |identity| Client::https(address, TlsClient::identified(mesh.pki.edge.root_pem(), &identity));

    assert_eq!(client(mesh.pki.workload("spiffe://cluster.local/ns/a/sa/b")).status(GUARDED).await, 200);
    assert_eq!(client(mesh.pki.server(&["stranger.example.com"])).status(GUARDED).await, 0);
    assert_eq!(mesh.browser().status(GUARDED).await, 0);
    assert_eq!(mesh.browser().status(OPEN).await, 200);
}

#[tokio::test]
async fn a_connection_without_a_certificate_cannot_carry_requests_for_a_mutual_host() {
    let mesh = Mesh::new();
    open_and_guarded(&mesh);
    let _gateway = mesh.gateway().await;
    let identity = mesh.pki.workload("spiffe://cluster.local/ns/a/sa/b");
    let known = TlsClient::identified(mesh.pki.edge.root_pem(), &identity);

    for browser in [mesh.browser(), mesh.browser().h2()] {
        // The certificate of the open server covers the guarded host as well, so browsers would reuse the connection.
        let mut connection = browser.connect("open.example.com").await.expect("no certificate is asked for");
        assert_eq!(connection.send(get(OPEN)).await.expect("an answer").code(), 200);
        let refused = connection.send(get(GUARDED)).await.expect("an answer");
        assert_eq!(refused.code(), 421, "{}", refused.text());
        assert_ne!(refused.text(), "hello");
        for spelling in
            ["guarded.example.com:443", "GUARDED.example.com", "guarded.example.com.", "Guarded.Example.Com.:443"]
        {
            let reply = connection.send(get(&format!("https://{spelling}"))).await.expect("an answer");
            assert_ne!(reply.code(), 200, "{spelling}");
        }
        assert_eq!(connection.send(get(OPEN)).await.expect("it is still open").code(), 200);
    }
    let met = Client::https(mesh.block.at(1, 8443), known);
    let mut connection = met.connect("guarded.example.com").await.expect("its certificate is good");
    assert_eq!(connection.send(get(GUARDED)).await.expect("an answer").code(), 200);
    let open = connection.send(get(OPEN)).await.expect("an answer");
    assert_eq!(open.code(), 421, "what the guarded server knows of its client is nothing to the open one");
}

/// The status of a request over TLS without SNI; `None` when the handshake is refused.
async fn without_sni(mesh: &Mesh) -> Option<u16> {
    let address = mesh.block.at(1, 8443);
    let client = Client::https(address, TlsClient::for_mesh(mesh.pki.edge.root_pem(), None));
    // An address is never sent as SNI (RFC 6066 section 3).
    let mut connection = client.connect(&address.ip().to_string()).await.ok()?;
    connection.send(get(SHOP)).await.ok().map(|reply| reply.code())
}

#[tokio::test]
async fn a_client_without_sni_is_served_where_there_is_no_choice_and_refused_where_there_is() {
    let mesh = Mesh::with_edge();
    mesh.routes(HELLO);
    let _gateway = mesh.gateway().await;
    assert_eq!(without_sni(&mesh).await, Some(200));

    mesh.remove("edge.yaml");
    open_and_guarded(&mesh);
    within(Duration::from_secs(2), "there are two servers", async || mesh.browser().status(OPEN).await == 200).await;
    assert_eq!(without_sni(&mesh).await, None);
}
