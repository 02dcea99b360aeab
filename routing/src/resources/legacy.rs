//! Kinds of old Istio that asked for what AuthorizationPolicy, PeerAuthentication and RequestAuthentication ask for today:
//! what was written there, as objects of today.

use serde_json::{Map, Value, json};

use crate::problem::ObjectRef;

const ROOT: &str = "istio-system";
/// Stands where only somebody who knows can say it; nothing has this path, so nothing is allowed meanwhile.
const FILL_IN: &str = "FILL-IN";

/// The objects to write instead, ready to paste as one document, and what to look at. `None`: it is none of these kinds.
pub(super) fn advice(identity: &ObjectRef, group: &str, object: &Value) -> Option<String> {
    let empty = json!({});
    let spec = object.get("spec").unwrap_or(&empty);
    let (objects, note) = match (group, identity.kind.as_str()) {
        ("authentication.istio.io", "Policy") => (peer_policies(identity, spec), SELECTOR_NOTE),
        ("authentication.istio.io", "MeshPolicy") => {
            let mesh = ObjectRef::new("", ROOT, "default");
            (peer_policies(&mesh, spec), "")
        }
        ("rbac.istio.io", "ClusterRbacConfig" | "RbacConfig") => (switch(spec), SELECTOR_NOTE),
        ("rbac.istio.io", "ServiceRole") => (role(identity, spec), ROLE_NOTE),
        ("rbac.istio.io", "ServiceRoleBinding") => (vec![binding(identity, spec)], BINDING_NOTE),
        _ => return None,
    };
    let written = match objects.as_slice() {
        [] => return Some("it asks for nothing, remove it".to_owned()),
        [one] => one.to_string(),
        several => json!({"apiVersion": "v1", "kind": "List", "items": several}).to_string(),
    };
    Some(format!("write this instead{note}: {written}"))
}

const SELECTOR_NOTE: &str = " (where it has a selector, with labels that the service's workloads have)";
const ROLE_NOTE: &str =
    " (with the subjects of its ServiceRoleBindings as principals, and labels that the services' workloads have)";
const BINDING_NOTE: &str = " (with the methods and paths of its ServiceRole as operation)";

fn document(kind: &str, namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    })
}

fn list<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Texts of a list; none where `*` is one of them, as that is what no list says.
fn texts(value: &Value, field: &str) -> Vec<String> {
    let all: Vec<String> = list(value, field).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if all.iter().any(|text| text == "*") { Vec::new() } else { all }
}

/// The first label of a service's host: what its workloads are called as a rule.
fn app(service: &str) -> Option<&str> {
    service.split('.').next().filter(|name| !name.is_empty() && !name.contains('*'))
}

fn selector(service: Option<&str>) -> Map<String, Value> {
    let labels = service.and_then(app).map(|app| json!({"matchLabels": {"app": app}}));
    labels.into_iter().map(|labels| ("selector".to_owned(), labels)).collect()
}

/// `Policy` and `MeshPolicy`: mutual TLS, and tokens that must be there.
fn peer_policies(identity: &ObjectRef, spec: &Value) -> Vec<Value> {
    let services: Vec<Option<&str>> =
        list(spec, "targets").iter().filter_map(|it| it.get("name")).map(Value::as_str).collect();
    let services = if services.is_empty() { vec![None] } else { services };
    let mut objects = Vec::new();
    for service in services {
        let name = service.and_then(app).unwrap_or(&identity.name);
        let own = |mut fields: Map<String, Value>| {
            fields.extend(selector(service));
            Value::Object(fields)
        };
        let make = |kind: &str, spec: &Value| document(kind, &identity.namespace, name, spec);
        let mode = mode(spec);
        let mtls = Map::from_iter([("mtls".to_owned(), json!({ "mode": mode }))]);
        objects.push(make("PeerAuthentication", &own(mtls)));
        let rules: Vec<Value> = list(spec, "origins").iter().filter_map(|it| it.get("jwt")).map(jwt_rule).collect();
        if rules.is_empty() {
            continue;
        }
        objects.push(make("RequestAuthentication", &own(Map::from_iter([("jwtRules".to_owned(), json!(rules))]))));
        if spec.get("originIsOptional") != Some(&json!(true)) {
            let anybody = json!([{"from": [{"source": {"requestPrincipals": ["*"]}}]}]);
            objects.push(make("AuthorizationPolicy", &own(Map::from_iter([("rules".to_owned(), anybody)]))));
        }
    }
    objects
}

fn mode(spec: &Value) -> &'static str {
    // `mtls: {}` and `mtls: null` were STRICT.
    let mtls = list(spec, "peers").iter().find_map(|peer| peer.get("mtls"));
    match mtls {
        None => "DISABLE",
        Some(_) if spec.get("peerIsOptional") == Some(&json!(true)) => "PERMISSIVE",
        Some(mtls) if mtls.get("mode").is_some_and(|mode| mode == "PERMISSIVE") => "PERMISSIVE",
        Some(_) => "STRICT",
    }
}

fn jwt_rule(jwt: &Value) -> Value {
    let mut rule = Map::new();
    for field in ["issuer", "audiences", "jwksUri", "jwks"] {
        rule.extend(jwt.get(field).map(|value| (field.to_owned(), value.clone())));
    }
    let headers: Vec<Value> = list(jwt, "jwtHeaders").iter().map(|name| json!({ "name": name })).collect();
    if !headers.is_empty() {
        rule.insert("fromHeaders".to_owned(), json!(headers));
    }
    rule.extend(jwt.get("jwtParams").map(|value| ("fromParams".to_owned(), value.clone())));
    Value::Object(rule)
}

/// `ClusterRbacConfig`: who is not allowed by some policy is denied, in some places.
fn switch(spec: &Value) -> Vec<Value> {
    let places = |field: &str, rules: &Value| -> Vec<Value> {
        let part = spec.get(field).cloned().unwrap_or_default();
        let fields = |service: Option<&str>| {
            let mut fields = selector(service);
            fields.extend(rules.as_array().map(|rules| ("rules".to_owned(), json!(rules))));
            Value::Object(fields)
        };
        let name = if rules.is_null() { "allow-nothing" } else { "allow-all" };
        let wide = list(&part, "namespaces").iter().filter_map(Value::as_str);
        let mut made: Vec<Value> =
            wide.map(|namespace| document("AuthorizationPolicy", namespace, name, &fields(None))).collect();
        for service in list(&part, "services").iter().filter_map(Value::as_str) {
            let namespace = service.split('.').nth(1).unwrap_or("default");
            let name = format!("{name}-{}", app(service).unwrap_or("all"));
            made.push(document("AuthorizationPolicy", namespace, &name, &fields(Some(service))));
        }
        made
    };
    let everywhere = document("AuthorizationPolicy", ROOT, "allow-nothing", &json!({}));
    match spec.get("mode").and_then(Value::as_str) {
        Some("ON") => vec![everywhere],
        Some("ON_WITH_INCLUSION") => places("inclusion", &Value::Null),
        Some("ON_WITH_EXCLUSION") => std::iter::once(everywhere).chain(places("exclusion", &json!([{}]))).collect(),
        _ => Vec::new(),
    }
}

/// `ServiceRole`: what may be done; its bindings say by whom.
fn role(identity: &ObjectRef, spec: &Value) -> Vec<Value> {
    let mut objects = Vec::new();
    let rules = list(spec, "rules");
    for (number, rule) in rules.iter().enumerate() {
        let base = if rules.len() > 1 { format!("{}-{number}", identity.name) } else { identity.name.clone() };
        let services = texts(rule, "services");
        let services: Vec<Option<&str>> =
            if services.is_empty() { vec![None] } else { services.iter().map(|it| Some(it.as_str())).collect() };
        for service in services {
            let mut fields = selector(service);
            fields.insert("rules".to_owned(), json!([permission(rule)]));
            let name = match service.and_then(app) {
                Some(app) => format!("{base}-{app}"),
                None => base.clone(),
            };
            objects.push(document("AuthorizationPolicy", &identity.namespace, &name, &Value::Object(fields)));
        }
    }
    objects
}

fn permission(rule: &Value) -> Value {
    let mut operation = Map::new();
    for field in ["hosts", "notHosts", "paths", "notPaths", "methods", "notMethods", "ports", "notPorts"] {
        let texts = texts(rule, field);
        if !texts.is_empty() {
            operation.insert(field.to_owned(), json!(texts));
        }
    }
    let mut written = json!({"from": [{"source": {"principals": [FILL_IN]}}]});
    if !operation.is_empty() {
        written["to"] = json!([{ "operation": operation }]);
    }
    let conditions: Vec<Value> =
        list(rule, "constraints").iter().map(|it| json!({"key": it.get("key"), "values": it.get("values")})).collect();
    if !conditions.is_empty() {
        written["when"] = json!(conditions);
    }
    written
}

/// `ServiceRoleBinding`: who may do what a role says.
fn binding(identity: &ObjectRef, spec: &Value) -> Value {
    let rules: Vec<Value> = list(spec, "subjects").iter().map(subject).collect();
    let mut made = document("AuthorizationPolicy", &identity.namespace, &identity.name, &json!({ "rules": rules }));
    if spec.get("mode").is_some_and(|mode| mode == "PERMISSIVE") {
        made["metadata"]["annotations"] = json!({"istio.io/dry-run": "true"});
    }
    made
}

fn subject(subject: &Value) -> Value {
    let mut rule = json!({"to": [{"operation": {"paths": [FILL_IN]}}]});
    if let Some(user) = subject.get("user").and_then(Value::as_str).filter(|user| *user != "*") {
        rule["from"] = json!([{"source": {"principals": [user]}}]);
    }
    let properties = subject.get("properties").and_then(Value::as_object).into_iter().flatten();
    let mut conditions: Vec<Value> = properties.map(|(key, value)| json!({"key": key, "values": [value]})).collect();
    if let Some(group) = subject.get("group").and_then(Value::as_str) {
        conditions.push(json!({"key": "request.auth.claims[groups]", "values": [group]}));
    }
    if !conditions.is_empty() {
        rule["when"] = json!(conditions);
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Resources;

    /// What is told of a document of old, and the objects of today in it.
    fn objects(document: &str) -> Vec<Value> {
        let (_, problems) = Resources::read([("old.yaml", document)]);
        let [problem] = problems.as_slice() else { panic!("{problems:#?}") };
        assert_eq!(problem.code, "ignored-kind");
        let at = problem.message.find('{').unwrap_or_else(|| panic!("{problem}"));
        let pasted = &problem.message[at..];
        // It is what it says: it can be read, and nothing is wrong with it.
        let (_, wrong) = Resources::read([("new.yaml", pasted)]);
        let wrong: Vec<_> = wrong.iter().filter(|it| !it.message.contains("RequestAuthentication")).collect();
        assert!(wrong.iter().all(|it| it.severity != crate::problem::Severity::Error), "{wrong:#?}");
        let value: Value = serde_json::from_str(pasted).unwrap();
        match value.get("items") {
            Some(items) => items.as_array().unwrap().clone(),
            None => vec![value],
        }
    }

    #[test]
    fn mutual_tls_and_tokens_of_old_become_three_kinds() {
        let mesh = objects(
            "apiVersion: authentication.istio.io/v1alpha1\nkind: MeshPolicy\nmetadata: {name: default}\nspec: {peers: [{mtls: {}}]}\n",
        );
        assert_eq!(mesh[0]["metadata"]["namespace"], "istio-system");
        assert_eq!(mesh[0]["spec"], json!({"mtls": {"mode": "STRICT"}}));
        let policy = objects(
            "apiVersion: authentication.istio.io/v1alpha1\nkind: Policy\nmetadata: {name: p, namespace: shop}\nspec:\n  targets: \
             [{name: cart}]\n  peers: [{mtls: {mode: PERMISSIVE}}]\n  origins: [{jwt: {issuer: https://i, jwksUri: https://i/k}}]\n",
        );
        let kinds: Vec<_> = policy.iter().map(|it| it["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["PeerAuthentication", "RequestAuthentication", "AuthorizationPolicy"]);
        assert!(policy.iter().all(|it| it["spec"]["selector"]["matchLabels"]["app"] == "cart"));
        assert_eq!(policy[0]["spec"]["mtls"]["mode"], "PERMISSIVE");
    }

    #[test]
    fn roles_and_bindings_allow_nothing_until_they_are_filled_in() {
        let roles = objects(
            "apiVersion: rbac.istio.io/v1alpha1\nkind: ServiceRole\nmetadata: {name: viewer, namespace: shop}\nspec:\n  rules:\n  - \
             {services: [cart.shop.svc.cluster.local], methods: [GET], paths: ['/a/*'], constraints: [{key: \
             'request.headers[v]', values: [b]}]}\n",
        );
        let rule = &roles[0]["spec"]["rules"][0];
        assert_eq!(roles[0]["metadata"]["name"], "viewer-cart");
        assert_eq!(rule["to"][0]["operation"], json!({"methods": ["GET"], "paths": ["/a/*"]}));
        assert_eq!(rule["from"][0]["source"]["principals"][0], FILL_IN);
        let bindings = objects(
            "apiVersion: rbac.istio.io/v1alpha1\nkind: ServiceRoleBinding\nmetadata: {name: b, namespace: shop}\nspec:\n  subjects: \
             [{user: cluster.local/ns/a/sa/b}, {properties: {source.namespace: c}}]\n  roleRef: {kind: ServiceRole, name: viewer}\n",
        );
        let rules = &bindings[0]["spec"]["rules"];
        assert_eq!(rules[0]["from"][0]["source"]["principals"][0], "cluster.local/ns/a/sa/b");
        assert_eq!(rules[1]["when"][0], json!({"key": "source.namespace", "values": ["c"]}));
        assert!(rules.as_array().unwrap().iter().all(|it| it["to"][0]["operation"]["paths"][0] == FILL_IN));
    }

    #[test]
    fn the_switch_of_old_denies_where_it_did() {
        let with = |spec: &str| {
            format!(
                "apiVersion: rbac.istio.io/v1alpha1\nkind: ClusterRbacConfig\nmetadata: {{name: default}}\nspec: {spec}\n"
            )
        };
        let on = objects(&with("{mode: ON}"));
        assert_eq!((&on[0]["metadata"]["namespace"], &on[0]["spec"]), (&json!("istio-system"), &json!({})));
        let some = objects(&with(
            "{mode: ON_WITH_INCLUSION, inclusion: {namespaces: [a], services: [b.c.svc.cluster.local]}}",
        ));
        assert_eq!(some[1]["metadata"], json!({"name": "allow-nothing-b", "namespace": "c"}));
        let but = objects(&with("{mode: ON_WITH_EXCLUSION, exclusion: {namespaces: [a]}}"));
        assert_eq!((but.len(), &but[1]["spec"]["rules"]), (2, &json!([{}])));
        let (_, off) = Resources::read([("old.yaml", with("{mode: 'OFF'}").as_str())]);
        assert!(off[0].message.ends_with("it asks for nothing, remove it"), "{}", off[0]);
    }
}
