//! Whether what came of a pod is what the case expects.

use base64::{Engine, prelude::BASE64_STANDARD};
use routing::injection::{SKIPPED, patched};
use serde_json::Value;

use super::Came;

/// What is not as it should be.
pub(super) fn judge(case: &Value, came: &Came) -> Vec<String> {
    let verdict = case["verdict"].as_str().unwrap_or("injected");
    let reason = case["reason"].as_str().unwrap_or_default();
    match (verdict, came) {
        ("injected", Came::Injected(pod, warnings)) => facts(case, pod, warnings),
        ("skipped", Came::Skipped(why)) | ("refused", Came::Refused(why)) => {
            // Why it is skipped is not told to an API server.
            if why.is_empty() || why.contains(reason) { Vec::new() } else { vec![format!("{verdict}, but for: {why}")] }
        }
        (_, Came::Injected(..)) => vec![format!("{verdict} was expected, and it was injected")],
        (_, Came::Skipped(why)) => vec![format!("{verdict} was expected, and it was skipped: {why}")],
        (_, Came::Refused(why)) => vec![format!("{verdict} was expected, and it was refused: {why}")],
    }
}

/// What came of a pod, by the answer of a webhook.
pub(super) fn came_of(review: &Value, pod: &Value) -> Result<Came, String> {
    let response = &review["response"];
    if response["uid"] != "9c1f" {
        return Err(format!("the answer is about another question: {review}"));
    }
    if response["allowed"] == false {
        return Ok(Came::Refused(response["status"]["message"].as_str().unwrap_or_default().to_owned()));
    }
    let Some(encoded) = response["patch"].as_str() else {
        return Ok(Came::Skipped(String::new()));
    };
    let bytes = BASE64_STANDARD.decode(encoded).map_err(|error| error.to_string())?;
    let operations: Vec<Value> = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let warnings = response["warnings"].as_array().into_iter().flatten();
    let warnings = warnings.filter_map(|it| it.as_str().map(str::to_owned)).collect();
    let made = patched(pod, &operations)?;
    match made["metadata"]["annotations"][SKIPPED].as_str() {
        Some(why) => Ok(Came::Skipped(why.to_owned())),
        None => Ok(Came::Injected(made, warnings)),
    }
}

fn facts(case: &Value, pod: &Value, warnings: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    for (place, wanted) in entries(&case["expect"]) {
        let found = match place.split_once(':').filter(|(name, _)| !name.starts_with('/')) {
            Some((name, pointer)) => container(pod, name).and_then(|it| it.pointer(pointer)),
            None => pod.pointer(place),
        };
        if found.unwrap_or(&Value::Null) != wanted {
            faults.push(format!("{place} is {}, not {wanted}", found.unwrap_or(&Value::Null)));
        }
    }
    let proxy = container(pod, "istio-proxy").cloned().unwrap_or_default();
    for (name, wanted) in entries(&case["env"]) {
        let found = list(&proxy["env"]).iter().rfind(|it| it["name"] == name.as_str());
        let found = found.map_or(Value::Null, |it| read(&it["value"], wanted));
        if found != *wanted {
            faults.push(format!("variable {name} is {found}, not {wanted}"));
        }
    }
    for (key, name) in [("args", "istio-proxy"), ("init", "istio-init")] {
        let wanted = list(&case[key]);
        let found = container(pod, name).map(|it| list(&it["args"])).unwrap_or_default();
        if !wanted.is_empty() && !found.windows(wanted.len()).any(|it| it == wanted) {
            faults.push(format!("arguments of {name} are {found:?}"));
        }
    }
    let wanted = list(&case["warnings"]);
    let is_there = |it: &Value| warnings.iter().any(|warning| warning.contains(it.as_str().unwrap_or_default()));
    if wanted.len() != warnings.len() || !wanted.iter().all(is_there) {
        faults.push(format!("the warnings are {warnings:?}"));
    }
    faults
}

/// A variable's value, as JSON when that is what is wanted.
fn read(value: &Value, wanted: &Value) -> Value {
    match value.as_str() {
        Some(text) if wanted.is_object() => serde_json::from_str(text).unwrap_or_default(),
        _ => value.clone(),
    }
}

fn container<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    let all = list(&pod["spec"]["containers"]).iter().chain(list(&pod["spec"]["initContainers"]));
    all.into_iter().find(|it| it["name"] == name)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}
