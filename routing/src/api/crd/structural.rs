//! From the JSON schema of a type to what an API server calls structural: every node has one type, nothing refers to
//! another place, and unknown fields are kept.

use serde_json::{Map, Value, json};

/// Highest value of an unsigned 32-bit number, which Istio's definitions use for ports too.
const UINT32_MAX: u32 = u32::MAX;

/// Rewrites one node and everything below it.
pub(super) fn structural(schema: Value) -> Value {
    let Value::Object(node) = schema else {
        // `true`: anything goes.
        return json!({"x-kubernetes-preserve-unknown-fields": true});
    };
    let mut node = only_branch(node);
    if let Some(Value::Array(branches)) = node.remove("oneOf") {
        enumerate(&mut node, branches);
    }
    one_type(&mut node);
    // `default` would be written into objects, `title` and `$schema` say nothing.
    for word in ["$schema", "title", "default"] {
        node.remove(word);
    }
    numbers(&mut node);
    below(&mut node);
    Value::Object(node)
}

/// `anyOf: [X, null]` is X: the API server has its own idea of null. What stands beside `anyOf` is nearer to the user
/// than what stands inside.
fn only_branch(mut node: Map<String, Value>) -> Map<String, Value> {
    for word in ["anyOf", "allOf"] {
        let Some(Value::Array(branches)) = node.remove(word) else { continue };
        let mut kept: Vec<Value> = branches.into_iter().filter(|branch| branch["type"] != "null").collect();
        if let (Some(Value::Object(branch)), true) = (kept.pop(), kept.is_empty()) {
            for (key, value) in branch {
                node.entry(key).or_insert(value);
            }
        }
    }
    node
}

/// An enum whose variants have comments: a list of names, and the comments in the description.
fn enumerate(node: &mut Map<String, Value>, branches: Vec<Value>) {
    let mut names = Vec::new();
    let mut meanings = Vec::new();
    for branch in branches {
        let listed = branch["enum"].as_array().cloned().unwrap_or_default();
        let name = branch.get("const").cloned().into_iter();
        for name in name.chain(listed) {
            if let (Some(name), Some(meaning)) = (name.as_str(), branch["description"].as_str()) {
                meanings.push(format!("{name}: {meaning}"));
            }
            names.push(name);
        }
    }
    let about = node.get("description").and_then(Value::as_str).unwrap_or_default();
    let description = format!("{about}\n\n{}", meanings.join("\n"));
    node.insert("description".to_owned(), json!(description.trim()));
    node.insert("type".to_owned(), json!("string"));
    node.insert("enum".to_owned(), Value::Array(names));
}

/// `type: [string, null]` is `type: string`.
fn one_type(node: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = node.get("type") {
        let first = types.iter().find(|it| *it != "null").cloned();
        if let Some(first) = first {
            node.insert("type".to_owned(), first);
        }
    }
    if let Some(Value::Array(names)) = node.get_mut("enum") {
        names.retain(|name| !name.is_null());
    }
}

/// Formats that the API server knows, and Istio's bounds: a port above 65535 is for `check` to explain.
fn numbers(node: &mut Map<String, Value>) {
    let format = node.get("format").and_then(Value::as_str).unwrap_or_default().to_owned();
    if format.starts_with("uint") {
        node.remove("format");
        node.insert("minimum".to_owned(), json!(0));
        node.remove("maximum");
        if format != "uint64" {
            node.insert("maximum".to_owned(), json!(UINT32_MAX));
        }
    }
}

/// The mark of a field that Istio's definitions require too. serde's `default`, which every type has so that `check` can
/// name what is missing, makes all of them optional.
const REQUIRED: &str = "x-required";

fn require(node: &mut Map<String, Value>, properties: &mut Map<String, Value>) {
    let marked = |(name, property): (&String, &mut Value)| {
        property.as_object_mut().and_then(|property| property.remove(REQUIRED)).map(|_| json!(name))
    };
    let names: Vec<Value> = properties.iter_mut().filter_map(marked).collect();
    node.remove("required");
    if !names.is_empty() {
        node.insert("required".to_owned(), Value::Array(names));
    }
}

fn below(node: &mut Map<String, Value>) {
    if let Some(items) = node.remove("items") {
        node.insert("items".to_owned(), structural(items));
    }
    match node.remove("additionalProperties") {
        Some(Value::Bool(_)) | None => {}
        Some(values) => {
            node.insert("additionalProperties".to_owned(), structural(values));
        }
    }
    if let Some(Value::Object(mut properties)) = node.remove("properties") {
        require(node, &mut properties);
        let properties = properties.into_iter().map(|(name, schema)| (name, structural(schema))).collect();
        node.insert("properties".to_owned(), Value::Object(properties));
    }
    // A pruned field would be lost without a word; a kept one is named by `check`.
    if node.get("type") == Some(&json!("object")) && !node.contains_key("additionalProperties") {
        node.insert("x-kubernetes-preserve-unknown-fields".to_owned(), json!(true));
    }
}
