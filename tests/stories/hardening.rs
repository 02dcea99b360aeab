//! Safe at the open edge: what no honest client sends, and clients that take their time.

use std::time::Duration;

use bytes::Bytes;
use harness::{
    client::get,
    mesh::{HOST, Mesh, SHOP},
    origin::Origin,
    raw::{Heard, Raw, probe},
};
use http::Request;
use tokio::time::Instant;

use crate::shop::Shop;

/// The gateway in front of a server that remembers every request it was sent.
struct Target {
    mesh: Mesh,
    gateway: harness::gateway::Proxy,
    origin: Origin,
}

impl Target {
    async fn stand() -> Self {
        let mesh = Mesh::with_edge();
        let origin = Origin::plain(mesh.workload("reviews").declare()).await;
        mesh.route_all_to("reviews");
        let gateway = mesh.gateway().await;
        Self { mesh, gateway, origin }
    }

    async fn probe(&self, bytes: &str) -> Heard {
        probe(self.gateway.addresses().second, bytes.replace("{HOST}", HOST)).await
    }

    /// Answered with 400 and closed, and nothing behind it was taken for a request.
    async fn refuses(&self, what: &str, bytes: &str) {
        self.answers(400, what, bytes).await;
    }

    /// The same with another status.
    async fn answers(&self, status: u16, what: &str, bytes: &str) {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
        let heard = self.probe(&format!("{bytes}{smuggled}")).await;
        assert_eq!(heard.statuses(), [status], "{what}: {heard:?}");
        assert!(heard.closed, "{what}: the connection must end, {heard:?}");
        let seen = self.origin.requests();
        assert!(!seen.iter().any(|request| request.line.contains("smuggled")), "{what}: {seen:?}");
    }
}

#[tokio::test]
async fn ambiguous_bodies_are_refused_and_the_connection_ends() {
    let target = Target::stand().await;
    let head = "POST / HTTP/1.1\r\nHost: {HOST}\r\n";

    let both = format!("{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    target.refuses("Content-Length with Transfer-Encoding", &both).await;
    target.refuses("two lengths", &format!("{head}Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody")).await;
    target.refuses("a length list", &format!("{head}Content-Length: 4, 5\r\n\r\nbody")).await;
    target.refuses("a signed length", &format!("{head}Content-Length: +4\r\n\r\nbody")).await;
    target.refuses("a negative length", &format!("{head}Content-Length: -1\r\n\r\n")).await;
    target.refuses("a huge length", &format!("{head}Content-Length: 99999999999999999999\r\n\r\n")).await;
}

#[tokio::test]
async fn malformed_chunks_are_refused_and_the_connection_ends() {
    let target = Target::stand().await;
    let head = "POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n";

    target.refuses("no hex size", &format!("{head}xyz\r\nbody\r\n0\r\n\r\n")).await;
    target.refuses("a signed size", &format!("{head}+4\r\nbody\r\n0\r\n\r\n")).await;
    target.refuses("a size of 2^68", &format!("{head}fffffffffffffffff\r\nbody\r\n0\r\n\r\n")).await;
    target.refuses("more than it said", &format!("{head}2\r\nbody\r\n0\r\n\r\n")).await;
}

#[tokio::test]
async fn malformed_heads_are_refused_and_the_connection_ends() {
    let target = Target::stand().await;

    target.refuses("bare line feeds", "GET / HTTP/1.1\nHost: {HOST}\n\n").await;
    target.refuses("a bare line feed in one header", "GET / HTTP/1.1\r\nHost: {HOST}\nX: 1\r\n\r\n").await;
    target.refuses("no Host", "GET / HTTP/1.1\r\nAccept: */*\r\n\r\n").await;
    target.refuses("two Hosts", "GET / HTTP/1.1\r\nHost: {HOST}\r\nHost: other.example.com\r\n\r\n").await;
    target.refuses("a space before the colon", "GET / HTTP/1.1\r\nHost : {HOST}\r\n\r\n").await;
    target.refuses("a folded header", "GET / HTTP/1.1\r\nHost: {HOST}\r\nX: a\r\n b\r\n\r\n").await;
    target.refuses("a NUL in a value", "GET / HTTP/1.1\r\nHost: {HOST}\r\nX: a\0b\r\n\r\n").await;
    target.refuses("a path in the Host", "GET / HTTP/1.1\r\nHost: {HOST}/path\r\n\r\n").await;
    target.refuses("a list in the Host", "GET / HTTP/1.1\r\nHost: {HOST}, b.example.com\r\n\r\n").await;
    target.refuses("no version", "GET /\r\nHost: {HOST}\r\n\r\n").await;
    let head = "POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding:";
    target.refuses("a last transfer coding other than chunked", &format!("{head} xchunked\r\n\r\n")).await;
    target.answers(501, "a transfer coding nobody knows", &format!("{head} xgzip, chunked\r\n\r\n")).await;
}

#[tokio::test]
async fn heads_that_are_too_large_get_431() {
    let target = Target::stand().await;
    let long = "x".repeat(70 * 1024);
    let many: String = (0..150).map(|number| format!("x-{number}: 1\r\n")).collect();

    let size = target.probe(&format!("GET / HTTP/1.1\r\nHost: {{HOST}}\r\nX: {long}\r\n\r\n")).await;
    let count = target.probe(&format!("GET / HTTP/1.1\r\nHost: {{HOST}}\r\n{many}\r\n")).await;

    assert_eq!((size.status(), count.status()), (431, 431), "{size:?} {count:?}");
    assert!(size.closed && count.closed);
    assert!(target.origin.requests().is_empty());
}

#[tokio::test]
async fn http_1_0_is_told_to_upgrade() {
    let target = Target::stand().await;

    assert_eq!(target.probe("GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n").await.status(), 426);
}

/// Sends one byte of the head every half second; gives how long the other side had patience.
async fn drip(mut raw: Raw) -> (Heard, Duration) {
    let start = Instant::now();
    for byte in "GET /slow HTTP/1.1\r\nHost: shop.example.com\r\nX-Slow: a very long value".bytes() {
        raw.send([byte]).await.ok();
        let heard = raw.hear(Duration::from_millis(500)).await;
        if heard.closed || !heard.text.is_empty() {
            return (heard, start.elapsed());
        }
    }
    panic!("the gateway still waits after {:?}", start.elapsed());
}

#[tokio::test]
async fn slow_heads_and_stalled_handshakes_are_ended_after_ten_seconds() {
    let target = Target::stand().await;
    let addresses = target.gateway.addresses();
    let connect = async |address| Raw::connect(address).await.expect("the gateway listens");
    let (plain, mut silent, mut stalled) =
        (connect(addresses.second).await, connect(addresses.main).await, connect(addresses.main).await);
    let mut prefaceless = Raw::over(target.mesh.browser().h2().dial(HOST).await.expect("HTTPS works"));
    stalled.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.expect("sent");
    let secure = Raw::over(target.mesh.browser().dial(HOST).await.expect("HTTPS works"));

    let limit = Duration::from_secs(13);
    let ((slow, after), (slow_tls, after_tls), silent, stalled, prefaceless) =
        tokio::join!(drip(plain), drip(secure), silent.hear(limit), stalled.hear(limit), prefaceless.hear(limit));

    let in_time = Duration::from_secs(8)..Duration::from_secs(13);
    assert!(in_time.contains(&after) && in_time.contains(&after_tls), "{after:?} {after_tls:?}");
    assert!([0, 408].contains(&slow.status()) && [0, 408].contains(&slow_tls.status()), "{slow:?} {slow_tls:?}");
    assert!(silent.closed && stalled.closed, "{silent:?} {stalled:?}");
    assert!(prefaceless.closed, "an HTTP/2 client that never begins: {prefaceless:?}");
    assert!(target.origin.requests().is_empty());
}

#[tokio::test]
async fn a_rapid_reset_attack_costs_only_the_attacker_its_connection() {
    let shop = Shop::open().await;
    let browser = shop.mesh.browser().h2();
    let mut honest = browser.connect(HOST).await.expect("HTTP/2 works");

    let stream = browser.dial(HOST).await.expect("HTTPS works");
    let (mut attacker, driver) = h2::client::handshake(stream).await.expect("HTTP/2 works");
    let mut ended = tokio::spawn(driver);
    for _ in 0..20_000 {
        let request = Request::get(SHOP).body(()).expect("a request");
        match attacker.ready().await {
            Ok(ready) => attacker = ready,
            Err(_) => break,
        }
        let Ok((_, mut stream)) = attacker.send_request(request, false) else { break };
        stream.send_reset(h2::Reason::CANCEL);
        stream.send_data(Bytes::new(), true).ok();
        if ended.is_finished() {
            break;
        }
    }

    assert_eq!(honest.send(get(SHOP)).await.expect("an answer").code(), 200);
    let end = tokio::time::timeout(Duration::from_secs(10), &mut ended).await;
    let error = end.expect("the attacker's connection is ended").expect("no panic");
    assert!(error.is_err_and(|error| error.is_go_away() || error.is_io()), "the gateway must end it");
}

#[tokio::test]
async fn an_http2_header_list_that_is_too_large_does_not_hurt_the_connection() {
    let shop = Shop::open().await;
    let mut connection = shop.mesh.browser().h2().connect(HOST).await.expect("HTTP/2 works");
    let long = "x".repeat(3000);
    let call =
        (0..60).fold(harness::client::request("GET", SHOP), |call, number| call.header(format!("x-{number}"), &long));

    let refused = connection.send(harness::client::with_body(call, "")).await;

    assert!(refused.is_err() || refused.is_ok_and(|reply| reply.code() == 431));
    let mut fresh = shop.mesh.browser().h2().connect(HOST).await.expect("HTTP/2 works");
    assert_eq!(fresh.send(get(SHOP)).await.expect("an answer").code(), 200);
}

#[tokio::test]
async fn a_path_cannot_be_written_so_that_it_slips_past_its_route() {
    let mesh = Mesh::with_edge();
    let origin = Origin::plain(mesh.workload("reviews").declare()).await;
    mesh.routes(
        "- match: [{uri: {prefix: /admin}}]\n  directResponse: {status: 403}\n\
         - route: [{destination: {host: reviews, port: {number: 8080}}}]",
    );
    let gateway = mesh.gateway().await;
    let ask = async |path: &str| {
        let bytes = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        probe(gateway.addresses().second, bytes).await.status()
    };

    let disguised = [
        "/admin",
        "/public/../admin",
        "/./admin",
        "/public/%2e%2e/admin",
        "/public/.%2E/admin",
        "/%61dmin",
        "/x/..\\admin",
    ];
    for path in disguised {
        assert_eq!(ask(path).await, 403, "{path}");
    }
    assert_eq!(ask("/public/a/../b?keep=../me").await, 200);
    assert_eq!(ask("/encoded%2Fslash").await, 200);
    assert_eq!(ask("/broken%zz").await, 400);
    assert_eq!(ask("/../../..").await, 200);
    assert_eq!(ask("/a \"b\"").await, 400, "a target holds no space");

    let lines: Vec<String> = origin.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(lines, ["GET /public/b?keep=../me", "GET /encoded%2Fslash", "GET /"]);
}

#[tokio::test]
async fn garbage_on_any_port_leaves_the_gateway_well() {
    let shop = Shop::open().await;
    let addresses = shop.gateway.addresses();
    let garbage: [&[u8]; 6] = [
        b"\x16\x03\x01\x00\x05hello",
        b"\x00\x00\x00\x00\x00\x00\x00\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"GET / HTTP/1.1\r\n\xff\xfe: \x80\r\n\r\n",
        b"CONNECT shop.example.com:443 HTTP/1.1\r\nHost: shop.example.com\r\n\r\n",
        b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET",
    ];

    for bytes in garbage {
        for address in [addresses.main, addresses.second, addresses.admin, addresses.status, addresses.stats] {
            let mut raw = Raw::connect(address).await.expect("somebody listens");
            raw.send(bytes).await.ok();
            raw.finish().await;
            raw.hear(Duration::from_millis(100)).await;
        }
    }

    assert_eq!(shop.mesh.browser().status(SHOP).await, 200);
    assert!(!shop.gateway.log().contains("panicked"), "{}", shop.gateway.log());
}
