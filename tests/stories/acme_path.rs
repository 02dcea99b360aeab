//! The path of http-01 is a way in for CAs alone: it reads live tokens, passes no authorization and hides no route.

use harness::{
    acme::{AcmeMesh, NAMESPACE},
    ca_proxy::{Held, Moment, Step},
    client::{Client, request, with_body},
    eventually::{SOON, eventually},
    gateway::Proxy,
    mesh::HOST,
    pki::spiffe,
    raw::{Heard, probe},
    tls_peer::TlsClient,
    yaml::virtual_service,
};
use serde_json::json;

const OTHER: &str = "other.example.com";
const PREFIX: &str = "/.well-known/acme-challenge/";

/// A gateway whose CA was not yet told to look: tokens are live. Of `HOST`, with the CA's first request held.
async fn live(acme: &AcmeMesh) -> (Proxy, Held, String) {
    let mut held = acme.ca.hold_next(Step::Challenge, Moment::Before);
    let gateway = acme.gateway().await;
    held.reached().await;
    let mut tokens = acme.ca.tokens("http-01");
    let mut live = Vec::new();
    eventually("the token of the host is live", async || {
        live.clear();
        for token in &tokens {
            let heard = ask(acme, HOST, &format!("GET {PREFIX}{token}")).await;
            live.extend((heard.status() == 200).then(|| token.clone()));
        }
        live.len() == 1
    })
    .await;
    tokens.retain(|token| *token == live[0]);
    (gateway, held, tokens.remove(0))
}

/// Sends a request line without its version to port 80.
async fn ask(acme: &AcmeMesh, host: &str, line: &str) -> Heard {
    let head = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    probe(acme.mesh.block.at(1, 8080), head).await
}

#[tokio::test]
async fn only_the_exact_live_token_at_its_own_host_is_answered() {
    let Some(acme) = AcmeMesh::start("of the challenge's path", &[HOST, OTHER]).await else { return };
    let (_gateway, held, token) = live(&acme).await;

    let answer = ask(&acme, HOST, &format!("GET {PREFIX}{token}")).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(answer.text.contains(&format!("\r\n\r\n{token}.")), "{answer:?}");
    let with_port = ask(&acme, &format!("{HOST}:80"), &format!("GET {PREFIX}{token}")).await;
    assert_eq!(with_port.status(), 200, "{with_port:?}");

    let (upper, short) = (token.to_uppercase(), &token[..token.len() - 1]);
    let lines = [
        format!("GET {PREFIX}{token}?"),
        format!("GET {PREFIX}{token}?a=b"),
        format!("HEAD {PREFIX}{token}"),
        format!("POST {PREFIX}{token}"),
        format!("PUT {PREFIX}{token}"),
        format!("GET {PREFIX}"),
        format!("GET {PREFIX}dead"),
        format!("GET {PREFIX}{short}"),
        format!("GET {PREFIX}{token}x"),
        format!("GET {PREFIX}{token}/"),
        format!("GET {PREFIX}{upper}"),
        format!("GET /.well-known/ACME-challenge/{token}"),
        format!("GET /.Well-Known/acme-challenge/{token}"),
        format!("GET {PREFIX}x%2f..%2f{token}"),
        format!("GET {PREFIX}..%2facme-challenge%2f{token}"),
        format!("GET {PREFIX}../../etc/passwd"),
        format!("GET {PREFIX}%2e%2e/%2e%2e/{token}"),
        format!("GET {PREFIX}..%2f..%2f..%2fetc%2fpasswd"),
        format!("GET {PREFIX}{token};a=b"),
        format!("GET {PREFIX}{token}%00"),
        format!("GET {PREFIX}*"),
    ];
    for line in &lines {
        let heard = ask(&acme, HOST, line).await;
        assert!(matches!(heard.status(), 301 | 400), "{line}: {heard:?}");
        assert!(!heard.text.contains(&format!("{token}.")), "{line}: {heard:?}");
    }
    let elsewhere = ask(&acme, OTHER, &format!("GET {PREFIX}{token}")).await;
    assert_eq!(elsewhere.status(), 301, "{elsewhere:?}");
    assert_eq!(ask(&acme, "unknown.example.com", &format!("GET {PREFIX}{token}")).await.status(), 404);
    assert_eq!(acme.app.requests().len(), 0);

    held.release();
    acme.served_within(SOON, 1, HOST).await;
    eventually("the token is dead", async || ask(&acme, HOST, &format!("GET {PREFIX}{token}")).await.status() == 301)
        .await;
}

/// Tricks that are another spelling of the token's path are that path for every rule: they read the token and no more.
#[tokio::test]
async fn another_spelling_of_the_path_is_the_same_path_and_nothing_else() {
    let Some(acme) = AcmeMesh::start("of spellings of the challenge's path", &[HOST]).await else { return };
    let (_gateway, held, token) = live(&acme).await;

    let exact = ask(&acme, HOST, &format!("GET {PREFIX}{token}")).await;
    let body = |heard: &Heard| heard.text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    for path in [
        format!("//.well-known/acme-challenge/{token}"),
        format!("/.well-known//acme-challenge/{token}"),
        format!("/a/../.well-known/acme-challenge/{token}"),
        format!("/%2ewell-known/acme-challenge/{token}"),
        format!("{PREFIX}%2e/{token}"),
    ] {
        let heard = ask(&acme, HOST, &format!("GET {path}")).await;
        let same = heard.status() == 200 && body(&heard) == body(&exact);
        assert!(same || matches!(heard.status(), 301 | 400), "{path}: {heard:?}");
    }
    drop(held);
}

#[tokio::test]
async fn a_token_is_never_read_over_https_and_routes_of_that_path_stay_what_they_are() {
    let Some(acme) = AcmeMesh::start("of the challenge's path over HTTPS", &[HOST]).await else { return };
    let mut gateway_object = acme.gateway_object();
    gateway_object["metadata"]["annotations"]["acme.sluice.dev/placeholder"] = "true".into();
    gateway_object["spec"]["servers"][1]["tls"]["httpsRedirect"] = false.into();
    acme.write("edge.yaml", &gateway_object);
    let routes = "- match: [{uri: {prefix: /.well-known/}}]\n  directResponse: {status: 403, body: {string: mine}}\n\
                  - redirect: {uri: /elsewhere}";
    acme.mesh.write("routes.yaml", &virtual_service("routes", HOST, routes));
    let (_gateway, held, token) = live(&acme).await;

    let over_tls = Client::https(acme.mesh.block.at(1, 8443), TlsClient::blind());
    let reply = over_tls.get(&format!("https://{HOST}{PREFIX}{token}")).await;
    assert_eq!((reply.code(), reply.text().as_str()), (403, "mine"));
    let plain = acme.plain_browser(1);
    let posted = plain.call(with_body(request("POST", &format!("http://{HOST}{PREFIX}{token}")), "x")).await;
    assert_eq!((posted.code(), posted.text().as_str()), (403, "mine"));
    let dead = plain.get(&format!("http://{HOST}{PREFIX}dead")).await;
    assert_eq!((dead.code(), dead.text().as_str()), (403, "mine"));
    assert_eq!(plain.status(&format!("http://{HOST}/")).await, 301);
    let live = plain.get(&format!("http://{HOST}{PREFIX}{token}")).await;
    assert_eq!(live.code(), 200);
    assert!(live.text().starts_with(&format!("{token}.")));

    held.release();
    acme.served_within(SOON, 1, HOST).await;
}

#[tokio::test]
async fn a_host_that_wants_client_certificates_is_checked_and_opens_nothing() {
    let Some(acme) = AcmeMesh::start("of a host of mutual TLS", &[HOST]).await else { return };
    let mut gateway_object = acme.gateway_object();
    gateway_object["spec"]["servers"][0]["tls"]["mode"] = "MUTUAL".into();
    acme.write("edge.yaml", &gateway_object);
    let ca = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "edge-cert-cacert", "namespace": NAMESPACE},
        "stringData": {"ca.crt": acme.mesh.pki.mesh.root_pem()},
    });
    acme.write("ca.yaml", &ca);
    let (_gateway, held, token) = live(&acme).await;
    assert_eq!(ask(&acme, HOST, &format!("GET {PREFIX}dead")).await.status(), 301);
    assert_eq!(ask(&acme, HOST, &format!("GET {PREFIX}{token}/../../../")).await.status(), 301);
    held.release();

    let url = format!("https://{HOST}/");
    let identity = acme.mesh.pki.workload(&spiffe("shop", "customer"));
    let known = TlsClient::identified(acme.pebble.roots(), &identity);
    let known = Client::https(acme.mesh.block.at(1, 8443), known);
    eventually("who has a certificate is served", async || known.status(&url).await == 200).await;
    assert_eq!(acme.browser(1).status(&url).await, 0, "nobody else is");
    assert_eq!(acme.browser(1).status(&format!("https://{HOST}{PREFIX}{token}")).await, 0);
    assert_eq!(acme.app.requests().len(), 1);
}

/// Else a certificate could not be renewed where nobody may come in; and it is no way in for anything else.
#[tokio::test]
async fn a_live_token_is_answered_where_policies_deny_everything_and_nothing_else_is() {
    let Some(acme) = AcmeMesh::start("of the challenge's path under policies", &[HOST]).await else { return };
    let policy = |spec: serde_json::Value| {
        json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
               "metadata": {"name": "shut", "namespace": NAMESPACE}, "spec": spec})
    };
    acme.write("policy.yaml", &policy(json!({"action": "DENY", "rules": [{}]})));
    let (gateway, held, token) = live(&acme).await;
    let tried = async |what: &str| {
        let live = ask(&acme, HOST, &format!("GET {PREFIX}{token}")).await;
        assert_eq!(live.status(), 200, "{what}: {live:?}");
        assert!(live.text.contains(&format!("\r\n\r\n{token}.")), "{what}: {live:?}");
        let (short, upper) = (&token[..token.len() - 1], token.to_uppercase());
        for path in [
            "/".to_owned(),
            PREFIX.to_owned(),
            format!("{PREFIX}dead"),
            format!("{PREFIX}{short}"),
            format!("{PREFIX}{upper}"),
            format!("{PREFIX}{token}x"),
            format!("{PREFIX}{token}/"),
            format!("{PREFIX}{token}?a=b"),
            format!("{PREFIX}{token}/../../../admin"),
            "/healthz/ready".to_owned(),
        ] {
            let heard = ask(&acme, HOST, &format!("GET {path}")).await;
            assert_eq!(heard.status(), 403, "{what}, {path}: {heard:?}");
        }
        let posted = ask(&acme, HOST, &format!("POST {PREFIX}{token}")).await;
        assert_eq!(posted.status(), 403, "{what}: {posted:?}");
        let elsewhere = ask(&acme, "unknown.example.com", &format!("GET {PREFIX}{token}")).await;
        assert_eq!(elsewhere.status(), 403, "{what}: {elsewhere:?}");
    };
    tried("denied").await;

    // Nor is anybody asked about it, who would have said no.
    let generation = async || gateway.metrics().await.sum("sluice_snapshot_generation", &[]);
    let before = generation().await;
    acme.write("policy.yaml", &policy(json!({"action": "CUSTOM", "provider": {"name": "nobody"}, "rules": [{}]})));
    eventually("the other policy is in force", async || generation().await > before).await;
    tried("asked").await;
    assert_eq!(acme.app.requests().len(), 0);

    held.release();
    eventually("the certificate is there", async || acme.browser(1).status(&format!("https://{HOST}/")).await == 403)
        .await;
}
