//! Policies, and what becomes of requests and of bytes.

mod plain;

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use crate::{
    authorization::{Access, Authorization, Judgement},
    compile::{Compiled, Proxy, Role, compile},
    request::RequestView,
    resources::{Extent, Resources},
};

/// Policies for the workload `shop/cart` (labels `app: cart`).
fn compiled(policies: &str) -> Compiled {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: cart, namespace: shop, labels: {app: cart}}\nstatus: {podIP: 10.0.0.1}\n";
    let text = format!("{pod}---\n{policies}");
    let (resources, _) = Resources::read([("it.yaml", text.as_str())]);
    let role = Role::Sidecar { namespace: "shop".to_owned(), workload: "cart".to_owned() };
    let proxy = Proxy { role, namespace: "shop".to_owned(), labels: Default::default(), ..Proxy::default() };
    compile(&resources, &proxy)
}

fn policy(name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: \
         {{{spec}}}\n"
    )
}

fn judge(compiled: &Compiled, access: &Access<'_>) -> Judgement {
    authorization(compiled).map(|it| it.judge(access)).unwrap_or_default()
}

fn authorization(compiled: &Compiled) -> Option<&Authorization> {
    compiled.snapshot.guard.as_ref()?.authorization.as_deref()
}

/// What becomes of a request `METHOD PATH PEER`, and of bytes of the same peer.
fn verdicts(policies: &str, request: &str) -> [Option<String>; 2] {
    let compiled = compiled(policies);
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let peer = words.next().map(|id| format!("spiffe://{id}")).unwrap_or_default();
    let here: IpAddr = "10.0.0.9".parse().unwrap();
    let headers = HeaderMap::new();
    let view = RequestView {
        method,
        scheme: "http",
        authority: "Cart.shop:8080",
        path,
        query: "",
        port: 8080,
        headers: &headers,
        token: None,
    };
    let local = SocketAddr::new("10.0.0.1".parse().unwrap(), 8080);
    let bytes = Access { peer: &peer, source: here, remote: here, local, sni: "", request: None };
    [Access { request: Some(view), ..bytes }, bytes]
        .map(|access| judge(&compiled, &access).denied.map(|id| id.to_string()))
}

const ALLOWED: [Option<String>; 2] = [None, None];

fn denied(http: &str, bytes: &str) -> [Option<String>; 2] {
    [http, bytes].map(|id| (!id.is_empty()).then(|| id.to_owned()))
}

#[test]
fn without_policies_there_is_no_guard() {
    assert!(compiled("").snapshot.guard.is_none());
    let elsewhere = policy("shop/a", "selector: {matchLabels: {app: other}}") + &policy("other/a", "rules: [{}]");
    assert!(compiled(&elsewhere).snapshot.guard.is_none());
}

#[test]
fn policies_hold_by_namespace_and_labels() {
    for name in ["shop/a", "istio-system/a"] {
        assert_eq!(verdicts(&policy(name, ""), "GET / "), denied("none", "none"), "{name}");
        assert_eq!(verdicts(&policy(name, "selector: {matchLabels: {app: cart}}"), "GET / "), denied("none", "none"));
    }
    assert_eq!(verdicts(&policy("shop/a", "rules: [{}]"), "GET / "), ALLOWED);
}

#[test]
fn deny_comes_before_allow_and_is_told_by_its_id() {
    let both = policy("shop/allow", "rules: [{}]")
        + &policy(
            "shop/deny",
            "action: DENY, rules: [{to: [{operation: {paths: [/b]}}]}, {to: [{operation: {paths: ['/a/*']}}]}]",
        );
    let id = "ns[shop]-policy[deny]-rule[1]";
    // For bytes nothing is left of what only HTTP has.
    assert_eq!(verdicts(&both, "GET /a/b "), denied(id, "ns[shop]-policy[deny]-rule[0]"));
    assert_eq!(verdicts(&both, "GET /c ")[0], None);
}

#[test]
fn what_only_http_has_never_allows_bytes() {
    let spec = "rules: [{from: [{source: {principals: [cluster.local/ns/a/sa/b]}}], to: [{operation: {hosts: ['cart.shop:*']}}]}]";
    assert_eq!(verdicts(&policy("shop/a", spec), "GET / cluster.local/ns/a/sa/b"), denied("", "none"));
    assert_eq!(verdicts(&policy("shop/a", spec), "GET / cluster.local/ns/a/sa/c"), denied("none", "none"));
    let spec = "rules: [{from: [{source: {namespaces: [a]}}], to: [{operation: {ports: ['8080']}}]}]";
    assert_eq!(verdicts(&policy("shop/a", spec), "GET / cluster.local/ns/a/sa/b"), ALLOWED);
}

#[test]
fn what_cannot_be_read_fails_closed_where_it_would_have_held() {
    let closed = "ns[shop]-policy[a]-rule[rejected]";
    let allow = policy("shop/z", "rules: [{}]");
    for (spec, wanted) in [
        ("action: DENY, rules: [{form: []}]", denied(closed, closed)),
        ("action: REFUSE, rules: [{}]", denied(closed, closed)),
        ("action: CUSTOM, rules: [{}]", denied(closed, closed)),
        // It could only have allowed more.
        ("rules: [{from: [{source: {ipBlocks: [x]}}]}]", ALLOWED),
        ("action: DENY, selector: {matchLabels: {app: other}}, rules: [{form: []}]", ALLOWED),
        ("action: DENY, selector: {matchLabel: {app: other}}, rules: [{}]", denied(closed, closed)),
        ("action: AUDIT, rules: [{form: []}]", ALLOWED),
    ] {
        assert_eq!(verdicts(&(policy("shop/a", spec) + &allow), "GET / "), wanted, "{spec}");
    }
    let alone = policy("shop/a", "rules: [{from: [{source: {ipBlocks: [x]}}]}]");
    assert_eq!(verdicts(&alone, "GET / "), denied("none", "none"));
    let told = compiled(&alone).problems;
    assert!(told.iter().any(|it| it.code == "fails-closed" && it.message.contains("allows nothing here")), "{told:#?}");
    // Not even YAML, and not even its name.
    for name in ["name: a, ", "nme: a, "] {
        let text = format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  {}\n  namespace: shop\nspec: [\n",
            name.trim_end_matches(", ")
        );
        let [http, bytes] = verdicts(&text, "GET / ");
        assert!(http.is_some() && http == bytes, "{name}");
    }
}

#[test]
fn what_is_no_yaml_holds_wherever_it_may_be_of() {
    for (metadata, closes) in [
        ("metadata: {name: a, namespace: shop}", true),
        ("metadata: {name: a, namespace: istio-system}", true),
        ("metadata: {name: a, namespace: other}", false),
        ("metadata: {name: a}", false),
        // Nobody knows.
        ("metadata: {name: a, labels: {b: c}", true),
        ("metadata:\n  name: a\n  namespace shop", true),
    ] {
        let text =
            format!("---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n{metadata}\nspec: {{rules: [\n");
        assert!(verdicts(&text, "GET / ").iter().all(|denied| denied.is_some() == closes), "{metadata}");
    }
}

#[test]
fn each_policy_without_a_name_closes_what_it_would_have_held_for() {
    let nameless = |spec: &str| policy("shop/a", spec).replace("name: a, ", "");
    let [none, other, own] = ["AUDIT", "DENY, selector: {matchLabels: {app: other}}", "DENY"]
        .map(|action| nameless(&format!("action: {action}, rules: [{{}}]")));
    let is_closed = |policies: [&String; 2]| verdicts(&policies.map(String::as_str).concat(), "GET / ")[0].is_some();
    assert!(is_closed([&none, &own]) && is_closed([&other, &own]) && is_closed([&own, &other]));
    assert!(!is_closed([&none, &other]) && !is_closed([&other, &other]));
}

#[test]
fn a_template_closes_whatever_its_name_will_be() {
    for (name, namespace, closes) in [
        ("'{{ .Release.Name }}-a'", "shop", true),
        ("'{{ .Release.Name }}-a'", "other", false),
        ("'${NAME}'", "'${NAMESPACE}'", true),
        ("a", "'{{ .Release.Namespace }}'", true),
    ] {
        let text = policy("shop/a", "action: DENY, rules: [{}]")
            .replace("name: a, namespace: shop", &format!("name: {name}, namespace: {namespace}"));
        assert_eq!(verdicts(&text, "GET / ")[0].is_some(), closes, "{name} {namespace}");
        let told = Resources::read([("it.yaml", text.as_str())]).1;
        assert!(told.iter().any(|it| it.code == "skipped" && it.message.contains("fails closed")), "{told:#?}");
    }
}

#[test]
fn a_dot_behind_the_host_hides_it_from_no_policy() {
    let access = |compiled: &Compiled, authority: &str| {
        let headers = HeaderMap::new();
        let here: IpAddr = "10.0.0.9".parse().unwrap();
        let (method, scheme, path, query) = ("GET", "http", "/", "");
        let view = RequestView { method, scheme, authority, path, query, port: 80, headers: &headers, token: None };
        let local = SocketAddr::new(here, 80);
        judge(compiled, &Access { peer: "", source: here, remote: here, local, sni: "", request: Some(view) }).denied
    };
    for spec in [
        "action: DENY, rules: [{to: [{operation: {hosts: [admin.example.com, 'admin.example.com:*']}}]}]",
        "rules: [{to: [{operation: {notHosts: [admin.example.com, 'admin.example.com:*']}}]}]",
        "action: DENY, rules: [{when: [{key: 'request.headers[:authority]', values: [admin.example.com, 'admin.example.com:*']}]}]",
        "action: DENY, rules: [{when: [{key: 'request.headers[host]', values: [admin.example.com, '*:80']}]}]",
    ] {
        let compiled = compiled(&policy("shop/a", spec));
        for authority in ["admin.example.com", "admin.example.com.", "admin.example.com:80", "admin.example.com.:80"] {
            assert!(access(&compiled, authority).is_some(), "{authority} {spec}");
        }
        assert!(access(&compiled, "www.example.com.").is_none());
    }
    let capitals =
        compiled(&policy("shop/a", "action: DENY, rules: [{to: [{operation: {hosts: [admin.example.com]}}]}]"));
    assert!(access(&capitals, "Admin.Example.com.").is_some());
}

#[test]
fn keys_of_envoys_filters_close_their_rule() {
    let when = "when: [{key: 'experimental.envoy.filters.a.b[c]', values: [d]}]";
    let allow = policy("shop/a", &format!("rules: [{{{when}}}, {{to: [{{operation: {{methods: [GET]}}}}]}}]"));
    assert_eq!(verdicts(&allow, "GET / ")[0], None);
    assert_eq!(verdicts(&allow, "PUT / ")[0].as_deref(), Some("none"));
    let deny = policy("shop/a", &format!("action: DENY, rules: [{{{when}, to: [{{operation: {{methods: [GET]}}}}]}}]"));
    assert_eq!(verdicts(&deny, "GET / ")[0].as_deref(), Some("ns[shop]-policy[a]-rule[0]"));
    assert_eq!(verdicts(&deny, "PUT / ")[0], None);
    assert!(compiled(&deny).problems.iter().any(|it| it.field == "spec.rules[0].when[0].key"));
}

#[test]
fn a_provider_that_cannot_be_asked_denies() {
    let custom =
        policy("shop/a", "action: CUSTOM, provider: {name: nobody}, rules: [{to: [{operation: {paths: [/a]}}]}]");
    assert_eq!(verdicts(&custom, "GET /a ")[0].as_deref(), Some("ns[shop]-policy[a]-rule[0]"));
    assert_eq!(verdicts(&custom, "GET /b ")[0], None);
    assert!(compiled(&custom).problems.iter().any(|it| it.code == "unknown-provider"));
}

#[test]
fn what_is_only_tried_is_told_and_not_enforced() {
    let tried = |spec: &str| {
        policy("shop/a", spec).replace("namespace: shop}", "namespace: shop, annotations: {istio.io/dry-run: 'true'}}")
    };
    let compiled = compiled(&(tried("action: DENY, rules: [{}]") + &tried("rules: []").replace("name: a", "name: b")));
    let here: IpAddr = "10.0.0.9".parse().unwrap();
    let bytes =
        Access { peer: "", source: here, remote: here, local: SocketAddr::new(here, 1), sni: "", request: None };
    let judgement = judge(&compiled, &bytes);
    assert_eq!(judgement.denied, None);
    let [deny, allow] = [judgement.tried_deny.unwrap(), judgement.tried_allow.unwrap()];
    assert_eq!(
        (deny.denied, &*deny.rule, allow.denied, &*allow.rule),
        (true, "ns[shop]-policy[a]-rule[0]", true, "none")
    );
}

#[test]
fn a_policy_for_nobody_is_told_in_a_folder() {
    let text = policy("shop/a", "selector: {matchLabels: {app: cart}}, rules: [{}]").replace(", namespace: shop", "");
    for (extent, wanted) in [(Extent::Part, 1), (Extent::Whole, 0)] {
        let (resources, _) = Resources::read([("it.yaml", text.as_str())]);
        let found = compile(&resources.with_extent(extent), &Proxy::default()).problems;
        let idle: Vec<_> = found.iter().filter(|it| it.code == "idle-policy").collect();
        assert_eq!(idle.len(), wanted, "{found:#?}");
        assert!(idle.iter().all(|it| it.message.contains("in namespace `default`")));
    }
    let gateway =
        policy("istio-system/a", "selector: {matchLabels: {app: istio-ingressgateway}}, action: DENY, rules: [{}]");
    let (resources, _) = Resources::read([("it.yaml", gateway.as_str())]);
    let found = compile(&resources.with_extent(Extent::Part), &Proxy::default());
    assert!(
        found.snapshot.guard.is_some() && found.problems.iter().all(|it| it.code != "idle-policy"),
        "{:#?}",
        found.problems
    );
}
