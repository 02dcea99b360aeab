//! What a pod says of the proxy's containers itself wins over the template, field by field.

use serde_json::{Map, Value, json};

use super::json::{list, map, name};
use super::{INIT, PROXY};

/// Annotation that keeps what the pod said, for the next injection.
const ANNOTATION: &str = "proxy.istio.io/overrides";
/// Image that stands for the template's.
const AUTO: &str = "auto";
/// The lists of a pod that hold containers.
const LISTS: [&str; 2] = ["containers", "initContainers"];

/// The pod's own `istio-proxy` and `istio-init`, each with the list it was in.
pub(super) type Own = Vec<(&'static str, Value)>;

/// Takes them out of the pod.
pub(super) fn take(pod: &mut Value) -> Own {
    let mut own = Vec::new();
    for part in LISTS {
        if !pod["spec"][part].is_array() {
            continue;
        }
        let all = list(&mut pod["spec"], part);
        let (ours, others): (Vec<Value>, Vec<Value>) =
            std::mem::take(all).into_iter().partition(|it| [PROXY, INIT].contains(&name(it)));
        *all = others;
        own.extend(ours.into_iter().map(|it| (part, it)));
    }
    own
}

/// Lays them over what the template made, wherever that put it.
pub(super) fn put_back(pod: &mut Value, own: &Own) {
    for part in LISTS {
        let Some(Value::Array(made)) = pod.pointer_mut(&format!("/spec/{part}")) else { continue };
        for container in made {
            let Some((_, over)) = own.iter().find(|(_, it)| name(it) == name(container)) else { continue };
            let image = container["image"].clone();
            merge(container, over);
            if container["image"] == AUTO || container["image"].is_null() {
                container["image"] = image;
            }
        }
    }
}

/// Keeps what the pod said; gives the annotation's name when there is something.
pub(super) fn record(pod: &mut Value, own: &Own) -> Option<String> {
    if own.is_empty() {
        return None;
    }
    let part =
        |wanted: &str| own.iter().filter(|(part, _)| *part == wanted).map(|(_, it)| it.clone()).collect::<Vec<_>>();
    let kept = json!({"containers": part("containers"), "initContainers": part("initContainers")});
    map(&mut pod["metadata"], "annotations").insert(ANNOTATION.to_owned(), kept.to_string().into());
    Some(ANNOTATION.to_owned())
}

/// Puts what the pod said back where it was.
pub(super) fn restore(pod: &mut Value) {
    let Some(Value::String(kept)) = map(&mut pod["metadata"], "annotations").remove(ANNOTATION) else { return };
    let Ok(Value::Object(kept)) = serde_json::from_str::<Value>(&kept) else { return };
    for part in LISTS {
        if let Some(Value::Array(containers)) =
            kept.get(part).filter(|it| it.as_array().is_some_and(|it| !it.is_empty()))
        {
            list(&mut pod["spec"], part).extend(containers.iter().cloned());
        }
    }
}

/// What tells the members of a list apart, where Kubernetes merges that list.
fn key_of(list: &str) -> Option<&'static str> {
    match list {
        "env" => Some("name"),
        "ports" => Some("containerPort"),
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        _ => None,
    }
}

/// As Kubernetes' strategic merge does it.
fn merge(under: &mut Value, over: &Value) {
    let (Value::Object(under), Value::Object(over)) = (under, over) else { return };
    for (field, value) in over {
        match (under.get_mut(field), value) {
            (Some(Value::Array(below)), Value::Array(above)) if key_of(field).is_some() => {
                merge_list(below, above, key_of(field).unwrap_or_default());
            }
            (Some(below @ Value::Object(_)), Value::Object(above)) if !replaces(field, above) => merge(below, value),
            _ => {
                under.insert(field.clone(), value.clone());
            }
        }
    }
}

/// Of two handlers of a probe or of a life cycle one remains.
fn replaces(field: &str, above: &Map<String, Value>) -> bool {
    let is_handler = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"].iter().any(|kind| above.contains_key(*kind));
    is_handler || matches!(field, "exec" | "httpGet" | "tcpSocket" | "grpc")
}

fn merge_list(below: &mut Vec<Value>, above: &[Value], key: &str) {
    for member in above {
        match below.iter_mut().find(|it| it[key] == member[key]) {
            // `value` and `valueFrom` exclude each other.
            Some(there) if key == "name" => *there = member.clone(),
            Some(there) => merge(there, member),
            None => below.push(member.clone()),
        }
    }
}
