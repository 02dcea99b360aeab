//! Workloads: who they are, which ports they have, how they show up in metrics.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{
    context::Context,
    proxy::{Proxy, is_subset, spiffe_id},
};
use crate::{
    api::{Deployment, Pod, WorkloadEntry, WorkloadGroup, pod::PodSpec, service::TargetPort},
    locality::Locality,
    problem::Severity,
    resources::{Object, Resources},
    snapshot::Workload,
};

/// What the configuration says about one workload.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct WorkloadFacts {
    /// Name of its owner (Deployment...), else its own.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Labels of the pod.
    pub labels: BTreeMap<String, String>,
    /// Service account, `default` when none is named.
    pub service_account: String,
    /// Addresses of its pods; empty when unknown.
    pub addresses: Vec<IpAddr>,
    /// Declared container ports.
    pub ports: Vec<WorkloadPort>,
}

/// A container port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WorkloadPort {
    /// Name that a Service's `targetPort` may use; may be empty.
    pub name: String,
    /// Number.
    pub number: u16,
}

/// Find a workload by name: a Pod, else a WorkloadEntry, else a Deployment, StatefulSet or DaemonSet (its addresses are
/// those of its pods), else a WorkloadGroup. `None` when there is no such object.
pub fn workload(resources: &Resources, namespace: &str, name: &str) -> Option<WorkloadFacts> {
    if let Some(pod) = resources.pods.get(namespace, name) {
        return Some(pod_facts(resources, pod));
    }
    if let Some(entry) = resources.workload_entries.get(namespace, name) {
        return Some(entry_facts(entry));
    }
    if let Some(deployment) = resources.deployments.get(namespace, name) {
        return Some(template_facts(resources, deployment));
    }
    resources.workload_groups.get(namespace, name).map(|group| group_facts(group))
}

/// What a WorkloadGroup says about each of its workloads; their addresses are their own.
fn group_facts(group: &Object<WorkloadGroup>) -> WorkloadFacts {
    let template = group.spec.template.clone().unwrap_or_default();
    let ports = template.ports.into_iter().map(|(name, number)| WorkloadPort { name, number });
    let mut labels = group.spec.metadata.clone().unwrap_or_default().labels;
    labels.extend(template.labels);
    WorkloadFacts {
        name: group.name().to_owned(),
        namespace: group.namespace().to_owned(),
        labels,
        service_account: template.service_account.unwrap_or_else(|| "default".to_owned()),
        addresses: Vec::new(),
        ports: ports.collect(),
    }
}

/// What a Deployment, StatefulSet or DaemonSet says about its pods; its addresses are theirs.
pub fn template_facts(resources: &Resources, deployment: &Object<Deployment>) -> WorkloadFacts {
    let template = &deployment.spec.spec.template;
    let labels = &template.metadata.labels;
    let pods = resources.pods.in_namespace(deployment.namespace()).iter();
    let own = pods.filter(|pod| !labels.is_empty() && is_subset(labels, &pod.meta.labels));
    WorkloadFacts {
        name: deployment.name().to_owned(),
        namespace: deployment.namespace().to_owned(),
        labels: labels.clone(),
        service_account: template.spec.account().to_owned(),
        addresses: own.filter_map(|pod| pod.spec.status.pod_ip.parse().ok()).collect(),
        ports: container_ports(&template.spec),
    }
}

/// The sidecar's own workload; an unknown one is reported and has no labels and no ports.
pub(super) fn own(context: &Context<'_>, namespace: &str, name: &str) -> WorkloadFacts {
    workload(context.resources, namespace, name).unwrap_or_else(|| {
        let message = format!(
            "no Pod, WorkloadEntry, Deployment, StatefulSet or DaemonSet `{name}` in namespace `{namespace}`; the sidecar \
             knows neither labels nor ports of its workload until there is one"
        );
        context.report.general(Severity::Warning, "unknown-workload", message);
        WorkloadFacts {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            labels: context.proxy.labels.clone(),
            service_account: context.proxy.service_account.clone(),
            ..WorkloadFacts::default()
        }
    })
}

/// A gateway describes itself by its command line.
pub(super) fn of_gateway(proxy: &Proxy) -> Workload {
    let facts = WorkloadFacts {
        name: proxy.name.clone(),
        namespace: proxy.namespace.clone(),
        labels: proxy.labels.clone(),
        service_account: proxy.service_account.clone(),
        ..WorkloadFacts::default()
    };
    facts.metrics(&proxy.trust_domain)
}

/// A pod tells about itself. One that was written by hand, without containers or account, has its owner's.
pub fn pod_facts(resources: &Resources, pod: &Object<Pod>) -> WorkloadFacts {
    let name = owner_of(resources, pod);
    let owner = resources.deployments.get(pod.namespace(), &name).map(|owner| &owner.spec.spec.template.spec);
    let own = &pod.spec.spec;
    let silent = own.service_account_name.is_empty() && own.service_account.is_empty();
    let account = owner.filter(|_| silent).unwrap_or(own).account();
    let containers = owner.filter(|_| own.containers.is_empty()).unwrap_or(own);
    WorkloadFacts {
        service_account: account.to_owned(),
        ports: container_ports(containers),
        name,
        namespace: pod.namespace().to_owned(),
        labels: pod.meta.labels.clone(),
        addresses: pod.spec.status.pod_ip.parse().into_iter().collect(),
    }
}

/// Where a pod is, by its own label, else by its Node; and the name of its Node.
pub fn whereabouts(resources: &Resources, pod: &Object<Pod>) -> (Locality, String) {
    let node = pod.spec.spec.node_name.clone();
    let locality = Locality::of_pod(&pod.meta.labels).or_else(|| of_node(resources, &node));
    (locality.unwrap_or_default(), node)
}

/// Where a Node is, if it is known.
pub(super) fn of_node(resources: &Resources, name: &str) -> Option<Locality> {
    // Nodes have no namespace, and objects without one have Kubernetes' default.
    let node = resources.nodes.get("default", name)?;
    Some(Locality::of_node(&node.meta.labels)).filter(|locality| !locality.is_unknown())
}

/// What a WorkloadEntry says about its workload.
pub fn entry_facts(entry: &Object<WorkloadEntry>) -> WorkloadFacts {
    let ports = entry.spec.ports.iter().map(|(name, &number)| WorkloadPort { name: name.clone(), number });
    let mut labels = entry.meta.labels.clone();
    labels.extend(entry.spec.labels.clone());
    WorkloadFacts {
        name: entry.name().to_owned(),
        namespace: entry.namespace().to_owned(),
        labels,
        service_account: entry.spec.service_account.clone().unwrap_or_else(|| "default".to_owned()),
        addresses: entry.spec.address.parse().into_iter().collect(),
        ports: ports.collect(),
    }
}

impl WorkloadFacts {
    /// As Istio's metrics name it.
    pub(super) fn metrics(&self, trust_domain: &str) -> Workload {
        let principal = spiffe_id(trust_domain, &self.namespace, &self.service_account);
        describe(&self.name, &self.namespace, &self.labels, &principal)
    }

    /// The workload port that a Service's `targetPort` means; `None` when no container port has that name.
    pub(super) fn target_port(&self, target: Option<&TargetPort>, service_port: u16) -> Option<u16> {
        match target {
            None | Some(TargetPort::Number(0)) => Some(service_port),
            Some(TargetPort::Number(number)) => Some(*number),
            Some(TargetPort::Name(name)) => {
                self.ports.iter().find(|port| port.name == *name).map(|port| port.number).or_else(|| name.parse().ok())
            }
        }
    }
}

/// A workload's metric labels, with Istio's fallbacks for the canonical names.
pub(super) fn describe(name: &str, namespace: &str, labels: &BTreeMap<String, String>, principal: &str) -> Workload {
    let label = |key: &str| labels.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let service = label("service.istio.io/canonical-name")
        .or_else(|| label("app.kubernetes.io/name"))
        .or_else(|| label("app"))
        .unwrap_or(name);
    let revision = label("service.istio.io/canonical-revision")
        .or_else(|| label("app.kubernetes.io/version"))
        .or_else(|| label("version"))
        .unwrap_or("latest");
    Workload {
        name: name.into(),
        namespace: namespace.into(),
        canonical_service: service.into(),
        canonical_revision: revision.into(),
        app: label("app").unwrap_or_default().into(),
        version: label("version").unwrap_or_default().into(),
        cluster: Arc::default(),
        principal: Arc::from(principal),
    }
}

fn container_ports(spec: &PodSpec) -> Vec<WorkloadPort> {
    let ports = spec.containers.iter().flat_map(|container| &container.ports);
    ports
        .filter(|port| matches!(port.protocol.as_str(), "" | "TCP"))
        .map(|port| WorkloadPort { name: port.name.clone(), number: port.container_port })
        .collect()
}

/// The name of what made a pod: Istio's `workload` label. Kubernetes names pods after their owners.
fn owner_of(resources: &Resources, pod: &Object<Pod>) -> String {
    let name = pod.name();
    let hash = pod.meta.labels.get("pod-template-hash");
    if let Some(at) = hash.and_then(|hash| name.find(&format!("-{hash}-"))) {
        return name[..at].to_owned();
    }
    let owners = resources.deployments.in_namespace(pod.namespace()).iter();
    let named = owners.filter(|owner| name.strip_prefix(owner.name()).is_some_and(|rest| rest.starts_with('-')));
    let fitting = named.filter(|owner| is_subset(&owner.spec.spec.template.metadata.labels, &pod.meta.labels));
    fitting.map(|owner| owner.name()).max_by_key(|owner| owner.len()).unwrap_or(name).to_owned()
}
