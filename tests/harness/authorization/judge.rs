//! The same policies as Istio gives them to Envoy's RBAC filter.

use serde_json::{Value, json};

/// The HTTP filters that put these policies (name, spec) in force, as Istio lays them out: what denies, then what allows.
/// `ports`: what stands in the place of these port numbers.
pub fn filters(policies: &[(String, Value)], ports: &[(&str, u16)]) -> Vec<Value> {
    by_action(policies, ports, "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC", |_, rule| Some(rule))
}

/// The same of connections whose bytes nobody looks at: of what only HTTP has, a rule that allows is left out, and one that denies
/// goes without it.
pub fn network_filters(policies: &[(String, Value)], ports: &[(&str, u16)]) -> Vec<Value> {
    let kind = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC";
    let mut filters = by_action(policies, ports, kind, |action, rule| {
        let bare = without_http(&rule);
        (action == "DENY" || bare == rule).then_some(bare)
    });
    filters.iter_mut().for_each(|filter| filter["typed_config"]["stat_prefix"] = "bytes".into());
    filters
}

fn is_of_http(name: &str) -> bool {
    let fields = ["hosts", "methods", "paths", "requestPrincipals"];
    let not = ["notHosts", "notMethods", "notPaths", "notRequestPrincipals"];
    fields.contains(&name) || not.contains(&name) || name.starts_with("request.")
}

fn without_http(rule: &Value) -> Value {
    let mut rule = rule.clone();
    for (list, member) in [("from", "source"), ("to", "operation")] {
        for one in rule[list].as_array_mut().into_iter().flatten() {
            if let Some(fields) = one[member].as_object_mut() {
                fields.retain(|name, _| !is_of_http(name));
            }
        }
    }
    if let Some(when) = rule["when"].as_array_mut() {
        when.retain(|one| !is_of_http(one["key"].as_str().unwrap_or_default()));
    }
    // Looking a field up has made it.
    if let Some(parts) = rule.as_object_mut() {
        parts.retain(|_, part| !part.is_null());
    }
    rule
}

fn by_action(
    policies: &[(String, Value)],
    ports: &[(&str, u16)],
    kind: &str,
    prepare: impl Fn(&str, Value) -> Option<Value>,
) -> Vec<Value> {
    let of = |action: &str| -> Vec<&(String, Value)> {
        policies.iter().filter(|(_, spec)| spec["action"].as_str().unwrap_or("ALLOW") == action).collect()
    };
    let filter = |action: &str, policies: Vec<&(String, Value)>| {
        let rules = policies.iter().flat_map(|(name, spec)| {
            let rules = spec["rules"].as_array().cloned().unwrap_or_default();
            let numbered = rules.into_iter().enumerate();
            numbered.map(move |(number, rule)| (format!("{name}-{number:03}"), rule))
        });
        let prepared = rules.filter_map(|(id, rule)| Some((id, translated(&prepare(action, rule)?, ports))));
        let rules: serde_json::Map<String, Value> = prepared.collect();
        json!({
            "name": format!("rbac-{action}"),
            "typed_config": {
                "@type": kind,
                "rules": {"action": action, "policies": rules},
            },
        })
    };
    ["DENY", "ALLOW"]
        .into_iter()
        .map(|action| (action, of(action)))
        .filter(|(_, policies)| !policies.is_empty())
        .map(|(action, policies)| filter(action, policies))
        .collect()
}

fn translated(rule: &Value, ports: &[(&str, u16)]) -> Value {
    let list = |name: &str, member: &str| -> Vec<Value> {
        let all = rule[name].as_array().cloned().unwrap_or_default();
        if all.is_empty() { vec![json!({})] } else { all.iter().map(|one| one[member].clone()).collect() }
    };
    let when = rule["when"].as_array().cloned().unwrap_or_default();
    let (sources, operations) = (list("from", "source"), list("to", "operation"));
    let principals = sources.iter().map(|source| {
        let fields = fields(source).flat_map(|(name, values)| negatable(&name, &values, "id", source_id));
        let keys = when.iter().flat_map(|one| condition(one, "id", source_id));
        all_of("and_ids", "ids", fields.chain(keys).collect())
    });
    let permissions = operations.iter().map(|operation| {
        let of_operation = |name: &str, value: &str| operation_rule(name, value, ports);
        let fields = fields(operation).flat_map(|(name, values)| negatable(&name, &values, "rule", of_operation));
        let keys = when.iter().flat_map(|one| condition(one, "rule", of_operation));
        all_of("and_rules", "rules", fields.chain(keys).collect())
    });
    json!({"principals": principals.collect::<Vec<_>>(), "permissions": permissions.collect::<Vec<_>>()})
}

fn fields(of: &Value) -> impl Iterator<Item = (String, Vec<String>)> {
    let all = of.as_object().cloned().unwrap_or_default();
    all.into_iter().map(|(name, values)| (name, texts(&values)))
}

fn texts(values: &Value) -> Vec<String> {
    values.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A key of `when`, where it is one of this side (`id`: of who asks, `rule`: of what for).
fn condition(one: &Value, side: &str, matcher: impl Fn(&str, &str) -> Option<Value>) -> Vec<Value> {
    let key = one["key"].as_str().unwrap_or_default();
    let values = any(side, &texts(&one["values"]), &|value| matcher(key, value));
    let not = any(side, &texts(&one["notValues"]), &|value| matcher(key, value));
    values.into_iter().chain(not.map(|not| json!({format!("not_{side}"): not}))).collect()
}

/// A field, or its opposite: `notPaths`.
fn negatable(
    name: &str,
    values: &[String],
    side: &str,
    matcher: impl Fn(&str, &str) -> Option<Value>,
) -> Option<Value> {
    match name.strip_prefix("not") {
        None => any(side, values, &|value| matcher(name, value)),
        Some(field) => {
            let field = field[..1].to_lowercase() + &field[1..];
            any(side, values, &|value| matcher(&field, value)).map(|any| json!({format!("not_{side}"): any}))
        }
    }
}

fn any(side: &str, values: &[String], matcher: &dyn Fn(&str) -> Option<Value>) -> Option<Value> {
    let all: Vec<Value> = values.iter().filter_map(|value| matcher(value)).collect();
    (!all.is_empty()).then(|| json!({format!("or_{side}s"): {format!("{side}s"): all}}))
}

fn all_of(group: &str, member: &str, all: Vec<Value>) -> Value {
    if all.is_empty() { json!({"any": true}) } else { json!({group: {member: all}}) }
}

/// Who asks.
fn source_id(field: &str, value: &str) -> Option<Value> {
    let authenticated = |matcher: Value| json!({"authenticated": {"principal_name": matcher}});
    let regex = |text: String| json!({"safe_regex": {"regex": text}});
    Some(match field {
        "principals" | "source.principal" => authenticated(match value {
            "*" => regex(".+".into()),
            _ if value.starts_with('*') => regex(format!("spiffe://.*{}", escaped(&value[1..]))),
            _ => matcher(&format!("spiffe://{value}")),
        }),
        "namespaces" | "source.namespace" => {
            authenticated(regex(format!(".*/ns/{}/.*", escaped(value).replace("\\*", ".*"))))
        }
        "serviceAccounts" | "source.serviceAccount" => {
            let (namespace, account) = value.split_once('/').unwrap_or(("shop", value));
            authenticated(regex(format!(".*/ns/{}/sa/{}", escaped(namespace), escaped(account))))
        }
        "trustDomains" => authenticated(regex(format!("spiffe://{}/.*", escaped(value)))),
        "ipBlocks" | "source.ip" => json!({"direct_remote_ip": block(value)}),
        "remoteIpBlocks" | "remote.ip" => json!({"remote_ip": block(value)}),
        "requestPrincipals" => claimed("request.auth.principal", value),
        _ if field.starts_with("request.headers[") => {
            json!({"header": header(field.trim_start_matches("request.headers[").trim_end_matches(']'), value, false)})
        }
        _ if field.starts_with("request.auth.") => claimed(field, value),
        _ => return None,
    })
}

/// What for.
fn operation_rule(field: &str, value: &str, ports: &[(&str, u16)]) -> Option<Value> {
    Some(match field {
        "hosts" => json!({"header": header(":authority", value, true)}),
        "methods" => json!({"header": header(":method", value, false)}),
        "paths" if value.contains('{') => json!({"uri_template": {"name": "template", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
            "path_template": value.replace("{*}", "*").replace("{**}", "**"),
        }}}),
        "paths" => json!({"url_path": {"path": matcher(value)}}),
        "ports" | "destination.port" => {
            let mapped = ports.iter().find(|(written, _)| *written == value).map(|(_, port)| *port);
            json!({"destination_port": mapped.unwrap_or_else(|| value.parse().expect("a port"))})
        }
        "destination.ip" => json!({"destination_ip": block(value)}),
        "connection.sni" => json!({"requested_server_name": matcher(value)}),
        _ => return None,
    })
}

/// Istio's forms of a value.
fn matcher(value: &str) -> Value {
    match value {
        "*" => json!({"safe_regex": {"regex": ".+"}}),
        _ if value.starts_with('*') => json!({"suffix": &value[1..]}),
        _ if value.ends_with('*') => json!({"prefix": &value[..value.len() - 1]}),
        _ => json!({"exact": value}),
    }
}

fn header(name: &str, value: &str, ignore_case: bool) -> Value {
    if value == "*" {
        return json!({"name": name, "present_match": true});
    }
    let mut matcher = matcher(value);
    if ignore_case {
        matcher["ignore_case"] = true.into();
    }
    json!({"name": name, "string_match": matcher})
}

/// What a token says that was verified; here nobody verifies any.
fn claimed(key: &str, value: &str) -> Value {
    json!({"metadata": {"filter": "istio_authn", "path": [{"key": key}], "value": {"string_match": matcher(value)}}})
}

fn block(value: &str) -> Value {
    let longest = if value.contains(':') { 128 } else { 32 };
    let (address, length) = value.split_once('/').unwrap_or((value, ""));
    json!({"address_prefix": address, "prefix_len": length.parse().unwrap_or(longest)})
}

fn escaped(text: &str) -> String {
    let escaped = |letter: char| {
        if letter.is_alphanumeric() || "-_/".contains(letter) { letter.to_string() } else { format!("\\{letter}") }
    };
    text.chars().map(escaped).collect()
}
