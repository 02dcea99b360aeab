//! What a provider does not decide about: what has changed while it thought, and what it could not say.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use harness::{
    authorizer::{Authorizer, OkHttpResponse, field, no, yes, yes_with},
    client::{get, request, with_body},
    endpoint::{Call, Endpoint},
    eventually::eventually,
    gateway::Proxy,
    mesh::{HOST, Mesh},
    message::{Answer, Ask, Version},
    talk::talk,
    yaml,
};
use tokio::sync::watch;

use super::{ASKED, POLICY, asking, http};

/// A second provider beside the first one; policies name `auth` or `second`.
fn with_second(mesh: &Mesh, body: &str) -> std::net::SocketAddr {
    mesh.write("second.yaml", &yaml::service("shop", "second", &[(8080, "grpc")]));
    let service = |name: &str| format!("service: shop/{name}.shop.svc.cluster.local, port: 8080{body}");
    mesh.write(
        "mesh.yaml",
        &format!(
            "extensionProviders:\n- {{name: auth, envoyExtAuthzHttp: {{{}}}}}\n- {{name: second, envoyExtAuthzGrpc: {{{}}}}}\n",
            service("auth"),
            service("second")
        ),
    );
    mesh.workload("second").declare()
}

/// Says yes, when it is told to.
async fn slow(address: std::net::SocketAddr) -> (Endpoint, Arc<AtomicUsize>, watch::Sender<bool>) {
    let (release, released) = watch::channel(false);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let play = move |mut call: Call| {
        let (mut released, count) = (released.clone(), Arc::clone(&count));
        async move {
            call.read().await;
            count.fetch_add(1, Ordering::SeqCst);
            if released.wait_for(|released| *released).await.is_ok() {
                call.answer(Answer::new(200, "").header("x-first", "1")).await;
            }
        }
    };
    (Endpoint::start(address, Version::One, play).await, asked, release)
}

/// Puts a policy in force that asks the second provider.
async fn ask_second(mesh: &Mesh, gateway: &Proxy) {
    let generation = async || gateway.metrics().await.sum("sluice_snapshot_generation", &[]);
    let before = generation().await;
    mesh.write("policy.yaml", &POLICY.replace("{name: auth}", "{name: second}"));
    eventually("the policy is in force", async || generation().await > before).await;
}

#[tokio::test]
async fn whoever_waits_for_one_provider_needs_the_word_of_the_next_that_a_policy_names_meanwhile() {
    let (mesh, address) = asking("envoyExtAuthzHttp", "");
    let second = with_second(&mesh, "");
    let _reviews = mesh.workload("reviews").start().await;
    let (_first, asked, release) = slow(address).await;
    let second = Authorizer::start(second, |_| no(418, Vec::new(), "of the second")).await;
    let gateway = mesh.gateway().await;
    let waiting: Vec<_> = [mesh.browser(), mesh.browser().h2()]
        .into_iter()
        .map(|browser| tokio::spawn(async move { browser.call(get(ASKED)).await }))
        .collect();
    eventually("both are asked about", async || asked.load(Ordering::SeqCst) == 2).await;

    ask_second(&mesh, &gateway).await;
    assert!(second.asked().is_empty());
    release.send_replace(true);

    for answer in waiting {
        let answer = answer.await.expect("it does not panic");
        assert_eq!((answer.code(), answer.text().as_str()), (418, "of the second"));
    }
    assert_eq!(second.asked().len(), 2);
}

#[tokio::test]
async fn a_body_that_two_providers_are_shown_goes_on_whole_and_both_change_the_request() {
    let shown = ", includeRequestBodyInCheck: {maxRequestBytes: 8, allowPartialMessage: true}";
    let (mesh, address) = asking("envoyExtAuthzHttp", "");
    let second = with_second(&mesh, shown);
    let text = "a body of more than eight bytes";
    let app = mesh.workload("reviews").declare();
    let _app = Endpoint::start(app, Version::One, |mut call: Call| async move {
        let (body, _) = call.read().await;
        let said = call.headers.get("x-user").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        call.answer(Answer::new(200, body).header("x-said", &said)).await;
    })
    .await;
    let (_first, asked, release) = slow(address).await;
    let change = || OkHttpResponse { headers: vec![field("x-user", "me", None)], ..OkHttpResponse::default() };
    let second = Authorizer::start(second, move |_| yes_with(change())).await;
    let gateway = mesh.gateway().await;
    let browser = mesh.browser();
    let waiting =
        tokio::spawn(
            async move { talk(&browser, Version::One, HOST, Ask::post("/asked", text)).await.expect("an answer") },
        );
    eventually("it is asked about", async || asked.load(Ordering::SeqCst) == 1).await;

    ask_second(&mesh, &gateway).await;
    release.send_replace(true);

    let answer = waiting.await.expect("it does not panic");
    assert_eq!((answer.status, answer.text().as_str()), (200, text));
    assert_eq!(answer.headers["x-said"], "me");
    let question = http(&second.asked().pop().expect("it was asked"));
    assert_eq!((question.body.as_str(), question.headers["x-envoy-auth-partial-body"].as_str()), (&text[..8], "true"));
}

#[tokio::test]
async fn a_policy_that_no_longer_asks_lets_whoever_waited_go_on() {
    let (mesh, address) = asking("envoyExtAuthzHttp", "");
    let _reviews = mesh.workload("reviews").start().await;
    let (_first, asked, release) = slow(address).await;
    let gateway = mesh.gateway().await;
    let browser = mesh.browser();
    let waiting = tokio::spawn(async move { browser.call(get(ASKED)).await });
    eventually("it is asked about", async || asked.load(Ordering::SeqCst) == 1).await;
    let generation = async || gateway.metrics().await.sum("sluice_snapshot_generation", &[]);
    let before = generation().await;
    mesh.remove("policy.yaml");
    eventually("there is no policy", async || generation().await > before).await;
    release.send_replace(true);
    assert_eq!(waiting.await.expect("it does not panic").code(), 200);
}

#[tokio::test]
async fn where_a_provider_fails_open_no_client_says_what_it_would_have_said() {
    let fields = ", failOpen: true, timeout: 0.5s, headersToUpstreamOnAllow: ['x-auth-*', authorization]";
    let (mesh, _) = asking("envoyExtAuthzHttp", fields);
    let _reviews = mesh.workload("reviews").start().await;
    let _gateway = mesh.gateway().await;
    let ask = request("GET", ASKED).header("x-auth-user", "root").header("X_Auth_Role", "root");
    let reply =
        mesh.browser().call(with_body(ask.header("authorization", "Basic mine").header("x-other", "1"), "")).await;
    assert_eq!(reply.code(), 200, "nobody is there: {}", reply.text());
    assert_eq!([reply.saw("x-auth-user"), reply.saw("x_auth_role"), reply.saw("x-other")], ["", "", "1"]);
    assert_eq!(reply.saw("authorization"), "Basic mine", "the application checks that by itself");
    assert_ne!(reply.saw("x-forwarded-for"), "");

    let (mesh, address) = asking("envoyExtAuthzGrpc", ", failOpen: true");
    let _reviews = mesh.workload("reviews").start().await;
    let _provider = Authorizer::start(address, |question| match http(question).headers.contains_key("x-break") {
        true => yes_with(OkHttpResponse {
            headers: vec![field("x-user", "bob\na: b", None)],
            headers_to_remove: vec!["x-role".into()],
            ..OkHttpResponse::default()
        }),
        false => yes(),
    })
    .await;
    let _gateway = mesh.gateway().await;
    let ask = || request("GET", ASKED).header("x-user", "root").header("x-role", "root");
    let reply = mesh.browser().call(with_body(ask().header("x-break", "1"), "")).await;
    assert_eq!([reply.saw("x-user"), reply.saw("x-role")], ["", ""], "a yes that cannot be used: {}", reply.text());
    let reply = mesh.browser().call(with_body(ask(), "")).await;
    assert_eq!([reply.saw("x-user"), reply.saw("x-role")], ["root", "root"], "a yes to all of it: {}", reply.text());
}

#[tokio::test]
async fn messages_that_were_shown_to_a_provider_are_counted_as_others_are() {
    // All of it is shown, and a part that ends within a message.
    for most in [1000, 9] {
        let shown = format!(", includeRequestBodyInCheck: {{maxRequestBytes: {most}, allowPartialMessage: true}}");
        let (mesh, address) = asking("envoyExtAuthzGrpc", &shown);
        let _reviews = mesh.workload("reviews").start().await;
        let _provider = Authorizer::start(address, |_| yes()).await;
        let gateway = mesh.gateway().await;
        let call = request("POST", ASKED).header("content-type", "application/grpc");
        let body = &b"\0\0\0\0\x02hi\0\0\0\0\x03abc\0\0\0\0\0"[..];
        assert_eq!(mesh.browser().call(with_body(call, body)).await.code(), 200);
        let told = async || gateway.metrics().await.sum("istio_request_messages_total", &[("reporter", "source")]);
        eventually("the call is counted", async || told().await > 0.0).await;
        assert_eq!(told().await, 3.0, "{most}");
    }
}
