use crate::{
    problem::{Problem, Severity},
    resources::Resources,
};

/// What is wrong with a policy of this spec.
fn problems(spec: &str) -> Vec<Problem> {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: it, namespace: shop}}\nspec:\n{spec}"
    );
    Resources::read([("it.yaml", text.as_str())]).1
}

#[test]
fn every_field_in_order_is_fine() {
    let found = problems(
        "selector: {matchLabels: {app: cart}}\naction: DENY\nrules:\n- from:\n  - source: {principals: [cluster.local/ns/a/sa/b, '*'], \
         notPrincipals: ['*/sa/x']}\n  - source: {requestPrincipals: [https://issuer/ada], namespaces: [a, 'b*c'], notNamespaces: [d]}\n  \
         - source: {ipBlocks: [10.0.0.0/8, '::1'], notIpBlocks: [10.1.0.0/16], remoteIpBlocks: [1.2.3.4], notRemoteIpBlocks: \
         [fd00::/8]}\n  - source: {serviceAccounts: [a, b/c], trustDomains: ['*.example']}\n  to:\n  - operation: {hosts: \
         [a.example, 'a.example:*'], ports: ['80'], methods: [GET], paths: [/a, '/b/*', '/c/{*}/{**}'], notPorts: ['81']}\n  \
         when:\n  - {key: 'request.headers[x-a]', values: [b]}\n  - {key: 'request.auth.claims[a][b]', notValues: [c]}\n  - {key: \
         source.ip, values: [10.0.0.1]}\n  - {key: connection.sni, values: [a]}",
    );
    assert_eq!(found, []);
    assert_eq!(problems("{}"), []);
    assert_eq!(problems("rules: [{}]"), []);
    assert_eq!(
        problems("targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]\nrules: [{}]"),
        []
    );
}

/// A spec, the field that is wrong, and words of what is told.
const FAULTS: &[(&str, &str, &str)] = &[
    ("action: DENY", "spec.rules", "`rules: [{}]`"),
    ("action: CUSTOM\nrules: [{}]", "spec.provider", "extensionProviders"),
    ("action: CUSTOM\nprovider: {name: A_b}\nrules: [{}]", "spec.provider.name", "small letters"),
    ("provider: {name: a}\nrules: [{}]", "spec.provider", "only CUSTOM"),
    ("rules: [{from: []}]", "spec.rules[0].from", "is empty"),
    ("rules: [{to: []}]", "spec.rules[0].to", "is empty"),
    ("rules: [{from: [{}]}]", "spec.rules[0].from[0].source", "missing"),
    ("rules: [{from: [{source: {}}]}]", "spec.rules[0].from[0].source", "at least one field"),
    ("rules: [{from: [{source: {principals: []}}]}]", "spec.rules[0].from[0].source", "at least one field"),
    ("rules: [{to: [{operation: {}}]}]", "spec.rules[0].to[0].operation", "at least one field"),
    ("rules: [{to: [{operation: {paths: ['']}}]}]", "spec.rules[0].to[0].operation.paths[0]", "empty"),
    ("rules: [{to: [{operation: {paths: ['/a/{b}']}}]}]", "spec.rules[0].to[0].operation.paths[0]", "brace"),
    ("rules: [{to: [{operation: {notPaths: ['/{**}/{*}']}}]}]", "spec.rules[0].to[0].operation.notPaths[0]", "last"),
    ("rules: [{to: [{operation: {ports: ['0']}}]}]", "spec.rules[0].to[0].operation.ports[0]", "1 to 65535"),
    ("rules: [{to: [{operation: {ports: [80]}}]}]", "spec.rules[0].to[0].operation.ports[0]", "quotes"),
    ("rules: [{from: [{source: {ipBlocks: [10.0.0.0/33]}}]}]", "spec.rules[0].from[0].source.ipBlocks[0]", "CIDR"),
    (
        "rules: [{from: [{source: {serviceAccounts: ['a*']}}]}]",
        "spec.rules[0].from[0].source.serviceAccounts[0]",
        "wildcard",
    ),
    (
        "rules: [{from: [{source: {serviceAccounts: [a], namespaces: [b]}}]}]",
        "spec.rules[0].from[0].source.serviceAccounts",
        "beside",
    ),
    (
        "rules: [{from: [{source: {trustDomains: [a/b]}}]}]",
        "spec.rules[0].from[0].source.trustDomains[0]",
        "trust domain",
    ),
    (
        "rules: [{from: [{source: {pricipals: [a]}}]}]",
        "spec.rules[0].from[0].source.pricipals",
        "did you mean `principals`",
    ),
    ("rules: [{when: [{values: [a]}]}]", "spec.rules[0].when[0].key", "empty"),
    ("rules: [{when: [{key: source.ip}]}]", "spec.rules[0].when[0].values", "compared with nothing"),
    ("rules: [{when: [{key: source.port, values: ['1']}]}]", "spec.rules[0].when[0].key", "no attribute"),
    (
        "rules: [{when: [{key: 'destination.labels[a]', values: [b]}]}]",
        "spec.rules[0].when[0].key",
        "selector.matchLabels",
    ),
    ("rules: [{when: [{key: request.headers, values: [b]}]}]", "spec.rules[0].when[0].key", "brackets"),
    ("rules: [{when: [{key: 'request.headers[a b]', values: [b]}]}]", "spec.rules[0].when[0].key", "not a header name"),
    ("rules: [{when: [{key: 'request.auth.claims[]', values: [b]}]}]", "spec.rules[0].when[0].key", "names no claim"),
    ("rules: [{when: [{key: source.ip, values: [a]}]}]", "spec.rules[0].when[0].values[0]", "CIDR"),
    (
        "action: CUSTOM\nprovider: {name: a}\nrules: [{from: [{source: {namespaces: [a]}}]}]",
        "spec.rules[0].from[0].source.namespaces",
        "CUSTOM asks before",
    ),
    (
        "action: CUSTOM\nprovider: {name: a}\nrules: [{when: [{key: request.auth.principal, values: [a]}]}]",
        "spec.rules[0].when[0].key",
        "CUSTOM asks before",
    ),
    ("action: REFUSE\nrules: [{}]", "spec.action", "not one of ALLOW, DENY, AUDIT, CUSTOM"),
    ("selector: {matchLabels: {app: '*'}}", "spec.selector.matchLabels.app", "wildcard"),
    (
        "selector: {}\ntargetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: a}",
        "spec.selector",
        "keep one",
    ),
    ("targetRef: {group: apps, kind: Deployment, name: a}", "spec.targetRef.kind", "cannot be attached"),
];

#[test]
fn each_fault_is_told_at_its_field() {
    for (spec, field, words) in FAULTS {
        let found = problems(spec);
        let error = found.iter().find(|problem| problem.severity == Severity::Error && problem.field == *field);
        let error = error.unwrap_or_else(|| panic!("{spec}: {found:#?}"));
        assert!(error.message.contains(words), "{spec}: {error}");
        assert!(
            error.message.ends_with("; until it can be read it fails closed, for all that it may select"),
            "{error}"
        );
    }
}

#[test]
fn what_never_matches_or_matches_more_is_warned_of() {
    for (spec, field) in [
        ("rules: [{to: [{operation: {methods: [get]}}]}]", "spec.rules[0].to[0].operation.methods[0]"),
        ("rules: [{to: [{operation: {paths: ['/a*b']}}]}]", "spec.rules[0].to[0].operation.paths[0]"),
        ("rules: [{to: [{operation: {paths: ['/a?b=c']}}]}]", "spec.rules[0].to[0].operation.paths[0]"),
        ("rules: [{to: [{operation: {paths: [a]}}]}]", "spec.rules[0].to[0].operation.paths[0]"),
        (
            "rules: [{from: [{source: {principals: ['spiffe://a/ns/b/sa/c']}}]}]",
            "spec.rules[0].from[0].source.principals[0]",
        ),
        ("action: DENY\nrules: [{to: [{operation: {methods: [POST]}}]}]", "spec.rules"),
        (
            "action: DENY\nrules: [{to: [{operation: {methods: [POST]}}]}, {to: [{operation: {methods: [PUT]}}]}]",
            "spec.rules",
        ),
    ] {
        let found = problems(spec);
        assert_eq!(
            found.iter().map(|it| (it.severity, it.field.as_str())).collect::<Vec<_>>(),
            [(Severity::Warning, field)],
            "{spec}"
        );
    }
    assert_eq!(problems("action: DENY\nrules: [{to: [{operation: {methods: [POST], ports: ['80']}}]}]"), []);
}
