//! CUSTOM policies: somebody outside is asked, and what he says holds.

mod changes;
mod envoy;
mod others;
mod places;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use harness::{
    authorizer::{Authorizer, CheckRequest, HttpRequest, OkHttpResponse, Word, field, no, yes, yes_with},
    client::{get, request, with_body},
    endpoint::{Call, Endpoint},
    eventually::eventually,
    gateway::Proxy,
    jwt::{Minter, request_authentication},
    mesh::{HOST, Mesh, SHOP},
    message::{Answer, Ask, Version, values},
    scripted::Scripted,
    talk::talk,
    yaml,
};
use http::HeaderMap;
use serde_json::json;
use tokio::time::timeout;

/// Asks the provider `auth` about everything below `/asked`.
const POLICY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: ask, namespace: istio-system}\n\
                      spec:\n  selector: {matchLabels: {istio: ingressgateway}}\n  action: CUSTOM\n  provider: {name: auth}\n  \
                      rules: [{to: [{operation: {paths: [/asked*]}}]}]\n";
const ASKED: &str = "https://shop.example.com/asked?x=1&y=2";

/// A mesh with a provider of this kind and these fields, whose address is given back, and an echo app behind the gateway.
fn asking(kind: &str, fields: &str) -> (Mesh, SocketAddr) {
    let mesh = Mesh::with_edge();
    let protocol = if kind == "envoyExtAuthzGrpc" { "grpc" } else { "http" };
    mesh.write("auth.yaml", &yaml::service("shop", "auth", &[(8080, protocol)]));
    let address = mesh.workload("auth").declare();
    mesh.write(
        "mesh.yaml",
        &format!(
            "extensionProviders:\n- name: auth\n  {kind}: {{service: shop/auth.shop.svc.cluster.local, port: 8080{fields}}}\n"
        ),
    );
    mesh.write("policy.yaml", POLICY);
    mesh.route_all_to("reviews");
    (mesh, address)
}

fn http(question: &CheckRequest) -> HttpRequest {
    question.attributes.clone().and_then(|all| all.request?.http).expect("a question about a request")
}

async fn count(gateway: &Proxy, result: &str) -> f64 {
    let labels = [("provider", "auth"), ("result", result)];
    gateway.metrics().await.sum("sluice_external_authorization_total", &labels)
}

#[tokio::test]
async fn a_grpc_provider_is_told_of_a_request_and_what_it_says_holds() {
    let (mesh, address) = asking("envoyExtAuthzGrpc", "");
    let _reviews = mesh.workload("reviews").start().await;
    let provider =
        Authorizer::start(address, |question| match http(question).headers.get("x-ask").map(String::as_str) {
            Some("no") => {
                no(401, vec![field("www-authenticate", "Basic", None), field("content-length", "7", None)], "go away")
            }
            Some("bare no") => Word::Says(harness::authorizer::CheckResponse {
                status: Some(harness::authorizer::Code { code: 16 }),
                http_response: None,
            }),
            Some("change") => yes_with(OkHttpResponse {
                headers: vec![
                    field("x-user", "me", None),
                    field("x-ask", "more", Some(true)),
                    field("transfer-encoding", "chunked", None),
                ],
                headers_to_remove: vec!["x-secret".into(), "host".into(), "content-length".into()],
                response_headers_to_add: vec![field("x-told", "yes", None)],
                query_parameters_to_set: vec![harness::authorizer::HeaderValue { key: "z".into(), value: "3".into() }],
                query_parameters_to_remove: vec!["x".into()],
            }),
            _ => yes(),
        })
        .await;
    let gateway = mesh.gateway().await;
    let browser = mesh.browser();

    assert_eq!(browser.status(SHOP).await, 200);
    assert!(provider.asked().is_empty(), "the policy is not about this path");

    assert_eq!(browser.call(with_body(request("POST", ASKED).header("x-a", "1"), "body")).await.code(), 200);
    let question = provider.asked().pop().expect("it was asked").attributes.expect("attributes");
    let asked = question.request.clone().and_then(|it| it.http).expect("a request");
    assert_eq!((asked.method.as_str(), asked.path.as_str(), asked.host.as_str()), ("POST", "/asked?x=1&y=2", HOST));
    assert_eq!((asked.scheme.as_str(), asked.protocol.as_str(), asked.body.as_str()), ("https", "HTTP/1.1", ""));
    let said = |name: &str| asked.headers.get(name).cloned().unwrap_or_default();
    assert_eq!([said("x-a"), said("x-forwarded-proto"), said(":authority")], ["1", "https", HOST]);
    assert_eq!(said("x-request-id"), asked.id);
    let source = question.source.and_then(|peer| peer.address?.socket_address).expect("an address");
    assert!(source.address.starts_with("127.") && source.port_value > 0, "{source:?}");
    assert_eq!(question.tls_session.map(|tls| tls.sni).unwrap_or_default(), HOST);

    let denied =
        browser.call(request("GET", ASKED).header("x-ask", "no").body(Default::default()).expect("a request")).await;
    assert_eq!((denied.code(), denied.text().as_str(), denied.header("www-authenticate")), (401, "go away", "Basic"));
    let denied = browser
        .call(request("GET", ASKED).header("x-ask", "bare no").body(Default::default()).expect("a request"))
        .await;
    assert_eq!((denied.code(), denied.text().as_str()), (403, ""));

    let changed = request("GET", ASKED).header("x-ask", "change").header("x-secret", "1").header("x_user", "root");
    let changed = browser.call(changed.body(Default::default()).expect("a request")).await;
    assert_eq!((changed.code(), changed.header("x-told")), (200, "yes"));
    assert_eq!([changed.saw("x-user"), changed.saw("x-secret"), changed.saw("x_user")], ["me", "", ""]);
    assert_eq!(changed.echoed("path"), "/asked?y=2&z=3");
    let last = http(&provider.asked().pop().expect("it was asked"));
    assert_eq!(changed.saw("x-request-id"), last.headers["x-request-id"]);

    gateway.counts(2.0, &[("response_flags", "UAEX")]).await;
    assert_eq!([count(&gateway, "allowed").await, count(&gateway, "denied").await], [2.0, 2.0]);
    eventually("the access log tells why", async || gateway.access_log().contains("ext_authz_denied")).await;
}

/// The words of a provider that gives no verdict, and how it is started.
const SILENCES: [Word; 6] = [
    Word::Fails(14),
    Word::Babbles(Bytes::from_static(&[0, 0, 0, 0, 2, 0xff, 0xff])),
    Word::Babbles(Bytes::from_static(b"\0\0")),
    Word::Http(503),
    Word::HangsUp,
    Word::Waits,
];

#[tokio::test]
async fn a_provider_without_a_verdict_lets_nobody_in_unless_it_may_fail() {
    for (fields, status, result) in
        [("", 403, "error"), (", statusOnError: '503'", 503, "error"), (", failOpen: true", 200, "failed_open")]
    {
        let (mesh, address) = asking("envoyExtAuthzGrpc", &format!(", timeout: 0.5s{fields}"));
        let _reviews = mesh.workload("reviews").start().await;
        let words = Arc::new(Mutex::new(Vec::from(SILENCES)));
        let left = Arc::clone(&words);
        let provider = Authorizer::start(address, move |_| left.lock().expect("no panic").pop().expect("a word")).await;
        let gateway = mesh.gateway().await;
        let browser = mesh.browser();
        for word in SILENCES.iter().rev() {
            assert_eq!(browser.status(ASKED).await, status, "{word:?} {fields}");
        }
        assert_eq!(count(&gateway, result).await, 6.0);
        drop(provider);
        assert_eq!(browser.status(ASKED).await, status, "nobody is there {fields}");
    }
}

#[tokio::test]
async fn a_provider_that_is_not_there_lets_nobody_in_whatever_it_may() {
    let service = |host: &str| format!("{{service: {host}.shop.svc.cluster.local, port: 8080, failOpen: true}}");
    for (provider, what) in [
        (format!("{{name: auth, envoyExtAuthzGrpc: {}}}", service("nobody")), "no service"),
        (format!("{{name: other, envoyExtAuthzGrpc: {}}}", service("auth")), "no provider"),
        (format!("{{name: auth, zipkin: {}}}", service("auth")), "another kind"),
    ] {
        let (mesh, _) = asking("envoyExtAuthzGrpc", ", failOpen: true");
        let _reviews = mesh.workload("reviews").start().await;
        mesh.write("mesh.yaml", &format!("extensionProviders:\n- {provider}\n"));
        let _gateway = mesh.gateway().await;
        assert_eq!(mesh.browser().status(ASKED).await, 403, "{what}");
        assert_eq!(mesh.browser().status(SHOP).await, 200, "{what}");
    }
}

/// Plays oauth2-proxy: who has its cookie is somebody, others are sent to its login.
async fn login(mut call: Call) {
    let cookie = values(&call.headers, "cookie").join(";");
    call.read().await;
    if cookie.contains("_oauth2_proxy=me") {
        let answer = Answer::new(200, "").header("x-auth-request-user", "me").header("x-other", "1");
        return call.answer(answer.header("set-cookie", "_oauth2_proxy=renewed")).await;
    }
    let answer = Answer::new(302, "<a href=login>").header("location", "https://login.example.com/start");
    call.answer(answer.header("set-cookie", "_csrf=1").header("set-cookie", "_other=2").header("x-inner", "1")).await;
}

#[tokio::test]
async fn an_http_provider_sends_to_its_login_and_says_who_has_logged_in() {
    let (mesh, address) = asking(
        "envoyExtAuthzHttp",
        ", pathPrefix: /check, includeRequestHeadersInCheck: [cookie, 'x-forwarded-*'], \
         includeAdditionalHeadersInCheck: {x-who-asks: sluice}, headersToUpstreamOnAllow: [x-auth-request-user], \
         headersToDownstreamOnDeny: [set-cookie], headersToDownstreamOnAllow: [set-cookie]",
    );
    let _reviews = mesh.workload("reviews").start().await;
    let seen: Arc<Mutex<Vec<(String, HeaderMap)>>> = Arc::default();
    let heard = Arc::clone(&seen);
    let _provider = Endpoint::start(address, Version::One, move |call: Call| {
        heard.lock().expect("no panic").push((format!("{} {}", call.method, call.path), call.headers.clone()));
        login(call)
    })
    .await;
    let _gateway = mesh.gateway().await;
    let ask = |cookie: Option<&'static str>| {
        let ask = Ask::post("/asked?x=1", "a body").header("x-private", "1").header("x-auth-request-user", "root");
        if let Some(cookie) = cookie { ask.header("cookie", cookie) } else { ask }
    };

    let sent = talk(&mesh.browser(), Version::One, HOST, ask(None)).await.expect("an answer");
    assert_eq!((sent.status, sent.text().as_str()), (302, "<a href=login>"));
    assert_eq!(values(&sent.headers, "location"), ["https://login.example.com/start"]);
    assert_eq!(values(&sent.headers, "set-cookie"), ["_csrf=1", "_other=2"]);
    assert!(!sent.headers.contains_key("x-inner"));
    let (line, head) = seen.lock().expect("no panic").pop().expect("it was asked");
    assert_eq!(line, "POST /check/asked?x=1");
    assert_eq!(values(&head, "host"), [HOST]);
    assert_eq!([values(&head, "content-length"), values(&head, "x-who-asks")], [["0"], ["sluice"]]);
    assert_eq!(values(&head, "x-forwarded-proto"), ["https"]);
    assert!(!head.contains_key("x-private"));

    let reply = mesh
        .browser()
        .call(
            request("GET", ASKED)
                .header("cookie", "_oauth2_proxy=me")
                .header("x-auth-request-user", "root")
                .body(Default::default())
                .expect("a request"),
        )
        .await;
    assert_eq!(reply.code(), 200);
    assert_eq!([reply.saw("x-auth-request-user"), reply.saw("x-other")], ["me", ""]);
    assert_eq!(reply.header("set-cookie"), "_oauth2_proxy=renewed");
}

#[tokio::test]
async fn tokens_have_the_last_word_behind_a_provider() {
    let fields = ", includeRequestHeadersInCheck: [cookie], headersToUpstreamOnAllow: [authorization, x-user, x-from]";
    let (mesh, address) = asking("envoyExtAuthzHttp", fields);
    let _reviews = mesh.workload("reviews").start().await;
    let (issuer, minter) = ("https://issuer.test", Minter::simple());
    let token = format!("Bearer {}", minter.token(issuer, "ada", &json!({})));
    let (given, rules) = (
        token.clone(),
        json!([{"issuer": issuer, "jwks": minter.jwks(), "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}]}]),
    );
    mesh.write("tokens.yaml", &request_authentication("istio-system", &rules));
    mesh.routes(
        "- match: [{headers: {x-user: {exact: root}}}]\n  directResponse: {status: 200, body: {string: of root}}\n- route:\n  - \
         destination: {host: reviews, port: {number: 8080}}",
    );
    // It gives a token to whoever comes with a cookie, and says of everybody that he is root.
    let _provider = Endpoint::start(address, Version::One, move |mut call: Call| {
        let token = given.clone();
        async move {
            let known = call.headers.contains_key("cookie");
            call.read().await;
            let answer = Answer::new(200, "").header("x-from", "provider");
            let answer = if known { answer.header("authorization", &token).header("x-user", "root") } else { answer };
            call.answer(answer).await;
        }
    })
    .await;
    let _gateway = mesh.gateway().await;

    let bring = |name: &str, value: &str| with_body(request("GET", ASKED).header(name, value), "");
    let reply = mesh.browser().call(bring("cookie", "me")).await;
    assert_eq!(reply.code(), 200, "{}", reply.text());
    assert_eq!([reply.saw("authorization"), reply.saw("x-user"), reply.saw("x-from")], ["", "ada", "provider"]);
    let forged = mesh.browser().call(bring("x-user", "root")).await;
    assert_eq!([forged.saw("x-user"), forged.saw("x-from")], ["", "provider"], "{}", forged.text());
}

#[tokio::test]
async fn a_body_is_shown_as_far_as_it_may_and_goes_on_whole() {
    let shown = "includeRequestBodyInCheck: {maxRequestBytes: 1000, allowPartialMessage: true, packAsBytes: true}";
    for (terms, large) in [(shown, 200), ("includeRequestBodyInCheck: {maxRequestBytes: 1000}", 413)] {
        let (mesh, address) = asking("envoyExtAuthzGrpc", &format!(", {terms}"));
        let provider = Authorizer::start(address, |_| yes()).await;
        let app = mesh.workload("reviews").declare();
        let _app = Endpoint::start(app, Version::One, |mut call: Call| async move {
            let (body, _) = call.read().await;
            call.answer(Answer::new(200, format!("{} bytes", body.len()))).await;
        })
        .await;
        let _gateway = mesh.gateway().await;
        for version in [Version::One, Version::Two] {
            let browser = if version == Version::Two { mesh.browser().h2() } else { mesh.browser() };
            let small = Ask::post("/asked", "x".repeat(1000));
            let answer = talk(&browser, version, HOST, small).await.expect("an answer");
            assert_eq!((answer.status, answer.text().as_str()), (200, "1000 bytes"));
            let asked = http(&provider.asked().pop().expect("it was asked"));
            assert_eq!(asked.body.len() + asked.raw_body.len(), 1000);
            assert_eq!(asked.headers["x-envoy-auth-partial-body"], "false");

            let before = provider.asked().len();
            let mut ask = Ask::post("/asked", "x".repeat(300_000));
            ask.expects = version == Version::One;
            let answer = talk(&browser, version, HOST, ask).await.expect("an answer");
            assert_eq!(answer.status, large, "{terms}");
            if large == 200 {
                assert_eq!(answer.text(), "300000 bytes");
                let asked = http(&provider.asked().pop().expect("it was asked"));
                assert_eq!((asked.raw_body.len(), asked.headers["x-envoy-auth-partial-body"].as_str()), (1000, "true"));
            } else {
                assert_eq!(provider.asked().len(), before);
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_is_not_waited_for() {
    let (mesh, address) = asking("envoyExtAuthzGrpc", "");
    let _reviews = mesh.workload("reviews").start().await;
    let _provider = Authorizer::start(address, |_| Word::Waits).await;
    let gateway = mesh.gateway().await;
    for browser in [mesh.browser(), mesh.browser().h2()] {
        assert!(timeout(Duration::from_millis(300), browser.get(ASKED)).await.is_err(), "it waits");
    }
    gateway.counts(2.0, &[("response_flags", "DC")]).await;
    assert_eq!(count(&gateway, "abandoned").await, 2.0);
}

#[tokio::test]
async fn a_hot_provider_keeps_its_connection() {
    let (mesh, address) = asking("envoyExtAuthzHttp", "");
    let _reviews = mesh.workload("reviews").start().await;
    let provider = Scripted::start(address, |mut raw| async move {
        while raw.read_until("\r\n\r\n").await.is_ok() {
            if raw.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.is_err() {
                return;
            }
        }
    })
    .await;
    let _gateway = mesh.gateway_with(&["--workers", "1"]).await;
    let mut connection = mesh.browser().connect(HOST).await.expect("HTTPS works");
    for _ in 0..20 {
        assert_eq!(connection.send(get(ASKED)).await.expect("an answer").code(), 200);
    }
    assert_eq!(provider.connections(), 1);
}

#[tokio::test]
async fn a_no_before_the_end_of_the_question_is_a_no() {
    let (mesh, address) =
        asking("envoyExtAuthzHttp", ", failOpen: true, includeRequestBodyInCheck: {maxRequestBytes: 8000000}");
    let _reviews = mesh.workload("reviews").start().await;
    let provider = Scripted::start(address, |mut raw| async move {
        if raw.read_until("\r\n\r\n").await.is_ok() {
            // It closes without a look at the body.
            let _ = raw.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
        }
    })
    .await;
    let _gateway = mesh.gateway().await;
    let ask = Ask::post("/asked", "x".repeat(6_000_000));
    let answer = talk(&mesh.browser(), Version::One, HOST, ask).await.expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (401, "no"));
    assert_eq!(provider.connections(), 1);
}

#[tokio::test]
async fn questions_wait_for_one_of_few_connections_and_keep_it() {
    let (mesh, address) = asking("envoyExtAuthzHttp", "");
    mesh.write(
        "pool.yaml",
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: auth, namespace: shop}\n\
         spec: {host: auth, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}\n",
    );
    let _reviews = mesh.workload("reviews").start().await;
    let provider = Scripted::start(address, |mut raw| async move {
        while raw.read_until("\r\n\r\n").await.is_ok() {
            if raw.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.is_err() {
                return;
            }
        }
    })
    .await;
    let _gateway = mesh.gateway_with(&["--workers", "1"]).await;
    let browser = mesh.browser();
    let ask = || browser.status(ASKED);
    for _ in 0..5 {
        let all = tokio::join!(ask(), ask(), ask(), ask(), ask(), ask(), ask(), ask());
        assert_eq!(all, (200, 200, 200, 200, 200, 200, 200, 200));
    }
    assert_eq!(provider.connections(), 1, "it is handed on");
}

#[tokio::test]
async fn a_yes_that_cannot_be_done_leaves_no_word_of_the_clients() {
    let (mesh, address) = asking("envoyExtAuthzGrpc", "");
    let _reviews = mesh.workload("reviews").start().await;
    let _provider = Authorizer::start(address, |_| {
        yes_with(OkHttpResponse { headers: vec![field("x-user", "bob\na: b", None)], ..OkHttpResponse::default() })
    })
    .await;
    let gateway = mesh.gateway().await;
    let ask = request("GET", ASKED).header("x-user", "root").body(Default::default()).expect("a request");
    assert_eq!(mesh.browser().call(ask).await.code(), 403);
    assert_eq!(count(&gateway, "error").await, 1.0);
}
