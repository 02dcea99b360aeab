//! Whether a pod is one that an API server would take: Kubernetes' own types read it without losing a field, and what they cannot
//! say (names once, mounts of volumes) holds.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

/// What an API server would refuse.
pub(super) fn faults(pod: &Value) -> Vec<String> {
    let mut faults = lost(pod);
    let list = |pointer: &str| pod.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let volumes = list("/spec/volumes");
    let containers: Vec<Value> = [list("/spec/containers"), list("/spec/initContainers")].concat();
    once("volume", &volumes, "name", &mut faults);
    once("container", &containers, "name", &mut faults);
    for container in &containers {
        let part = |name: &str| container[name].as_array().cloned().unwrap_or_default();
        once("variable", &part("env"), "name", &mut faults);
        once("mount", &part("volumeMounts"), "mountPath", &mut faults);
        for mount in part("volumeMounts") {
            if !volumes.iter().any(|it| it["name"] == mount["name"]) {
                faults.push(format!("{} is mounted and no volume", mount["name"]));
            }
        }
    }
    let labels = pod["metadata"]["labels"].as_object().into_iter().flatten();
    for (key, value) in labels {
        let text = value.as_str().unwrap_or_default();
        let edge = |it: Option<char>| it.is_none_or(|it| it.is_ascii_alphanumeric());
        if text.len() > 63 || !edge(text.chars().next()) || !edge(text.chars().next_back()) {
            faults.push(format!("label {key} cannot be `{text}`"));
        }
    }
    faults
}

fn once(what: &str, things: &[Value], key: &str, faults: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for thing in things {
        if !seen.insert(thing[key].to_string()) {
            faults.push(format!("{what} {} is there twice", thing[key]));
        }
    }
}

/// What Kubernetes' types do not know, or know in another form.
pub fn lost(pod: &Value) -> Vec<String> {
    let read: Pod = match serde_json::from_value(pod.clone()) {
        Ok(read) => read,
        Err(error) => return vec![format!("it is no Pod of Kubernetes: {error}")],
    };
    let again = serde_json::to_value(read).unwrap_or_default();
    let mut lost = Vec::new();
    compare("", pod, &again, &mut lost);
    lost
}

fn compare(path: &str, before: &Value, after: &Value, lost: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                match after.get(key) {
                    Some(there) => compare(&format!("{path}/{key}"), value, there, lost),
                    // An empty list or mapping is as good as none.
                    None if value.as_array().is_some_and(Vec::is_empty) => {}
                    None if value.as_object().is_some_and(serde_json::Map::is_empty) => {}
                    None => lost.push(format!("{path}/{key} is no field of Kubernetes")),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                compare(&format!("{path}/{index}"), before, after, lost);
            }
        }
        (Value::Number(_), Value::String(_)) => {}
        _ if before == after => {}
        _ => lost.push(format!("{path} is {before}, and Kubernetes reads {after}")),
    }
}
