//! What the gateway does to every request and answer.

use harness::{
    client::{request, with_body},
    grpc::Grpc,
    mesh::{HOST, Mesh, SHOP},
    raw::Raw,
    reply::Reply,
    websocket::WebSocket,
};

use crate::shop::Shop;

/// `GET /` with these headers.
async fn with_headers(shop: &Shop, headers: &[(&str, &str)]) -> Reply {
    let call = headers.iter().fold(request("GET", SHOP), |call, (name, value)| call.header(*name, *value));
    shop.mesh.browser().call(with_body(call, "")).await
}

#[tokio::test]
async fn every_request_gets_a_fresh_id_and_a_client_cannot_choose_it() {
    let shop = Shop::open().await;

    let first = with_headers(&shop, &[]).await.saw("x-request-id");
    let second = with_headers(&shop, &[("x-request-id", "chosen")]).await.saw("x-request-id");

    assert_eq!((first.len(), second.len()), (36, 36), "{first} {second}");
    assert_ne!(first, second);
}

#[tokio::test]
async fn the_upstream_learns_the_true_client_and_scheme() {
    let shop = Shop::open().await;
    let lies = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "http"), ("x-envoy-external-address", "5.6.7.8")];

    let reply = with_headers(&shop, &lies).await;

    let forwarded = reply.saw("x-forwarded-for");
    let hops: Vec<&str> = forwarded.split(',').map(str::trim).collect();
    assert_eq!(hops, ["1.2.3.4", "127.0.0.1"]);
    assert_eq!(reply.saw("x-forwarded-proto"), "https");
    assert_eq!(reply.saw("x-envoy-external-address"), "127.0.0.1");
}

#[tokio::test]
async fn what_only_proxies_may_say_is_removed() {
    let shop = Shop::open().await;
    let forged = [
        ("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/a/sa/admin"),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-max-retries", "9"),
        ("x-envoy-upstream-rq-timeout-ms", "1"),
        ("x-envoy-internal", "true"),
        ("x-envoy-decorator-operation", "forged"),
        ("x-envoy-peer-metadata", "forged"),
        ("x-envoy-peer-metadata-id", "forged"),
        ("x-envoy-original-path", "/forged"),
    ];

    let reply = with_headers(&shop, &forged).await;

    let survived: Vec<_> = forged.iter().filter(|(name, value)| reply.saw(name) == *value).collect();
    assert!(survived.is_empty(), "{survived:?}");
}

#[tokio::test]
async fn hop_by_hop_headers_stop_at_the_proxy() {
    let shop = Shop::open().await;
    let hops = [
        ("connection", "x-private, keep-alive"),
        ("x-private", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
    ];

    let reply = with_headers(&shop, &hops).await;

    let survived: Vec<&str> =
        hops[1..].iter().map(|(name, _)| *name).filter(|name| !reply.saw(name).is_empty()).collect();
    assert_eq!(survived, Vec::<&str>::new());
}

#[tokio::test]
async fn answers_carry_istios_server_header_and_the_upstreams_time() {
    let shop = Shop::open().await;

    let reply = with_headers(&shop, &[]).await;

    assert_eq!(reply.header("server"), "istio-envoy");
    assert!(reply.header("x-envoy-upstream-service-time").parse::<u64>().is_ok());
    assert!(!reply.header("date").is_empty());
}

#[tokio::test]
async fn the_port_and_the_case_of_the_host_do_not_matter() {
    let shop = Shop::open().await;

    let port = with_headers(&shop, &[("host", "shop.example.com:4711")]).await;
    let case = with_headers(&shop, &[("host", "Shop.Example.COM")]).await;

    assert_eq!((port.code(), case.code()), (200, 200));
    assert_eq!(port.saw("host"), "shop.example.com:4711");
}

#[tokio::test]
async fn no_route_is_404_and_no_endpoint_is_503() {
    let shop = Shop::open().await;
    shop.mesh.write(
        "more.yaml",
        &harness::yaml::virtual_service(
            "more",
            "empty.example.com",
            "- route: [{destination: {host: ratings, port: {number: 8080}}}]",
        ),
    );
    let empty = async || shop.mesh.browser().get("https://empty.example.com/").await;
    harness::eventually::eventually("the new host", async || empty().await.code() != 404).await;

    assert_eq!(shop.mesh.browser().status("https://nobody.example.com/").await, 404);
    let reply = empty().await;
    assert_eq!((reply.code(), reply.text().as_str()), (503, "no healthy upstream"));
    assert_eq!(reply.header("server"), "istio-envoy");
}

#[tokio::test]
async fn grpc_calls_get_the_proxys_errors_as_grpc_status() {
    let mesh = Mesh::with_edge();
    mesh.route_all_to("ratings");
    let _gateway = mesh.gateway().await;
    let browser = mesh.browser().h2();

    let unavailable = Grpc::connect(&browser, SHOP).await.expect("HTTP/2 works");
    let unavailable = unavailable.unary("/echo.Echo/Unary", "x").await.expect("an answer");
    let unimplemented = Grpc::connect(&browser, "https://nobody.example.com").await.expect("HTTP/2 works");
    let unimplemented = unimplemented.unary("/echo.Echo/Unary", "x").await.expect("an answer");

    assert_eq!((unavailable.http_status, unavailable.status), (200, Some(14)));
    assert!(unavailable.trailers_only && unimplemented.trailers_only, "{unavailable:?} {unimplemented:?}");
    assert_eq!(unavailable.message, "no healthy upstream");
    assert_eq!((unimplemented.http_status, unimplemented.status), (200, Some(12)));
    assert_eq!(unimplemented.headers["content-type"], "application/grpc");
}

#[tokio::test]
async fn websockets_work_through_the_edge() {
    let shop = Shop::open().await;

    let mut secure = WebSocket::open(&shop.mesh.browser(), "wss://shop.example.com/live").await.expect("an upgrade");
    let mut plain =
        WebSocket::open(&shop.mesh.plain_browser(), "ws://shop.example.com/live").await.expect("an upgrade");

    assert_eq!(secure.ask("over TLS").await.expect("an echo"), "over TLS");
    assert_eq!(plain.ask("in the clear").await.expect("an echo"), "in the clear");
}

#[tokio::test]
async fn bodies_of_a_megabyte_pass_unharmed_both_ways() {
    let shop = Shop::open().await;
    let megabyte = vec![b'x'; 1 << 20];

    for browser in [shop.mesh.browser(), shop.mesh.browser().h2()] {
        let upload = browser.call(with_body(request("POST", SHOP), megabyte.clone())).await;
        let download = browser.get(&format!("{SHOP}/bytes/1048577")).await;
        assert_eq!(upload.echoed("body_bytes"), "1048576");
        assert_eq!(download.body.len(), (1 << 20) + 1);
    }
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body_is_sent() {
    let shop = Shop::open().await;
    let mut raw = Raw::connect(shop.gateway.addresses().second).await.expect("the gateway listens");

    let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    raw.send(head).await.expect("sent");
    let interim = raw.read_until("\r\n\r\n").await.expect("an interim answer");
    raw.send("body").await.expect("sent");
    let last = raw.read_until("\r\n\r\n").await.expect("the answer");

    assert!(interim.starts_with("HTTP/1.1 100"), "{interim}");
    assert!(last.starts_with("HTTP/1.1 200"), "{last}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let shop = Shop::open().await;
    let mut raw = Raw::connect(shop.gateway.addresses().second).await.expect("the gateway listens");
    let get = |path: &str, end: &str| format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{end}\r\n");

    let both = get("/first", "") + &get("/second", "Connection: close\r\n");
    raw.send(both).await.expect("sent");
    let heard = raw.hear(std::time::Duration::from_secs(5)).await;

    assert_eq!(heard.statuses(), [200, 200], "{heard:?}");
    let at = |path: &str| heard.text.find(path);
    assert!(at("/first").is_some() && at("/first") < at("/second"), "RFC 9112 section 9.3.2: {heard:?}");
    assert!(heard.closed, "{heard:?}");
}

#[tokio::test]
async fn an_upstream_that_is_gone_is_503_with_the_reason() {
    let mesh = Mesh::with_edge();
    let _nobody_listens = mesh.workload("reviews").declare();
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway().await;

    let reply = mesh.browser().get(SHOP).await;

    assert_eq!(reply.code(), 503);
    assert!(reply.text().starts_with("upstream connect error"), "{}", reply.text());
    let flagged = async || gateway.access_log().contains(" 503 URX,UF ");
    harness::eventually::eventually("the access log has the flags URX,UF", flagged).await;
}

#[tokio::test]
async fn a_client_cannot_strip_what_the_proxy_adds_by_calling_it_hop_by_hop() {
    let shop = Shop::in_mesh().await;

    let reply = with_headers(&shop, &[("connection", "x-request-id, x-forwarded-client-cert")]).await;
    let refused = with_headers(&shop, &[("connection", "x-forwarded-for, x-forwarded-proto")]).await;

    assert_eq!(reply.saw("x-request-id").len(), 36, "{}", reply.text());
    assert_eq!(reply.echoed("peer"), harness::pki::spiffe("istio-system", "istio-ingressgateway"));
    assert_eq!(refused.code(), 400, "as Envoy does");
}
