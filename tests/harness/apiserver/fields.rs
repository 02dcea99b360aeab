//! Field ownership: which manager set which field, as `managedFields` tells it.
//!
//! A set of fields is the JSON of `fieldsV1`: `{"f:spec": {"f:host": {}}}`; an empty object is a leaf.

use serde_json::{Map, Value, json};

use super::kinds::Kind;

/// How a list is merged and owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListKind {
    /// As a whole.
    Atomic,
    /// By value.
    Set,
    /// By these fields of its items.
    Map(Vec<String>),
}

/// How the list at this path (field names; items of lists leave no trace) is merged.
pub(crate) fn list_kind(kind: &Kind, path: &[&str]) -> ListKind {
    let map = |keys: &[&str]| ListKind::Map(keys.iter().map(|key| (*key).to_owned()).collect());
    match path {
        ["metadata", "finalizers"] => return ListKind::Set,
        ["metadata", "ownerReferences"] => return map(&["uid"]),
        _ => {}
    }
    if kind.custom {
        return by_schema(kind, path);
    }
    match (kind.plural.as_str(), path) {
        ("services", ["spec", "ports"]) => map(&["port", "protocol"]),
        (_, [.., "containers" | "initContainers" | "env" | "volumes" | "imagePullSecrets"]) => map(&["name"]),
        ("serviceaccounts", ["secrets"]) => map(&["name"]),
        (_, [.., "containers" | "initContainers", "ports"]) => map(&["containerPort", "protocol"]),
        (_, [.., "volumeMounts"]) => map(&["mountPath"]),
        ("pods", ["status", "podIPs"]) => map(&["ip"]),
        (_, ["status", "conditions"]) => map(&["type"]),
        (_, [.., "topologySpreadConstraints"]) => map(&["topologyKey", "whenUnsatisfiable"]),
        _ => ListKind::Atomic,
    }
}

/// What the definition's schema says by `x-kubernetes-list-type`; without a word about it a list is one value.
fn by_schema(kind: &Kind, path: &[&str]) -> ListKind {
    let items = |schema: Option<&'_ Value>| schema.and_then(|it| it.get("items")).cloned();
    let mut schema = (*kind.schema).clone();
    for step in path {
        let inner = items(Some(&schema)).unwrap_or(schema);
        let next = inner.get("properties").and_then(|it| it.get(*step)).or_else(|| inner.get("additionalProperties"));
        let Some(next) = next.cloned() else { return ListKind::Atomic };
        schema = next;
    }
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            ListKind::Map(keys.filter_map(|key| key.as_str().map(str::to_owned)).collect())
        }
        _ => ListKind::Atomic,
    }
}

/// `k:{"type":"Ready"}` of an item.
pub(crate) fn item_key(keys: &[String], item: &Value) -> String {
    let default = |key: &str| if key == "protocol" { json!("TCP") } else { Value::Null };
    let part = |key: &String| (key.clone(), item.get(key).cloned().unwrap_or_else(|| default(key)));
    format!("k:{}", Value::Object(keys.iter().map(part).collect()))
}

/// The fields that an object sets.
pub(crate) fn fields_of(kind: &Kind, object: &Value) -> Value {
    let mut path = Vec::new();
    let mut fields = tree(kind, &mut path, object);
    if let Some(top) = fields.as_object_mut() {
        top.remove("f:apiVersion");
        top.remove("f:kind");
        if let Some(metadata) = top.get_mut("f:metadata").and_then(Value::as_object_mut) {
            metadata.retain(|key, _| {
                matches!(key.as_str(), "f:labels" | "f:annotations" | "f:finalizers" | "f:ownerReferences")
            });
            if metadata.is_empty() {
                top.remove("f:metadata");
            }
        }
    }
    fields
}

fn tree<'a>(kind: &Kind, path: &mut Vec<&'a str>, value: &'a Value) -> Value {
    let mut fields = Map::new();
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                path.push(key);
                fields.insert(format!("f:{key}"), tree(kind, path, value));
                path.pop();
            }
        }
        Value::Array(items) => match list_kind(kind, path) {
            ListKind::Atomic => {}
            ListKind::Set => fields.extend(items.iter().map(|item| (format!("v:{item}"), json!({})))),
            ListKind::Map(keys) => {
                for item in items {
                    let mut inner = tree(kind, path, item);
                    inner["."] = json!({});
                    fields.insert(item_key(&keys, item), inner);
                }
            }
        },
        _ => {}
    }
    Value::Object(fields)
}

/// The fields whose values differ between two states, with those that only one of them has.
pub(crate) fn changed(kind: &Kind, old: &Value, new: &Value) -> (Value, Value) {
    let (before, after) = (fields_of(kind, old), fields_of(kind, new));
    let mut set = after.clone();
    retain_leaves(&mut set, &mut Vec::new(), &mut |path| {
        !has(&before, path) || value_at(kind, old, path) != value_at(kind, new, path)
    });
    let mut gone = before;
    retain_leaves(&mut gone, &mut Vec::new(), &mut |path| !has(&after, path));
    (set, gone)
}

/// Keeps the leaves that `keep` wants, and drops what is empty then.
pub(crate) fn retain_leaves(fields: &mut Value, path: &mut Vec<String>, keep: &mut dyn FnMut(&[String]) -> bool) {
    let Some(object) = fields.as_object_mut() else { return };
    object.retain(|key, inner| {
        path.push(key.clone());
        let leaf = inner.as_object().is_none_or(Map::is_empty);
        let kept = if leaf {
            keep(path)
        } else {
            retain_leaves(inner, path, keep);
            !inner.as_object().is_none_or(Map::is_empty)
        };
        path.pop();
        kept
    });
}

/// Every leaf of a set of fields.
pub(crate) fn leaves(fields: &Value) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    retain_leaves(&mut fields.clone(), &mut Vec::new(), &mut |path| {
        found.push(path.to_vec());
        true
    });
    found
}

/// True when the set holds this field or something below it.
pub(crate) fn has(fields: &Value, path: &[String]) -> bool {
    path.iter().try_fold(fields, |inner, step| inner.get(step)).is_some()
}

/// True when the set holds exactly this leaf.
pub(crate) fn has_leaf(fields: &Value, path: &[String]) -> bool {
    let found = path.iter().try_fold(fields, |inner, step| inner.get(step));
    found.and_then(Value::as_object).is_some_and(Map::is_empty)
}

/// Adds all fields of `more`.
pub(crate) fn union(fields: &mut Value, more: &Value) {
    let (Some(own), Some(more)) = (fields.as_object_mut(), more.as_object()) else { return };
    for (key, inner) in more {
        union(own.entry(key.clone()).or_insert_with(|| json!({})), inner);
    }
}

/// The value of a leaf.
pub(crate) fn value_at<'a>(kind: &Kind, object: &'a Value, path: &[String]) -> Option<&'a Value> {
    let mut names: Vec<&str> = Vec::new();
    let mut value = object;
    for step in path {
        if let Some(name) = step.strip_prefix("f:") {
            names.push(name);
            value = value.get(name)?;
        } else if step.starts_with("k:") {
            let ListKind::Map(keys) = list_kind(kind, &names) else { return None };
            value = value.as_array()?.iter().find(|item| item_key(&keys, item) == *step)?;
        } else if let Some(text) = step.strip_prefix("v:") {
            let wanted: Value = serde_json::from_str(text).ok()?;
            value = value.as_array()?.iter().find(|item| **item == wanted)?;
        } else {
            return Some(&Value::Null);
        }
    }
    Some(value)
}

/// Takes one leaf out of an object; an item of a keyed list goes when its `.` does.
pub(crate) fn remove_at(kind: &Kind, object: &mut Value, path: &[String]) {
    let mut names: Vec<&str> = Vec::new();
    let mut value = object;
    for (at, step) in path.iter().enumerate() {
        let last = at + 1 == path.len();
        if let Some(name) = step.strip_prefix("f:") {
            names.push(name);
            if last {
                if let Some(fields) = value.as_object_mut() {
                    fields.remove(name);
                }
                return;
            }
            let Some(inner) = value.get_mut(name) else { return };
            value = inner;
        } else if step.starts_with("k:") {
            let ListKind::Map(keys) = list_kind(kind, &names) else { return };
            let Some(items) = value.as_array_mut() else { return };
            let Some(found) = items.iter().position(|item| item_key(&keys, item) == *step) else { return };
            if path.get(at + 1).is_some_and(|next| next == ".") {
                items.remove(found);
                return;
            }
            value = &mut items[found];
        } else if let Some(text) = step.strip_prefix("v:") {
            if let (Some(items), Ok(gone)) = (value.as_array_mut(), serde_json::from_str::<Value>(text)) {
                items.retain(|item| *item != gone);
            }
            return;
        } else {
            return;
        }
    }
}

/// `.spec.hosts`, as messages show a field.
pub(crate) fn shown(path: &[String]) -> String {
    let steps = path.iter().filter(|step| *step != ".").map(|step| match step.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some((_, key)) => format!("[{key}]"),
        None => String::new(),
    });
    steps.collect()
}
