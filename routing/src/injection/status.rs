//! What is written on an injected pod about its injection: labels, annotations, and the record that lets it be undone.

use serde_json::{Map, Value, json};

use super::decision::REVISION;
use super::json::{items, map, name, text};
use super::overrides::{self, Own};
use super::template::{Draft, SIDECAR};
use super::{INIT, PROXY, STATUS, volumes};

/// Record of the annotations and labels that the pod did not have.
const ADDED_ANNOTATIONS: &str = "annotations";
const ADDED_LABELS: &str = "labels";
/// Record of the kernel settings that the pod did not ask for.
const ADDED_SYSCTLS: &str = "sysctls";
/// What lets a process bind ports below 1024.
pub(super) const LOW_PORTS: &str = "net.ipv4.ip_unprivileged_port_start";

/// Longest value of a label.
const LABEL: usize = 63;

/// Writes them. Labels and annotations that the pod has already stay as they are.
pub(super) fn write(pod: &mut Value, draft: Draft<'_>, own: &Own) {
    let settings = draft.context.settings;
    let is_sidecar = draft.wishes.templates.iter().any(|it| it == SIDECAR);
    let mut labels: Vec<(&str, String)> = Vec::new();
    if is_sidecar {
        labels.push(("security.istio.io/tlsMode", "istio".to_owned()));
    }
    let first = |wanted: &[&str]| {
        let found = wanted.iter().map(|label| text(pod, &format!("/metadata/labels/{}", label.replace('/', "~1"))));
        found.into_iter().find(|value| !value.is_empty()).map(str::to_owned)
    };
    let service = first(&["app.kubernetes.io/name", "app"]).unwrap_or_else(|| cut(&draft.workload.name));
    labels.push(("service.istio.io/canonical-name", service));
    let version = first(&["app.kubernetes.io/version", "version"]).unwrap_or_else(|| "latest".to_owned());
    labels.push(("service.istio.io/canonical-revision", version));
    if let Some(network) = draft.network() {
        labels.push(("topology.istio.io/network", network));
    }
    let mut annotations: Vec<(String, String)> = vec![(REVISION.to_owned(), settings.revision.clone())];
    let apps = items(pod, "/spec/containers").iter().map(name);
    if let Some(app) = apps.filter(|it| *it != PROXY).map(str::to_owned).next() {
        for annotation in ["default-container", "default-logs-container"] {
            annotations.push((format!("kubectl.kubernetes.io/{annotation}"), app.clone()));
        }
    }
    annotations.extend(settings.annotations.clone());
    let labels =
        add(map(&mut pod["metadata"], "labels"), labels.into_iter().map(|(key, value)| (key.to_owned(), value)));
    let mut added = add(map(&mut pod["metadata"], "annotations"), annotations);
    added.extend(overrides::record(pod, own));
    let said = record(pod, draft, (labels, added));
    map(&mut pod["metadata"], "annotations").insert(STATUS.to_owned(), said.to_string().into());
}

fn record(pod: &Value, draft: Draft<'_>, (labels, annotations): (Vec<String>, Vec<String>)) -> Value {
    let named = |pointer: &str, ours: &dyn Fn(&str) -> bool| -> Value {
        let names = items(pod, pointer).iter().map(name).filter(|it| ours(it));
        names.map(Value::from).collect::<Vec<_>>().into()
    };
    let container = |it: &str| it == PROXY || it == INIT;
    let volumes: Vec<String> =
        volumes::names(draft).into_iter().filter(|it| !draft.wishes.own_volumes.contains(it)).collect();
    let secrets = &draft.context.settings.pull_secrets;
    let secret =
        |it: &str| secrets.iter().any(|secret| secret == it) && !draft.wishes.own_secrets.iter().any(|own| own == it);
    json!({
        "initContainers": named("/spec/initContainers", &container),
        "containers": named("/spec/containers", &container),
        "volumes": named("/spec/volumes", &|it| volumes.iter().any(|volume| volume == it)),
        "imagePullSecrets": named("/spec/imagePullSecrets", &secret),
        "revision": draft.context.settings.revision,
        ADDED_LABELS: labels,
        ADDED_ANNOTATIONS: annotations,
        ADDED_SYSCTLS: draft.sysctls(),
    })
}

/// Adds what is missing; gives the keys of that.
fn add(to: &mut Map<String, Value>, wanted: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    let mut added = Vec::new();
    for (key, value) in wanted {
        if !to.contains_key(&key) {
            to.insert(key.clone(), value.into());
            added.push(key);
        }
    }
    added
}

/// Annotations that an injection added. An injection by Istio, which does not tell, adds those that only it writes.
pub(super) fn annotations(said: &Map<String, Value>) -> Vec<String> {
    told(said, ADDED_ANNOTATIONS).unwrap_or_else(|| vec![REVISION.to_owned()])
}

/// Labels that an injection added.
pub(super) fn labels(said: &Map<String, Value>) -> Vec<String> {
    told(said, ADDED_LABELS).unwrap_or_else(|| vec!["security.istio.io/tlsMode".to_owned()])
}

/// Takes the kernel settings away that an injection added.
pub(super) fn restore_security(pod: &mut Value, said: &Map<String, Value>) {
    let added = told(said, ADDED_SYSCTLS).unwrap_or_default();
    let Some(Value::Object(security)) = pod.pointer_mut("/spec/securityContext") else { return };
    if let Some(Value::Array(sysctls)) = security.get_mut("sysctls") {
        sysctls.retain(|it| !added.iter().any(|gone| gone == name(it)));
        if sysctls.is_empty() {
            security.remove("sysctls");
        }
    }
    let emptied = security.is_empty() && !added.is_empty();
    if emptied && let Some(Value::Object(spec)) = pod.pointer_mut("/spec") {
        spec.remove("securityContext");
    }
}

fn told(said: &Map<String, Value>, part: &str) -> Option<Vec<String>> {
    let names = said.get(part)?.as_array()?;
    Some(names.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect())
}

/// As much of a name as a label holds.
fn cut(name: &str) -> String {
    name.get(..LABEL).unwrap_or(name).trim_end_matches(['-', '.', '_']).to_owned()
}
