//! What an earlier injection put into a pod, ours or Istio's, is taken out again, so that injecting twice is injecting once.

use serde_json::{Map, Value};

use super::json::{items, list, map, name, text};
use super::{PROXY, SKIPPED, STATUS, metrics, overrides, probes, status};

/// A pod as it was before it was injected; one that was not is as it is.
pub(super) fn without(pod: &Value) -> Value {
    let mut pod = pod.clone();
    // It was another's verdict, or one before something was changed.
    if let Some(Value::Object(annotations)) = pod.pointer_mut("/metadata/annotations") {
        annotations.remove(SKIPPED);
    }
    let said = text(&pod, "/metadata/annotations/sidecar.istio.io~1status").to_owned();
    let Ok(Value::Object(said)) = serde_json::from_str::<Value>(&said) else { return pod };
    let proxy = find(&pod, PROXY).cloned().unwrap_or_default();
    let variable = |wanted: &str| {
        items(&proxy, "/env").iter().find(|it| name(it) == wanted).map(|it| text(it, "/value").to_owned())
    };
    for part in ["initContainers", "containers", "volumes", "imagePullSecrets"] {
        remove(&mut pod, part, &said);
    }
    if let Some(originals) = variable(probes::VARIABLE) {
        probes::restore(&mut pod, &originals);
    }
    let ports = ports(&pod, &proxy);
    metrics::restore(&mut pod, variable(metrics::VARIABLE).as_deref(), &ports);
    overrides::restore(&mut pod);
    for annotation in status::annotations(&said) {
        map(&mut pod["metadata"], "annotations").remove(&annotation);
    }
    for label in status::labels(&said) {
        map(&mut pod["metadata"], "labels").remove(&label);
    }
    status::restore_security(&mut pod, &said);
    map(&mut pod["metadata"], "annotations").remove(STATUS);
    pod
}

/// Where an earlier proxy has metrics: a port of its arguments, as ours has it; of the annotation or as usual, as Istio's does;
/// and that of metrics alone, as gateways say.
fn ports(pod: &Value, proxy: &Value) -> Vec<String> {
    let argument = items(proxy, "/args").iter().find_map(|it| it.as_str()?.strip_prefix("--probes=:"));
    let annotated = text(pod, "/metadata/annotations/status.sidecar.istio.io~1port");
    let of_sidecar = argument.unwrap_or(if annotated.is_empty() { "15020" } else { annotated });
    vec![of_sidecar.to_owned(), "15090".to_owned()]
}

fn find<'a>(pod: &'a Value, wanted: &str) -> Option<&'a Value> {
    let all = items(pod, "/spec/containers").iter().chain(items(pod, "/spec/initContainers"));
    all.into_iter().find(|it| name(it) == wanted)
}

fn remove(pod: &mut Value, part: &str, said: &Map<String, Value>) {
    let Some(Value::Array(names)) = said.get(part) else { return };
    list(&mut pod["spec"], part).retain(|it| !names.iter().any(|gone| gone.as_str() == Some(name(it))));
}
