//! Real Envoy at the other end of connections that are no HTTP: mutual TLS around bytes, and TLS that the gateway passes on by
//! the server names of the mesh.

use std::{net::SocketAddr, path::Path};

use harness::{
    client::Client,
    envoy::{Envoy, executable},
    eventually::eventually,
    gateway::Proxy,
    listening::Listening,
    mesh::Mesh,
    pki::spiffe,
    yaml::{self, destination_rule, indent, peer_authentication},
};
use tokio::net::TcpStream;

use super::{
    envoy::{bootstrap, cluster, credentials, outbound, socket},
    opaque::{GREETING, PLAIN, counting, gateway, routes, say},
};

const DB: &str = "outbound_.3306_._.db.shop.svc.cluster.local";

const CROSSING: &str =
    "  - {port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.local'], tls: {mode: AUTO_PASSTHROUGH}}\n";

fn tcp_proxy(to: &str) -> String {
    format!(
        "{{name: tcp, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, \
         stat_prefix: tcp, cluster: {to}}}}}"
    )
}

/// Envoy as the outbound side of a sidecar of `ratings`: all bytes go to `to` in mutual TLS, under this server name.
async fn client(envoy: &Path, mesh: &Mesh, to: SocketAddr, server: &str) -> (Envoy, SocketAddr) {
    let (address, admin) = (mesh.block.at(91, 15_001), mesh.block.at(91, 9901));
    let tls = format!(
        "transport_socket:\n  name: tls\n  typed_config:\n    \
         '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n    \
         sni: {server}\n    common_tls_context:\n      alpn_protocols: [istio]\n{}",
        indent(&credentials(mesh, &spiffe("shop", "ratings"), &spiffe("shop", "db")), 6)
    );
    let filter = tcp_proxy("to");
    let listener =
        format!("- {{name: outbound, address: {{{}}}, filter_chains: [{{filters: [{filter}]}}]}}\n", socket(address));
    let envoy = Envoy::start(envoy, &bootstrap(admin, &listener, &cluster("to", to, &tls)), admin).await;
    (envoy, address)
}

/// Envoy as the inbound side of the sidecar of `db`, in front of an application that has the first word: whoever is no `peer`,
/// or does not offer Istio's protocol for bytes, is turned away.
async fn server(envoy: &Path, mesh: &Mesh, peer: &str) -> (Envoy, SocketAddr, Listening) {
    let (app, admin) = (mesh.block.at(92, 3306), mesh.block.at(90, 9901));
    let listening = counting(app, GREETING).await;
    mesh.write("services.yaml", &yaml::service("shop", "db", &[(3306, "tcp-db")]));
    mesh.write("rule.yaml", &destination_rule("db", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"));
    let pod = mesh.workload("db").ports(&[3306]).sidecar().declare();
    let tls = format!(
        "name: tls\ntyped_config:\n  \
         '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n  \
         require_client_certificate: true\n  common_tls_context:\n    alpn_protocols: [istio]\n{}",
        indent(&credentials(mesh, &spiffe("shop", "db"), peer), 4)
    );
    let listener = format!(
        "- name: inbound\n  address: {{{}}}\n  listener_filters:\n  - name: tls_inspector\n    \
         typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}\n  \
         filter_chains:\n  - filter_chain_match: {{transport_protocol: tls, application_protocols: [istio]}}\n    \
         transport_socket:\n{}\n    filters: [{}]\n",
        socket(pod),
        indent(&tls, 6),
        tcp_proxy("app")
    );
    let envoy = Envoy::start(envoy, &bootstrap(admin, &listener, &cluster("app", app, "")), admin).await;
    (envoy, pod, listening)
}

/// Waits until a proxy has counted connections with these labels.
async fn counted(proxy: &Proxy, labels: &[(&str, &str)]) {
    let sum = async || proxy.metrics().await.sum("istio_tcp_connections_opened_total", labels);
    eventually("the connection is counted", async || sum().await >= 1.0).await;
}

#[tokio::test]
async fn the_gateway_wraps_bytes_in_mutual_tls_that_envoy_ends() {
    let Some(envoy) = executable("the_gateway_wraps_bytes_in_mutual_tls_that_envoy_ends") else { return };
    let mesh = Mesh::new();
    let peer = spiffe("istio-system", "istio-ingressgateway");
    let (envoy, _pod, _app) = server(&envoy, &mesh, &peer).await;
    let tcp = "  tcp: [{route: [{destination: {host: db.shop.svc.cluster.local}}]}]\n";
    mesh.write("bytes.yaml", &(gateway(PLAIN) + &routes("*", tcp)));
    let proxy = mesh.gateway().await;

    let many = vec![b'x'; 1 << 20];
    let heard = say(proxy.addresses().second, &many).await;

    assert_eq!(heard, format!("{GREETING}{} bytes\n", many.len()), "{}", envoy.log());
    let db = spiffe("shop", "db");
    counted(&proxy, &[("connection_security_policy", "unknown"), ("destination_principal", &db)]).await;
}

#[tokio::test]
async fn a_sidecar_wraps_bytes_in_mutual_tls_that_envoy_ends() {
    let Some(envoy) = executable("a_sidecar_wraps_bytes_in_mutual_tls_that_envoy_ends") else { return };
    let mesh = Mesh::new();
    let (envoy, _pod, _app) = server(&envoy, &mesh, &spiffe("shop", "web")).await;
    let web = mesh.workload("web").sidecar().start().await;
    let local = SocketAddr::new(web.address.ip(), 3306);
    mesh.write(
        "sidecar.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: web, namespace: shop}}\n\
             spec:\n  workloadSelector: {{labels: {{app: web}}}}\n  egress:\n  \
             - {{port: {{number: 3306, name: tcp, protocol: TCP}}, bind: {}, hosts: ['./db.shop.svc.cluster.local']}}\n",
            local.ip()
        ),
    );
    eventually("the sidecar listens for it", async || TcpStream::connect(local).await.is_ok()).await;

    assert_eq!(say(local, b"12345").await, format!("{GREETING}5 bytes\n"), "{}", envoy.log());
}

#[tokio::test]
async fn envoy_reaches_a_strict_port_of_bytes() {
    let Some(envoy) = executable("envoy_reaches_a_strict_port_of_bytes") else { return };
    let mesh = Mesh::new();
    mesh.write("services.yaml", &yaml::service("shop", "db", &[(3306, "tcp-db")]));
    mesh.write("strict.yaml", &peer_authentication("shop", "STRICT"));
    let db = mesh.workload("db").ports(&[3306]).sidecar().start().await;
    let (envoy, address) = client(&envoy, &mesh, db.address, DB).await;

    // The echo app speaks HTTP, and nobody in between looks.
    let reply = Client::plain(address).get("http://whoever/from/envoy").await;

    assert_eq!((reply.code(), &*reply.echoed("path")), (200, "/from/envoy"), "{}", envoy.log());
    let labels = [
        ("reporter", "destination"),
        ("connection_security_policy", "mutual_tls"),
        ("source_principal", &*spiffe("shop", "ratings")),
    ];
    counted(db.proxy(), &labels).await;
}

#[tokio::test]
async fn envoy_crosses_the_gateway_to_a_sidecar_by_the_names_of_the_mesh() {
    let Some(envoy) = executable("envoy_crosses_the_gateway_to_a_sidecar_by_the_names_of_the_mesh") else { return };
    let mesh = Mesh::new();
    let services = [("db", 3306, "tcp-db"), ("reviews", 8080, "http")];
    let services = services.map(|(name, port, protocol)| yaml::service("shop", name, &[(port, protocol)]));
    mesh.write("services.yaml", &services.concat());
    mesh.write("strict.yaml", &peer_authentication("shop", "STRICT"));
    mesh.write("bytes.yaml", &gateway(CROSSING));
    let db = mesh.workload("db").ports(&[3306]).sidecar().start().await;
    let _reviews = mesh.workload("reviews").sidecar().start().await;
    let proxy = mesh.gateway().await;
    let crossing = proxy.addresses().main;

    {
        let (envoy, address) = client(&envoy, &mesh, crossing, DB).await;
        let reply = Client::plain(address).get("http://whoever/across").await;
        assert_eq!((reply.code(), &*reply.echoed("path")), (200, "/across"), "{}", envoy.log());
    }
    counted(db.proxy(), &[("source_principal", &spiffe("shop", "ratings"))]).await;
    for http in ["http/1.1", "h2"] {
        let configuration = outbound(&mesh, crossing, http);
        let envoy = Envoy::start(&envoy, &configuration, mesh.block.at(91, 9901)).await;
        let reply = Client::plain(mesh.block.at(91, 15_001)).get("http://reviews:8080/across").await;
        assert_eq!(reply.code(), 200, "{http}: {} {}", reply.text(), envoy.log());
        assert_eq!(reply.echoed("peer"), spiffe("shop", "ratings"), "the gateway in between is nobody");
    }
}

#[tokio::test]
async fn envoy_crosses_the_gateway_to_envoy() {
    let Some(executable) = executable("envoy_crosses_the_gateway_to_envoy") else { return };
    let mesh = Mesh::new();
    mesh.write("bytes.yaml", &gateway(CROSSING));
    let (end, _pod, _app) = server(&executable, &mesh, &spiffe("shop", "ratings")).await;
    let proxy = mesh.gateway().await;

    let (start, address) = client(&executable, &mesh, proxy.addresses().main, DB).await;
    assert_eq!(say(address, b"12345").await, format!("{GREETING}5 bytes\n"), "{} {}", start.log(), end.log());
    drop(start);

    // A name of no service is not guessed at.
    let unknown = "outbound_.3307_._.db.shop.svc.cluster.local";
    let (_start, address) = client(&executable, &mesh, proxy.addresses().main, unknown).await;
    assert_eq!(say(address, b"12345").await, "");
    proxy.logs(unknown).await;
}
