//! The compiled policies against the plain reading of the API: an interpreter that goes over what was written for every
//! access, as Istio's documentation says, with nothing prepared and nothing shared with the compiler.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use proptest::{prelude::*, sample::select, strategy::ValueTree};
use serde_json::{Map, Value, json};

use super::{authorization, compiled};
use crate::{authorization::Access, request::RequestView, token::Token};

/// Names of the mesh's trust domain.
const MESH: &str = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    \
                    trustDomainAliases: [old]\n";
const DOMAINS: [&str; 2] = ["cluster.local", "old"];

#[derive(Clone, Debug)]
struct Ask {
    peer: &'static str,
    source: IpAddr,
    remote: IpAddr,
    port: u16,
    sni: &'static str,
    method: &'static str,
    host: &'static str,
    path: &'static str,
    header: Vec<&'static str>,
    claims: Option<Value>,
    bytes: bool,
}

const PEERS: [&str; 6] =
    ["", "cluster.local/ns/a/sa/x", "old/ns/a/sa/x", "cluster.local/ns/b/sa/y", "other/ns/a/sa/x", "old/ns/shop/sa/x"];
const ADDRESSES: [&str; 3] = ["10.0.0.9", "10.1.2.3", "fd00::1"];
const PATHS: [&str; 8] = ["/", "/a", "/a/b", "/a/b/c", "/b/x", "/A", "/a/\"", "/a/b/"];

/// Values of each field, and of conditions by key.
const VALUES: [(&str, &[&str]); 11] = [
    (
        "principals",
        &[
            "*",
            "cluster.local/ns/a/sa/x",
            "old/ns/b/sa/y",
            "other/ns/a/sa/x",
            "cluster.local/ns/a/*",
            "*/sa/y",
            "*/ns/a/sa/x",
        ],
    ),
    (
        "requestPrincipals",
        &["*", "https://i/1/ada", "https://i/1/*", "*/bob", "*da", "https:*", "https://i/1/a*", "*/1/ada"],
    ),
    ("namespaces", &["a", "b", "*", "s*p", "c", "s*sa", "a/sa"]),
    ("serviceAccounts", &["x", "b/y", "a/x"]),
    ("trustDomains", &["old", "other", "*", "clus*", "*ther", "*ld"]),
    ("ipBlocks", BLOCKS),
    ("remoteIpBlocks", BLOCKS),
    ("hosts", &["a.test", "*", "A.TEST:*", "*.test", "b.*", "a.test:80"]),
    ("ports", &["80", "8080"]),
    ("methods", &["GET", "P*", "*"]),
    ("paths", &["/a", "/a/*", "*/b", "*", "/a/{*}", "/{**}", "/{*}/b/{**}", "/b*", "/{*}/b/"]),
];
const BLOCKS: &[&str] = &["10.0.0.0/8", "10.1.0.0/16", "10.0.0.9", "fd00::/8", "::/0"];
const CONDITIONS: [(&str, &[&str]); 13] = [
    ("source.principal", &["cluster.local/ns/a/sa/x", "*"]),
    ("source.namespace", &["a", "*", "s*a"]),
    ("source.serviceAccount", &["x", "a/x"]),
    ("source.ip", BLOCKS),
    ("remote.ip", BLOCKS),
    ("destination.port", &["80"]),
    ("destination.ip", &["10.0.0.1", "11.0.0.0/8"]),
    ("connection.sni", &["a.test", "*", "*.test"]),
    ("request.headers[X-A]", &["*", "v", "v*", "*w", "v,w"]),
    ("request.auth.principal", &["https://i/1/ada", "*"]),
    ("request.auth.audiences", &["x", "y*"]),
    ("request.auth.claims[groups]", &["g1", "*"]),
    ("request.auth.claims[realm][roles]", &["r", "*"]),
];

fn some(values: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(select(values), 1..3)
}

/// Two fields of one of these names, each with its opposite or without.
fn fields(names: &'static [&'static str]) -> BoxedStrategy<Map<String, Value>> {
    let one = select(names).prop_flat_map(|name| {
        let values = VALUES.iter().find(|(field, _)| *field == name).unwrap().1;
        (Just(name), any::<bool>(), some(values))
    });
    let named = |(name, negated, values): (&str, bool, Vec<&str>)| {
        let (first, rest) = name.split_at(1);
        (if negated { format!("not{}{rest}", first.to_uppercase()) } else { name.to_owned() }, json!(values))
    };
    prop::collection::vec(one, 1..3).prop_map(move |all| all.into_iter().map(named).collect()).boxed()
}

fn rule(custom: bool) -> impl Strategy<Value = Value> {
    let source = if custom {
        fields(&["ipBlocks", "remoteIpBlocks"])
    } else {
        prop_oneof![
            3 => fields(&["principals", "requestPrincipals", "namespaces", "trustDomains", "ipBlocks", "remoteIpBlocks"]),
            1 => fields(&["serviceAccounts", "ipBlocks", "requestPrincipals"]),
        ]
        .boxed()
    };
    let operation = fields(&["hosts", "ports", "methods", "paths"]);
    let from = source.prop_map(|source| json!({ "source": source }));
    let to = operation.prop_map(|operation| json!({ "operation": operation }));
    let conditions = if custom { select(&CONDITIONS[3..9]) } else { select(&CONDITIONS[..]) };
    let when = conditions.prop_flat_map(|(key, values)| {
        let one = some(values).prop_map(move |it| json!({ "key": key, "values": it }));
        let not = some(values).prop_map(move |it| json!({ "key": key, "notValues": it }));
        prop_oneof![one, not]
    });
    let list = |entry: BoxedStrategy<Value>| prop::option::of(prop::collection::vec(entry, 1..3));
    (list(from.boxed()), list(to.boxed()), prop::collection::vec(when, 0..2)).prop_map(|(from, to, when)| {
        let mut rule = Map::new();
        from.map(|from| rule.insert("from".to_owned(), json!(from)));
        to.map(|to| rule.insert("to".to_owned(), json!(to)));
        rule.insert("when".to_owned(), json!(when));
        Value::Object(rule)
    })
}

fn policy() -> impl Strategy<Value = Value> {
    let action = select(&["ALLOW", "ALLOW", "DENY", "AUDIT", "CUSTOM"][..]);
    let rules = action.prop_flat_map(|action| {
        let fewest = usize::from(matches!(action, "DENY" | "CUSTOM"));
        (Just(action), prop::collection::vec(rule(action == "CUSTOM"), fewest..4))
    });
    (rules, any::<bool>(), prop::bool::weighted(0.2)).prop_map(|((action, rules), root, tried)| {
        let mut spec = json!({ "action": action, "rules": rules });
        if action == "CUSTOM" {
            spec["provider"] = json!({ "name": "nobody" });
        }
        let namespace = if root { "istio-system" } else { "shop" };
        let annotations = if tried { json!({ "istio.io/dry-run": "true" }) } else { json!({}) };
        json!({ "metadata": { "namespace": namespace, "annotations": annotations }, "spec": spec })
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    let address = || select(&ADDRESSES[..]).prop_map(|text| text.parse::<IpAddr>().unwrap());
    let claims = prop_oneof![
        Just(None),
        Just(Some(json!({ "iss": "https://i/1", "sub": "ada", "aud": ["x", "z"], "groups": ["g1", "g2"] }))),
        Just(Some(json!({ "iss": "https://i/1", "sub": "bob", "aud": "yy", "realm": { "roles": "r" }, "groups": 1 }))),
        Just(Some(json!({ "iss": "https://j", "groups": [] }))),
    ];
    let connection =
        (select(&PEERS[..]), address(), address(), select(&[80_u16, 8080][..]), select(&["", "a.test"][..]));
    let request = (
        select(&["GET", "POST"][..]),
        select(&["a.test", "A.test:80", "b.test", "a.test.", "A.test.:80"][..]),
        select(&PATHS[..]),
        prop::collection::vec(select(&["v", "w", ""][..]), 0..3),
        claims,
    );
    (connection, request, prop::bool::weighted(0.3)).prop_map(|(connection, request, bytes)| {
        let (peer, source, remote, port, sni) = connection;
        let (method, host, path, header, claims) = request;
        Ask { peer, source, remote, port, sni, method, host, path, header, claims, bytes }
    })
}

/// Istio's forms of texts.
fn form(value: &str, text: &str) -> bool {
    match value {
        "*" => !text.is_empty(),
        _ if value.starts_with('*') => text.ends_with(&value[1..]),
        _ if value.ends_with('*') => text.starts_with(&value[..value.len() - 1]),
        _ => value == text,
    }
}

fn expression(expression: &str, text: &str) -> bool {
    crate::re2::Expression::whole(expression).unwrap().is_match(text)
}

fn path(value: &str, path: &str) -> bool {
    const CHARACTERS: &str = "a-zA-Z0-9\\-._~%!$&'()*+,;:@=";
    if !value.contains('{') {
        return form(value, path);
    }
    let one = value.replace("{*}", &format!("[{CHARACTERS}]+"));
    expression(&one.replace("{**}", &format!("[{CHARACTERS}/]*")), path)
}

fn principal(value: &str, peer: &str) -> bool {
    let parts: Vec<&str> = value.split('/').collect();
    let is_mesh = |domain: &str| DOMAINS.contains(&domain);
    match (parts.len(), peer.split_once('/')) {
        (5, Some((domain, rest))) if is_mesh(parts[0]) => is_mesh(domain) && parts[1..].join("/") == rest,
        _ => form(value, peer),
    }
}

fn trust_domain(value: &str, peer: &str) -> bool {
    let Some((domain, _)) = peer.split_once('/') else { return false };
    let own = DOMAINS.iter().any(|name| form(value, name));
    form(value, domain) || (own && DOMAINS.contains(&domain))
}

fn request_principal(value: &str, claims: &Value) -> bool {
    let (Some(issuer), Some(subject)) = (claims["iss"].as_str(), claims["sub"].as_str()) else { return false };
    match value.rsplit_once('/') {
        _ if value == "*" => !issuer.is_empty() && !subject.is_empty(),
        Some((wanted, who)) => form(wanted, issuer) && form(who, subject),
        None if value.starts_with('*') => form(value, subject),
        None => form(value, issuer),
    }
}

fn claim(value: &str, claim: &Value) -> bool {
    match claim {
        Value::String(text) => form(value, text),
        Value::Array(all) => all.iter().filter_map(Value::as_str).any(|text| form(value, text)),
        _ => false,
    }
}

fn block(value: &str, address: IpAddr) -> bool {
    value.parse::<IpNet>().map_or_else(|_| value.parse() == Ok(address), |net| net.contains(&address))
}

/// Whether one value of a field or a condition is what an access has.
fn has(ask: &Ask, key: &str, value: &str) -> bool {
    let claims = ask.claims.clone().unwrap_or_default();
    match key {
        "principals" | "source.principal" => principal(value, ask.peer),
        "namespaces" | "source.namespace" => expression(&format!(".*/ns/{}/.*", value.replace('*', ".*")), ask.peer),
        "serviceAccounts" | "source.serviceAccount" => {
            let (namespace, account) = value.split_once('/').unwrap_or(("shop", value));
            ask.peer.ends_with(&format!("/ns/{namespace}/sa/{account}"))
        }
        "trustDomains" => trust_domain(value, ask.peer),
        "requestPrincipals" | "request.auth.principal" => request_principal(value, &claims),
        "ipBlocks" | "source.ip" => block(value, ask.source),
        "remoteIpBlocks" | "remote.ip" => block(value, ask.remote),
        "destination.ip" => block(value, "10.0.0.1".parse().unwrap()),
        "ports" | "destination.port" => value == ask.port.to_string(),
        "connection.sni" => form(value, ask.sni),
        "hosts" => {
            let (value, host) = (value.to_lowercase(), ask.host.to_lowercase());
            let bare = host.replace(".:", ":");
            let bare = bare.strip_suffix('.').unwrap_or(&bare);
            value == "*" || form(&value, &host) || form(&value, bare)
        }
        "methods" => form(value, ask.method),
        "paths" => path(value, ask.path),
        "request.headers[X-A]" => {
            !ask.header.is_empty() && (value == "*" || ask.header.iter().any(|one| form(value, one)))
        }
        "request.auth.audiences" => claim(value, &claims["aud"]),
        "request.auth.claims[groups]" => claim(value, &claims["groups"]),
        "request.auth.claims[realm][roles]" => claim(value, &claims["realm"]["roles"]),
        other => panic!("{other}"),
    }
}

fn is_http(key: &str) -> bool {
    key.starts_with("request") || ["hosts", "methods", "paths"].contains(&key)
}

/// What one field says: `None`, nothing for bytes.
fn field(ask: &Ask, name: &str, values: &Value) -> Option<bool> {
    let (key, negated) = match name.strip_prefix("not") {
        Some(rest) => (format!("{}{}", rest[..1].to_lowercase(), &rest[1..]), true),
        None => (name.to_owned(), false),
    };
    let mut values = values.as_array().unwrap().iter().filter_map(Value::as_str);
    let known = !ask.bytes || !is_http(&key);
    known.then(|| values.any(|value| has(ask, &key, value)) != negated)
}

fn fits(ask: &Ask, rule: &Value, action: &str) -> bool {
    let entries = |list: &str, inner: &str| -> Option<Vec<Vec<Option<bool>>>> {
        let list = rule.get(list)?.as_array().unwrap();
        let fields = |entry: &Value| {
            entry[inner].as_object().unwrap().iter().map(|(name, values)| field(ask, name, values)).collect()
        };
        Some(list.iter().map(fields).collect())
    };
    let conditions = rule["when"].as_array().unwrap().iter().map(|it| {
        let key = it["key"].as_str().unwrap();
        match it.get("values") {
            Some(values) => field(ask, key, values),
            None => field(ask, key, &it["notValues"]).map(|found| !found),
        }
    });
    let when: Vec<Option<bool>> = conditions.collect();
    let (from, to) = (entries("from", "source"), entries("to", "operation"));
    let mut all = from.iter().chain(&to).flatten().flatten().chain(&when);
    if action == "ALLOW" && all.any(Option::is_none) {
        return false;
    }
    let every = |fields: &Vec<Option<bool>>| fields.iter().all(|it| it.unwrap_or(true));
    from.is_none_or(|it| it.iter().any(every)) && to.is_none_or(|it| it.iter().any(every)) && every(&when)
}

/// The verdict, and the rule of it; the rule of an AUDIT policy; what would become of it by what is only tried.
fn plain(ask: &Ask, policies: &[Value]) -> (Option<String>, Option<String>, Option<bool>) {
    let is_tried = |policy: &Value| policy["metadata"]["annotations"].get("istio.io/dry-run").is_some();
    let of = |actions: &[&str], tried: bool| -> Option<Vec<String>> {
        let all = policies.iter().enumerate();
        let own =
            all.filter(|(_, it)| actions.contains(&it["spec"]["action"].as_str().unwrap()) && is_tried(it) == tried);
        let mut own = own.peekable();
        own.peek()?;
        let mut ids = Vec::new();
        for (number, policy) in own {
            let (spec, namespace) = (&policy["spec"], policy["metadata"]["namespace"].as_str().unwrap());
            for (index, rule) in spec["rules"].as_array().unwrap().iter().enumerate() {
                if fits(ask, rule, spec["action"].as_str().unwrap()) {
                    ids.push(format!("ns[{namespace}]-policy[p{number}]-rule[{index}]"));
                }
            }
        }
        ids.sort();
        Some(ids)
    };
    let first = |ids: Option<Vec<String>>| ids.and_then(|ids| ids.into_iter().next());
    // Nobody can be asked, so what a CUSTOM policy matches is denied.
    let denied = first(of(&["DENY", "CUSTOM"], false));
    let refused = of(&["ALLOW"], false).is_some_and(|ids| ids.is_empty()).then(|| "none".to_owned());
    (denied.or(refused), first(of(&["AUDIT"], false)), of(&["DENY"], true).map(|ids| !ids.is_empty()))
}

/// `serviceAccounts` of a policy of the root namespace are of that namespace, which the reading above leaves out.
fn written(policies: Vec<Value>) -> Vec<Value> {
    let named = policies.into_iter().enumerate().map(|(number, mut policy)| {
        policy["apiVersion"] = "security.istio.io/v1".into();
        policy["kind"] = "AuthorizationPolicy".into();
        policy["metadata"]["name"] = format!("p{number}").into();
        if policy.to_string().contains("erviceAccount") {
            policy["metadata"]["namespace"] = "shop".into();
        }
        policy
    });
    named.collect()
}

fn compare(policies: &[Value], asks: &[Ask]) -> Result<(), TestCaseError> {
    let documents: Vec<String> = policies.iter().map(|it| format!("---\n{it}\n")).collect();
    let compiled = compiled(&format!("{MESH}{}", documents.concat()));
    let refused: Vec<_> = compiled.problems.iter().filter(|it| it.code == "fails-closed").collect();
    prop_assert!(refused.is_empty(), "{refused:#?}");
    for ask in asks {
        let mut headers = HeaderMap::new();
        for value in &ask.header {
            headers.append(HeaderName::from_static("x-a"), HeaderValue::from_static(value));
        }
        let token = ask.claims.as_ref().map(|claims| {
            let claims = claims.as_object().unwrap().clone();
            Token { claims }
        });
        let request = RequestView {
            method: ask.method,
            scheme: "http",
            authority: ask.host,
            path: ask.path,
            query: "",
            port: ask.port,
            headers: &headers,
            token: token.as_ref(),
        };
        let peer = if ask.peer.is_empty() { String::new() } else { format!("spiffe://{}", ask.peer) };
        let access = Access {
            peer: &peer,
            source: ask.source,
            remote: ask.remote,
            local: SocketAddr::new("10.0.0.1".parse().unwrap(), ask.port),
            sni: ask.sni,
            request: (!ask.bytes).then_some(request),
        };
        let found = authorization(&compiled).map(|it| it.judge(&access)).unwrap_or_default();
        let text = |id: Option<std::sync::Arc<str>>| id.map(|id| id.to_string());
        let found = (text(found.denied), text(found.audited), found.tried_deny.map(|trial| trial.denied));
        prop_assert_eq!(found, plain(ask, policies), "{:?}", ask);
    }
    Ok(())
}

/// What is generated is worth a comparison.
#[test]
fn every_verdict_is_met_often() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = (prop::collection::vec(policy(), 1..6).prop_map(written), prop::collection::vec(ask(), 20));
    let mut met = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..200 {
        let (policies, asks) = strategy.new_tree(&mut runner).unwrap().current();
        for ask in &asks {
            let (denied, audited, tried) = plain(ask, &policies);
            let verdict = denied.map_or("allowed", |id| if id == "none" { "none" } else { "denied" });
            *met.entry(format!("{verdict} {}", ask.bytes)).or_default() += 1;
            *met.entry(format!("audited {}", audited.is_some())).or_default() += 1;
            *met.entry(format!("tried {tried:?}")).or_default() += 1;
        }
    }
    assert_eq!(met.len(), 6 + 2 + 3, "{met:#?}");
    assert!(met.values().all(|count| *count >= 40), "{met:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn the_compiled_policies_judge_as_the_plain_reading_of_the_objects(
        policies in prop::collection::vec(policy(), 1..6).prop_map(written),
        asks in prop::collection::vec(ask(), 20),
    ) {
        compare(&policies, &asks)?;
    }
}
