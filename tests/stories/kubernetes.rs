//! The same YAML from an API server: what it serves, how fast it follows, and what it survives.

use std::time::Duration;

use harness::{
    apiserver::{Fault, Requests, StreamingLists},
    client::{get, request, with_body},
    eventually::{eventually, within},
    load::Load,
    mesh::{HOST, Mesh, SHOP},
    yaml::edge_gateway,
};
use serde_json::Value;
use tls::identity::PeerIdentity;

use crate::shop::Shop;

const A_SECOND: Duration = Duration::from_secs(1);
/// The longest wait between tries, its connection included, on a busy machine.
const RESUMED: Duration = Duration::from_secs(40);

/// The names in the certificate that a browser is shown.
async fn shown_names(shop: &Shop) -> Vec<String> {
    let address = shop.gateway.addresses().main;
    let Ok(stream) = shop.mesh.edge_trust().connect(address, HOST).await else { return Vec::new() };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let names = PeerIdentity::from_der(&chain[0]).expect("a certificate").dns_sans;
    names.iter().map(ToString::to_string).collect()
}

async fn problems(shop: &Shop) -> Vec<String> {
    let dump: Value = shop.gateway.admin_json("/config_dump").await;
    let all = dump["problems"].as_array().cloned().unwrap_or_default();
    all.iter().map(|problem| problem["message"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn applied_objects_are_served_over_https_into_strict_sidecars() {
    let shop = Shop::in_cluster().await;
    let reply = shop.mesh.browser().get(SHOP).await;
    assert_eq!(reply.code(), 200);
    assert_eq!(reply.echoed("service"), "reviews");
    let told = problems(&shop).await;
    assert!(told.iter().all(|message| message.starts_with("the certificate ends in")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_secret_is_served_within_a_second_and_no_request_fails() {
    let shop = Shop::in_cluster().await;
    let load = Load::start(&shop.mesh.browser(), 4, SHOP);
    for edition in 0..5 {
        let name = format!("edition-{edition}.test");
        shop.mesh.write("edge-cert.yaml", &shop.mesh.edge_secret(&["*.example.com", &name]));
        within(A_SECOND, "the new certificate", async || shown_names(&shop).await.contains(&name)).await;
    }
    let result = load.stop().await;
    assert_eq!(result.failed, 0, "{result:?}");
}

#[tokio::test]
async fn a_deleted_or_mismatched_secret_keeps_the_last_good_certificate() {
    let shop = Shop::in_cluster().await;
    let before = shown_names(&shop).await;

    shop.mesh.remove("edge-cert.yaml");
    eventually("the missing Secret is told", async || {
        problems(&shop).await.iter().any(|it| it.contains("there is no Secret `istio-system/edge-cert`"))
    })
    .await;
    assert_eq!(shown_names(&shop).await, before);
    assert_eq!(shop.mesh.browser().get(SHOP).await.code(), 200);

    let (one, other) = (shop.mesh.pki.server(&["*.example.com"]), shop.mesh.pki.server(&["*.example.com"]));
    let mismatched = tls::authority::Issued { key_pem: other.key_pem, ..one };
    shop.mesh.write("edge-cert.yaml", &harness::yaml::tls_secret("istio-system", "edge-cert", &mismatched));
    eventually("the mismatch is told", async || problems(&shop).await.iter().any(|it| it.contains("key"))).await;
    assert_eq!(shown_names(&shop).await, before);
    assert_eq!(shop.mesh.browser().get(SHOP).await.code(), 200);
}

#[tokio::test]
async fn only_secrets_that_something_names_are_ever_read() {
    let shop = Shop::in_cluster().await;
    for name in ["other", "another"] {
        let issued = shop.mesh.pki.server(&["other.example.com"]);
        shop.mesh.write(name, &harness::yaml::tls_secret("istio-system", name, &issued));
    }
    // Something later than these Secrets has arrived, so they have been seen too.
    shop.mesh.route_all_to("ratings");
    eventually("the new route", async || shop.mesh.browser().get(SHOP).await.code() == 503).await;

    let Some(api) = shop.mesh.fake_api() else { return };
    let asked = api.requests();
    let secrets = |seen: &&harness::apiserver::Seen| seen.resource == "secrets" && seen.user != "story";
    let read: Vec<&str> =
        asked.0.iter().filter(secrets).filter(|it| it.verb == "get").map(|it| it.name.as_str()).collect();
    assert!(!read.is_empty() && read.iter().all(|name| *name == "edge-cert"), "{read:?}");
    let namespaces: Vec<&str> = asked.0.iter().filter(secrets).map(|it| it.namespace.as_str()).collect();
    assert!(namespaces.iter().all(|namespace| *namespace == "istio-system"), "{namespaces:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_dies_and_comes_back_fails_no_request_and_is_not_stormed() {
    let shop = Shop::in_cluster().await;
    let api = shop.mesh.api();
    let load = Load::start(&shop.mesh.browser(), 2, SHOP);
    load.reaches(200).await;

    api.stop().await;
    load.reaches(load.sent() + 2_000).await;
    let before = api.requests();
    api.start_again().await;
    shop.mesh.write(
        "routes.yaml",
        &harness::yaml::virtual_service(
            "routes",
            HOST,
            "- headers: {response: {set: {x-edition: after}}}\n  route: [{destination: {host: reviews, port: {number: 8080}}}]",
        ),
    );
    within(RESUMED, "the watch is resumed", async || {
        shop.mesh.browser().send(get(SHOP)).await.is_ok_and(|reply| reply.header("x-edition") == "after")
    })
    .await;

    let result = load.stop().await;
    assert_eq!(result.failed, 0, "{result:?}");
    let (Some(before), Some(after)) = (before, api.requests()) else { return };
    let since = Requests(after.0[before.0.len()..].to_vec());
    let asked = since.0.iter().filter(|seen| seen.user != "story");
    // A gateway that was cut off long enough to lose its leadership looks at statuses once when it has it again.
    let led = [
        "gateways",
        "virtualservices",
        "destinationrules",
        "serviceentries",
        "authorizationpolicies",
        "requestauthentications",
        "peerauthentications",
        "ratelimits",
        "telemetries",
        "leases",
    ];
    let listed = |resource: &str| asked.clone().filter(|it| it.verb == "list" && it.resource == resource).count();
    assert!(led.iter().all(|resource| listed(resource) <= 1), "{:?}", since.counts());
    let lists = asked.clone().filter(|it| it.verb == "list" && !led.contains(&it.resource.as_str())).count();
    assert_eq!(lists, 0, "what was known is not listed again: {:?}", since.counts());
    // Each of two proxies has ten or fewer watches, and tried each of them a few times.
    assert!(asked.count() <= 60, "{:?}", since.counts());
}

#[tokio::test]
async fn forgotten_history_is_listed_again_once() {
    let shop = Shop::in_cluster().await;
    let Some(api) = shop.mesh.fake_api() else { return };
    api.streaming_lists(StreamingLists::Refused);
    api.clear_requests();
    api.expire("Gateway");
    shop.mesh.write("edge.yaml", &edge_gateway("edge-cert", &["*.example.com", "late.example.org"]));
    eventually("the new host", async || shop.gateway.admin("/config_dump").await.text().contains("late.example.org"))
        .await;
    let counts = api.requests().counts();
    let lists = counts.get(&("list".to_owned(), "gateways".to_owned())).copied().unwrap_or_default();
    // The gateway, the sidecar, and the leader's look at statuses if it begins only now.
    assert!((1..=3).contains(&lists), "{counts:?}");
    assert_eq!(shop.mesh.browser().get(SHOP).await.code(), 200);
}

#[tokio::test]
async fn a_server_that_refuses_streaming_lists_inside_the_stream_gets_plain_lists() {
    let mesh = Mesh::with_edge_in_cluster().await;
    let Some(api) = mesh.fake_api() else { return };
    api.streaming_lists(StreamingLists::OldEtcd);
    // Who writes status lists what is there already.
    let gateway = mesh.gateway_with(&["--write-status", "false"]).await;
    let counts = api.requests().counts();
    for resource in ["gateways", "virtualservices", "pods", "secrets"] {
        let of = |verb: &str| counts.get(&(verb.to_owned(), resource.to_owned())).copied().unwrap_or_default();
        // One for the configuration; one by the elected replica, which looks at the status it may have to write.
        assert!((1..=2).contains(&of("list")), "{resource}: {counts:?}");
        assert!(of("watch") <= 3, "{resource}: {counts:?}");
    }
    drop(gateway);
}

#[tokio::test]
async fn a_cluster_without_a_kind_is_served_and_told_of() {
    let mesh = Mesh::with_edge_in_cluster().await;
    let Some(api) = mesh.fake_api() else { return };
    api.hide("PeerAuthentication", true);
    let gateway = mesh.gateway().await;
    let dump = gateway.admin("/config_dump").await.text();
    assert!(dump.contains("does not know PeerAuthentication of security.istio.io"), "{dump}");

    api.hide("PeerAuthentication", false);
    within(RESUMED, "the kind is found", async || {
        !gateway.admin("/config_dump").await.text().contains("does not know PeerAuthentication")
    })
    .await;
}

#[tokio::test]
async fn definitions_of_policies_may_come_after_the_gateway_which_then_enforces_them() {
    const KINDS: [(&str, &str); 3] = [
        ("AuthorizationPolicy", "security.istio.io"),
        ("RequestAuthentication", "security.istio.io"),
        ("RateLimit", "policy.sluice.dev"),
    ];
    let mesh = Mesh::with_edge_in_cluster().await;
    let Some(api) = mesh.fake_api() else { return };
    mesh.routes("- directResponse: {status: 200}");
    KINDS.iter().for_each(|(kind, _)| api.hide(kind, true));
    let gateway = mesh.gateway().await;
    let dump = async || gateway.admin("/config_dump").await.text();
    let lacks = |(kind, group): &(&str, &str)| format!("does not know {kind} of {group}");
    let told = dump().await;
    assert!(KINDS.iter().all(|kind| told.contains(&lacks(kind))), "{told}");
    assert_eq!(mesh.browser().status(SHOP).await, 200);

    KINDS.iter().for_each(|(kind, _)| api.hide(kind, false));
    let known = async || {
        let told = dump().await;
        !KINDS.iter().any(|kind| told.contains(&lacks(kind)))
    };
    within(RESUMED, "the kinds are found", known).await;
    let object = |group: &str, kind: &str, spec: &str| {
        format!("apiVersion: {group}\nkind: {kind}\nmetadata: {{name: a, namespace: istio-system}}\nspec: {{{spec}}}\n")
    };
    let status = async |headers: &[(&str, &str)]| {
        let call = headers.iter().fold(request("GET", SHOP), |call, (name, value)| call.header(*name, *value));
        mesh.browser().call(with_body(call, "")).await.code()
    };
    let login = "jwtRules: [{issuer: a, jwks: '{\"keys\": [{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \
                 \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}'}]";
    mesh.write("login", &object("security.istio.io/v1", "RequestAuthentication", login));
    eventually("tokens are checked", async || status(&[("authorization", "Bearer x")]).await == 401).await;
    let deny = "action: DENY, rules: [{when: [{key: 'request.headers[x-evil]', values: ['1']}]}]";
    mesh.write("deny", &object("security.istio.io/v1", "AuthorizationPolicy", deny));
    eventually("policies are enforced", async || status(&[("x-evil", "1")]).await == 403).await;
    assert_eq!(status(&[]).await, 200);
    mesh.write(
        "limit",
        &object("policy.sluice.dev/v1alpha1", "RateLimit", "rules: [{limit: {requests: 1, per: day}}]"),
    );
    eventually("limits hold", async || status(&[]).await == 429).await;
}

#[tokio::test]
async fn issuers_are_missed_only_where_a_gateway_names_one() {
    const LACK: &str = "does not know Issuer of acme.sluice.dev";
    let mesh = Mesh::with_edge_in_cluster().await;
    let Some(api) = mesh.fake_api() else { return };
    api.hide("Issuer", true);
    let gateway = mesh.gateway().await;
    assert!(!gateway.admin("/config_dump").await.text().contains(LACK));

    let annotation = serde_json::json!({"metadata": {"annotations": {"acme.sluice.dev/issuer": "corporate"}}});
    mesh.api().patch("Gateway", ["istio-system", "edge"], &annotation).await;
    eventually("it is told", async || gateway.admin("/config_dump").await.text().contains(LACK)).await;
    assert_eq!(gateway.readiness().await.map(|reply| reply.code()), Some(200));

    api.hide("Issuer", false);
    within(RESUMED, "the kind is found", async || !gateway.admin("/config_dump").await.text().contains(LACK)).await;
    assert!(gateway.admin("/config_dump").await.text().contains("there is no Issuer `istio-system/corporate`"));
}

#[tokio::test]
async fn a_gateway_that_may_not_read_is_not_ready_and_says_which_rule_is_missing() {
    let mesh = Mesh::with_edge_in_cluster().await;
    let token = mesh.api().token("istio-system", "nobody").await;
    mesh.cluster.as_ref().expect("in a cluster").use_token(&token);
    let gateway = mesh.launch_gateway(&[]);
    eventually("the reason is told", async || {
        gateway.readiness().await.is_some_and(|reply| reply.code() == 503 && reply.text().contains("may not be read"))
    })
    .await;
}

#[tokio::test]
async fn faults_of_the_api_server_delay_the_start_and_nothing_else() {
    let mesh = Mesh::with_edge_in_cluster().await;
    let Some(api) = mesh.fake_api() else { return };
    for (text, fault) in [
        ("gateways", Fault::Status(500)),
        ("virtualservices", Fault::Status(429)),
        ("pods", Fault::Cut),
        ("services", Fault::Status(503)),
        ("secrets/edge-cert", Fault::Status(500)),
    ] {
        api.fail(text, fault, 2);
    }
    let gateway = mesh.gateway().await;
    eventually("the certificate is served", async || {
        mesh.edge_trust().connect(gateway.addresses().main, HOST).await.is_ok()
    })
    .await;
}
