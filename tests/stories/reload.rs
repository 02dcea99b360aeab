//! Changes under traffic: nothing fails, nothing is cut, everything is live within a second.

use std::time::Duration;

use harness::{
    client::{Connection, get, with_body},
    eventually::{eventually, within},
    grpc::Grpc,
    load::Load,
    mesh::{HOST, Mesh, SHOP},
    origin::Origin,
    pki::spiffe,
    tls_peer,
    websocket::WebSocket,
    workload::{Workload, service},
    yaml::{self, destination_rule},
};
use http_body_util::BodyExt;
use tls::identity::PeerIdentity;

use crate::shop::Shop;

const A_SECOND: Duration = Duration::from_secs(1);

impl Shop {
    /// Routes that mark every answer with this edition.
    fn publish_routes(&self, edition: usize) {
        self.mesh.routes(&format!(
            "- headers: {{response: {{set: {{x-edition: '{edition}'}}}}}}\n  \
             route: [{{destination: {{host: reviews, port: {{number: 8080}}}}}}]"
        ));
    }

    /// A fresh certificate for the edge.
    fn publish_secret(&self, edition: usize) {
        self.mesh
            .write("edge-cert.yaml", &self.mesh.edge_secret(&["*.example.com", &format!("edition-{edition}.test")]));
    }

    /// A fresh identity for the gateway.
    fn rotate_identity(&self) {
        self.mesh.identity("istio-system", "istio-ingressgateway", "gateway");
    }

    async fn serves_edition(&self, edition: usize) -> bool {
        let reply = self.mesh.browser().send(get(SHOP)).await;
        reply.is_ok_and(|reply| reply.header("x-edition") == edition.to_string())
    }

    async fn shows_certificate(&self, edition: usize) -> bool {
        let address = self.gateway.addresses().main;
        let Ok(stream) = self.mesh.edge_trust().connect(address, HOST).await else { return false };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let names = PeerIdentity::from_der(&chain[0]).expect("a certificate").dns_sans;
        names.iter().any(|name| **name == *format!("edition-{edition}.test"))
    }

    /// Hash of the gateway's certificate as the sidecar of `reviews` saw it.
    async fn identity_hash(&self) -> String {
        let certificate = self.mesh.browser().get(SHOP).await.saw("x-forwarded-client-cert");
        certificate.split(';').find(|part| part.starts_with("Hash=")).unwrap_or_default().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_requests_during_fifty_reloads_fail_not_once() {
    let shop = Shop::in_mesh().await;
    let load = Load::start(&shop.mesh.browser(), 8, SHOP);
    let two = Load::start(&shop.mesh.browser().h2(), 2, SHOP);

    for edition in 0..50 {
        match edition % 3 {
            0 => {
                shop.publish_routes(edition);
                eventually("the new routes", async || shop.serves_edition(edition).await).await;
            }
            1 => {
                shop.publish_secret(edition);
                eventually("the new certificate", async || shop.shows_certificate(edition).await).await;
            }
            _ => {
                let old = shop.identity_hash().await;
                shop.rotate_identity();
                eventually("the new identity", async || shop.identity_hash().await != old).await;
            }
        }
    }
    load.reaches(20_000).await;

    let (one, two) = (load.stop().await, two.stop().await);
    assert_eq!((one.failed, two.failed), (0, 0), "{one:?} {two:?}");
    assert!(one.sent + two.sent >= 20_000);
}

#[tokio::test]
async fn a_route_a_secret_and_an_identity_are_each_live_within_a_second() {
    let shop = Shop::in_mesh().await;

    shop.publish_routes(1);
    within(A_SECOND, "the new routes", async || shop.serves_edition(1).await).await;

    shop.publish_secret(1);
    within(A_SECOND, "the new certificate", async || shop.shows_certificate(1).await).await;

    let old = shop.identity_hash().await;
    shop.rotate_identity();
    within(A_SECOND, "the new identity", async || shop.identity_hash().await != old).await;
}

/// The pod that answers on this connection.
async fn pod(connection: &mut Connection) -> String {
    connection.send(get(SHOP)).await.expect("an answer").echoed("pod")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_come_and_go_under_load_without_a_failure() {
    let shop = Shop::in_mesh().await;
    let load = Load::start(&shop.mesh.browser(), 4, SHOP);
    let mut connection = shop.mesh.browser().connect(HOST).await.expect("HTTPS works");

    for round in 0..5 {
        let name = format!("v{}", round + 2);
        let next = shop.mesh.workload("reviews").version(&name).sidecar().start().await;
        eventually("the new pod is used", async || pod(&mut connection).await == next.pod.name).await;
        shop.mesh.remove(&format!("pod-{}.yaml", next.pod.name));
        within(A_SECOND * 3, "the new pod is left", async || only_first(&mut connection).await).await;
    }

    let result = load.stop().await;
    assert_eq!(result.failed, 0, "{result:?}");
}

/// True when ten requests in a row go to the first pod.
async fn only_first(connection: &mut Connection) -> bool {
    for _ in 0..10 {
        if pod(connection).await != "reviews-v1" {
            return false;
        }
    }
    true
}

/// Gateway and a STRICT `reviews` with an HTTP and a gRPC port.
async fn streaming_shop() -> (Shop, Workload) {
    let mesh = Mesh::with_edge();
    let services = yaml::service("shop", "reviews", &[(8080, "http"), (9090, "grpc")]) + &service("ratings");
    mesh.write("services.yaml", &services);
    mesh.write("strict.yaml", &yaml::peer_authentication("shop", "STRICT"));
    let reviews = mesh.workload("reviews").ports(&[8080, 9090]).sidecar().start().await;
    let ratings = mesh.workload("ratings").sidecar().start().await;
    mesh.routes(ROUTES);
    let gateway = mesh.gateway().await;
    (Shop { mesh, gateway, reviews }, ratings)
}

const ROUTES: &str = "
- match: [{uri: {prefix: /echo.Echo/}}]
  route: [{destination: {host: reviews, port: {number: 9090}}}]
- route: [{destination: {host: reviews, port: {number: 8080}}}]";

/// The same routes, but everything new goes to `ratings`.
const MOVED: &str = "- route: [{destination: {host: ratings, port: {number: 8080}}}]";

#[tokio::test]
async fn websocket_grpc_stream_and_download_survive_every_kind_of_change() {
    let (shop, _ratings) = streaming_shop().await;
    let browser = shop.mesh.browser();
    let mut socket = WebSocket::open(&browser, "wss://shop.example.com/live").await.expect("an open WebSocket");
    let channel = Grpc::connect(&browser.clone().h2(), SHOP).await.expect("HTTP/2 works");
    let mut call = channel.open("/echo.Echo/BidiStream").await.expect("an open call");
    let mut download = browser.connect(HOST).await.expect("HTTPS works");
    let download = download.open(get(&format!("{SHOP}/stream/40"))).await.expect("a download starts");

    let root = shop.reviews.spiffe();
    let changes: [(&str, &dyn Fn()); 5] = [
        ("secret", &|| shop.publish_secret(1)),
        ("identity of the gateway", &|| shop.rotate_identity()),
        ("identity of the sidecar", &|| shop.mesh.pki.write_identity(&shop.reviews.identity, &root)),
        ("routes", &|| shop.mesh.routes(MOVED)),
        ("endpoints", &|| shop.mesh.remove("pod-reviews-v1.yaml")),
    ];
    for (kind, change) in changes {
        let old = generation(&shop).await;
        change();
        within(A_SECOND * 2, kind, async || generation(&shop).await != old || kind == "identity of the sidecar").await;
        assert_eq!(socket.ask(kind).await.expect("the WebSocket is open"), kind);
        assert_eq!(call.ask(kind).await.expect("the gRPC stream is open"), kind);
    }

    assert_eq!(browser.get(SHOP).await.echoed("service"), "ratings");
    call.finish().expect("the call is open");
    assert_eq!(call.outcome().await.expect("a finished call").status, Some(0));
    let text = download.into_body().collect().await.expect("the whole download").to_bytes();
    assert_eq!(String::from_utf8_lossy(&text).lines().count(), 40);
}

/// Something in the admin dump that changes with each change.
async fn generation(shop: &Shop) -> (String, String) {
    let dump = shop.gateway.admin_json("/config_dump").await;
    (dump["generation"].to_string(), shop.gateway.admin("/certs").await.text())
}

#[tokio::test]
async fn pooled_connections_of_the_old_identity_are_retired() {
    let mesh = Mesh::with_edge();
    let address = mesh.workload("reviews").sidecar().declare();
    mesh.write("rule.yaml", &destination_rule("reviews", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"));
    mesh.route_all_to("reviews");
    let root = mesh.pki.mesh.root_pem();
    let server = tls_peer::server(&mesh.pki.workload(&spiffe("shop", "reviews")), Some(root), &["http/1.1"]);
    let origin = Origin::tls(address, server).await;
    let _gateway = mesh.gateway_with(&["--workers", "1"]).await;
    let mut connection = mesh.browser().connect(HOST).await.expect("HTTPS works");
    assert_eq!(connection.send(get(SHOP)).await.expect("an answer").code(), 200);
    assert_eq!(origin.handshakes().len(), 1);

    mesh.identity("istio-system", "istio-ingressgateway", "gateway");

    let renewed = async || {
        assert_eq!(connection.send(get(SHOP)).await.expect("an answer").code(), 200);
        origin.handshakes().len() > 1
    };
    within(A_SECOND, "a new handshake", renewed).await;
    assert!(!origin.handshakes()[1].resumed, "a session of the old identity must not be resumed");
}

#[tokio::test]
async fn a_request_keeps_the_configuration_it_started_with() {
    let (shop, _ratings) = streaming_shop().await;
    let mut connection = shop.mesh.browser().connect(HOST).await.expect("HTTPS works");

    let slow = with_body(harness::client::request("POST", &format!("{SHOP}/delay/1500")), "body");
    let answer = tokio::spawn(async move { connection.send(slow).await.expect("an answer") });
    eventually("the request is on its way", async || in_flight(&shop).await).await;
    shop.mesh.routes(MOVED);
    let moved = async || shop.mesh.browser().get(SHOP).await.echoed("service") == "ratings";
    within(A_SECOND, "the new routes", moved).await;

    assert_eq!(answer.await.expect("no panic").echoed("service"), "reviews");
}

/// A connection is open.
async fn in_flight(shop: &Shop) -> bool {
    shop.gateway.metrics().await.sum("sluice_downstream_connections_active", &[]) >= 1.0
}
