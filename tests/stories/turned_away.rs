//! Whoever is turned away is found in the log: its address, the listener, a word to search for and a sentence that says why.

use std::net::SocketAddr;

use harness::{
    client::{Client, get, request, with_body},
    eventually::eventually,
    gateway::Proxy,
    mesh::{HOST, Mesh, SHOP},
    origin::Origin,
    program::{run, serve},
    raw::Raw,
    scripted::Scripted,
    yaml,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const HELLO: &str = "- directResponse: {status: 200, body: {string: hello}}";

/// Sends bytes and reads to the end; gives the own address and what was heard.
async fn send(address: SocketAddr, bytes: &[u8]) -> (SocketAddr, Vec<u8>) {
    let mut tcp = TcpStream::connect(address).await.expect("somebody listens");
    let own = tcp.local_addr().expect("it is connected");
    tcp.write_all(bytes).await.ok();
    let mut heard = Vec::new();
    let read = async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = tcp.read(&mut buffer).await {
            heard.extend_from_slice(&buffer[..count]);
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), read).await.expect("it is closed");
    (own, heard)
}

/// Waits for the line that tells of this client.
async fn told(proxy: &Proxy, client: SocketAddr, listener: SocketAddr, reason: &str, why: &str) {
    let (remote, listener) = (format!("remote={client}"), format!("listener={listener}"));
    let reason = format!("reason=\"{reason}\"");
    let line =
        || proxy.log().lines().any(|line| [&remote, &listener, &reason, why].iter().all(|part| line.contains(*part)));
    eventually(&format!("the log says {remote} {listener} {reason} {why}"), async || line()).await;
}

/// An opening of HTTP/2: preface and empty settings.
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn each_refused_request_has_its_line() {
    let mesh = Mesh::with_edge();
    mesh.routes(HELLO);
    let gateway = mesh.gateway().await;
    let listener = gateway.addresses().second;
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(120)).into_bytes();
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000)).into_bytes();
    let pings = [OPENING, &b"\0\0\x08\x06\0\0\0\0\0pingpong".repeat(1200)].concat();
    let cases: [(&[u8], &str, &str); 14] = [
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", "BadRequest", "refused with 400"),
        (b"GET / HTTP/1.1\r\n\r\n", "MissingHost", "the Host header is missing"),
        (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", "BadPath", "refused with 400"),
        (b"GET / HTTP/1.0\r\n\r\n", "LowVersion", "refused with 426"),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "BadVersion", "refused with 505"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "UnknownCoding",
            "refused with 501",
        ),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "MethodNotServed", "refused with 405"),
        (&many, "HeadTooLarge", "refused with 431"),
        (&long, "TargetTooLong", "refused with 414"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "TlsToPlain", "this port speaks plain HTTP"),
        (&pings, "Http2Calm", "a flood of frames that bring nothing on"),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x08\x06\0\0\0\0\0pingpong",
            "Http2Protocol",
            "breaks the rules of HTTP/2",
        ),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x04\0\0\0\0\0", "Http2Protocol", "longer than 16 KiB"),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\x80",
            "Http2Protocol",
            "HPACK",
        ),
    ];
    for (bytes, reason, why) in cases {
        let (client, _) = send(listener, bytes).await;
        told(&gateway, client, listener, reason, why).await;
    }
}

#[tokio::test]
async fn large_heads_and_wrong_hosts_over_http2_have_their_lines() {
    let mesh = Mesh::with_edge();
    mesh.routes(HELLO);
    let mutual = yaml::edge_gateway("edge-cert", &["bank.example.com"])
        .replace("SIMPLE", "MUTUAL")
        .replace("\"edge\"", "\"bank\"");
    mesh.write("bank.yaml", &mutual.replace("\"https\"", "\"bank\""));
    let ca = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "edge-cert-cacert", "namespace": "istio-system"},
        "stringData": {"ca.crt": mesh.pki.mesh.root_pem()},
    });
    mesh.write("ca.yaml", &ca.to_string());
    let gateway = mesh.gateway().await;
    let listener = gateway.addresses().main;
    for browser in [mesh.browser(), mesh.browser().h2()] {
        let stream = browser.dial(HOST).await.expect("TLS works");
        drop(stream);
        let mut connection = browser.connect(HOST).await.expect("TLS works");
        let large = with_body(
            request("GET", SHOP).header("x-large", "y".repeat(50_000)).header("x-too", "y".repeat(12_000)),
            "",
        );
        let misdirected = connection.send(get("https://bank.example.com/")).await.expect("an answer");
        assert_eq!(misdirected.code(), 421);
        assert_eq!(connection.send(large).await.expect("an answer").code(), 431);
    }
    let lines =
        |parts: [&str; 3]| gateway.log().lines().filter(|line| parts.iter().all(|part| line.contains(part))).count();
    let at = format!("listener={listener}");
    eventually("421 is told of", async || {
        lines([&at, "reason=\"Misdirected\"", "request for bank.example.com refused with 421"]) == 2
    })
    .await;
    eventually("431 is told of", async || lines([&at, "reason=\"HeadTooLarge\"", "refused with 431"]) == 2).await;
}

#[tokio::test]
async fn connections_beyond_the_limits_have_their_lines() {
    for (flag, reason) in [("--listener-connections", "ListenerConnectionLimit"), ("--connections", "ConnectionLimit")]
    {
        let mesh = Mesh::with_edge();
        mesh.routes(HELLO);
        let gateway = mesh.gateway_with(&["--workers", "1", flag, "1"]).await;
        let listener = gateway.addresses().second;
        let mut held = Raw::connect(listener).await.expect("it listens");
        held.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await.expect("it reads");
        held.read_until("\r\n\r\n").await.expect("it answers");

        let (client, heard) = send(listener, b"").await;

        assert!(heard.is_empty());
        told(&gateway, client, listener, reason, flag).await;
    }
    let mesh = Mesh::with_edge();
    let gateway = mesh.gateway_with(&["--memory-limit", "1Mi"]).await;
    gateway.logs("short of memory: new connections are closed").await;
    let (client, _) = send(gateway.addresses().second, b"").await;
    told(&gateway, client, gateway.addresses().second, "MemoryLimit", "--memory-limit").await;
}

#[tokio::test]
async fn what_is_not_told_of_one_by_one_is_counted() {
    let mesh = Mesh::with_edge();
    let gateway = mesh.gateway_with(&["--workers", "1"]).await;
    let listener = gateway.addresses().second;
    for _ in 0..12 {
        send(listener, b"GET / HTTP/1.1\r\n\r\n").await;
    }
    let lines =
        |part: &str| gateway.log().lines().filter(|line| line.contains("MissingHost") && line.contains(part)).count();

    eventually("the rest is counted", async || lines("held_back=7") == 1).await;
    assert_eq!(lines("remote="), 5);
}

#[tokio::test]
async fn plain_http_at_a_tls_port_is_answered_in_plain_words() {
    let mesh = Mesh::with_edge();
    mesh.routes(HELLO);
    let gateway = mesh.gateway().await;
    let listener = gateway.addresses().main;

    let (client, heard) = send(listener, b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    let heard = String::from_utf8_lossy(&heard).into_owned();
    assert!(heard.starts_with("HTTP/1.1 400 ") && heard.ends_with("use https://"), "{heard}");
    told(&gateway, client, listener, "PlainHttp", "plain HTTP was sent to a port that speaks TLS").await;
    let (client, heard) = send(listener, OPENING).await;
    assert!(heard.starts_with(b"\0\0\0\x04") && heard.ends_with(b"use https://"), "{heard:?}");
    told(&gateway, client, listener, "PlainHttp", "plain HTTP was sent to a port that speaks TLS").await;

    let output = run("curl".as_ref(), &["-sS", "-w", " %{http_code}", &format!("http://{listener}/")], b"").await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said, "this port speaks TLS, and plain HTTP was sent to it: use https:// 400");
    let counted = gateway.metrics().await.sum("sluice_tls_handshake_failures_total", &[("reason", "PlainHttp")]);
    assert_eq!(counted, 3.0);
}

#[tokio::test]
async fn tls_at_a_plain_port_is_refused_and_told_of() {
    let mesh = Mesh::with_edge();
    mesh.routes(HELLO);
    let gateway = mesh.gateway().await;
    let listener = gateway.addresses().second;

    let output = run("curl".as_ref(), &["-sS", &format!("https://{listener}/")], b"").await;

    assert!(!output.status.success());
    let line = async || {
        gateway.log().lines().any(|line| line.contains("reason=\"TlsToPlain\"") && line.contains(&listener.to_string()))
    };
    eventually("it is told of", line).await;
    eventually("the access log has it", async || gateway.access_log().contains(" 400 DPE tls_to_plain_http ")).await;
}

/// What a client gets for an endpoint, and what the access log says of it.
async fn behind(mesh: &Mesh, right: (u16, &str, &str)) {
    let gateway = mesh.gateway().await;
    let (status, body, details) = right;
    for browser in [mesh.browser(), mesh.browser().h2()] {
        let reply = browser.get(SHOP).await;
        assert_eq!(reply.code(), status, "{}", reply.text());
        assert!(reply.text().contains(body), "{}", reply.text());
    }
    eventually(details, async || gateway.access_log().matches(details).count() == 2).await;
}

/// A fatal alert `protocol_version`, which is what servers answer to plain text.
const ALERT: [u8; 7] = [0x15, 3, 1, 0, 2, 2, 70];

#[tokio::test]
async fn an_endpoint_that_speaks_tls_is_called_so() {
    for (name, right) in [
        (
            "http",
            (502, "the endpoint speaks TLS, and plain HTTP was sent to it", "{protocol_error|the_endpoint_speaks_TLS,"),
        ),
        ("http2", (503, "the endpoint speaks TLS, and plain HTTP was sent to it", "|HTTP/2:_the_endpoint_speaks_TLS,")),
    ] {
        let mesh = Mesh::with_edge();
        mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, name)]));
        let _server = Scripted::start(mesh.workload("reviews").declare(), async |mut raw: Raw| {
            raw.read(1).await.ok();
            raw.send(ALERT).await.ok();
        })
        .await;
        mesh.route_all_to("reviews");
        behind(&mesh, right).await;
    }
}

#[tokio::test]
async fn openssl_s_server_hangs_up_on_plain_http_and_that_is_said() {
    for (name, details) in
        [("http", "{connection_termination|the_endpoint_closed_"), ("http2", "|HTTP/2:_the_endpoint_closed_")]
    {
        let mesh = Mesh::with_edge();
        mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, name)]));
        let address = mesh.workload("reviews").declare();
        let issued = mesh.pki.server(&["reviews"]);
        let file = |name: &str, text: &str| mesh.config.write(name, text).display().to_string();
        let (chain, key) = (file("chain.txt", &issued.chain_pem), file("key.txt", &issued.key_pem));
        let arguments = ["s_server", "-quiet", "-www", "-accept", &address.to_string(), "-cert", &chain, "-key", &key];
        let _server = serve("openssl", "openssl".as_ref(), &arguments, &[address]).await;
        mesh.route_all_to("reviews");
        behind(&mesh, (503, "or it speaks TLS", details)).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_speaks_plain_text_is_called_so() {
    let mesh = Mesh::with_edge();
    let _server = Origin::plain(mesh.workload("reviews").declare()).await;
    mesh.write(
        "rule.yaml",
        &yaml::destination_rule("reviews", "trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}"),
    );
    mesh.route_all_to("reviews");

    let why = "TLS: the endpoint speaks plain text, and TLS was asked of it";
    behind(&mesh, (503, why, "{remote_connection_failure|TLS:_the_endpoint_speaks_plain_text,")).await;
}

#[tokio::test]
async fn a_client_of_http_2_that_finds_http_1_is_told_so() {
    let mesh = Mesh::with_edge();
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "http2")]));
    let _server = Scripted::start(mesh.workload("reviews").declare(), async |mut raw: Raw| {
        raw.read(1).await.ok();
        raw.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.ok();
    })
    .await;
    mesh.route_all_to("reviews");

    behind(&mesh, (503, "the endpoint speaks HTTP/1.1", "|HTTP/2:_the_endpoint_speaks_HTTP/1.1,")).await;
}

#[tokio::test]
async fn handshakes_that_fail_name_the_listener() {
    let mesh = Mesh::with_edge();
    let gateway = mesh.gateway().await;
    let listener = gateway.addresses().main;
    let stranger = Client::https(listener, mesh.edge_trust()).dial("stranger.example.org").await;

    assert!(stranger.is_err());
    gateway.logs("no server has the name stranger.example.org").await;
    assert!(
        gateway
            .log()
            .lines()
            .any(|line| line.contains("UnrecognizedName") && line.contains(&format!("listener={listener}")))
    );
}
