//! Real Envoy as a second opinion: the same provider behind both is told the same, and what it says does the same.

use std::{net::SocketAddr, path::Path};

use harness::{
    authorizer::{
        Authorizer, CheckRequest, HeaderValueOption, HttpRequest, OkHttpResponse, Word, field, no, yes, yes_with,
    },
    client::Client,
    endpoint::{Call, Endpoint},
    envoy::{Envoy, executable},
    mesh::{HOST, Mesh},
    message::{Answer, Ask, Version, values},
    talk::talk,
    yaml::indent,
};

use super::{asking, http};
use crate::envoy::{bootstrap, cluster, socket};

const H2: &str = "typed_extension_protocol_options:\n  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n    \
                  '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n    \
                  explicit_http_config: {http2_protocol_options: {}}";

/// Envoy as Istio configures its gateways, with the external authorization of `service`.
async fn second(
    path: &Path,
    mesh: &Mesh,
    (provider, more): (SocketAddr, &str),
    service: &str,
    app: SocketAddr,
) -> (Envoy, Client) {
    let (front, admin) = (mesh.block.at(91, 8080), mesh.block.at(91, 9901));
    let filter = format!(
        "'@type': type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz\ntransport_api_version: V3\n{service}"
    );
    let manager = format!(
        "name: envoy.filters.network.http_connection_manager\ntyped_config:\n  \
         '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n  \
         stat_prefix: http\n  use_remote_address: true\n  normalize_path: true\n  http_filters:\n  - name: ext_authz\n    \
         typed_config:\n{}\n  - name: router\n    \
         typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}\n  \
         route_config: {{virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: app}}}}]}}]}}",
        indent(&filter, 6)
    );
    let listener = format!(
        "- name: front\n  address: {{{}}}\n  filter_chains:\n  - filters:\n    -\n{}\n",
        socket(front),
        indent(&manager, 6)
    );
    let clusters = cluster("app", app, "") + &cluster("auth", provider, more);
    (Envoy::start(path, &bootstrap(admin, &listener, &clusters), admin).await, Client::plain(front))
}

/// An app that says in its body which of these fields it saw.
const SEEN: [&str; 12] = [
    "x-set",
    "x-added",
    "x-add-new",
    "x-absent",
    "x-absent-new",
    "x-present",
    "x-present-new",
    "x-over",
    "x-gone",
    "cookie",
    "authorization",
    "x-auth-user",
];

async fn app(mesh: &Mesh) -> (SocketAddr, Endpoint) {
    let address = mesh.workload("reviews").declare();
    let endpoint = Endpoint::start(address, Version::One, |mut call: Call| async move {
        call.read().await;
        let seen = SEEN.map(|name| format!("{name}={}", values(&call.headers, name).join("|"))).join(" ");
        let text = format!("{} {seen}", call.path);
        call.answer(Answer::new(200, text).header("x-app", "1").header("x-told", "app")).await;
    })
    .await;
    (address, endpoint)
}

fn ask(name: &'static str) -> Ask {
    let ask =
        Ask::get("/asked?x=1&y=2").header("x-case", name).header("cookie", "a=1").header("authorization", "Bearer t");
    ["x-set", "x-added", "x-absent", "x-present", "x-over", "x-gone"]
        .into_iter()
        .fold(ask, |ask, name| ask.header(name, "client"))
}

/// What a client sees of an answer.
async fn seen(client: &Client, ask: Ask) -> (u16, String, Vec<String>) {
    let answer = talk(client, Version::One, HOST, ask).await.expect("an answer");
    let told =
        ["x-told", "x-added", "x-why", "location", "set-cookie", "content-type", "www-authenticate", "x-auth-user"];
    let told = told.map(|name| format!("{name}={}", values(&answer.headers, name).join("|")));
    // Of an answer without a body nobody reads how it is written.
    let typed = told.into_iter().filter(|it| !answer.body.is_empty() || !it.starts_with("content-type"));
    (answer.status, answer.text(), typed.collect())
}

fn action(key: &str, action: i32) -> HeaderValueOption {
    HeaderValueOption { append_action: action, ..field(key, "provider", None) }
}

fn word(case: &str) -> Word {
    let set = |key: &str| field(key, "provider", None);
    match case {
        "changed" => yes_with(OkHttpResponse {
            headers: vec![
                set("x-set"),
                field("x-added", "provider", Some(true)),
                field("x-add-new", "provider", Some(true)),
                action("x-over", 2),
            ],
            headers_to_remove: vec!["x-gone".into(), "host".into(), ":path".into()],
            query_parameters_to_set: vec![harness::authorizer::HeaderValue { key: "z".into(), value: "3".into() }],
            query_parameters_to_remove: vec!["x".into()],
            ..OkHttpResponse::default()
        }),
        "told" => yes_with(OkHttpResponse {
            response_headers_to_add: vec![set("x-why"), set("x-told")],
            ..OkHttpResponse::default()
        }),
        "told twice" => yes_with(OkHttpResponse {
            response_headers_to_add: vec![field("x-told", "provider", Some(true))],
            ..OkHttpResponse::default()
        }),
        "login" => no(
            302,
            vec![field("location", "/login", None), field("set-cookie", "a", None), field("set-cookie", "b", None)],
            "",
        ),
        "added login" => no(
            302,
            vec![
                field("location", "/login", None),
                field("set-cookie", "a", Some(true)),
                field("set-cookie", "b", Some(true)),
            ],
            "",
        ),
        "teapot" => no(418, vec![set("x-why"), field("content-type", "application/json", None)], "{}"),
        "plain" => no(401, vec![set("www-authenticate")], "go away"),
        "fails" => Word::Fails(14),
        "babbles" => Word::Http(503),
        _ => yes(),
    }
}

/// What a question says that does not depend on who asks.
fn told(question: &CheckRequest) -> (HttpRequest, Vec<(String, String)>, [String; 2]) {
    let mut asked = http(question);
    let mut headers: Vec<(String, String)> = std::mem::take(&mut asked.headers).into_iter().collect();
    // Each has ids of its own, and Istio's gateways name the client besides.
    headers
        .retain(|(name, _)| name != "x-request-id" && name != "x-envoy-external-address" && name != "x-envoy-internal");
    // Envoy writes an address of its machine where the client's is the loopback.
    for (name, value) in &mut headers {
        if name == "x-forwarded-for" {
            value.clear();
        }
    }
    // How much of a longer body has come when somebody is asked is a matter of moments.
    if headers.iter().any(|(name, value)| name == "x-envoy-auth-partial-body" && value == "true") {
        asked.size = 0;
    }
    headers.sort();
    asked.id.clear();
    let all = question.attributes.clone().expect("attributes");
    let source = all.source.clone().and_then(|peer| peer.address?.socket_address).expect("an address");
    (asked, headers, [source.address, all.source.map(|peer| peer.principal).unwrap_or_default()])
}

#[tokio::test]
async fn envoy_and_we_tell_a_grpc_provider_the_same_and_do_the_same_with_what_it_says() {
    let Some(path) = executable("envoy_and_we_tell_a_grpc_provider_the_same") else { return };
    let (mesh, address) =
        asking("envoyExtAuthzGrpc", ", includeRequestBodyInCheck: {maxRequestBytes: 10, allowPartialMessage: true}");
    let (app, _app) = app(&mesh).await;
    let provider = Authorizer::start(address, |question| {
        word(http(question).headers.get("x-case").map(String::as_str).unwrap_or_default())
    })
    .await;
    let service = "grpc_service: {envoy_grpc: {cluster_name: auth}, timeout: 5s}\n\
                   with_request_body: {max_request_bytes: 10, allow_partial_message: true}";
    let (_envoy, theirs) = second(&path, &mesh, (address, H2), service, app).await;
    let _gateway = mesh.gateway().await;
    let ours = mesh.plain_browser();

    let mut different = Vec::new();
    for case in ["allowed", "changed", "told", "told twice", "login", "teapot", "plain", "fails", "babbles"] {
        let (our, their) = (seen(&ours, ask(case)).await, seen(&theirs, ask(case)).await);
        // Nobody reads the text of a failure, and Envoy has none.
        let same = if case == "fails" || case == "babbles" { our.0 == their.0 } else { our == their };
        if !same {
            different.push(format!("{case}:\n  ours   {our:?}\n  Envoy's {their:?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    // Envoy adds to what is there alone, and its own answer has nothing yet: a login without its cookies is none.
    let (status, _, fields) = seen(&ours, ask("added login")).await;
    assert_eq!((status, fields.contains(&"set-cookie=a|b".to_owned())), (302, true), "{fields:?}");

    for post in
        [Ask::get("/asked//a%2fb?q"), Ask::post("/asked", "short"), Ask::post("/asked", "longer than ten bytes")]
    {
        let mut questions = Vec::new();
        for client in [&ours, &theirs] {
            let answer = talk(client, Version::One, HOST, post.clone().header("x-two", "1").header("x-two", "2")).await;
            assert_eq!(answer.expect("an answer").status, 200);
            questions.push(told(&provider.asked().pop().expect("it was asked")));
        }
        assert_eq!(questions[0], questions[1], "{post:?}");
    }
}

#[tokio::test]
async fn envoy_and_we_do_the_same_with_what_an_http_provider_says() {
    let Some(path) = executable("envoy_and_we_do_the_same_with_what_an_http_provider_says") else { return };
    let (mesh, address) = asking(
        "envoyExtAuthzHttp",
        ", pathPrefix: /check, includeRequestHeadersInCheck: [x-case, cookie], headersToUpstreamOnAllow: [x-auth-user, x-set], \
         headersToDownstreamOnDeny: [x-why, set-cookie], headersToDownstreamOnAllow: [x-told]",
    );
    let (app, _app) = app(&mesh).await;
    let questions: std::sync::Arc<std::sync::Mutex<Vec<_>>> = std::sync::Arc::default();
    let heard = std::sync::Arc::clone(&questions);
    let _provider = Endpoint::start(address, Version::One, move |mut call: Call| {
        let names = ["host", "x-case", "cookie", "authorization", "x-set", "content-length"];
        let shown = names.map(|name| format!("{name}={}", values(&call.headers, name).join("|")));
        heard.lock().expect("no panic").push((call.method.clone(), call.path.clone(), shown));
        async move {
            call.read().await;
            let status = values(&call.headers, "x-case").concat().parse().unwrap_or(200);
            let answer = Answer::new(status, if status == 204 { "" } else { "words" })
                .header("x-auth-user", "me")
                .header("x-set", "provider")
                .header("x-told", "provider")
                .header("x-why", "why")
                .header("set-cookie", "a")
                .header("set-cookie", "b")
                .header("location", "/login")
                .header("www-authenticate", "Basic");
            call.answer(answer).await;
        }
    })
    .await;
    let list = |names: &str| format!("{{patterns: [{names}]}}");
    let service = format!(
        "allowed_headers: {}\nhttp_service:\n  path_prefix: /check\n  server_uri: {{uri: 'http://auth', cluster: auth, timeout: 5s}}\n  \
         authorization_response:\n    allowed_upstream_headers: {}\n    allowed_client_headers: {}\n    \
         allowed_client_headers_on_success: {}\n",
        list("{exact: x-case}, {exact: cookie}"),
        list("{exact: x-auth-user}, {exact: x-set}"),
        list("{exact: x-why}, {exact: set-cookie}"),
        list("{exact: x-told}"),
    );
    let (_envoy, theirs) = second(&path, &mesh, (address, ""), &service, app).await;
    let _gateway = mesh.gateway().await;
    let ours = mesh.plain_browser();

    let mut different = Vec::new();
    for case in ["200", "201", "202", "204", "302", "401", "403", "404", "500", "503"] {
        let (our, their) = (seen(&ours, ask(case)).await, seen(&theirs, ask(case)).await);
        let same = if case.starts_with('5') { our.0 == their.0 } else { our == their };
        if !same {
            different.push(format!("{case}:\n  ours   {our:?}\n  Envoy's {their:?}"));
        }
        let both = questions.lock().expect("no panic").clone();
        if let [.., our, their] = &both[..]
            && our != their
        {
            different.push(format!("{case} asked:\n  ours   {our:?}\n  Envoy's {their:?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
