//! The same requests through real Envoy and through the gateway, with the same format: what their access logs say of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use harness::{
    client::{Client, request, with_body},
    envoy::{Envoy, executable},
    eventually::within,
    mesh::Mesh,
    raw::{Raw, probe},
    scripted::Scripted,
};

use super::{
    envoy::{bootstrap, cluster, socket},
    log_lines::config_map,
    opaque::{gateway, routes},
};

/// What is compared, each field by its name in the list of differences. `x-number` says which request a line is about.
const FIELDS: [(&str, &str); 24] = [
    ("number", "%REQ(X-NUMBER)%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("path sent", "%REQ(:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("code", "%RESPONSE_CODE%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("flags in words", "%RESPONSE_FLAGS_LONG%"),
    ("details", "%RESPONSE_CODE_DETAILS%"),
    ("termination", "%CONNECTION_TERMINATION_DETAILS%"),
    ("received", "%BYTES_RECEIVED%"),
    ("sent", "%BYTES_SENT%"),
    ("on the wire", "%DOWNSTREAM_WIRE_BYTES_RECEIVED%"),
    ("on the wire of the endpoint", "%UPSTREAM_WIRE_BYTES_RECEIVED%"),
    ("forwarded for", "%REQ(X-FORWARDED-FOR)%"),
    ("agent", "%REQ(USER-AGENT)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("endpoint", "%UPSTREAM_HOST%"),
    ("client", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
    ("server name", "%REQUESTED_SERVER_NAME%"),
    ("attempts", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
    ("type", "%RESP(CONTENT-TYPE):6%"),
    ("grpc", "%GRPC_STATUS%"),
    ("note", "%REQ(X-NOTE)%"),
];

/// Requests as they are written to a connection. `@` stands for the number of the request.
const PLAIN: [(&str, &str); 33] = [
    ("a GET", "GET /ok HTTP/1.1\r\nHost: a.test\r\n"),
    ("a query", "GET /ok?x=1&y=%20 HTTP/1.1\r\nHost: a.test\r\n"),
    ("a HEAD", "HEAD /ok HTTP/1.1\r\nHost: a.test\r\n"),
    ("a body", "POST /ok HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nBODY: hello"),
    ("chunks", "POST /ok HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nBODY: 5\r\nhello\r\n0\r\n\r\n"),
    ("PUT", "PUT /ok HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n"),
    ("DELETE", "DELETE /ok HTTP/1.1\r\nHost: a.test\r\n"),
    ("OPTIONS", "OPTIONS /ok HTTP/1.1\r\nHost: a.test\r\n"),
    ("a method of one's own", "PURGE /ok HTTP/1.1\r\nHost: a.test\r\n"),
    ("PATCH", "PATCH /ok HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\nBODY: {}"),
    ("a host with a port", "GET /ok HTTP/1.1\r\nHost: a.test:80\r\n"),
    ("a host in capitals", "GET /ok HTTP/1.1\r\nHost: A.TEST\r\n"),
    ("absolute form", "GET http://a.test/ok HTTP/1.1\r\nHost: a.test\r\n"),
    ("an agent", "GET /ok HTTP/1.1\r\nHost: a.test\r\nUser-Agent: probe/1.0 (a b)\r\n"),
    ("an empty agent", "GET /ok HTTP/1.1\r\nHost: a.test\r\nUser-Agent:\r\n"),
    ("quotes", "GET /ok HTTP/1.1\r\nHost: a.test\r\nX-Note: say \"hi\" \\ there\r\n"),
    ("a tab", "GET /ok HTTP/1.1\r\nHost: a.test\r\nX-Note: a\tb\r\n"),
    ("bytes of no text", "GET /ok HTTP/1.1\r\nHost: a.test\r\nX-Note: \u{fc}\r\n"),
    ("two of a field", "GET /ok HTTP/1.1\r\nHost: a.test\r\nX-Note: one\r\nX-Note: two\r\n"),
    (
        "a long path",
        "GET /ok/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\nHost: a.test\r\n",
    ),
    ("404 of the application", "GET /status/404 HTTP/1.1\r\nHost: a.test\r\n"),
    ("500 of the application", "GET /status/500 HTTP/1.1\r\nHost: a.test\r\n"),
    ("204", "GET /status/204 HTTP/1.1\r\nHost: a.test\r\n"),
    ("304", "GET /status/304 HTTP/1.1\r\nHost: a.test\r\n"),
    ("an answer in chunks", "GET /chunked HTTP/1.1\r\nHost: a.test\r\n"),
    ("an answer that ends with its connection", "GET /close HTTP/1.1\r\nHost: a.test\r\n"),
    ("no route", "GET /ok HTTP/1.1\r\nHost: nobody.test\r\n"),
    ("an answer of the proxy's own", "GET /direct HTTP/1.1\r\nHost: a.test\r\n"),
    ("a redirect", "GET /moved HTTP/1.1\r\nHost: a.test\r\n"),
    ("a rewrite", "GET /old/x HTTP/1.1\r\nHost: a.test\r\n"),
    ("a timeout", "GET /slow HTTP/1.1\r\nHost: a.test\r\n"),
    ("nobody listens", "GET /refused HTTP/1.1\r\nHost: a.test\r\n"),
    ("a connection that is dropped", "GET /drop HTTP/1.1\r\nHost: a.test\r\n"),
];

/// Where they differ, and why that is so.
const DIFFERENCES: [(&str, &str, &str); 11] = [
    ("*", "forwarded for", "Envoy puts the machine's own address for a client on loopback"),
    ("an empty agent", "agent", "what is empty is told as what is missing"),
    ("quotes", "note", "no client may end a field of a line"),
    ("a tab", "note", "Envoy leaves it out, and we write down that it was there"),
    ("no route", "sent", "an answer of our own says why, and so has a body and a type"),
    ("no route", "type", "the same"),
    ("nobody listens", "details", "the words behind the reason are the system's"),
    ("nobody listens", "sent", "an answer of our own says why"),
    ("a retry", "on the wire of the endpoint", "of an answer that another try replaces the head counts, and no body"),
    ("a connection that is dropped", "details", "ours say what may be wrong"),
    ("a connection that is dropped", "sent", "an answer of our own says why"),
];

/// Those of a client that is no text here, by what they are about.
const MORE: [(&str, bool, &str, &str); 7] = [
    ("a retry", false, "GET", "/retried"),
    ("a GET by HTTP/2", true, "GET", "/ok"),
    ("a HEAD by HTTP/2", true, "HEAD", "/ok"),
    ("500 by HTTP/2", true, "GET", "/status/500"),
    ("a direct response by HTTP/2", true, "GET", "/direct"),
    ("a timeout by HTTP/2", true, "GET", "/slow"),
    ("a call of gRPC", true, "POST", "/grpc"),
];

/// Answers by path, and keeps no connection.
async fn application(mut raw: Raw) {
    let Ok(mut head) = raw.read_until("\r\n\r\n").await else { return };
    head.make_ascii_lowercase();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    if head.contains("transfer-encoding: chunked") {
        let _ = raw.read_until("0\r\n\r\n").await;
    } else if let Some(length) = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()) {
        let _ = raw.read(length.parse().unwrap_or_default()).await;
    }
    let whole = |status: &str, more: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\nconnection: close\r\n{more}content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let again = head.contains("x-envoy-attempt-count: 2");
    let answer = match path.split('?').next().unwrap_or_default() {
        "/status/204" => "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_owned(),
        "/status/304" => "HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n".to_owned(),
        "/status/404" => whole("404 Not Found", "", "nothing"),
        "/status/500" => whole("500 Internal Server Error", "", "broken"),
        "/chunked" => "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_owned(),
        "/close" => "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end".to_owned(),
        "/retried" if !again => whole("503 Service Unavailable", "", "later"),
        "/grpc" => "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 5\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "/slow" => return drop(raw.hear(Duration::from_secs(5)).await),
        "/drop" => return,
        _ if head.starts_with("head ") => whole("200 OK", "", "hello").trim_end_matches("hello").to_owned(),
        _ => whole("200 OK", "", "hello"),
    };
    let _ = raw.send(answer).await;
    raw.finish().await;
    raw.hear(Duration::from_secs(1)).await;
}

fn format() -> String {
    FIELDS.map(|(_, command)| command).join(" | ")
}

/// As Istio configures an edge: it is the first proxy, and the address of the client is that of the connection.
fn envoy_configuration(admin: SocketAddr, at: SocketAddr, app: SocketAddr, nobody: SocketAddr, log: &Path) -> String {
    let manager = format!(
        "name: http\n      typed_config:\n        \
         '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n        \
         stat_prefix: http\n        use_remote_address: true\n        normalize_path: true\n        \
         access_log:\n        - name: file\n          typed_config:\n            \
         '@type': type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n            path: {}\n            \
         log_format: {{text_format_source: {{inline_string: \"{}\\n\"}}}}\n        http_filters:\n        - name: router\n          \
         typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}\n        route_config:\n          \
         virtual_hosts:\n          - name: a\n            domains: [a.test, 'a.test:*']\n            include_request_attempt_count: true\n            routes:\n            \
         - {{match: {{prefix: /direct}}, direct_response: {{status: 410, body: {{inline_string: gone}}}}}}\n            \
         - {{match: {{prefix: /moved}}, redirect: {{path_redirect: /there}}}}\n            \
         - {{match: {{prefix: /old/}}, route: {{cluster: app, prefix_rewrite: /new/}}}}\n            \
         - {{match: {{prefix: /slow}}, route: {{cluster: app, timeout: 0.3s}}}}\n            \
         - {{match: {{prefix: /refused}}, route: {{cluster: nobody}}}}\n            \
         - {{match: {{prefix: /retried}}, route: {{cluster: app, retry_policy: {{retry_on: 5xx, num_retries: 2}}}}}}\n            \
         - {{match: {{prefix: /}}, route: {{cluster: app, timeout: 0s}}}}",
        log.display(),
        format()
    );
    let listener =
        format!("- name: edge\n  address: {{{}}}\n  filter_chains:\n  - filters:\n    - {manager}\n", socket(at));
    bootstrap(admin, &listener, &(cluster("app", app, "") + &cluster("nobody", nobody, "")))
}

/// The same for the gateway.
fn ours(mesh: &Mesh, app: SocketAddr, nobody: SocketAddr) {
    let entry = |name: &str, at: SocketAddr| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{hosts: [{name}.internal], resolution: STATIC, location: MESH_EXTERNAL, \
             ports: [{{number: {}, name: http, protocol: HTTP}}], endpoints: [{{address: {}}}]}}\n",
            at.port(),
            at.ip()
        )
    };
    let to = |name: &str, at: SocketAddr| {
        format!("route: [{{destination: {{host: {name}.internal, port: {{number: {}}}}}}}]", at.port())
    };
    let (to_app, to_nobody) = (to("app", app), to("nobody", nobody));
    let rules = format!(
        "  http:\n  - {{match: [{{uri: {{prefix: /direct}}}}], directResponse: {{status: 410, body: {{string: gone}}}}}}\n  \
         - {{match: [{{uri: {{prefix: /moved}}}}], redirect: {{uri: /there}}}}\n  \
         - {{match: [{{uri: {{prefix: /old/}}}}], rewrite: {{uri: /new/}}, {to_app}, retries: {{attempts: 0}}}}\n  \
         - {{match: [{{uri: {{prefix: /slow}}}}], timeout: 0.3s, {to_app}, retries: {{attempts: 0}}}}\n  \
         - {{match: [{{uri: {{prefix: /refused}}}}], {to_nobody}, retries: {{attempts: 0}}}}\n  \
         - {{match: [{{uri: {{prefix: /retried}}}}], {to_app}, retries: {{attempts: 2, retryOn: 5xx}}}}\n  \
         - {{{to_app}, retries: {{attempts: 0}}}}\n"
    );
    let server = "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['a.test']}\n";
    let all = gateway(server) + &routes("a.test", &rules) + &entry("app", app) + &entry("nobody", nobody);
    mesh.write("edge.yaml", &all);
    mesh.write("mesh.yaml", &config_map(&format!("accessLogFormat: '{}'", format())));
}

/// All of them, one after the other; gives how many there were.
async fn play(at: SocketAddr) -> usize {
    for (number, (_, text)) in PLAIN.iter().enumerate() {
        let (head, body) = text.split_once("BODY: ").unwrap_or((text, ""));
        // Latin-1, so that what is no UTF-8 can be written down.
        let head = format!("{head}X-Number: {number}\r\nConnection: close\r\n\r\n{body}");
        let bytes: Vec<u8> = head.chars().map(|it| u8::try_from(u32::from(it)).expect("Latin-1")).collect();
        probe(at, bytes).await;
    }
    for (number, (_, http2, method, path)) in (PLAIN.len()..).zip(MORE) {
        let client = if http2 { Client::plain(at).http2() } else { Client::plain(at) };
        let mut builder = request(method, &format!("http://a.test{path}")).header("x-number", number.to_string());
        if path == "/grpc" {
            builder = builder.header("content-type", "application/grpc").header("te", "trailers");
        }
        client.call(with_body(builder, "")).await;
    }
    PLAIN.len() + MORE.len()
}

fn lines(log: &str) -> BTreeMap<usize, Vec<String>> {
    let fields = log.lines().map(|line| line.split(" | ").map(str::to_owned).collect::<Vec<_>>());
    fields.filter(|it| it.len() == FIELDS.len()).filter_map(|it| Some((it[0].parse().ok()?, it))).collect()
}

#[tokio::test]
async fn the_same_requests_leave_the_same_lines_as_in_envoy() {
    let Some(envoy) = executable("the_same_requests_leave_the_same_lines_as_in_envoy") else { return };
    let mesh = Mesh::new();
    let (app, nobody) = (mesh.block.at(80, 7000), mesh.block.at(81, 7000));
    let _app = Scripted::start(app, application).await;
    let (admin, edge, log) = (mesh.block.at(90, 9901), mesh.block.at(90, 8080), mesh.state().join("envoy.log"));
    let _envoy = Envoy::start(&envoy, &envoy_configuration(admin, edge, app, nobody, &log), admin).await;
    ours(&mesh, app, nobody);
    let gateway = mesh.gateway().await;

    let count = play(edge).await;
    assert_eq!((play(gateway.addresses().second).await, count), (40, 40));

    let theirs = || lines(&String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()));
    // Envoy writes every ten seconds.
    within(Duration::from_secs(30), "Envoy has written all lines", async || theirs().len() == count).await;
    within(Duration::from_secs(10), "so have we", async || lines(&gateway.access_log()).len() == count).await;
    let (theirs, ours) = (theirs(), lines(&gateway.access_log()));
    let names: Vec<&str> = PLAIN.iter().map(|(name, _)| *name).chain(MORE.iter().map(|(name, ..)| *name)).collect();
    let (mut found, mut met) = (Vec::new(), BTreeSet::new());
    for number in 0..count {
        let name = names[number];
        for (at, (field, _)) in FIELDS.iter().enumerate() {
            let (their, our) = (&theirs[&number][at], &ours[&number][at]);
            if their == our {
                continue;
            }
            match DIFFERENCES.iter().position(|(request, of, _)| [name, "*"].contains(request) && of == field) {
                Some(known) => drop(met.insert(known)),
                None => found.push(format!("{name}, {field}: Envoy `{their}`, we `{our}`")),
            }
        }
    }
    assert!(found.is_empty(), "{} differences that nobody has explained:\n{}", found.len(), found.join("\n"));
    let gone: Vec<_> = DIFFERENCES.iter().enumerate().filter(|(at, _)| !met.contains(at)).map(|(_, it)| it).collect();
    assert!(gone.is_empty(), "these are no differences any more: {gone:#?}");
}

/// What is compared of connections that nobody is for.
const OF_NOBODY: &str = "nobody %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG% %RESPONSE_CODE_DETAILS% \
                         %CONNECTION_TERMINATION_DETAILS% %REQ(:METHOD)% %PROTOCOL% %BYTES_RECEIVED% %BYTES_SENT% \
                         %DOWNSTREAM_WIRE_BYTES_RECEIVED% %UPSTREAM_HOST% %UPSTREAM_CLUSTER% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% \
                         %REQUESTED_SERVER_NAME% %ROUTE_NAME% %ACCESS_LOG_TYPE% %DURATION%";

/// A listener with a chain for one name, and Istio's log of those that none is for.
fn envoy_of_one_name(admin: SocketAddr, at: SocketAddr, app: SocketAddr, log: &Path) -> String {
    let listener = format!(
        "- name: edge\n  address: {{{}}}\n  access_log:\n  - name: file\n    filter: {{response_flag_filter: {{flags: [NR]}}}}\n    \
         typed_config:\n      '@type': type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n      path: {}\n      \
         log_format: {{text_format_source: {{inline_string: \"{OF_NOBODY}\\n\"}}}}\n  listener_filters:\n  - name: tls\n    \
         typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}\n  \
         filter_chains:\n  - filter_chain_match: {{server_names: [a.test]}}\n    filters:\n    - name: tcp\n      typed_config:\n        \
         '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\n        stat_prefix: tcp\n        \
         cluster: app\n",
        socket(at),
        log.display(),
    );
    bootstrap(admin, &listener, &cluster("app", app, ""))
}

#[tokio::test]
async fn connections_that_nobody_is_for_leave_the_same_lines_as_in_envoy() {
    const STORY: &str = "connections_that_nobody_is_for_leave_the_same_lines_as_in_envoy";
    let Some(envoy) = executable(STORY) else { return };
    let mesh = Mesh::with_edge();
    let app = mesh.block.at(80, 7000);
    let (admin, edge, log) = (mesh.block.at(90, 9901), mesh.block.at(90, 8443), mesh.state().join("envoy.log"));
    let _envoy = Envoy::start(&envoy, &envoy_of_one_name(admin, edge, app, &log), admin).await;
    mesh.write("mesh.yaml", &config_map(&format!("accessLogFormat: '{OF_NOBODY}'")));
    mesh.routes("- directResponse: {status: 200}");
    let gateway = mesh.gateway().await;

    for at in [edge, gateway.addresses().main] {
        // A name that nobody has, and no TLS at all.
        assert!(Client::https(at, mesh.edge_trust()).dial("other.test").await.is_err());
        probe(at, b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n".to_vec()).await;
    }

    let lines = |text: String| -> Vec<String> {
        let told = text.lines().filter(|line| line.starts_with("nobody "));
        // How long each takes is its own affair.
        let told = told.map(|line| line.rsplit_once(' ').expect("several words"));
        told.inspect(|(_, ms)| assert!(ms.parse::<u64>().is_ok(), "{ms}")).map(|(line, _)| line.to_owned()).collect()
    };
    let theirs = || lines(String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned());
    within(Duration::from_secs(30), "Envoy has written both lines", async || theirs().len() == 2).await;
    within(Duration::from_secs(10), "so have we", async || lines(gateway.access_log()).len() == 2).await;
    assert_eq!(lines(gateway.access_log()), theirs());
}
