//! Reading and building parts of a pod that is JSON.

use serde_json::{Map, Value};

use super::Texts;

/// The text at a JSON pointer; empty when there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a JSON pointer; empty when there is none.
pub(super) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The texts of a mapping at a JSON pointer, such as labels.
pub(super) fn texts(value: &Value, pointer: &str) -> Texts {
    let entries = value.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The mapping under a key, made when it is not there.
pub(super) fn map<'a>(value: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let entry = &mut value[key];
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    entry.as_object_mut().expect("it was made an object above")
}

/// The list under a key, made when it is not there.
pub(super) fn list<'a>(value: &'a mut Value, key: &str) -> &'a mut Vec<Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let entry = &mut value[key];
    if !entry.is_array() {
        *entry = Value::Array(Vec::new());
    }
    entry.as_array_mut().expect("it was made a list above")
}

/// The name of a container, volume or variable.
pub(super) fn name(value: &Value) -> &str {
    value["name"].as_str().unwrap_or_default()
}

/// Takes out of a pod the lists and mappings that are empty or null because somebody looked for them.
pub(super) fn prune(pod: &mut Value) {
    for pointer in ["/metadata", "/spec"] {
        if let Some(Value::Object(part)) = pod.pointer_mut(pointer) {
            let empty = |key: &str, value: &Value| match key {
                "labels" | "annotations" => value.as_object().is_some_and(Map::is_empty),
                "initContainers" | "volumes" | "imagePullSecrets" => value.as_array().is_some_and(Vec::is_empty),
                _ => false,
            };
            part.retain(|key, value| !value.is_null() && !empty(key, value));
        }
    }
}
