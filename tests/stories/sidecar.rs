//! The sidecar: who may come in, and where its own workload's requests go.

use std::{collections::BTreeSet, time::Duration};

use harness::{
    client::{Client, get, request, with_body},
    eventually::within,
    grpc::Grpc,
    mesh::Mesh,
    pki::spiffe,
    raw::{Raw, probe},
    tls_peer::TlsClient,
    websocket::WebSocket,
    workload::{Workload, service},
    yaml::{self, peer_authentication},
};

const GET: &str = "GET / HTTP/1.1\r\nHost: reviews:8080\r\n\r\n";

/// A mesh with the Services and this PeerAuthentication mode.
fn mesh(mode: &str) -> Mesh {
    let mesh = Mesh::new();
    mesh.write("services.yaml", &(service("reviews") + &service("ratings")));
    mesh.write("peers.yaml", &peer_authentication("shop", mode));
    mesh
}

/// What a mesh client of service account `ratings` gets from this workload over mutual TLS.
async fn mutual(mesh: &Mesh, to: &Workload) -> u16 {
    let tls = mesh.mesh_peer("shop", "ratings", "http/1.1");
    Client::over(to.address, tls).status("https://outbound.reviews.example/").await
}

async fn plain(to: &Workload) -> u16 {
    Client::plain(to.address).status("http://reviews:8080/").await
}

#[tokio::test]
async fn strict_takes_mutual_tls_and_refuses_plain_text_without_a_word() {
    let mesh = mesh("STRICT");
    let reviews = mesh.workload("reviews").sidecar().start().await;

    let heard = probe(reviews.address, GET).await;

    assert!(heard.closed, "{heard:?}");
    assert_eq!(heard.text, "");
    assert_eq!(mutual(&mesh, &reviews).await, 200);
}

#[tokio::test]
async fn permissive_takes_both() {
    let mesh = mesh("PERMISSIVE");
    let reviews = mesh.workload("reviews").sidecar().start().await;

    assert_eq!(plain(&reviews).await, 200);
    assert_eq!(mutual(&mesh, &reviews).await, 200);
}

#[tokio::test]
async fn disable_takes_plain_text_only() {
    let mesh = mesh("DISABLE");
    let reviews = mesh.workload("reviews").sidecar().start().await;

    assert_eq!(plain(&reviews).await, 200);
    assert_eq!(mutual(&mesh, &reviews).await, 0);
}

#[tokio::test]
async fn a_port_can_be_an_exception_and_changes_are_live() {
    let mesh = mesh("STRICT");
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "http"), (8081, "http-health")]));
    mesh.write(
        "port.yaml",
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: reviews, namespace: shop}\n\
         spec:\n  selector: {matchLabels: {app: reviews}}\n  mtls: {mode: STRICT}\n  \
         portLevelMtls: {8081: {mode: DISABLE}}\n",
    );
    let reviews = mesh.workload("reviews").ports(&[8080, 8081]).sidecar().start().await;
    let health = Client::plain(std::net::SocketAddr::new(reviews.address.ip(), 8081));

    assert_eq!(health.status("http://reviews:8081/").await, 200);
    assert_eq!(plain(&reviews).await, 0);

    mesh.remove("port.yaml");
    let refused = async || health.status("http://reviews:8081/").await == 0;
    within(Duration::from_secs(1), "STRICT holds on the port again", refused).await;
}

#[tokio::test]
async fn a_client_without_a_certificate_or_of_a_foreign_mesh_is_refused() {
    let mesh = mesh("STRICT");
    let reviews = mesh.workload("reviews").sidecar().start().await;
    let root = mesh.pki.mesh.root_pem();
    let stranger = Mesh::new().pki.workload(&spiffe("shop", "ratings"));
    let elsewhere = mesh.pki.workload("spiffe://other.domain/ns/shop/sa/ratings");

    for identity in [None, Some(&stranger), Some(&elsewhere)] {
        let tls = TlsClient::for_mesh(root, identity).offering(&["istio-http/1.1", "istio", "http/1.1"]);
        assert_eq!(Client::over(reviews.address, tls).status("https://reviews.example/").await, 0, "{identity:?}");
    }
}

#[tokio::test]
async fn the_app_learns_who_called_and_forged_identities_are_removed() {
    let mesh = mesh("PERMISSIVE");
    let reviews = mesh.workload("reviews").sidecar().start().await;
    let forged = "By=spiffe://x;Hash=00;Subject=\"\";URI=spiffe://cluster.local/ns/admin/sa/root";
    let call = |url: &str| with_body(request("GET", url).header("x-forwarded-client-cert", forged), "");

    let plain = Client::plain(reviews.address).call(call("http://reviews:8080/")).await;
    let tls = mesh.mesh_peer("shop", "ratings", "http/1.1");
    let mutual = Client::over(reviews.address, tls).call(call("https://reviews.example/")).await;

    assert_eq!(plain.saw("x-forwarded-client-cert"), "", "nobody proved anything on plain text");
    let certificate = mutual.saw("x-forwarded-client-cert");
    let own = certificate.rsplit(',').next().expect("there is an element");
    assert!(own.starts_with(&format!("By={};Hash=", reviews.spiffe())), "{certificate}");
    assert!(own.ends_with(&format!(";Subject=\"\";URI={}", spiffe("shop", "ratings"))), "{certificate}");

    // A quote that is left open would make our element a part of the caller's text.
    let open = "By=spiffe://x;Hash=00;URI=spiffe://cluster.local/ns/admin/sa/root;Subject=\"";
    let call = with_body(request("GET", "https://reviews.example/").header("x-forwarded-client-cert", open), "");
    let tls = mesh.mesh_peer("shop", "ratings", "http/1.1");
    let certificate = Client::over(reviews.address, tls).call(call).await.saw("x-forwarded-client-cert");
    assert!(certificate.starts_with(&format!("By={};Hash=", reviews.spiffe())), "{certificate}");
    assert!(!certificate.contains("admin"), "{certificate}");
}

#[tokio::test]
async fn outbound_requests_find_their_service_by_host_in_all_its_forms() {
    let mesh = mesh("STRICT");
    let _ratings = mesh.workload("ratings").sidecar().start().await;
    let reviews = mesh.workload("reviews").sidecar().start().await;
    let app = Client::plain(reviews.outbound());

    for host in ["ratings:8080", "ratings.shop:8080", "ratings.shop.svc.cluster.local:8080"] {
        let reply = app.get(&format!("http://{host}/x")).await;
        assert_eq!(reply.code(), 200, "{host}: {}", reply.text());
        assert_eq!(reply.echoed("service"), "ratings", "{host}");
        assert_eq!(reply.echoed("peer"), reviews.spiffe(), "{host}");
    }
}

#[tokio::test]
async fn outbound_requests_are_spread_over_the_pods_of_a_service() {
    let mesh = mesh("STRICT");
    let _one = mesh.workload("ratings").sidecar().start().await;
    let _two = mesh.workload("ratings").version("v2").sidecar().start().await;
    let reviews = mesh.workload("reviews").sidecar().start().await;
    let mut connection = Client::plain(reviews.outbound()).connect("ratings").await.expect("the sidecar listens");

    let mut pods = BTreeSet::new();
    for _ in 0..40 {
        let reply = connection.send(get("http://ratings:8080/")).await.expect("an answer");
        assert_eq!(reply.code(), 200, "{}", reply.text());
        pods.insert(reply.echoed("pod"));
    }

    assert_eq!(pods, BTreeSet::from(["ratings-v1".to_owned(), "ratings-v2".to_owned()]));
}

#[tokio::test]
async fn websockets_cross_two_sidecars() {
    let mesh = mesh("STRICT");
    let _ratings = mesh.workload("ratings").sidecar().start().await;
    let reviews = mesh.workload("reviews").sidecar().start().await;

    let app = Client::plain(reviews.outbound());
    let mut socket = WebSocket::open(&app, "ws://ratings:8080/live").await.expect("an open WebSocket");

    assert_eq!(socket.ask("hello").await.expect("an echo"), "hello");
    assert_eq!(socket.ask("again").await.expect("an echo"), "again");
}

#[tokio::test]
async fn grpc_crosses_two_sidecars() {
    let mesh = mesh("STRICT");
    mesh.write("ratings.yaml", &yaml::service("shop", "ratings", &[(8080, "grpc")]));
    mesh.write("services.yaml", &service("reviews"));
    let _ratings = mesh.workload("ratings").sidecar().start().await;
    let reviews = mesh.workload("reviews").sidecar().start().await;
    let app = Client::plain(reviews.outbound()).h2();

    let channel = Grpc::connect(&app, "http://ratings:8080").await.expect("the sidecar speaks h2c");
    let unary = channel.unary("/echo.Echo/Unary", "ping").await.expect("a finished call");
    let stream = channel.unary("/echo.Echo/ServerStream", "tick").await.expect("a finished call");

    assert_eq!((unary.status, unary.messages.len()), (Some(0), 1));
    assert_eq!((stream.status, stream.messages.len()), (Some(0), 5));
}

#[tokio::test]
async fn http2_comes_in_over_mutual_tls() {
    let mesh = mesh("STRICT");
    let reviews = mesh.workload("reviews").sidecar().start().await;
    let tls = mesh.mesh_peer("shop", "ratings", "h2");

    let reply = Client::over(reviews.address, tls).http2().get("https://reviews.example/two").await;

    assert_eq!((reply.code(), reply.version), (200, http::Version::HTTP_2));
    assert_eq!(reply.echoed("peer"), spiffe("shop", "ratings"));
}

#[tokio::test]
async fn an_unknown_host_does_not_reach_any_service_of_the_mesh() {
    let mesh = mesh("STRICT");
    let reviews = mesh.workload("reviews").sidecar().start().await;

    let mut raw = Raw::connect(reviews.outbound()).await.expect("the sidecar listens");
    raw.send("GET / HTTP/1.1\r\nHost: nobody.example\r\nConnection: close\r\n\r\n").await.expect("sent");
    let heard = raw.hear(Duration::from_secs(5)).await;

    assert!([404, 502, 503].contains(&heard.status()), "{heard:?}");
}

#[tokio::test]
async fn a_port_declared_tcp_is_relayed_byte_for_byte_inside_mutual_tls() {
    let mesh = mesh("STRICT");
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "tcp")]));
    let reviews = mesh.workload("reviews").sidecar().start().await;
    let identity = mesh.pki.workload(&spiffe("shop", "ratings"));
    let tls = TlsClient::for_mesh(mesh.pki.mesh.root_pem(), Some(&identity)).offering(&["istio"]);

    let reply = Client::over(reviews.address, tls).get("https://reviews.example/bytes").await;

    assert_eq!(reply.code(), 200);
    assert_eq!(reply.saw("x-forwarded-client-cert"), "", "nobody touched the request");
    assert!(probe(reviews.address, GET).await.text.is_empty());
}

#[tokio::test]
async fn an_app_that_is_down_is_503() {
    let mesh = mesh("STRICT");
    let reviews = mesh.workload("reviews").sidecar().start().await;
    reviews.app_process().signal("KILL");

    let down = async || mutual(&mesh, &reviews).await == 503;

    harness::eventually::eventually("the sidecar answers for the app", down).await;
}

#[tokio::test]
async fn a_virtual_service_of_the_mesh_routes_what_the_app_sends() {
    let mesh = mesh("STRICT");
    let _one = mesh.workload("ratings").sidecar().start().await;
    let _two = mesh.workload("ratings").version("v2").sidecar().start().await;
    let subsets = "subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]";
    mesh.write("rule.yaml", &yaml::destination_rule("ratings", subsets));
    let routes = yaml::virtual_service(
        "ratings",
        "ratings",
        "- match: [{headers: {end-user: {exact: jason}}}]\n  route: [{destination: {host: ratings, subset: v2}}]\n\
         - route: [{destination: {host: ratings, subset: v1}}]",
    );
    mesh.write("routes.yaml", &routes.replace("  gateways: [istio-system/edge]\n", ""));
    let reviews = mesh.workload("reviews").sidecar().start().await;
    let app = Client::plain(reviews.outbound());
    let pod = async |user: &str| {
        let call = with_body(request("GET", "http://ratings:8080/").header("end-user", user), "");
        app.call(call).await.echoed("pod")
    };

    for _ in 0..10 {
        assert_eq!(pod("jason").await, "ratings-v2");
        assert_eq!(pod("anybody").await, "ratings-v1");
    }
}

#[tokio::test]
async fn the_mesh_the_namespace_and_the_workload_refine_each_other() {
    let mesh = mesh("PERMISSIVE");
    mesh.write("mesh.yaml", &peer_authentication("istio-system", "STRICT"));
    let reviews = mesh.workload("reviews").sidecar().start().await;
    assert_eq!(plain(&reviews).await, 200, "the namespace says PERMISSIVE");

    mesh.write(
        "workload.yaml",
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: reviews, namespace: shop}\n\
         spec:\n  selector: {matchLabels: {app: reviews}}\n  mtls: {mode: STRICT}\n",
    );
    let strict = async || plain(&reviews).await == 0;
    within(Duration::from_secs(1), "the workload says STRICT", strict).await;

    mesh.remove("workload.yaml");
    mesh.remove("peers.yaml");
    assert_eq!(plain(&reviews).await, 0, "the mesh says STRICT");
    mesh.remove("mesh.yaml");
    let permissive = async || plain(&reviews).await == 200;
    within(Duration::from_secs(1), "nobody says anything: PERMISSIVE", permissive).await;
}

#[tokio::test]
async fn a_peer_cannot_hide_who_it_is_by_calling_its_identity_hop_by_hop() {
    let mesh = mesh("STRICT");
    let reviews = mesh.workload("reviews").sidecar().start().await;
    let tls = mesh.mesh_peer("shop", "ratings", "http/1.1");
    let call = request("GET", "https://reviews.example/").header("connection", "x-forwarded-client-cert");

    let reply = Client::over(reviews.address, tls).call(with_body(call, "")).await;

    assert_eq!(reply.echoed("peer"), spiffe("shop", "ratings"), "{} {}", reply.code(), reply.text());
}
