//! Services that others have written, run as they are and asked as their pages say. No registry that `make deps` may use has
//! them, so whoever has one names it: `SLUICE_TEST_OPA` (OPA with its Envoy plugin), `SLUICE_TEST_OAUTH2_PROXY`,
//! `SLUICE_TEST_RATELIMIT` with `SLUICE_TEST_REDIS` (envoyproxy/ratelimit and a redis-server).

use std::{fs, net::SocketAddr, time::Duration};

use harness::{
    client::{get, request, with_body},
    eventually::eventually,
    mesh::{Mesh, SHOP},
    process::Process,
    program::{executable, serve},
    yaml,
};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{ASKED, asking};

const REGO: &str = r#"package envoy.authz

import rego.v1

default allow := {"allowed": false, "http_status": 418, "body": "of OPA", "headers": {"x-why": "no name"}}

allow := {"allowed": true, "headers": {"x-user": name}} if {
    name := input.attributes.request.http.headers["x-name"]
    input.attributes.request.http.method == "GET"
    startswith(input.attributes.request.http.path, "/asked")
    input.attributes.source.address.socketAddress.address
}
"#;

#[tokio::test]
async fn opa_decides_with_its_envoy_plugin() {
    let Some(opa) = executable("opa_decides_with_its_envoy_plugin", "opa") else { return };
    let (mesh, address) = asking("envoyExtAuthzGrpc", ", timeout: 5s");
    let _reviews = mesh.workload("reviews").start().await;
    let folder = TempDir::with_prefix("sluice-opa-").expect("a temporary folder can be made");
    let policy = folder.path().join("policy.rego");
    fs::write(&policy, REGO).expect("the policy can be written");
    let arguments = [
        "run".to_owned(),
        "--server".into(),
        format!("--addr={}", mesh.block.at(80, 8181)),
        format!("--diagnostic-addr={}", mesh.block.at(80, 8282)),
        format!("--set=plugins.envoy_ext_authz_grpc.addr={address}"),
        "--set=plugins.envoy_ext_authz_grpc.path=envoy/authz/allow".into(),
        policy.display().to_string(),
    ];
    let _opa = serve("opa", &opa, &arguments, &[address]).await;
    let _gateway = mesh.gateway().await;

    let named = with_body(request("GET", ASKED).header("x-name", "ada").header("x-user", "root"), "");
    let reply = mesh.browser().call(named).await;
    assert_eq!((reply.code(), reply.saw("x-user").as_str()), (200, "ada"), "{}", reply.text());
    let reply = mesh.browser().call(get(ASKED)).await;
    assert_eq!((reply.code(), reply.text().as_str(), reply.header("x-why")), (418, "of OPA", "no name"));
    let posted = with_body(request("POST", ASKED).header("x-name", "ada"), "a body");
    assert_eq!(mesh.browser().call(posted).await.code(), 418);
    assert_eq!(mesh.browser().status(SHOP).await, 200, "nobody asks about this path");
}

#[tokio::test]
async fn oauth2_proxy_sends_to_its_login_and_says_who_has_logged_in() {
    let story = "oauth2_proxy_sends_to_its_login_and_says_who_has_logged_in";
    let Some(login) = executable(story, "oauth2_proxy") else { return };
    let (mesh, address) = asking(
        "envoyExtAuthzHttp",
        ", timeout: 5s, includeRequestHeadersInCheck: [cookie, 'x-forwarded-*'], headersToUpstreamOnAllow: ['x-auth-request-*'], \
         headersToDownstreamOnDeny: [content-type, set-cookie], headersToDownstreamOnAllow: [set-cookie]",
    );
    let _reviews = mesh.workload("reviews").start().await;
    let folder = TempDir::with_prefix("sluice-oauth2-proxy-").expect("a temporary folder can be made");
    let users = folder.path().join("htpasswd");
    // `ada` with the password `secret`.
    fs::write(&users, "ada:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n").expect("the file can be written");
    let arguments = [
        format!("--http-address={address}"),
        "--upstream=static://200".into(),
        "--reverse-proxy".into(),
        "--set-xauthrequest".into(),
        "--provider=github".into(),
        "--client-id=shop".into(),
        "--client-secret=secret".into(),
        "--cookie-secret=0123456789abcdef0123456789abcdef".into(),
        "--email-domain=*".into(),
        "--skip-provider-button".into(),
        format!("--htpasswd-file={}", users.display()),
    ];
    let _login = serve("oauth2-proxy", &login, &arguments, &[address]).await;
    let _gateway = mesh.gateway().await;

    let sent = mesh.browser().call(get(ASKED)).await;
    assert_eq!(sent.code(), 302, "{}", sent.text());
    assert!(
        sent.header("location").starts_with("https://github.com/login/oauth/authorize?"),
        "{:?}",
        sent.header("location")
    );
    assert!(sent.header("set-cookie").contains("_csrf"), "{:?}", sent.header("set-cookie"));
    // ada:secret
    let known =
        request("GET", ASKED).header("authorization", "Basic YWRhOnNlY3JldA==").header("x-auth-request-user", "root");
    let reply = mesh.browser().call(with_body(known, "")).await;
    assert_eq!((reply.code(), reply.saw("x-auth-request-user").as_str()), (200, "ada"), "{}", reply.text());
    let wrong = request("GET", ASKED).header("authorization", "Basic YWRhOndyb25n");
    assert_eq!(mesh.browser().call(with_body(wrong, "")).await.code(), 302);
}

const LIMIT: &str = "apiVersion: policy.sluice.dev/v1alpha1\nkind: RateLimit\nmetadata: {name: edge, namespace: istio-system}\n\
                     spec:\n  selector: {matchLabels: {istio: ingressgateway}}\n  rules:\n  - name: each\n    \
                     key: [{header: x-client, as: client}]\n    \
                     global: {service: counter.shop.svc.cluster.local, port: 8080, domain: shop, timeout: 5s, failOpen: false}\n";

async fn listens(address: SocketAddr) -> bool {
    TcpStream::connect(address).await.is_ok()
}

#[tokio::test]
async fn envoys_rate_limit_service_counts_for_two_gateways() {
    let story = "envoys_rate_limit_service_counts_for_two_gateways";
    let (service, redis) = (executable(story, "ratelimit"), executable(story, "redis"));
    let (Some(service), Some(redis)) = (service, redis) else { return };
    let mesh = Mesh::with_edge();
    let _reviews = mesh.workload("reviews").start().await;
    mesh.route_all_to("reviews");
    mesh.write("counter.yaml", &yaml::service("shop", "counter", &[(8080, "grpc")]));
    let address = mesh.workload("counter").declare();
    mesh.write("limit.yaml", LIMIT);
    let store = mesh.block.at(80, 6379);
    let arguments =
        ["--bind".to_owned(), store.ip().to_string(), "--port".into(), "6379".into(), "--save".into(), String::new()];
    let _store = serve("redis", &redis, &arguments, &[store]).await;
    let folder = TempDir::with_prefix("sluice-ratelimit-").expect("a temporary folder can be made");
    let config = folder.path().join("ratelimit/config");
    fs::create_dir_all(&config).expect("the folder can be made");
    let limits = "domain: shop\ndescriptors:\n- key: client\n  rate_limit: {unit: hour, requests_per_unit: 3}\n";
    fs::write(config.join("shop.yaml"), limits).expect("the limits can be written");
    let at = |name: &str, port: u16| {
        let host = if name == "GRPC" { address.ip() } else { mesh.block.ip(80) };
        [(format!("{name}_HOST"), host.to_string()), (format!("{name}_PORT"), port.to_string())]
    };
    let mut variables: Vec<(String, String)> = [at("GRPC", 8080), at("DEBUG", 6070)].concat();
    variables.extend([
        ("HOST".to_owned(), mesh.block.ip(80).to_string()),
        ("PORT".to_owned(), "8081".to_owned()),
        ("RUNTIME_ROOT".to_owned(), folder.path().display().to_string()),
        ("RUNTIME_SUBDIRECTORY".to_owned(), "ratelimit".to_owned()),
        ("RUNTIME_WATCH_ROOT".to_owned(), "false".to_owned()),
        ("REDIS_SOCKET_TYPE".to_owned(), "tcp".to_owned()),
        ("REDIS_URL".to_owned(), store.to_string()),
        ("USE_STATSD".to_owned(), "false".to_owned()),
    ]);
    let variables: Vec<(&str, String)> = variables.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let _service = Process::start_in("ratelimit", &service, [""; 0], &variables);
    eventually("the service listens", async || listens(address).await).await;
    let (_one, two) = (mesh.gateway().await, mesh.replica(2, &[]).await);
    let second = harness::client::Client::https(two.addresses().main, mesh.edge_trust());

    let ask = |client: &'static str| with_body(request("GET", SHOP).header("x-client", client), "");
    let mut statuses = Vec::new();
    for number in 0..4 {
        let browser = if number % 2 == 0 { mesh.browser() } else { second.clone() };
        statuses.push(browser.call(ask("ada")).await.code());
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
    let refused = mesh.browser().call(ask("ada")).await;
    let wait = refused.header("retry-after").parse::<u64>().map(Duration::from_secs);
    assert!(wait.is_ok_and(|wait| wait <= Duration::from_secs(3600)), "{:?}", refused.header("retry-after"));
    assert_eq!(mesh.browser().call(ask("eve")).await.code(), 200);
}
