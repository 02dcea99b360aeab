//! Running it: readiness, access log, metrics, admin pages, drain.

use std::time::Duration;

use harness::{
    client::get,
    eventually::eventually,
    grpc::Grpc,
    mesh::{HOST, Mesh, SHOP},
    pki::spiffe,
    raw::Raw,
    websocket::WebSocket,
};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::shop::Shop;

/// The first line of the access log that holds this text.
async fn line(shop: &Shop, text: &str) -> String {
    eventually("the access log has the line", async || shop.gateway.access_log().contains(text)).await;
    shop.gateway.access_log().lines().find(|line| line.contains(text)).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_port_that_somebody_has_is_told_with_the_process_that_has_it() {
    let mesh = Mesh::with_edge();
    mesh.routes("- directResponse: {status: 200}");
    let address = mesh.block.at(1, 8443);
    let taken = tokio::net::TcpListener::bind(address).await.expect("the address is free");
    let gateway = mesh.launch_gateway(&[]);

    gateway.logs(&format!("{address} cannot be bound")).await;
    let own = std::fs::read_to_string("/proc/self/comm").expect("Linux");
    let holder =
        format!("process {} (`{}`) has it: end that, or map the port with --port-map", std::process::id(), own.trim());
    let log = gateway.log();
    assert!(log.contains(&holder), "{log}");
    let readiness = async || gateway.readiness().await.map(|it| it.text()).unwrap_or_default();
    eventually("readiness says it too", async || readiness().await.contains(&holder)).await;

    drop(taken);
    eventually("it is had as soon as it can be", async || mesh.browser().send(get(SHOP)).await.is_ok()).await;
    assert_eq!(gateway.log().matches("cannot be bound").count(), 1, "and was told once: {}", gateway.log());
}

#[tokio::test]
async fn the_access_log_is_istios_text_format() {
    let shop = Shop::open().await;
    let call = harness::client::request("GET", &format!("{SHOP}/page?x=y"))
        .header("user-agent", "story \"1\"\n2".replace('\n', " "));
    let reply = shop.mesh.browser().call(harness::client::with_body(call, "")).await;

    let line = line(&shop, "/page?x=y").await;

    assert!(
        line.starts_with("[20") && line.contains("Z] \"GET /page?x=y HTTP/1.1\" 200 - via_upstream - \"-\" 0 "),
        "{line}"
    );
    assert!(line.contains(&reply.saw("x-request-id")), "{line}");
    let upstream = shop.reviews.address;
    let tail = format!("\"{HOST}\" \"{upstream}\" outbound|8080||reviews.shop.svc.cluster.local ");
    assert!(line.contains(&tail), "{line}");
    assert!(line.ends_with(&format!(" {HOST} -")), "{line}");
}

#[tokio::test]
async fn the_access_log_tells_why_the_proxy_answered_itself() {
    let shop = Shop::open().await;
    shop.mesh.browser().get("https://nobody.example.com/lost").await;

    assert!(line(&shop, "/lost").await.contains(" 404 NR route_not_found - "));
}

#[tokio::test]
async fn the_json_access_log_has_istios_keys() {
    let shop = Shop::with(&["--access-log", "json"]).await;
    shop.mesh.browser().get(&format!("{SHOP}/page")).await;

    let entry: Value = serde_json::from_str(&line(&shop, "/page").await).expect("a JSON object per line");

    let mut keys: Vec<&str> = entry.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, JSON_KEYS);
    assert_eq!(entry["response_code"], 200);
    assert_eq!(entry["method"], "GET");
    assert_eq!(entry["authority"], HOST);
    assert_eq!(entry["upstream_cluster"], "outbound|8080||reviews.shop.svc.cluster.local");
    assert_eq!(entry["upstream_transport_failure_reason"], Value::Null);
}

const JSON_KEYS: [&str; 24] = [
    "authority",
    "bytes_received",
    "bytes_sent",
    "connection_termination_details",
    "downstream_local_address",
    "downstream_remote_address",
    "duration",
    "method",
    "path",
    "protocol",
    "request_id",
    "requested_server_name",
    "response_code",
    "response_code_details",
    "response_flags",
    "route_name",
    "start_time",
    "upstream_cluster",
    "upstream_host",
    "upstream_local_address",
    "upstream_service_time",
    "upstream_transport_failure_reason",
    "user_agent",
    "x_forwarded_for",
];

#[tokio::test]
async fn the_access_log_can_be_off() {
    let shop = Shop::with(&["--access-log", "off"]).await;
    shop.mesh.browser().get(SHOP).await;
    let mut gateway = shop.gateway;

    gateway.sigterm();
    gateway.wait_exit(Duration::from_secs(10)).await;

    assert_eq!(gateway.access_log(), "");
}

#[tokio::test]
async fn both_ends_count_a_request_with_istios_labels() {
    let shop = Shop::in_mesh().await;
    for _ in 0..3 {
        assert_eq!(shop.mesh.browser().status(SHOP).await, 200);
    }
    let common = [
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("response_flags", "-"),
        ("destination_service", "reviews.shop.svc.cluster.local"),
        ("destination_service_name", "reviews"),
        ("destination_service_namespace", "shop"),
    ];
    let gateway = [
        ("reporter", "source"),
        ("source_workload", "istio-ingressgateway"),
        ("source_workload_namespace", "istio-system"),
        ("destination_app", "reviews"),
        ("destination_version", "v1"),
        ("destination_principal", &spiffe("shop", "reviews")),
        ("connection_security_policy", "unknown"),
    ];
    let sidecar = [
        ("reporter", "destination"),
        ("source_principal", &*spiffe("istio-system", "istio-ingressgateway")),
        ("destination_principal", &spiffe("shop", "reviews")),
        ("destination_workload_namespace", "shop"),
        ("connection_security_policy", "mutual_tls"),
    ];

    let (gateway, sidecar) = ([&common[..], &gateway].concat(), [&common[..], &sidecar].concat());
    let source = shop.gateway.counts(3.0, &gateway).await;
    let destination = shop.reviews.proxy().counts(3.0, &sidecar).await;

    assert_eq!(source.sum("istio_requests_total", &gateway), 3.0, "{source:#?}");
    assert_eq!(destination.sum("istio_requests_total", &sidecar), 3.0, "{destination:#?}");
    assert_eq!(source.sum("istio_request_duration_milliseconds_count", &common), 3.0);
    assert_eq!(source.sum("istio_build", &[("component", "proxy")]), 1.0);
}

#[tokio::test]
async fn requests_without_a_route_are_counted_without_new_labels() {
    let shop = Shop::open().await;
    for number in 0..20 {
        shop.mesh.browser().get(&format!("https://h{number}.example.com/p{number}")).await;
    }

    let labels = [("response_code", "404"), ("response_flags", "NR")];
    let samples = shop.gateway.counts(20.0, &labels).await;

    let unrouted = samples.find("istio_requests_total", &labels);
    assert_eq!(unrouted.len(), 1, "{unrouted:?}");
    assert_eq!(unrouted[0].value, 20.0);
    assert_eq!(unrouted[0].labels["destination_service"], "unknown");
}

#[tokio::test]
async fn the_admin_pages_show_the_configuration_but_never_a_key() {
    let shop = Shop::in_mesh().await;

    let dump = shop.gateway.admin("/config_dump").await;
    let index = shop.gateway.admin("/").await.text();
    let listed = index.lines().filter_map(|line| line.strip_prefix("GET ")?.split_whitespace().next());
    let asked = [
        "/explain?port=443&host=shop.example.com",
        "/clusters?format=json",
        "/listeners?format=json",
        "/stats?format=json",
    ];
    let mut pages = vec![index.clone()];
    for page in listed.chain(asked) {
        pages.push(shop.gateway.admin(page).await.text());
    }
    assert!(pages.len() > 15, "{index}");

    assert!(dump.json().is_object());
    assert!(dump.text().contains("reviews.shop.svc.cluster.local"), "{}", dump.text());
    assert!(dump.text().contains(HOST) || dump.text().contains("*.example.com"), "{}", dump.text());
    assert!(pages.iter().all(|page| !page.contains("PRIVATE KEY")));
}

#[tokio::test]
async fn readiness_waits_for_the_first_configuration_and_ends_with_the_drain() {
    let mesh = Mesh::with_edge();
    let reviews = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway().await;
    assert_eq!(mesh.browser().status(SHOP).await, 200, "ready means that requests are served");
    let mut open = mesh.browser().connect(HOST).await.expect("HTTPS works");
    let download = open.open(get(&format!("{SHOP}/stream/30"))).await.expect("a download starts");

    gateway.sigterm();

    let unready = async || gateway.readiness().await.is_some_and(|reply| reply.code() == 503);
    eventually("readiness says 503 while streams finish", unready).await;
    drop((download, reviews));
}

#[tokio::test]
async fn sigterm_finishes_what_runs_and_closes_what_is_idle() {
    let shop = Shop::open().await;
    let browser = shop.mesh.browser();
    let mut idle = browser.connect(HOST).await.expect("HTTPS works");
    assert_eq!(idle.send(get(SHOP)).await.expect("an answer").code(), 200);
    let mut busy = browser.connect(HOST).await.expect("HTTPS works");
    let download = busy.open(get(&format!("{SHOP}/stream/20"))).await.expect("a download starts");
    let mut two = browser.clone().h2().connect(HOST).await.expect("HTTP/2 works");
    let second = two.open(get(&format!("{SHOP}/stream/20"))).await.expect("a download starts");
    let mut gateway = shop.gateway;

    gateway.sigterm();

    eventually("the idle connection is closed", async || idle.is_closed()).await;
    eventually("new connections are refused", async || Raw::connect(shop.mesh.block.at(1, 8443)).await.is_err()).await;
    let body = async |response: http::Response<hyper::body::Incoming>| {
        let bytes = response.into_body().collect().await.expect("the whole download").to_bytes();
        String::from_utf8_lossy(&bytes).lines().count()
    };
    assert_eq!((body(download).await, body(second).await), (20, 20));
    assert!(gateway.wait_exit(Duration::from_secs(10)).await.success());
}

#[tokio::test]
async fn a_grpc_stream_may_finish_during_the_drain() {
    let shop = Shop::open().await;
    let channel = Grpc::connect(&shop.mesh.browser().h2(), SHOP).await.expect("HTTP/2 works");
    let mut gateway = shop.gateway;
    let call = channel.open("/echo.Echo/ServerStream").await;
    let mut call = call.expect("an open call");
    call.send("tick").expect("the call is open");

    gateway.sigterm();
    call.finish().expect("the call is open");

    drop(call.outcome().await.expect("the stream finishes"));
    drop(channel);
    assert!(gateway.wait_exit(Duration::from_secs(10)).await.success());
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once() {
    let shop = Shop::open().await;
    let mut socket = WebSocket::open(&shop.mesh.browser(), "wss://shop.example.com/").await.expect("an upgrade");
    assert_eq!(socket.ask("open").await.expect("an echo"), "open");
    let mut gateway = shop.gateway;

    gateway.sigterm();
    let unready = async || gateway.readiness().await.is_none_or(|reply| reply.code() == 503);
    eventually("the drain has begun", unready).await;
    assert_eq!(socket.ask("still open").await.expect("an echo"), "still open");
    gateway.sigterm();

    gateway.wait_exit(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn the_drain_has_a_hard_limit() {
    let shop = Shop::with(&["--drain-time", "1s"]).await;
    let mut socket = WebSocket::open(&shop.mesh.browser(), "wss://shop.example.com/").await.expect("an upgrade");
    assert_eq!(socket.ask("open").await.expect("an echo"), "open");
    let mut gateway = shop.gateway;

    gateway.sigterm();

    gateway.wait_exit(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_answer_that_ends_during_the_drain_closes_its_connection() {
    let shop = Shop::open().await;
    let mut connection = shop.mesh.browser().connect(HOST).await.expect("HTTPS works");
    let slow = tokio::spawn(async move { connection.send(get(&format!("{SHOP}/delay/1000"))).await });
    let begun = async || shop.gateway.metrics().await.sum("sluice_downstream_connections_active", &[]) >= 1.0;
    eventually("the request is on its way", begun).await;

    shop.gateway.sigterm();

    let reply = slow.await.expect("no panic").expect("an answer");
    assert_eq!((reply.code(), reply.header("connection").to_ascii_lowercase().as_str()), (200, "close"));
}

#[tokio::test]
async fn for_the_drain_delay_balancers_are_served_and_told_to_go() {
    let shop = Shop::with(&["--drain-delay", "2s"]).await;
    let browser = shop.mesh.browser();
    let mut gateway = shop.gateway;

    gateway.sigterm();

    let unready = async || gateway.readiness().await.is_some_and(|reply| reply.code() == 503);
    eventually("readiness says so at once", unready).await;
    let reply = browser.connect(HOST).await.expect("a new connection").send(get(SHOP)).await.expect("an answer");
    assert_eq!((reply.code(), reply.header("connection").to_ascii_lowercase().as_str()), (200, "close"));
    assert!(gateway.wait_exit(Duration::from_secs(10)).await.success());
}

#[tokio::test]
async fn messages_of_a_call_that_falls_silent_are_counted_while_it_is_open() {
    let shop = Shop::open().await;
    let channel = Grpc::connect(&shop.mesh.browser().h2(), SHOP).await.expect("HTTP/2 works");
    let mut call = channel.open("/echo.Echo/BidiStream").await.expect("a call");
    for message in ["one", "two", "three"] {
        call.ask(message).await.expect("an answer");
    }
    let told = async |name: &str| shop.gateway.metrics().await.sum(name, &[("reporter", "source")]);
    for name in ["istio_request_messages_total", "istio_response_messages_total"] {
        eventually("its messages are told", async || told(name).await == 3.0).await;
    }
    assert_eq!(told("istio_requests_total").await, 0.0, "it is not over");
}
