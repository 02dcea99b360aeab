//! VirtualService routing, seen from outside.

use std::collections::BTreeMap;

use harness::{
    client::{Client, request, with_body},
    gateway::Proxy,
    mesh::{Mesh, SHOP},
    workload::Workload,
    yaml::destination_rule,
};

/// Two versions of `reviews`, subsets v1 and v2, and these routes.
struct Versions {
    _gateway: Proxy,
    _pods: [Workload; 2],
    browser: Client,
}

impl Versions {
    async fn routed(http: &str) -> Self {
        let mesh = Mesh::with_edge();
        let pods = [mesh.workload("reviews").start().await, mesh.workload("reviews").version("v2").start().await];
        let subsets = "subsets:\n- {name: v1, labels: {version: v1}}\n- {name: v2, labels: {version: v2}}";
        mesh.write("rule.yaml", &destination_rule("reviews", subsets));
        mesh.routes(http);
        Self { _gateway: mesh.gateway().await, _pods: pods, browser: mesh.browser() }
    }

    /// The pod that answers `GET path`.
    async fn pod(&self, path: &str) -> String {
        let reply = self.browser.get(&format!("{SHOP}{path}")).await;
        if reply.code() == 200 { reply.echoed("pod") } else { reply.code().to_string() }
    }

    async fn pod_with(&self, header: &str, value: &str) -> String {
        let call = with_body(request("GET", SHOP).header(header, value), "");
        let reply = self.browser.call(call).await;
        if reply.code() == 200 { reply.echoed("pod") } else { reply.code().to_string() }
    }
}

/// A route to one subset, with `rest` (match, rewrite...) in flow style.
fn to(subset: &str, rest: &str) -> String {
    format!("- {{{rest}route: [{{destination: {{host: reviews, subset: {subset}, port: {{number: 8080}}}}}}]}}\n")
}

#[tokio::test]
async fn the_first_match_wins_even_when_a_later_prefix_is_longer() {
    let shop = Versions::routed(
        &[
            to("v1", "match: [{uri: {prefix: /api}}], "),
            to("v2", "match: [{uri: {prefix: /api/v2}}], "),
            to("v2", "match: [{uri: {exact: /exact}}], "),
            to("v2", r"match: [{uri: {regex: '/re/\d+'}}], "),
        ]
        .concat(),
    )
    .await;

    assert_eq!(shop.pod("/api/v2/x").await, "reviews-v1");
    assert_eq!(shop.pod("/apiary").await, "reviews-v1", "Istio's prefix is a raw string prefix");
    assert_eq!(shop.pod("/exact?with=query").await, "reviews-v2");
    assert_eq!(shop.pod("/exact/more").await, "404");
    assert_eq!(shop.pod("/re/42").await, "reviews-v2");
    assert_eq!(shop.pod("/re/42x").await, "404", "a regex matches the whole path");
}

#[tokio::test]
async fn headers_methods_and_query_parameters_choose() {
    let shop = Versions::routed(
        &[
            to("v2", "match: [{headers: {x-canary: {exact: 'yes'}}}], "),
            to("v2", "match: [{queryParams: {version: {exact: '2'}}}], "),
            to("v2", "match: [{method: {exact: DELETE}}], "),
            to("v1", "match: [{withoutHeaders: {x-blocked: {}}}], "),
        ]
        .concat(),
    )
    .await;

    assert_eq!(shop.pod("/").await, "reviews-v1");
    assert_eq!(shop.pod("/?version=2").await, "reviews-v2");
    assert_eq!(shop.pod("/?version=22").await, "reviews-v1");
    assert_eq!(shop.pod_with("x-canary", "yes").await, "reviews-v2");
    assert_eq!(shop.pod_with("x-canary", "no").await, "reviews-v1");
    assert_eq!(shop.pod_with("x-blocked", "1").await, "404");
    let delete = shop.browser.call(with_body(request("DELETE", SHOP), "")).await;
    assert_eq!(delete.echoed("pod"), "reviews-v2");
}

#[tokio::test]
async fn weights_share_the_requests() {
    let shop = Versions::routed(
        "- route:\n  - {destination: {host: reviews, subset: v1, port: {number: 8080}}, weight: 80}\n  \
         - {destination: {host: reviews, subset: v2, port: {number: 8080}}, weight: 20}",
    )
    .await;

    let mut pods = BTreeMap::<String, usize>::new();
    let mut connection = shop.browser.connect("shop.example.com").await.expect("HTTPS works");
    for _ in 0..300 {
        let reply = connection.send(harness::client::get(SHOP)).await.expect("an answer");
        *pods.entry(reply.echoed("pod")).or_default() += 1;
    }

    let share = pods["reviews-v2"];
    assert!((30..=95).contains(&share), "a fifth of 300 is 60, give or take five deviations: {pods:?}");
}

#[tokio::test]
async fn rewrite_changes_what_the_upstream_sees_and_keeps_the_query() {
    let shop = Versions::routed(
        &[
            to("v1", "match: [{uri: {prefix: /old/}}], rewrite: {uri: /new/, authority: inside.example}, "),
            to("v1", r"match: [{uri: {prefix: /re}}], rewrite: {uriRegexRewrite: {match: '/re/(\w+)', rewrite: '/\1/seen'}}, "),
        ]
        .concat(),
    )
    .await;

    let reply = shop.browser.get(&format!("{SHOP}/old/page?a=b")).await;
    let by_regex = shop.browser.get(&format!("{SHOP}/re/word?q")).await;

    assert_eq!(reply.echoed("path"), "/new/page?a=b");
    assert_eq!(reply.saw("host"), "inside.example");
    assert_eq!(reply.saw("x-envoy-original-path"), "/old/page?a=b");
    assert_eq!(by_regex.echoed("path"), "/word/seen?q");
}

#[tokio::test]
async fn redirects_and_direct_responses_are_answered_by_the_gateway() {
    let shop = Versions::routed(
        "- match: [{uri: {prefix: /gone}}]\n  redirect: {uri: /there, authority: other.example.com, redirectCode: 308}\n\
         - match: [{uri: {exact: /teapot}}]\n  directResponse: {status: 418, body: {string: short and stout}}\n  \
           headers: {response: {set: {content-type: text/plain}}}",
    )
    .await;

    let redirect = shop.browser.get(&format!("{SHOP}/gone/away?a=b")).await;
    let teapot = shop.browser.get(&format!("{SHOP}/teapot")).await;

    assert_eq!(redirect.code(), 308);
    assert_eq!(redirect.header("location"), "https://other.example.com/there?a=b");
    assert_eq!((teapot.code(), teapot.text().as_str()), (418, "short and stout"));
    assert_eq!(teapot.header("content-type"), "text/plain");
}

#[tokio::test]
async fn a_slow_upstream_is_answered_with_504_when_the_timeout_passes() {
    let shop = Versions::routed(&to("v1", "timeout: 300ms, ")).await;

    let slow = shop.browser.get(&format!("{SHOP}/delay/5000")).await;
    let quick = shop.browser.get(&format!("{SHOP}/delay/10")).await;

    assert_eq!((slow.code(), slow.text().as_str()), (504, "upstream request timeout"));
    assert_eq!(quick.code(), 200);
}

#[tokio::test]
async fn header_operations_remove_then_set_then_add() {
    let shop = Versions::routed(&to(
        "v1",
        "headers: {request: {remove: [x-secret], set: {x-set: new}, add: {x-add: more}}, \
         response: {set: {x-from: sluice}, remove: [content-type]}}, ",
    ))
    .await;

    let call = request("GET", SHOP).header("x-secret", "1").header("x-set", "old").header("x-add", "some");
    let reply = shop.browser.call(with_body(call, "")).await;

    assert_eq!(reply.saw("x-secret"), "");
    assert_eq!(reply.saw("x-set"), "new");
    assert!(["some, more", "some,more"].contains(&reply.saw("x-add").as_str()), "{}", reply.saw("x-add"));
    assert_eq!(reply.header("x-from"), "sluice");
    assert_eq!(reply.header("content-type"), "");
}

#[tokio::test]
async fn a_destination_that_is_not_there_is_503_and_an_unknown_host_404() {
    let shop = Versions::routed(
        &[to("v3", "match: [{uri: {prefix: /v3}}], "), to("v1", "match: [{uri: {prefix: /v1}}], ")].concat(),
    )
    .await;

    assert_eq!(shop.pod("/v3").await, "503");
    assert_eq!(shop.pod("/v1").await, "reviews-v1");
    assert_eq!(shop.browser.status("https://unknown.example.com/").await, 404);
}
