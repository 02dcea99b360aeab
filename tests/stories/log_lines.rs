//! What lines of the access log hold, as the mesh configuration says it.

use harness::{
    client::{Client, get, request, with_body},
    eventually::eventually,
    gateway::Proxy,
    listening::Listening,
    mesh::{Mesh, SHOP},
    yaml,
};
use serde_json::{Value, json};

use crate::opaque::{PLAIN, counting, gateway, routes, say};

pub(crate) fn config_map(mesh: &str) -> String {
    let lines: Vec<String> = mesh.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |-\n{}",
        lines.concat()
    )
}

/// The last line of the log for which this is so.
async fn line(gateway: &Proxy, so: impl Fn(&str) -> bool) -> String {
    eventually("the line is written", async || gateway.access_log().lines().any(&so)).await;
    gateway.access_log().lines().rfind(|line| so(line)).expect("it was there").to_owned()
}

async fn shop(mesh: &Mesh) -> harness::workload::Workload {
    mesh.routes(
        "- match: [{uri: {prefix: /old}}]\n  rewrite: {uri: /new}\n  \
         route: [{destination: {host: reviews, port: {number: 8080}}}]\n\
         - match: [{uri: {prefix: /gone}}]\n  directResponse: {status: 410, body: {string: gone}}\n\
         - route: [{destination: {host: reviews, port: {number: 8080}}}]",
    );
    mesh.workload("reviews").start().await
}

#[tokio::test]
async fn a_line_of_text_holds_what_the_mesh_says_and_nobody_ends_it() {
    let mesh = Mesh::with_edge();
    let _reviews = shop(&mesh).await;
    let format = "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% \
                  %RESPONSE_CODE_DETAILS% %REQ(X-NOTE)% %REQ(X-NONE)% %GRPC_STATUS% %RESP(CONTENT-TYPE):4% \
                  %CONNECTION_TERMINATION_DETAILS% %UPSTREAM_HOST% %REQUESTED_SERVER_NAME%";
    mesh.write("mesh.yaml", &config_map(&format!("accessLogFormat: |\n  ours {format}")));
    let gateway = mesh.gateway().await;

    let mut request = get(&format!("{SHOP}/old"));
    request.headers_mut().insert("x-note", "say \"hi\"".parse().expect("a value"));
    assert_eq!(mesh.browser().call(request).await.code(), 200);
    let told = line(&gateway, |line| line.contains("/old")).await;
    let wanted = "ours GET /old /new 200 - via_upstream say \\\"hi\\\" - - ";
    assert!(told.starts_with(wanted), "{told}");
    assert!(told.ends_with(":8080 shop.example.com"), "{told}");

    assert_eq!(mesh.browser().status(&format!("{SHOP}/gone")).await, 410);
    let told = line(&gateway, |line| line.contains("/gone")).await;
    assert_eq!(told, "ours GET /gone /gone 410 - direct_response - - - text - - shop.example.com");

    mesh.write("mesh.yaml", &config_map("accessLogFormat: 'changed %RESPONSE_DURATION%'"));
    eventually("a change is live", async || {
        mesh.browser().status(SHOP).await;
        gateway.access_log().lines().any(|line| line.starts_with("changed "))
    })
    .await;
}

#[tokio::test]
async fn an_object_has_the_keys_that_the_mesh_says() {
    let mesh = Mesh::with_edge();
    let _reviews = shop(&mesh).await;
    let format =
        r#"{"code": "%RESPONSE_CODE%", "of": {"path": "%REQ(:PATH)%", "note": "%REQ(X-NOTE)%"}, "who": "proxy"}"#;
    let written = format!("accessLogEncoding: JSON\naccessLogFormat: '{format}'");
    mesh.write("mesh.yaml", &config_map(&written));
    let gateway = mesh.gateway().await;

    let mut request = get(&format!("{SHOP}/a"));
    request.headers_mut().insert("x-note", http::HeaderValue::from_bytes(b"\xffx\"").expect("a value"));
    assert_eq!(mesh.browser().call(request).await.code(), 200);
    let told: Value = serde_json::from_str(&line(&gateway, |line| line.contains("/a")).await).expect("JSON");
    assert_eq!(told, json!({"code": 200, "of": {"path": "/a", "note": "\u{fffd}x\""}, "who": "proxy"}));

    let by_hand = mesh.replica(2, &["--access-log", "text"]).await;
    let front = by_hand.addresses().main;
    let client = Client::https(front, mesh.edge_trust());
    assert_eq!(client.status(&format!("{SHOP}/b")).await, 200);
    assert!(line(&by_hand, |line| line.contains("/b")).await.starts_with('['), "the command line wins");
}

#[tokio::test]
async fn connections_that_are_no_http_have_such_lines_too() {
    let mesh = Mesh::new();
    let db = mesh.block.at(80, 3306);
    let _db: Listening = counting(db, "hello ").await;
    let entry = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: db, namespace: shop}}\n\
         spec: {{hosts: [db.test], resolution: STATIC, ports: [{{number: 3306, name: tcp, protocol: TCP}}], \
         endpoints: [{{address: {}}}]}}\n",
        db.ip()
    );
    let tcp = routes("*", "  tcp: [{route: [{destination: {host: db.test}}]}]\n");
    mesh.write("bytes.yaml", &(gateway(PLAIN) + &tcp + &entry));
    let format = "tcp %BYTES_RECEIVED%/%BYTES_SENT% %UPSTREAM_HOST% %UPSTREAM_CLUSTER% %REQ(:PATH)% %RESPONSE_FLAGS%";
    mesh.write("mesh.yaml", &config_map(&format!("accessLogFormat: '{format}'")));
    let proxy = mesh.gateway().await;

    assert_eq!(say(proxy.addresses().second, b"four").await, "hello 4 bytes\n");

    let told = line(&proxy, |line| line.starts_with("tcp ")).await;
    assert_eq!(told, format!("tcp 4/14 {db} outbound|3306||db.test - -"));
}

#[tokio::test]
async fn what_policies_in_a_dry_run_say_stands_under_istios_names() {
    let mesh = Mesh::with_edge();
    let _reviews = shop(&mesh).await;
    let told = |key: &str| format!("%DYNAMIC_METADATA(envoy.filters.http.rbac:istio_dry_run_{key})%");
    let keys = [
        "allow_shadow_engine_result",
        "allow_shadow_effective_policy_id",
        "deny_shadow_engine_result",
        "deny_shadow_effective_policy_id",
    ];
    let format = format!("dry %REQ(:PATH)% {}", keys.map(told).join(" "));
    mesh.write("mesh.yaml", &config_map(&format!("accessLogFormat: '{format}'")));
    let tried = |name: &str, action: &str, path: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: {name}, namespace: istio-system, annotations: {{istio.io/dry-run: 'true'}}}}\n\
             spec: {{action: {action}, rules: [{{to: [{{operation: {{paths: [{path}]}}}}]}}]}}\n---\n"
        )
    };
    mesh.write("policies.yaml", &(tried("let-in", "ALLOW", "/a") + &tried("keep-out", "DENY", "/b")));
    let gateway = mesh.gateway().await;

    let allow = "ns[istio-system]-policy[let-in]-rule[0]";
    let deny = "ns[istio-system]-policy[keep-out]-rule[0]";
    for (path, wanted) in [
        ("/a", format!("allowed {allow} allowed -")),
        ("/b", format!("denied - denied {deny}")),
        ("/c", "denied - allowed -".to_owned()),
    ] {
        assert_eq!(mesh.browser().status(&format!("{SHOP}{path}")).await, 200, "none of them is in force");
        let told = line(&gateway, |line| line.starts_with(&format!("dry {path} "))).await;
        assert_eq!(told, format!("dry {path} {wanted}"));
    }

    mesh.write("policies.yaml", &tried("let-in", "ALLOW", "/a").replace("istio.io/dry-run: 'true'", "a: b"));
    eventually("it is in force", async || mesh.browser().status(&format!("{SHOP}/d")).await == 403).await;
    assert_eq!(mesh.browser().status(&format!("{SHOP}/e")).await, 403);
    let told = line(&gateway, |line| line.starts_with("dry /e ")).await;
    assert_eq!(told, "dry /e - - - -", "nothing is tried");
}

#[tokio::test]
async fn connections_that_nobody_is_for_have_lines_and_no_flood_of_them() {
    let mesh = Mesh::with_edge();
    mesh.write("strict.yaml", &yaml::peer_authentication("shop", "STRICT"));
    let format = "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %REQUESTED_SERVER_NAME% %DOWNSTREAM_TRANSPORT_FAILURE_REASON% \
                  %DOWNSTREAM_REMOTE_ADDRESS%";
    mesh.write("mesh.yaml", &config_map(&format!("accessLogFormat: 'nobody {format}'")));
    let reviews = mesh.workload("reviews").sidecar().start().await;
    mesh.route_all_to("reviews");
    let gateway = mesh.gateway().await;

    let refused = Client::https(gateway.addresses().main, mesh.edge_trust());
    assert!(refused.dial("nobody.test").await.is_err());
    let told = line(&gateway, |line| line.contains("nobody.test")).await;
    let wanted =
        "nobody NR filter_chain_not_found nobody.test TLS_handshake_failed:_no_server_has_the_name_nobody.test ";
    assert!(told.starts_with(wanted), "{told}");

    let sidecar = reviews.proxy();
    let plain = Client::plain(reviews.address);
    assert_eq!(plain.status("http://reviews:8080/").await, 0, "the port is STRICT");
    let told = line(sidecar, |line| line.contains("plain_text")).await;
    assert!(
        told.starts_with("nobody NR filter_chain_not_found - plain_text_refused:_port_8080_is_STRICT 127."),
        "{told}"
    );

    for _ in 0..100 {
        assert!(refused.dial("flood.test").await.is_err());
    }
    assert_eq!(mesh.browser().status(SHOP).await, 200);
    line(&gateway, |line| line.starts_with("nobody - via_upstream")).await;
    let flood = gateway.access_log().matches(" flood.test ").count();
    // Five for each worker.
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    assert!((1..=5 * workers).contains(&flood) && flood < 100, "{flood} lines, {workers} workers");
}

#[tokio::test]
async fn what_connections_carried_and_when_is_told() {
    let mesh = Mesh::with_edge();
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "grpc")]));
    let _reviews = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews");
    let format = "wire %TRAILER(GRPC-STATUS)% %RESPONSE_TRAILERS_BYTES% %CONNECTION_ID% %UPSTREAM_CONNECTION_ID% \
                  %DOWNSTREAM_WIRE_BYTES_RECEIVED% %DOWNSTREAM_HEADER_BYTES_RECEIVED% %UPSTREAM_WIRE_BYTES_RECEIVED% \
                  %UPSTREAM_HEADER_BYTES_RECEIVED% %COMMON_DURATION(DS_RX_BEG:DS_RX_END:us)% \
                  %COMMON_DURATION(US_CX_BEG:US_CX_END:us)% %COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)% \
                  %COMMON_DURATION(US_RX_BEG:US_RX_END:us)% %REQUEST_TX_DURATION% %UPSTREAM_HOSTS_ATTEMPTED%";
    mesh.write("mesh.yaml", &config_map(&format!("accessLogFormat: '{format}'")));
    let gateway = mesh.gateway().await;

    let call = request("POST", &format!("{SHOP}/echo.Echo/ServerStream")).header("content-type", "application/grpc");
    let reply = mesh.browser().h2().call(with_body(call.header("te", "trailers"), "\0\0\0\0\x02hi")).await;
    assert_eq!(reply.code(), 200);

    let told = line(&gateway, |line| line.starts_with("wire ")).await;
    let fields: Vec<&str> = told.split(' ').skip(1).collect();
    let number = |at: usize| -> u64 { fields[at].parse().unwrap_or_else(|_| panic!("field {at} of {told}")) };
    assert_eq!(fields[0], "0", "{told}");
    assert!(number(1) >= "grpc-status0".len() as u64, "{told}");
    assert!(number(2) > 0 && number(3) > 0 && number(2) != number(3), "{told}");
    // A frame of seven bytes, at least, stands behind each head.
    assert!(number(4) >= number(5) + 9 + 7 && number(5) > 9, "{told}");
    assert!(number(6) > number(7) && number(7) > 18, "{told}");
    let (read, connected, whole, answer) = (number(8), number(9), number(10), number(11));
    assert!(read <= whole && connected > 0 && answer <= whole && number(12) <= whole / 1000, "{told}");
    assert!(fields[13].ends_with(":8080"), "{told}");
}
