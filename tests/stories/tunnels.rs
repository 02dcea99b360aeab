//! Upgrades: a WebSocket is a tunnel, nothing else becomes one.

use std::time::Duration;

use harness::{
    gateway::Proxy,
    mesh::{HOST, Mesh},
    origin::Origin,
    raw::Raw,
    scripted::Scripted,
};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";

/// The gateway in front of an ordinary server.
async fn ordinary() -> (Mesh, Proxy, Origin) {
    let mesh = Mesh::with_edge();
    let origin = Origin::plain(mesh.workload("reviews").declare()).await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway().await;
    (mesh, gateway, origin)
}

async fn send(gateway: &Proxy, bytes: &str) -> harness::raw::Heard {
    let mut raw = Raw::connect(gateway.addresses().second).await.expect("the gateway listens");
    raw.send(bytes.replace("{HOST}", HOST)).await.expect("sent");
    raw.hear(Duration::from_millis(700)).await
}

#[tokio::test]
async fn an_upgrade_to_h2c_is_not_offered_to_the_upstream() {
    let (_mesh, gateway, origin) = ordinary().await;

    let heard = send(
        &gateway,
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    )
    .await;

    assert!([200, 403].contains(&heard.status()), "{heard:?}");
    for request in origin.requests() {
        assert!(!request.headers.contains_key("upgrade"), "{request:?}");
        assert!(!request.headers.contains_key("http2-settings"), "{request:?}");
    }
}

#[tokio::test]
async fn an_upgrade_that_the_upstream_does_not_take_opens_no_tunnel() {
    let (_mesh, gateway, origin) = ordinary().await;

    let head = "GET /live HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let heard = send(&gateway, &format!("{head}{SMUGGLED}")).await;

    let lines: Vec<String> = origin.requests().into_iter().map(|request| request.line).collect();
    assert!(!lines.iter().any(|line| line.contains("smuggled")), "{lines:?} {heard:?}");
}

#[tokio::test]
async fn a_switch_nobody_asked_for_is_not_passed_on() {
    let mesh = Mesh::with_edge();
    let address = mesh.workload("reviews").declare();
    let _server = Scripted::start(address, async |mut raw: Raw| {
        raw.read_until("\r\n\r\n").await.ok();
        raw.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: own\r\n\r\n").await.ok();
        raw.hear(Duration::from_secs(2)).await;
    })
    .await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway().await;

    let heard = send(&gateway, "GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").await;

    assert!([0, 502, 503].contains(&heard.status()), "{heard:?}");
}

#[tokio::test]
async fn a_body_that_was_only_announced_is_not_taken_for_a_request() {
    let mesh = Mesh::with_edge();
    let address = mesh.workload("reviews").declare();
    let server = Scripted::start(address, async |mut raw: Raw| {
        let head = raw.read_until("\r\n\r\n").await.unwrap_or_default();
        let status = if head.contains("smuggled") { "299 Smuggled" } else { "403 Forbidden" };
        raw.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")).await.ok();
        raw.hear(Duration::from_secs(1)).await;
    })
    .await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway().await;

    let length = SMUGGLED.len();
    let head = format!("POST / HTTP/1.1\r\nHost: {{HOST}}\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
    let heard = send(&gateway, &format!("{head}{SMUGGLED}")).await;

    assert_eq!(heard.status(), 403, "{heard:?}");
    assert!(!heard.statuses().contains(&299), "{heard:?}");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn connect_is_refused() {
    let (_mesh, gateway, origin) = ordinary().await;

    let heard = send(&gateway, &format!("CONNECT {{HOST}}:443 HTTP/1.1\r\nHost: {{HOST}}\r\n\r\n{SMUGGLED}")).await;

    assert!((400..=503).contains(&heard.status()), "{heard:?}");
    assert!(origin.requests().is_empty());
}
