//! Real Envoy at the other end of the mesh, as Istio configures it: in every direction, with every kind of traffic, under STRICT and
//! under PERMISSIVE.
//!
//! The Envoy of PyPI is without Istio's own filters, so that what they tell each other of workloads is a header here that Envoy is
//! configured to send and to log. The announcement before bytes has no such stand-in: raw peers speak it (`peers`).

use std::{net::SocketAddr, path::Path};

use harness::{
    client::Client,
    envoy::{Envoy, executable},
    eventually::eventually,
    grpc::Grpc,
    mesh::Mesh,
    peer_metadata::{self, Metadata},
    pki::spiffe,
    yaml::{self, indent, peer_authentication},
};
use tls::authority::Issued;

use super::{
    envoy::{bootstrap, cluster, socket},
    opaque::{GREETING, counting, gateway, say},
};

const MODES: [&str; 2] = ["STRICT", "PERMISSIVE"];
/// Ports of `reviews`, with the names that say their protocols.
pub(super) const REVIEWS: [(u16, &str); 3] = [(8080, "http"), (8081, "http2"), (8082, "grpc")];
const DB: u16 = 3306;
const MESH_HTTP: &str = "[istio-http/1.0, istio-http/1.1, istio-h2]";
const METADATA: &str = "x-envoy-peer-metadata";

/// What Envoy shows and whom it takes, as the inside of `common_tls_context`. `peers`: the beginning of their identities.
pub(super) fn credentials(mesh: &Mesh, shown: Option<&Issued>, peers: &str) -> String {
    let inline = |pem: &str| format!("{{inline_string: {}}}", serde_json::Value::from(pem));
    let shown = shown.map_or_else(String::new, |it| {
        let (chain, key) = (inline(&it.chain_pem), inline(&it.key_pem));
        format!("tls_certificates: [{{certificate_chain: {chain}, private_key: {key}}}]\n")
    });
    format!(
        "{shown}validation_context:\n  trusted_ca: {}\n  match_typed_subject_alt_names:\n  \
         - {{san_type: URI, matcher: {{prefix: '{peers}'}}}}",
        inline(mesh.pki.mesh.root_pem()),
    )
}

pub(super) fn downstream_tls(context: &str, alpn: &str, demands: bool) -> String {
    format!(
        "name: tls\ntyped_config:\n  \
         '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n  \
         require_client_certificate: {demands}\n  common_tls_context:\n    alpn_protocols: {alpn}\n{}",
        indent(context, 4)
    )
}

/// Everything goes to `cluster`. Both heads that pass are told in Envoy's log, with what the other side says of its workload; what
/// Envoy says of its own is `told`, to whom it asks or to who asks it.
pub(super) fn manager(cluster: &str, (asks, told): (bool, &Metadata)) -> String {
    let adds = if asks { "request_headers_to_add" } else { "response_headers_to_add" };
    let (hears, value) = (if asks { "RESP" } else { "REQ" }, peer_metadata::header(told));
    format!(
        "name: envoy.filters.network.http_connection_manager\ntyped_config:\n  \
         '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n  \
         stat_prefix: http\n  codec_type: AUTO\n  forward_client_cert_details: APPEND_FORWARD\n  \
         set_current_client_cert_details: {{subject: true, uri: true, dns: true}}\n  \
         access_log: [{{name: log, typed_config: {{'@type': type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog, \
         log_format: {{text_format_source: {{inline_string: \"told %{hears}({METADATA})% %{hears}({METADATA}-id)%\\n\"}}}}}}}}]\n  \
         http_filters:\n  \
         - name: router\n    typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}\n  \
         route_config:\n    {adds}: [{{header: {{key: {METADATA}, value: '{value}'}}}}, {{header: {{key: {METADATA}-id, value: envoy}}}}]\n    \
         virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: {cluster}}}}}]}}]\n"
    )
}

fn tcp_proxy(to: &str) -> String {
    format!(
        "name: tcp\ntyped_config: {{'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, \
         stat_prefix: tcp, cluster: {to}}}"
    )
}

pub(super) fn chain(matching: &str, tls: Option<&str>, filter: &str) -> String {
    let tls = tls.map_or_else(String::new, |tls| format!("  transport_socket:\n{}\n", indent(tls, 4)));
    format!("- filter_chain_match: {matching}\n{tls}  filters:\n  -\n{}\n", indent(filter, 4))
}

pub(super) fn listener(address: SocketAddr, inspects: bool, chains: &str) -> String {
    let inspector = "  listener_filters: [{name: tls_inspector, typed_config: {'@type': \
                     type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}]\n";
    let inspector = if inspects { inspector } else { "" };
    format!(
        "- name: '{address}'\n  address: {{{}}}\n{inspector}  filter_chains:\n{}\n",
        socket(address),
        indent(chains, 2)
    )
}

/// As Istio's inbound listener for one port: mesh TLS, and plain text where that is allowed.
fn inbound(address: SocketAddr, tls: &str, mode: &str, (alpn, filter): (&str, &str)) -> String {
    let mesh = format!("{{transport_protocol: tls, application_protocols: {alpn}}}");
    let mut chains = chain(&mesh, Some(tls), filter);
    if mode == "PERMISSIVE" {
        chains += &chain("{transport_protocol: raw_buffer}", None, filter);
    }
    listener(address, true, &chains)
}

fn http_options(options: &str) -> String {
    format!(
        "typed_extension_protocol_options:\n  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n    \
         '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n    {options}\n"
    )
}

/// As one of Istio's outbound clusters: mutual TLS with its names of protocols. `http`: `http/1.1`, `h2`, or none for bytes.
pub(super) fn outbound(name: &str, to: SocketAddr, context: &str, http: &str) -> String {
    let (options, alpn) = match http {
        "h2" => (http_options("explicit_http_config: {http2_protocol_options: {}}"), "[istio-h2, istio, h2]"),
        "" => (String::new(), "[istio]"),
        _ => (http_options("explicit_http_config: {http_protocol_options: {}}"), "[istio-http/1.1, istio, http/1.1]"),
    };
    let tls = format!(
        "{options}transport_socket:\n  name: tls\n  typed_config:\n    \
         '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n    \
         sni: outbound_.{}_._.any.shop.svc.cluster.local\n    common_tls_context:\n      alpn_protocols: {alpn}\n{}",
        to.port(),
        indent(context, 6)
    );
    cluster(name, to, &tls)
}

/// What Envoy has been told, by whom, as its log has it.
async fn heard_by(envoy: &Envoy, workload: &str) -> Metadata {
    let told = || {
        let log = envoy.log();
        let values = log.lines().filter_map(|line| line.strip_prefix("told ")?.split(' ').next().map(str::to_owned));
        let all: Vec<Metadata> =
            values.filter(|value| value != "-").map(|value| peer_metadata::read_header(&value)).collect();
        all.into_iter().find(|told| told.get("WORKLOAD_NAME").is_some_and(|name| name == workload))
    };
    eventually(&format!("Envoy hears of {workload}"), async || told().is_some()).await;
    told().expect("it was there")
}

/// Where each kind of traffic goes in, to come out at `reviews` or, as bytes, at `db`.
struct Doors {
    h1: (Client, String),
    h2: (Client, String),
    grpc: (Client, String),
    tcp: SocketAddr,
    /// Our sidecar is in front of `reviews`, and Envoy asks.
    ours_serves: bool,
}

/// All four kinds go through, and whoever is asked knows who asks.
async fn all_four(doors: &Doors, caller: &str, greeting: &str) {
    for (name, (client, url)) in [("h1", &doors.h1), ("h2", &doors.h2)] {
        let reply = client.get(&format!("{url}/{name}")).await;
        assert_eq!((reply.code(), reply.echoed("path")), (200, format!("/{name}")), "{name}: {}", reply.text());
        assert_eq!(reply.echoed("peer"), caller, "{name}");
        // Envoy passes on what it is not told to keep; ours keeps it on the side where it ends.
        let passed = if doors.ours_serves { reply.saw(METADATA) } else { reply.header(METADATA).to_owned() };
        assert_eq!(passed, "", "{name}: it is for proxies alone");
    }
    let channel = Grpc::connect(&doors.grpc.0, &doors.grpc.1).await.expect("HTTP/2 works");
    let call = channel.unary("/echo.Echo/ServerStream", "tick").await.expect("a finished call");
    assert_eq!((call.status, call.messages.len()), (Some(0), 5), "gRPC");
    let heard = say(doors.tcp, b"12345\n").await;
    assert!(heard.starts_with(greeting) && heard.len() > greeting.len(), "bytes: {heard}");
}

/// A gateway of ours that leads everybody to `reviews` by host, and to `db` by port.
fn edge() -> String {
    let servers = "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}\n  \
                   - {port: {number: 9306, name: tcp, protocol: TCP}, hosts: ['*']}\n";
    let route = |(port, host): (u16, &str)| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {host}, namespace: shop}}\n\
             spec:\n  hosts: [{host}.test]\n  gateways: [istio-system/bytes]\n  \
             http: [{{route: [{{destination: {{host: reviews, port: {{number: {port}}}}}}}]}}]\n"
        )
    };
    let tcp = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: tcp, namespace: shop}\n\
               spec:\n  hosts: ['*']\n  gateways: [istio-system/bytes]\n  \
               tcp: [{match: [{port: 9306}], route: [{destination: {host: db}}]}]\n";
    gateway(servers) + &REVIEWS.map(route).concat() + tcp
}

/// A port of the sidecar `web` for its application, which stands for `db`.
fn door_to_db(address: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: web, namespace: shop}}\n\
         spec:\n  workloadSelector: {{labels: {{app: web}}}}\n  egress:\n  \
         - {{port: {{number: {}, name: tcp, protocol: TCP}}, bind: {}, hosts: ['./db.shop.svc.cluster.local']}}\n  \
         - {{hosts: ['./*']}}\n",
        address.port(),
        address.ip()
    )
}

pub(super) fn services() -> String {
    yaml::service("shop", "reviews", &REVIEWS) + &yaml::service("shop", "db", &[(DB, "tcp-db")])
}

/// Envoy as the sidecars of `reviews` and of `db`.
async fn envoy_serves(
    envoy: &Path,
    mesh: &Mesh,
    mode: &str,
    app: SocketAddr,
    db_app: SocketAddr,
) -> (Envoy, SocketAddr) {
    let pod = mesh.workload("reviews").ports(&REVIEWS.map(|(port, _)| port)).sidecar().declare();
    let db = mesh.workload("db").ports(&[DB]).sidecar().declare();
    let context = |account: &str, alpn: &str| {
        let issued = mesh.pki.workload(&spiffe("shop", account));
        downstream_tls(&credentials(mesh, Some(&issued), "spiffe://cluster.local/"), alpn, true)
    };
    let told = peer_metadata::of("reviews-v1");
    let http = manager("app", (false, &told));
    let reviews = context("reviews", "[h2, http/1.1]");
    let mut listeners: String = REVIEWS
        .iter()
        .map(|(port, _)| inbound(SocketAddr::new(pod.ip(), *port), &reviews, mode, (MESH_HTTP, &http)))
        .collect();
    let bytes = tcp_proxy("db");
    listeners += &inbound(db, &context("db", "[istio-peer-exchange, istio]"), mode, ("[istio]", &bytes));
    let to_app = http_options("use_downstream_protocol_config: {http2_protocol_options: {}}");
    let clusters = cluster("app", app, &to_app) + &cluster("db", db_app, "");
    let admin = mesh.block.at(90, 9901);
    (Envoy::start(envoy, &bootstrap(admin, &listeners, &clusters), admin).await, pod)
}

#[tokio::test]
async fn our_sidecar_and_our_gateway_reach_envoy_with_all_kinds_of_traffic() {
    let Some(envoy) = executable("our_sidecar_and_our_gateway_reach_envoy_with_all_kinds_of_traffic") else { return };
    for mode in MODES {
        let mesh = Mesh::new();
        mesh.write("services.yaml", &services());
        mesh.write("peers.yaml", &peer_authentication("shop", mode));
        mesh.write("edge.yaml", &edge());
        let app = mesh.workload("app").unpublished().start().await;
        let db_app = mesh.block.at(92, DB);
        let _listening = counting(db_app, GREETING).await;
        let (envoy, pod) = envoy_serves(&envoy, &mesh, mode, app.app, db_app).await;
        let web = mesh.workload("web").sidecar().start().await;
        let to_db = SocketAddr::new(web.address.ip(), DB);
        mesh.write("sidecar.yaml", &door_to_db(to_db));
        eventually("the sidecar listens for db", async || !say_quietly(to_db).await.is_empty()).await;
        let proxy = mesh.gateway().await;

        let app = Client::plain(web.outbound());
        let at = |port: u16| format!("http://reviews:{port}");
        let own = Doors {
            h1: (app.clone(), at(8080)),
            h2: (app.clone().h2(), at(8081)),
            grpc: (app.h2(), at(8082)),
            tcp: to_db,
            ours_serves: false,
        };
        all_four(&own, &spiffe("shop", "web"), GREETING).await;
        let people = Client::plain(proxy.addresses().second);
        let edge = Doors {
            h1: (people.clone(), "http://http.test".to_owned()),
            h2: (people.clone().h2(), "http://http2.test".to_owned()),
            grpc: (people.h2(), "http://grpc.test".to_owned()),
            tcp: mesh.block.at(1, 9306),
            ours_serves: false,
        };
        all_four(&edge, &spiffe("istio-system", "istio-ingressgateway"), GREETING).await;

        let told = heard_by(&envoy, "web-v1").await;
        assert_eq!((&*told["NAMESPACE"], &*told["LABELS.app"]), ("shop", "web"), "{told:?}");
        assert_eq!(heard_by(&envoy, "istio-ingressgateway").await["NAMESPACE"], "istio-system");
        let plain = Client::plain(pod).status("http://reviews:8080/").await;
        assert_eq!(plain, if mode == "STRICT" { 0 } else { 200 }, "{mode}: whoever has no sidecar");
    }
}

/// As [`say`], where nobody may listen yet.
async fn say_quietly(to: SocketAddr) -> String {
    match tokio::net::TcpStream::connect(to).await {
        Ok(_) => say(to, b"x\n").await,
        Err(_) => String::new(),
    }
}

/// Envoy as a client of `reviews` and `db`: as the outbound side of the sidecar of `ratings` at `.91`, and as an ingress gateway
/// with TLS of its own at `.93`.
async fn envoy_asks(envoy: &Path, mesh: &Mesh, reviews: SocketAddr, db: SocketAddr) -> Envoy {
    let edge = mesh.pki.server(&["edge.test"]);
    let inline = |pem: &str| format!("{{inline_string: {}}}", serde_json::Value::from(pem));
    let (chain_pem, key) = (inline(&edge.chain_pem), inline(&edge.key_pem));
    let edge = format!("tls_certificates: [{{certificate_chain: {chain_pem}, private_key: {key}}}]");
    let edge = downstream_tls(&edge, "[h2, http/1.1]", false);
    let (mut listeners, mut clusters) = (String::new(), String::new());
    let callers =
        [(91, "ratings", spiffe("shop", "ratings"), None), (93, "edge", spiffe("istio-system", "edge"), Some(&*edge))];
    for (slot, name, identity, tls) in callers {
        let context = credentials(mesh, Some(&mesh.pki.workload(&identity)), "spiffe://cluster.local/ns/shop/");
        let told = peer_metadata::of(&format!("{name}-v7"));
        for ((port, _), http) in REVIEWS.into_iter().zip(["http/1.1", "h2", "h2"]) {
            let to = format!("{name}-{port}");
            let filter = manager(&to, (true, &told));
            listeners += &listener(mesh.block.at(slot, port), false, &chain("{}", tls, &filter));
            clusters += &outbound(&to, SocketAddr::new(reviews.ip(), port), &context, http);
        }
        let to = format!("{name}-db");
        listeners += &listener(mesh.block.at(slot, DB), false, &chain("{}", None, &tcp_proxy(&to)));
        clusters += &outbound(&to, db, &context, "");
    }
    let admin = mesh.block.at(91, 9901);
    Envoy::start(envoy, &bootstrap(admin, &listeners, &clusters), admin).await
}

#[tokio::test]
async fn envoy_as_a_sidecar_and_as_a_gateway_reaches_ours_with_all_kinds_of_traffic() {
    let Some(envoy) = executable("envoy_as_a_sidecar_and_as_a_gateway_reaches_ours_with_all_kinds_of_traffic") else {
        return;
    };
    let mesh = Mesh::new();
    mesh.write("services.yaml", &services());
    mesh.write("peers.yaml", &peer_authentication("shop", "STRICT"));
    let reviews = mesh.workload("reviews").ports(&REVIEWS.map(|(port, _)| port)).sidecar().start().await;
    let db = mesh.workload("db").ports(&[DB]).lines().sidecar().start().await;
    let envoy = envoy_asks(&envoy, &mesh, reviews.address, db.address).await;
    let doors = |slot: u8, origin: &str, client: &dyn Fn(SocketAddr) -> Client| {
        let door = |port: u16| (client(mesh.block.at(slot, port)), format!("{origin}:{port}"));
        let two = |(client, url): (Client, String)| (client.h2(), url);
        Doors {
            h1: door(8080),
            h2: two(door(8081)),
            grpc: two(door(8082)),
            tcp: mesh.block.at(slot, DB),
            ours_serves: true,
        }
    };
    let own = doors(91, "http://reviews", &Client::plain);
    let edge = doors(93, "https://edge.test", &|at| Client::https(at, mesh.edge_trust()));

    for mode in MODES {
        mesh.write("peers.yaml", &peer_authentication("shop", mode));
        let expected = if mode == "STRICT" { 0 } else { 200 };
        let plain = async || Client::plain(reviews.address).status("http://reviews:8080/").await;
        eventually(&format!("{mode} is in force"), async || plain().await == expected).await;
        all_four(&own, &spiffe("shop", "ratings"), "220 db v1 (db-v1) is ready\n").await;
        all_four(&edge, &spiffe("istio-system", "edge"), "220 db v1 (db-v1) is ready\n").await;
    }

    let told = heard_by(&envoy, "reviews-v1").await;
    assert_eq!((&*told["NAMESPACE"], &*told["LABELS.app"]), ("shop", "reviews"), "{told:?}");
    let by = |workload: &'static str, namespace: &'static str| {
        [("source_workload", workload), ("source_workload_namespace", namespace), ("source_cluster", "west")]
    };
    reviews.proxy().counts(6.0, &by("ratings-v7", "shop")).await;
    // It calls itself one of `shop`; its certificate says otherwise.
    reviews.proxy().counts(6.0, &by("edge-v7", "istio-system")).await;
}
