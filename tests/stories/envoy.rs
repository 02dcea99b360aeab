//! Real Envoy on the other side of mutual TLS, configured as Istio configures its sidecars.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use harness::{
    client::Client,
    endpoint::{Call, Endpoint},
    envoy::{Envoy, executable},
    grpc::Grpc,
    mesh::{Mesh, SHOP},
    message::{Answer, Version},
    pki::spiffe,
    workload::Workload,
    yaml::{self, destination_rule, indent, peer_authentication},
};

/// Certificate and trust of an Envoy with this identity, as the inside of `common_tls_context`.
pub(super) fn credentials(mesh: &Mesh, identity: &str, peer: &str) -> String {
    let issued = mesh.pki.workload(identity);
    let inline = |pem: &str| format!("{{inline_string: {}}}", serde_json::Value::from(pem));
    format!(
        "tls_certificates: [{{certificate_chain: {}, private_key: {}}}]\n\
         validation_context:\n  trusted_ca: {}\n  match_typed_subject_alt_names:\n  \
         - {{san_type: URI, matcher: {{exact: '{peer}'}}}}",
        inline(&issued.chain_pem),
        inline(&issued.key_pem),
        inline(mesh.pki.mesh.root_pem()),
    )
}

pub(crate) fn socket(address: SocketAddr) -> String {
    format!("socket_address: {{address: {}, port_value: {}}}", address.ip(), address.port())
}

pub(super) fn cluster(name: &str, to: SocketAddr, more: &str) -> String {
    format!(
        "- name: {name}\n  type: STATIC\n  load_assignment:\n    cluster_name: {name}\n    endpoints:\n    \
         - lb_endpoints: [{{endpoint: {{address: {{{}}}}}}}]\n{}\n",
        socket(to),
        indent(more, 2)
    )
}

fn protocol(http: &str) -> String {
    format!(
        "typed_extension_protocol_options:\n  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n    \
         '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n    {http}"
    )
}

/// A connection manager that sends everything to `cluster`.
pub(super) fn manager(cluster: &str, more: &str) -> String {
    format!(
        "name: envoy.filters.network.http_connection_manager\ntyped_config:\n  \
         '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n  \
         stat_prefix: http\n  codec_type: AUTO\n  upgrade_configs: [{{upgrade_type: websocket}}]\n  http_filters:\n  \
         - name: router\n    typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}\n  \
         route_config: {{virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, \
         route: {{cluster: {cluster}}}}}]}}]}}\n{}",
        indent(more, 2)
    )
}

pub(crate) fn bootstrap(admin: SocketAddr, listeners: &str, clusters: &str) -> String {
    format!(
        "admin: {{address: {{{}}}}}\nstatic_resources:\n  listeners:\n{}\n  clusters:\n{}\n",
        socket(admin),
        indent(listeners, 2),
        indent(clusters, 2)
    )
}

/// Envoy as the inbound side of a sidecar: TLS inspector, the mesh's ALPN names choose the filter chain, client
/// certificates are required and must be the ingress gateway's.
fn inbound(mesh: &Mesh, pod: SocketAddr, app: SocketAddr) -> String {
    let gateway = spiffe("istio-system", "istio-ingressgateway");
    let tls = format!(
        "name: tls\ntyped_config:\n  \
         '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n  \
         require_client_certificate: true\n  common_tls_context:\n    alpn_protocols: [h2, http/1.1]\n{}",
        indent(&credentials(mesh, &spiffe("shop", "reviews"), &gateway), 4)
    );
    let xfcc = "forward_client_cert_details: APPEND_FORWARD\n\
                set_current_client_cert_details: {subject: true, uri: true, dns: true}";
    let listener = format!(
        "- name: inbound\n  address: {{{}}}\n  listener_filters:\n  - name: tls_inspector\n    \
         typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}\n  \
         filter_chains:\n  - filter_chain_match:\n      transport_protocol: tls\n      \
         application_protocols: [istio-http/1.0, istio-http/1.1, istio-h2]\n    transport_socket:\n{}\n    filters:\n    -\n{}\n",
        socket(pod),
        indent(&tls, 6),
        indent(&manager("app", xfcc), 6)
    );
    let app = cluster("app", app, &protocol("use_downstream_protocol_config: {http2_protocol_options: {}}"));
    bootstrap(mesh.block.at(90, 9901), &listener, &app)
}

/// The app, Envoy in front of it as the sidecar of `reviews`, and a route from the edge to it.
async fn envoy_sidecar(envoy: &Path, port_name: &str) -> (Mesh, Workload, Envoy) {
    let mesh = Mesh::with_edge();
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, port_name)]));
    let app = mesh.workload("app").unpublished().start().await;
    let pod = mesh.workload("reviews").sidecar().declare();
    mesh.write("rule.yaml", &destination_rule("reviews", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"));
    mesh.route_all_to("reviews");
    let configuration = inbound(&mesh, pod, app.app);
    let envoy = Envoy::start(envoy, &configuration, mesh.block.at(90, 9901)).await;
    (mesh, app, envoy)
}

#[tokio::test]
async fn envoy_as_the_sidecar_accepts_the_gateway_as_one_of_istios() {
    let Some(envoy) = executable("envoy_as_the_sidecar_accepts_the_gateway_as_one_of_istios") else { return };
    let (mesh, _app, _envoy) = envoy_sidecar(&envoy, "http").await;
    let _gateway = mesh.gateway().await;

    let reply = mesh.browser().get(&format!("{SHOP}/through/envoy")).await;

    assert_eq!(reply.code(), 200, "{}", reply.text());
    assert_eq!(reply.echoed("path"), "/through/envoy");
    assert_eq!(reply.echoed("peer"), spiffe("istio-system", "istio-ingressgateway"));
}

#[tokio::test]
async fn envoy_as_the_sidecar_gets_grpc_over_http2_with_trailers() {
    let Some(envoy) = executable("envoy_as_the_sidecar_gets_grpc_over_http2_with_trailers") else { return };
    let (mesh, _app, _envoy) = envoy_sidecar(&envoy, "grpc").await;
    let _gateway = mesh.gateway().await;
    let channel = Grpc::connect(&mesh.browser().h2(), SHOP).await.expect("HTTP/2 works");

    let unary = channel.unary("/echo.Echo/Unary", "ping").await.expect("a finished call");
    let stream = channel.unary("/echo.Echo/ServerStream", "tick").await.expect("a finished call");

    assert_eq!((unary.status, unary.messages.len()), (Some(0), 1));
    assert_eq!((stream.status, stream.messages.len()), (Some(0), 5));
}

/// Envoy as the outbound side of a sidecar of service account `ratings`: one listener, mutual TLS to `to` with Istio's
/// SNI and ALPN names for this HTTP version.
pub(super) fn outbound(mesh: &Mesh, to: SocketAddr, http: &str) -> String {
    let options = match http {
        "h2" => "explicit_http_config: {http2_protocol_options: {}}",
        _ => "explicit_http_config: {http_protocol_options: {}}",
    };
    let tls = format!(
        "{}\ntransport_socket:\n  name: tls\n  typed_config:\n    \
         '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n    \
         sni: outbound_.8080_._.reviews.shop.svc.cluster.local\n    common_tls_context:\n      \
         alpn_protocols: [istio-{http}, istio, {http}]\n{}",
        protocol(options),
        indent(&credentials(mesh, &spiffe("shop", "ratings"), &spiffe("shop", "reviews")), 6)
    );
    let listener = format!(
        "- name: outbound\n  address: {{{}}}\n  filter_chains:\n  - filters:\n    -\n{}\n",
        socket(mesh.block.at(91, 15_001)),
        indent(&manager("reviews", ""), 6)
    );
    bootstrap(mesh.block.at(91, 9901), &listener, &cluster("reviews", to, &tls))
}

/// A STRICT `reviews` behind our sidecar, and Envoy that calls it.
async fn envoy_client(envoy: &Path, http: &str) -> (Mesh, Workload, Envoy, Client) {
    let mesh = Mesh::new();
    let port_name = if http == "h2" { "grpc" } else { "http" };
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, port_name)]));
    mesh.write("strict.yaml", &peer_authentication("shop", "STRICT"));
    let reviews = mesh.workload("reviews").sidecar().start().await;
    let configuration = outbound(&mesh, reviews.address, http);
    let envoy = Envoy::start(envoy, &configuration, mesh.block.at(91, 9901)).await;
    let client = Client::plain(mesh.block.at(91, 15_001));
    (mesh, reviews, envoy, client)
}

#[tokio::test]
async fn envoy_as_the_client_is_served_by_a_strict_sidecar() {
    let Some(envoy) = executable("envoy_as_the_client_is_served_by_a_strict_sidecar") else { return };
    let (_mesh, reviews, _envoy, client) = envoy_client(&envoy, "http/1.1").await;

    let reply = client.get("http://reviews:8080/from/envoy").await;

    assert_eq!(reply.code(), 200, "{}", reply.text());
    assert_eq!(reply.echoed("peer"), spiffe("shop", "ratings"));
    assert!(reply.saw("x-forwarded-client-cert").contains(&format!("By={}", reviews.spiffe())));
}

#[tokio::test]
async fn envoy_as_the_client_speaks_http2_and_grpc_to_a_strict_sidecar() {
    let Some(envoy) = executable("envoy_as_the_client_speaks_http2_and_grpc_to_a_strict_sidecar") else { return };
    let (_mesh, _reviews, _envoy, client) = envoy_client(&envoy, "h2").await;

    let reply = client.clone().h2().get("http://reviews:8080/two").await;
    let channel = Grpc::connect(&client.h2(), "http://reviews:8080").await.expect("Envoy speaks h2c");
    let unary = channel.unary("/echo.Echo/Unary", "ping").await.expect("a finished call");

    assert_eq!(reply.echoed("peer"), spiffe("shop", "ratings"));
    assert_eq!((unary.status, unary.messages.len()), (Some(0), 1));
}

#[tokio::test]
async fn a_call_that_is_unavailable_behind_envoy_is_tried_again() {
    let Some(envoy) = executable("a_call_that_is_unavailable_behind_envoy_is_tried_again") else { return };
    let mesh = Mesh::with_edge();
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "grpc")]));
    let app = mesh.workload("app").unpublished().declare();
    let tries = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&tries);
    let _app = Endpoint::start(app, Version::Two, move |mut call: Call| {
        let seen = Arc::clone(&seen);
        async move {
            let (body, _) = call.read().await;
            let attempt = call.headers.get("x-envoy-attempt-count").cloned();
            let attempt = attempt.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            let number = {
                let mut seen = seen.lock().expect("no panic");
                seen.push((attempt.unwrap_or_default(), body.clone()));
                seen.len()
            };
            let answer = Answer::new(200, "").header("content-type", "application/grpc");
            if number < 3 {
                return call.answer(answer.header("grpc-status", "14")).await;
            }
            call.answer(Answer { body, ..answer }.trailer("grpc-status", "0")).await;
        }
    })
    .await;
    let pod = mesh.workload("reviews").sidecar().declare();
    mesh.write("rule.yaml", &destination_rule("reviews", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"));
    mesh.routes("- {retries: {attempts: 3, retryOn: unavailable}, route: [{destination: {host: reviews, port: {number: 8080}}}]}");
    let _envoy = Envoy::start(&envoy, &inbound(&mesh, pod, app), mesh.block.at(90, 9901)).await;
    let _gateway = mesh.gateway().await;
    let channel = Grpc::connect(&mesh.browser().h2(), SHOP).await.expect("HTTP/2 works");

    let unary = channel.unary("/shop.Echo/Unary", "ping").await.expect("a finished call");

    assert_eq!((unary.status, unary.messages.len()), (Some(0), 1));
    let tries = tries.lock().expect("no panic");
    let attempts: Vec<&str> = tries.iter().map(|(attempt, _)| attempt.as_str()).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    assert!(tries.iter().all(|(_, body)| *body == tries[0].1), "each is whole");
}

#[tokio::test]
async fn a_call_that_envoy_answers_for_a_dead_application_goes_to_another_pod() {
    let Some(envoy) = executable("a_call_that_envoy_answers_for_a_dead_application_goes_to_another_pod") else {
        return;
    };
    let mesh = Mesh::with_edge();
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "grpc")]));
    let dead = mesh.workload("app").unpublished().declare();
    let pod = mesh.workload("reviews").sidecar().declare();
    let _well = mesh.workload("reviews").version("v2").sidecar().start().await;
    mesh.write("rule.yaml", &destination_rule("reviews", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"));
    mesh.route_all_to("reviews");
    let _envoy = Envoy::start(&envoy, &inbound(&mesh, pod, dead), mesh.block.at(90, 9901)).await;
    let gateway = mesh.gateway().await;
    let channel = Grpc::connect(&mesh.browser().h2(), SHOP).await.expect("HTTP/2 works");

    for call in 0..20 {
        let unary = channel.unary("/echo.Echo/Unary", "ping").await.expect("a finished call");
        assert_eq!((unary.status, unary.messages.len()), (Some(0), 1), "call {call}: {}", unary.message);
    }

    let metrics = gateway.metrics().await;
    assert!(metrics.sum("sluice_retries_total", &[("result", "helped")]) > 0.0, "some went to Envoy first");
}
