//! From the gateway into the mesh: mutual TLS as Istio's sidecars expect it, and the other TLS modes.

use harness::{
    client::Client,
    eventually::eventually,
    grpc::Grpc,
    mesh::{HOST, Mesh, SHOP},
    origin::Origin,
    pki::spiffe,
    tls_peer,
    yaml::{self, destination_rule},
};

use crate::shop::Shop;

const ISTIO_MUTUAL: &str = "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\nsubsets: [{name: v1, labels: {version: v1}}]";

/// A pod of `reviews` played by the test, with this identity, and a route to its subset v1.
async fn origin(mesh: &Mesh, identity: &str) -> Origin {
    let address = mesh.workload("reviews").sidecar().declare();
    mesh.write("rule.yaml", &destination_rule("reviews", ISTIO_MUTUAL));
    mesh.routes("- route: [{destination: {host: reviews, subset: v1, port: {number: 8080}}}]");
    let issued = mesh.pki.workload(identity);
    let root = mesh.pki.mesh.root_pem();
    Origin::tls(address, tls_peer::server(&issued, Some(root), &["h2", "http/1.1"])).await
}

#[tokio::test]
async fn istio_mutual_shows_sni_alpn_and_identity_as_istio_does() {
    let mesh = Mesh::with_edge();
    let origin = origin(&mesh, &spiffe("shop", "reviews")).await;
    let _gateway = mesh.gateway().await;

    assert_eq!(mesh.browser().status(SHOP).await, 200);

    let handshake = origin.handshakes().remove(0);
    assert_eq!(handshake.sni.as_deref(), Some("outbound_.8080_.v1_.reviews.shop.svc.cluster.local"));
    assert_eq!(handshake.offered, ["istio-http/1.1", "istio", "http/1.1"]);
    assert_eq!(handshake.client, Some(spiffe("istio-system", "istio-ingressgateway")));
    assert_eq!(handshake.version, "TLSv1_3");
}

#[tokio::test]
async fn connections_into_the_mesh_are_reused() {
    let mesh = Mesh::with_edge();
    let origin = origin(&mesh, &spiffe("shop", "reviews")).await;
    let _gateway = mesh.gateway().await;
    let mut connection = mesh.browser().connect(HOST).await.expect("HTTPS works");

    for _ in 0..20 {
        assert_eq!(connection.send(harness::client::get(SHOP)).await.expect("an answer").code(), 200);
    }

    assert_eq!(origin.requests().len(), 20);
    assert_eq!(origin.handshakes().len(), 1);
}

#[tokio::test]
async fn a_server_with_the_wrong_identity_is_refused_with_503_and_a_reason() {
    let mesh = Mesh::with_edge();
    let origin = origin(&mesh, &spiffe("shop", "impostor")).await;
    let gateway = mesh.gateway().await;

    let reply = mesh.browser().get(SHOP).await;

    assert_eq!(reply.code(), 503);
    assert!(origin.requests().is_empty());
    let told = async || (gateway.access_log() + &gateway.log()).contains("sa/impostor");
    eventually("the access log names the wrong identity", told).await;
    assert!(gateway.access_log().contains(" URX,UF "), "{}", gateway.access_log());
}

#[tokio::test]
async fn a_server_of_a_foreign_authority_is_refused() {
    let mesh = Mesh::with_edge();
    let address = mesh.workload("reviews").sidecar().declare();
    mesh.write("rule.yaml", &destination_rule("reviews", ISTIO_MUTUAL));
    mesh.route_all_to("reviews");
    let foreign = Mesh::new();
    let issued = foreign.pki.workload(&spiffe("shop", "reviews"));
    let origin = Origin::tls(address, tls_peer::server(&issued, None, &["http/1.1"])).await;
    let _gateway = mesh.gateway().await;

    assert_eq!(mesh.browser().status(SHOP).await, 503);
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn http_travels_from_the_edge_into_a_strict_sidecar_with_both_identities_known() {
    let shop = Shop::in_mesh().await;

    let reply = shop.mesh.browser().get(&format!("{SHOP}/hello")).await;

    assert_eq!(reply.code(), 200, "{}", reply.text());
    assert_eq!(reply.echoed("peer"), spiffe("istio-system", "istio-ingressgateway"));
    let certificate = reply.saw("x-forwarded-client-cert");
    assert!(certificate.contains(&format!("By={}", shop.reviews.spiffe())), "{certificate}");
    assert!(certificate.contains("Hash="), "{certificate}");
}

/// `reviews` with a gRPC port behind a STRICT sidecar.
async fn grpc_shop() -> (Mesh, harness::gateway::Proxy, harness::workload::Workload) {
    let mesh = Mesh::with_edge();
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "http"), (9090, "grpc")]));
    mesh.write("strict.yaml", &yaml::peer_authentication("shop", "STRICT"));
    let reviews = mesh.workload("reviews").ports(&[8080, 9090]).sidecar().start().await;
    mesh.routes("- route: [{destination: {host: reviews, port: {number: 9090}}}]");
    let gateway = mesh.gateway().await;
    (mesh, gateway, reviews)
}

#[tokio::test]
async fn grpc_calls_keep_their_trailers_through_gateway_and_sidecar() {
    let (mesh, _gateway, _reviews) = grpc_shop().await;
    let channel = Grpc::connect(&mesh.browser().h2(), SHOP).await.expect("HTTP/2 works");

    let unary = channel.unary("/echo.Echo/Unary", "ping").await.expect("a finished call");
    let stream = channel.unary("/echo.Echo/ServerStream", "tick").await.expect("a finished call");
    let failure = channel.unary("/echo.Echo/Fail", "please").await.expect("a finished call");

    assert_eq!((unary.http_status, unary.status, unary.messages.len()), (200, Some(0), 1));
    assert_eq!(unary.messages[0], "ping");
    assert!(unary.trailers.contains_key("grpc-status"), "{unary:?}");
    assert_eq!((stream.status, stream.messages.len()), (Some(0), 5));
    assert!(failure.trailers_only && !unary.trailers_only, "{failure:?}");
    assert_eq!((failure.status, failure.message.as_str()), (Some(7), "asked to fail"));
}

#[tokio::test]
async fn a_bidirectional_grpc_stream_flows_both_ways_at_once() {
    let (mesh, _gateway, _reviews) = grpc_shop().await;
    let channel = Grpc::connect(&mesh.browser().h2(), SHOP).await.expect("HTTP/2 works");
    let mut call = channel.open("/echo.Echo/BidiStream").await.expect("an open call");

    assert_eq!(call.ask("one").await.expect("an answer"), "one");
    assert_eq!(call.ask("two").await.expect("an answer"), "two");
    call.finish().expect("the call is open");

    assert_eq!(call.outcome().await.expect("a finished call").status, Some(0));
}

/// A service outside the mesh at this address, by ServiceEntry, with `tls` in its DestinationRule.
fn outside(mesh: &Mesh, address: std::net::SocketAddr, tls: &str) {
    mesh.write(
        "outside.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: outside, namespace: shop}}\n\
             spec:\n  hosts: [api.partner.example]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  \
             ports: [{{number: {port}, name: http, protocol: HTTP}}]\n  endpoints: [{{address: {ip}}}]\n---\n",
            port = address.port(),
            ip = address.ip(),
        ),
    );
    mesh.write("rule.yaml", &destination_rule("api.partner.example", &format!("trafficPolicy: {{tls: {tls}}}")));
    mesh.routes(&format!(
        "- rewrite: {{authority: api.partner.example}}\n  \
         route: [{{destination: {{host: api.partner.example, port: {{number: {}}}}}}}]",
        address.port()
    ));
}

#[tokio::test]
async fn simple_tls_verifies_the_name_of_the_server() {
    let mesh = Mesh::with_edge();
    let address = mesh.block.at(50, 9443);
    let right = mesh.pki.server(&["api.partner.example"]);
    let ca = mesh.config.write("partner-ca.pem", mesh.pki.edge.root_pem());
    outside(&mesh, address, &format!("{{mode: SIMPLE, caCertificates: {}}}", ca.display()));
    let _gateway = mesh.gateway().await;

    let origin = Origin::tls(address, tls_peer::server(&right, None, &["http/1.1"])).await;
    assert_eq!(mesh.browser().status(SHOP).await, 200);
    assert_eq!(origin.handshakes()[0].sni.as_deref(), Some("api.partner.example"));
    assert_eq!(origin.handshakes()[0].client, None);
}

#[tokio::test]
async fn simple_tls_with_sni_verifies_that_name() {
    let mesh = Mesh::with_edge();
    let ca = mesh.config.write("partner-ca.pem", mesh.pki.edge.root_pem());
    let _gateway = mesh.gateway().await;
    // What is asked for, what the server shows, and whether something says otherwise. 200 and 503 take turns, so that each is
    // seen to come.
    let cases = [
        ("partner.example", "partner.example", "", 200),
        ("partner.example", "api.partner.example", "", 503),
        ("www.partner.example", "*.partner.example", "", 200),
        ("api.partner.example", "somebody.else.example", "", 503),
        ("partner.example", "somebody.else.example", ", subjectAltNames: [somebody.else.example]", 200),
        ("partner.example", "somebody.else.example", ", insecureSkipVerify: true", 200),
    ];
    for ((sni, shown, more, status), port) in cases.into_iter().zip(9450..) {
        let address = mesh.block.at(50, port);
        let origin = Origin::tls(address, tls_peer::server(&mesh.pki.server(&[shown]), None, &["http/1.1"])).await;
        let ca = if more.contains("Skip") { String::new() } else { format!(", caCertificates: {}", ca.display()) };
        outside(&mesh, address, &format!("{{mode: SIMPLE, sni: {sni}{ca}{more}}}"));
        eventually(&format!("{status} when {shown} is shown for {sni}{more}"), async || {
            let reached = mesh.browser().status(SHOP).await;
            reached == status && (status != 200 || origin.handshakes().iter().any(|it| it.sni.as_deref() == Some(sni)))
        })
        .await;
        assert_eq!(origin.requests().is_empty(), status != 200, "{sni} {shown}");
    }
}

#[tokio::test]
async fn simple_tls_refuses_a_server_with_another_name() {
    let mesh = Mesh::with_edge();
    let address = mesh.block.at(50, 9443);
    let wrong = mesh.pki.server(&["somebody.else.example"]);
    let ca = mesh.config.write("partner-ca.pem", mesh.pki.edge.root_pem());
    outside(&mesh, address, &format!("{{mode: SIMPLE, caCertificates: {}}}", ca.display()));
    let origin = Origin::tls(address, tls_peer::server(&wrong, None, &["http/1.1"])).await;
    let _gateway = mesh.gateway().await;

    assert_eq!(mesh.browser().status(SHOP).await, 503);
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn mutual_tls_to_the_outside_shows_the_configured_certificate() {
    let mesh = Mesh::with_edge();
    let address = mesh.block.at(50, 9443);
    let client = mesh.pki.edge.issue_client("cargo", &["spiffe://partner/cargo"]).expect("a client certificate");
    let write = |name: &str, text: &str| mesh.config.write(name, text).display().to_string();
    let (ca, chain) = (write("ca.pem", mesh.pki.edge.root_pem()), write("client.pem", &client.chain_pem));
    let key = write("client.key", &client.key_pem);
    let mode = format!("{{mode: MUTUAL, clientCertificate: {chain}, privateKey: {key}, caCertificates: {ca}}}");
    outside(&mesh, address, &mode);
    let server = mesh.pki.server(&["api.partner.example"]);
    let root = mesh.pki.edge.root_pem();
    let origin = Origin::tls(address, tls_peer::server(&server, Some(root), &["http/1.1"])).await;
    let _gateway = mesh.gateway().await;

    assert_eq!(mesh.browser().status(SHOP).await, 200);
    assert_eq!(origin.handshakes()[0].client.as_deref(), Some("spiffe://partner/cargo"));
}

#[tokio::test]
async fn disable_sends_plain_text_even_to_a_pod_with_a_sidecar() {
    let mesh = Mesh::with_edge();
    let address = mesh.workload("reviews").sidecar().declare();
    mesh.write("rule.yaml", &destination_rule("reviews", "trafficPolicy: {tls: {mode: DISABLE}}"));
    mesh.route_all_to("reviews");
    let origin = Origin::plain(address).await;
    let _gateway = mesh.gateway().await;

    assert_eq!(mesh.browser().status(SHOP).await, 200);
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn without_a_rule_pods_with_a_sidecar_get_mutual_tls_and_others_plain_text() {
    let mesh = Mesh::with_edge();
    let _injected = mesh.workload("reviews").sidecar().start().await;
    let _bare = mesh.workload("ratings").start().await;
    mesh.routes(
        "- match: [{uri: {prefix: /ratings}}]\n  route: [{destination: {host: ratings, port: {number: 8080}}}]\n\
         - route: [{destination: {host: reviews, port: {number: 8080}}}]",
    );
    let _gateway = mesh.gateway().await;

    let injected = mesh.browser().get(SHOP).await;
    let bare = mesh.browser().get(&format!("{SHOP}/ratings")).await;

    assert_eq!(injected.echoed("peer"), spiffe("istio-system", "istio-ingressgateway"));
    assert_eq!((bare.code(), bare.echoed("peer").as_str()), (200, ""));
}

#[tokio::test]
async fn a_plain_gateway_port_serves_the_same_routes() {
    let shop = Shop::in_mesh().await;

    let reply = Client::plain(shop.gateway.addresses().second).get("http://shop.example.com/plain").await;

    assert_eq!(reply.echoed("path"), "/plain");
    assert_eq!(reply.saw("x-forwarded-proto"), "http");
}

#[tokio::test]
async fn sessions_into_the_mesh_are_resumed() {
    let mesh = Mesh::with_edge();
    let origin = origin(&mesh, &spiffe("shop", "reviews")).await;
    let _gateway = mesh.gateway_with(&["--workers", "1"]).await;
    assert_eq!(mesh.browser().status(SHOP).await, 200);

    let browser = mesh.browser();
    let slow = format!("{SHOP}/slow");
    let codes = futures::future::join_all((0..4).map(|_| browser.status(&slow))).await;

    assert_eq!(codes, [200; 4]);
    let resumed: Vec<bool> = origin.handshakes().iter().map(|handshake| handshake.resumed).collect();
    assert!(!resumed[0] && resumed[1..].iter().any(|resumed| *resumed), "{resumed:?}");
}

#[tokio::test]
async fn an_identity_mounted_as_a_secret_is_rotated_by_its_symlink_swap() {
    let mesh = Mesh::with_edge();
    let origin = origin(&mesh, &spiffe("shop", "reviews")).await;
    let publish = |account: &str| {
        let issued = mesh.pki.workload(&spiffe("istio-system", account));
        let root = mesh.pki.mesh.root_pem();
        let files = [("cert-chain.pem", &*issued.chain_pem), ("key.pem", &issued.key_pem), ("root-cert.pem", root)];
        mesh.config.publish("identity", &files);
    };
    publish("first");
    let folder = mesh.config.path().join("identity").display().to_string();
    let _gateway = mesh.gateway_of(&folder, &[]).await;
    let client = async || {
        mesh.browser().status(SHOP).await;
        origin.handshakes().pop().and_then(|handshake| handshake.client).unwrap_or_default()
    };
    assert_eq!(client().await, spiffe("istio-system", "first"));

    for account in ["second", "third"] {
        publish(account);
        let second = std::time::Duration::from_secs(1);
        let rotated = async || client().await == spiffe("istio-system", account);
        harness::eventually::within(second, account, rotated).await;
    }
}
