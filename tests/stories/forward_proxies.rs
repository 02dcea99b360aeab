//! `trafficPolicy.tunnel`: bytes that leave through somebody else's forward proxy.

use std::{net::SocketAddr, time::Duration};

use harness::{
    client::Client,
    envoy::{Envoy, executable},
    eventually::eventually,
    forward_proxy::{ForwardProxy, Manner},
    gateway::Proxy,
    listening::Listening,
    mesh::Mesh,
    origin::Origin,
    raw::Raw,
    tls_peer::{self, TlsClient},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use crate::{
    envoy::{bootstrap, cluster, socket},
    opaque::{GREETING, PLAIN, counting, gateway, routes},
};

/// Who is meant: only the proxy knows where that is.
const TARGET: &str = "db.internal.test:3306";

/// The service `proxy.test`, whose only endpoint is a forward proxy, with a rule that says what to ask it for.
fn tunnel(proxy: SocketAddr, tunnel: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: proxy, namespace: shop}}\n\
         spec: {{hosts: [proxy.test], resolution: STATIC, ports: [{{number: 3128, name: tcp, protocol: TCP}}], endpoints: \
         [{{address: {}, ports: {{tcp: {}}}}}]}}\n\
         ---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: proxy, namespace: shop}}\n\
         spec: {{host: proxy.test, trafficPolicy: {{tunnel: {{{tunnel}}}, connectionPool: {{tcp: {{connectTimeout: 700ms}}}}}}}}\n",
        proxy.ip(),
        proxy.port()
    )
}

/// A gateway whose port 8080 is plain bytes that go through the proxy.
async fn plain(mesh: &Mesh, proxy: SocketAddr, protocol: &str) -> Proxy {
    let route = routes("*", "  tcp: [{route: [{destination: {host: proxy.test}}]}]\n");
    let wanted = format!("protocol: {protocol}, targetHost: db.internal.test, targetPort: 3306");
    mesh.write("bytes.yaml", &(gateway(PLAIN) + &route + &tunnel(proxy, &wanted)));
    mesh.gateway().await
}

/// A server behind the proxy has the first word, gets megabytes, and has the last word when that has ended.
async fn bytes_go_through(protocol: &str) {
    let mesh = Mesh::new();
    let (db, at) = (mesh.block.at(80, 3306), mesh.block.at(81, 3128));
    let _db = counting(db, GREETING).await;
    let forward = ForwardProxy::start(at, Manner::Connects, &[(TARGET, db)]).await;
    let proxy = plain(&mesh, at, protocol).await;
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
    assert_eq!(forward.asked(), [format!("{protocol} {TARGET}")]);
    let counted = format!("\"-\" {} {}", many.len(), GREETING.len() + last.len());
    eventually("the log says it", async || proxy.access_log().contains(&counted)).await;
}

#[tokio::test]
async fn bytes_go_through_a_proxy_that_is_asked_by_connect() {
    bytes_go_through("CONNECT").await;
}

#[tokio::test]
async fn bytes_go_through_a_proxy_that_is_asked_by_post() {
    bytes_go_through("POST").await;
}

#[tokio::test]
async fn tls_of_the_client_ends_behind_the_proxy_and_nowhere_before() {
    let mesh = Mesh::new();
    let (site, at) = (mesh.block.at(80, 8443), mesh.block.at(81, 3128));
    let issued = mesh.pki.server(&["www.passed.test"]);
    let origin = Origin::tls(site, tls_peer::server(&issued, None, &["http/1.1"])).await;
    let forward = ForwardProxy::start(at, Manner::Connects, &[("www.passed.test:443", site)]).await;
    let servers =
        "  - {port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.passed.test'], tls: {mode: PASSTHROUGH}}\n";
    let tls = "  tls: [{match: [{sniHosts: [www.passed.test]}], route: [{destination: {host: proxy.test}}]}]\n";
    let rule = tunnel(at, "targetHost: www.passed.test, targetPort: 443");
    mesh.write("bytes.yaml", &(gateway(servers) + &routes("www.passed.test", tls) + &rule));
    let proxy = mesh.gateway().await;

    let client = Client::https(proxy.addresses().main, TlsClient::trusting(mesh.pki.edge.root_pem()));
    let reply = client.get("https://www.passed.test/through").await;

    assert_eq!(reply.code(), 200, "{}", reply.text());
    assert_eq!(origin.handshakes()[0].sni.as_deref(), Some("www.passed.test"));
    assert_eq!(forward.asked(), ["CONNECT www.passed.test:443"]);
}

/// How a connection ends that the proxy does not pass on: after how long, and what the log says.
async fn refused(manner: Manner, protocol: &str, told: &str) -> Duration {
    let mesh = Mesh::new();
    let at = mesh.block.at(81, 3128);
    let forward = ForwardProxy::start(at, manner, &[]).await;
    let proxy = plain(&mesh, at, protocol).await;

    let start = Instant::now();
    let mut raw = Raw::connect(proxy.addresses().second).await.expect("the gateway listens");
    let heard = raw.hear(Duration::from_secs(8)).await;
    let took = start.elapsed();

    assert!(heard.closed && heard.text.is_empty(), "{heard:?}");
    assert_eq!(forward.asked(), [format!("{protocol} {TARGET}")]);
    let logged = async || {
        let log = proxy.access_log();
        log.contains(" UF ") && log.contains(told) && log.contains(&at.to_string())
    };
    eventually(&format!("the log says `{told}` and who said so"), logged).await;
    took
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told_of_with_its_status() {
    refused(Manner::Refuses(407), "CONNECT", "tunnel: the proxy answered CONNECT with 407").await;
    refused(Manner::Refuses(403), "CONNECT", "tunnel: the proxy answered CONNECT with 403").await;
    refused(Manner::Refuses(503), "POST", "tunnel: the proxy answered POST with 503").await;
}

#[tokio::test]
async fn a_proxy_that_is_silent_has_as_long_as_connect_timeout_says() {
    let took = refused(Manner::IsSilent, "CONNECT", "connection timeout").await;
    assert!(took >= Duration::from_millis(600) && took < Duration::from_secs(4), "{took:?} of 700 ms");
}

/// Envoy as somebody else's proxy: it ends tunnels by CONNECT and by POST.
async fn envoy(path: &std::path::Path, mesh: &Mesh, at: SocketAddr, to: SocketAddr) -> Envoy {
    let admin = mesh.block.at(90, 9901);
    let route = |matching: &str, connect: &str| {
        format!(
            "{{match: {{{matching}}}, route: {{cluster: app, upgrade_configs: [{{upgrade_type: CONNECT, connect_config: \
             {{{connect}}}}}]}}}}"
        )
    };
    let posted = route("prefix: /, headers: [{name: ':method', string_match: {exact: POST}}]", "allow_post: true");
    let listener = format!(
        "- name: proxy\n  address: {{{}}}\n  filter_chains:\n  - filters:\n    \
         - name: envoy.filters.network.http_connection_manager\n      typed_config:\n        '@type': \
         type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n        \
         stat_prefix: proxy\n        upgrade_configs: [{{upgrade_type: CONNECT}}]\n        http_filters:\n        - name: \
         router\n          typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}\n        \
         route_config: {{virtual_hosts: [{{name: all, domains: ['*'], routes: [{}, {posted}]}}]}}\n",
        socket(at),
        route("connect_matcher: {}", "")
    );
    Envoy::start(path, &bootstrap(admin, &listener, &cluster("app", to, "")), admin).await
}

#[tokio::test]
async fn envoy_ends_our_tunnels_by_connect_and_by_post() {
    let Some(path) = executable("envoy_ends_our_tunnels_by_connect_and_by_post") else { return };
    for protocol in ["CONNECT", "POST"] {
        let mesh = Mesh::new();
        let (db, at) = (mesh.block.at(80, 3306), mesh.block.at(81, 3128));
        // Has the first word, then says again what it hears.
        let _db = Listening::start(db, |mut stream: TcpStream| async move {
            stream.write_all(GREETING.as_bytes()).await.ok();
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.ok();
        })
        .await;
        let envoy = envoy(&path, &mesh, at, db).await;
        let proxy = plain(&mesh, at, protocol).await;

        let mut raw = Raw::connect(proxy.addresses().second).await.expect("the gateway listens");
        let heard =
            raw.read_until(GREETING).await.unwrap_or_else(|error| panic!("{protocol}: {error} {}", envoy.log()));
        assert_eq!(heard, GREETING, "{protocol}");
        for size in [1, 100, 200_000] {
            let said = vec![b'a' + (size % 26) as u8; size];
            raw.send(&said).await.expect("the gateway takes it");
            assert!(raw.read(size).await.expect("all of it comes back") == said, "{protocol}, {size} bytes");
        }
        if protocol == "POST" {
            // The end of a request's body is the end of one direction. Of a CONNECT, Envoy takes that for the end of both.
            raw.finish().await;
            let rest = raw.hear(Duration::from_secs(5)).await;
            assert!(rest.closed && rest.text.is_empty(), "{rest:?}");
            eventually("it ended in order", async || proxy.access_log().contains("\"- - -\" 0 - - - ")).await;
        }
    }
}
