//! The workloads behind a service: pods, and what stands for pods that nobody told of.

use std::collections::BTreeMap;

use routing::{
    api,
    compile::{WorkloadFacts, entry_facts, has_sidecar, pod_facts, selects, template_facts},
    resources::{Object, Resources},
};

use super::report;

/// A workload with all that the configuration says of it.
#[derive(Debug)]
pub(super) struct Backend {
    /// As `Pod`.
    pub(super) kind: &'static str,
    /// Its own name, not its owner's.
    pub(super) name: String,
    /// The rest.
    pub(super) facts: WorkloadFacts,
    /// `None`: not known.
    pub(super) sidecar: Option<bool>,
}

impl Backend {
    /// As `Pod reviews-v1-x`.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }

    /// For the description.
    pub(super) fn report(&self) -> report::Backend {
        let (kind, name, sidecar) = (self.kind, self.name.clone(), self.sidecar);
        report::Backend { kind, name, labels: self.facts.labels.clone(), sidecar }
    }
}

/// What a selector picks in a namespace: pods that run, WorkloadEntries, and Deployments and their like without a pod.
pub(super) fn selected(resources: &Resources, namespace: &str, selector: &BTreeMap<String, String>) -> Vec<Backend> {
    if selector.is_empty() {
        return Vec::new();
    }
    let pods = resources.pods.in_namespace(namespace).iter().filter(|pod| !has_ended(pod));
    let mut found: Vec<Backend> = pods.map(|pod| of_pod(resources, pod)).collect();
    let templates = resources.deployments.in_namespace(namespace).iter();
    let alone = templates.filter(|it| {
        let labels = &it.spec.spec.template.metadata.labels;
        labels.is_empty() || !found.iter().any(|pod| selects(labels, &pod.facts.labels))
    });
    let alone: Vec<Backend> = alone.map(|it| of_template(resources, it)).collect();
    found.extend(alone);
    found.extend(resources.workload_entries.in_namespace(namespace).iter().map(|it| of_entry(it)));
    found.retain(|backend| selects(selector, &backend.facts.labels));
    found
}

/// A workload by name: a Pod, else a WorkloadEntry, else a Deployment, StatefulSet or DaemonSet.
pub(super) fn named(resources: &Resources, namespace: &str, name: &str) -> Option<Backend> {
    if let Some(pod) = resources.pods.get(namespace, name) {
        return Some(of_pod(resources, pod));
    }
    if let Some(entry) = resources.workload_entries.get(namespace, name) {
        return Some(of_entry(entry));
    }
    resources.deployments.get(namespace, name).map(|object| of_template(resources, object))
}

fn has_ended(pod: &Object<api::Pod>) -> bool {
    matches!(pod.spec.status.phase.as_str(), "Succeeded" | "Failed")
}

fn of_pod(resources: &Resources, pod: &Object<api::Pod>) -> Backend {
    let sidecar = Some(has_sidecar(&pod.meta.labels));
    Backend { kind: pod.kind.name(), name: pod.name().to_owned(), facts: pod_facts(resources, pod), sidecar }
}

fn of_entry(entry: &Object<api::WorkloadEntry>) -> Backend {
    let facts = entry_facts(entry);
    let sidecar = Some(has_sidecar(&facts.labels));
    Backend { kind: entry.kind.name(), name: entry.name().to_owned(), facts, sidecar }
}

/// The injector adds sidecars to pods and not to templates, so a template tells only that there will be none.
fn of_template(resources: &Resources, object: &Object<api::Deployment>) -> Backend {
    let facts = template_facts(resources, object);
    let meta = &object.spec.spec.template.metadata;
    let wanted = meta.labels.get("sidecar.istio.io/inject").or_else(|| meta.annotations.get("sidecar.istio.io/inject"));
    let sidecar = match wanted.map(String::as_str) {
        _ if has_sidecar(&facts.labels) => Some(true),
        Some("false") => Some(false),
        _ => None,
    };
    Backend { kind: object.kind.name(), name: object.name().to_owned(), facts, sidecar }
}
