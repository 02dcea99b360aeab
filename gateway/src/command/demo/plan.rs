//! What a folder asks for: which gateways and which pods a cluster would run for it.

use std::collections::{BTreeMap, BTreeSet};

use routing::{
    api::{self, Deployment, gateway::ServerTlsMode},
    resources::{Object, Resources},
};

/// Everything that has to run.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// One gateway process each.
    pub(crate) gateways: Vec<GatewayPlan>,
    /// One sidecar and one application each.
    pub(crate) pods: Vec<PodPlan>,
}

/// One gateway process.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct GatewayPlan {
    /// Name of its Deployment, else Istio's for the default labels, else that of the first Gateway it serves.
    pub(crate) name: String,
    /// Its namespace: where its Secrets are.
    pub(crate) namespace: String,
    /// Labels that the Gateways select.
    pub(crate) labels: BTreeMap<String, String>,
    /// Service account.
    pub(crate) service_account: String,
    /// Ports of all servers, as the Gateways name them.
    pub(crate) ports: BTreeSet<u16>,
    /// Secrets that its servers name and the folder does not have.
    pub(crate) credentials: Vec<Credential>,
}

/// A server certificate that has to be made.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Credential {
    /// Name of the Secret, in the gateway's namespace.
    pub(crate) name: String,
    /// Hosts it is for, wildcards included.
    pub(crate) hosts: BTreeSet<String>,
}

/// One pod: an application with its sidecar.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct PodPlan {
    /// Namespace.
    pub(crate) namespace: String,
    /// Pod name.
    pub(crate) name: String,
    /// Labels out of the pod template, and the one by which sidecars are known.
    pub(crate) labels: BTreeMap<String, String>,
    /// Annotations out of the pod template.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Service account.
    pub(crate) service_account: String,
    /// Container ports: (name, number).
    pub(crate) ports: Vec<(String, u16)>,
    /// The Service that selects it, else its `app` label, else its Deployment.
    pub(crate) service: String,
}

impl Plan {
    /// Reads the plan out of the folder's objects.
    pub(crate) fn of(resources: &Resources) -> Self {
        let mut plan = Self { gateways: gateways(resources), pods: Vec::new() };
        for deployment in resources.deployments.iter() {
            let labels = &deployment.spec.spec.template.metadata.labels;
            let runs_a_gateway = resources.gateways.iter().any(|gateway| selects(&gateway.spec.selector, labels));
            if !runs_a_gateway {
                plan.pods.extend(pods(resources, deployment));
            }
        }
        plan
    }
}

impl GatewayPlan {
    /// Whether this gateway serves a Gateway.
    pub(crate) fn serves(&self, gateway: &api::Gateway) -> bool {
        selects_or_empty(&gateway.selector, &self.labels)
    }
}

/// One gateway for every different set of labels that Gateways select.
fn gateways(resources: &Resources) -> Vec<GatewayPlan> {
    let mut all: Vec<GatewayPlan> = Vec::new();
    // The empty selector names nobody; it is served by whatever gateways there are.
    let (mut named, unnamed): (Vec<_>, Vec<_>) = resources.gateways.iter().partition(|it| !it.spec.selector.is_empty());
    // A gateway whose labels a longer selector gave serves the shorter ones as well.
    named.sort_by_key(|gateway| std::cmp::Reverse(gateway.spec.selector.len()));
    for gateway in named.into_iter().chain(unnamed) {
        if all.iter().any(|plan| plan.serves(&gateway.spec)) {
            continue;
        }
        all.push(gateway_for(resources, gateway));
    }
    for plan in &mut all {
        plan.ports =
            servers(resources, plan).filter_map(|server| server.port.as_ref()).map(|port| port.number).collect();
        plan.credentials = credentials(resources, plan);
    }
    all
}

fn gateway_for(resources: &Resources, gateway: &Object<api::Gateway>) -> GatewayPlan {
    let selector = &gateway.spec.selector;
    let deployment = resources
        .deployments
        .iter()
        .find(|deployment| selects(selector, &deployment.spec.spec.template.metadata.labels));
    let (name, namespace, labels, service_account) = match deployment {
        Some(found) => {
            let template = &found.spec.spec.template;
            (found.name(), found.namespace(), template.metadata.labels.clone(), template.spec.account())
        }
        None => {
            let labels =
                if selects_or_empty(selector, &default_labels()) { default_labels() } else { selector.clone() };
            let name = if labels == default_labels() { DEFAULT_NAME } else { gateway.name() };
            (name, gateway.namespace(), labels, DEFAULT_NAME)
        }
    };
    GatewayPlan {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        labels,
        service_account: service_account.to_owned(),
        ports: BTreeSet::new(),
        credentials: Vec::new(),
    }
}

fn servers<'a>(resources: &'a Resources, plan: &'a GatewayPlan) -> impl Iterator<Item = &'a api::gateway::Server> {
    let served = resources.gateways.iter().filter(|gateway| plan.serves(&gateway.spec));
    served.flat_map(|gateway| &gateway.spec.servers)
}

fn credentials(resources: &Resources, plan: &GatewayPlan) -> Vec<Credential> {
    let mut hosts: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for server in servers(resources, plan) {
        let Some(tls) = server.tls.as_ref().filter(|tls| terminates(tls.mode)) else { continue };
        // Several names stand for several key types of the same hosts.
        for name in tls.credential_name.iter().chain(&tls.credential_names) {
            if resources.secrets.get(&plan.namespace, name).is_none() {
                hosts.entry(name).or_default().extend(server.hosts.iter().flat_map(|host| names_for(resources, host)));
            }
        }
    }
    hosts.into_iter().map(|(name, hosts)| Credential { name: name.to_owned(), hosts }).collect()
}

fn terminates(mode: ServerTlsMode) -> bool {
    matches!(mode, ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual)
}

/// The certificate names of one `[namespace/]host`. No certificate is for every host, so `*` stands for this machine and
/// for whatever VirtualServices name.
fn names_for(resources: &Resources, host: &str) -> Vec<String> {
    let host = host.rsplit('/').next().unwrap_or(host);
    if host != "*" {
        return vec![host.to_owned()];
    }
    let routed = resources.virtual_services.iter().filter(|service| !service.spec.gateways.is_empty());
    let hosts = routed.flat_map(|service| &service.spec.hosts).filter(|host| host.contains('.')).cloned();
    hosts.chain(["localhost".to_owned()]).collect()
}

fn pods(resources: &Resources, deployment: &Object<Deployment>) -> Vec<PodPlan> {
    let template = &deployment.spec.spec.template;
    let labels = &template.metadata.labels;
    let selecting = resources
        .services
        .in_namespace(deployment.namespace())
        .iter()
        .find(|service| selects(&service.spec.spec.selector, labels));
    let service = match (selecting, labels.get("app")) {
        (Some(service), _) => service.name(),
        (None, Some(app)) => app,
        (None, None) => deployment.name(),
    };
    let ports = template.spec.containers.iter().flat_map(|container| &container.ports);
    let tcp = ports.filter(|port| matches!(port.protocol.as_str(), "" | "TCP") && port.container_port != 0);
    let pod = |number: u32| PodPlan {
        namespace: deployment.namespace().to_owned(),
        name: format!("{}-{number}", deployment.name()),
        labels: with_sidecar(labels),
        annotations: template.metadata.annotations.clone(),
        service_account: template.spec.account().to_owned(),
        ports: tcp.clone().map(|port| (port.name.clone(), port.container_port)).collect(),
        service: service.to_owned(),
    };
    (0..deployment.spec.spec.replicas.unwrap_or(1)).map(pod).collect()
}

/// Istio's injector marks pods that have a sidecar; clients without a DestinationRule choose mutual TLS by it.
fn with_sidecar(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut labels = labels.clone();
    labels.insert("security.istio.io/tlsMode".to_owned(), "istio".to_owned());
    labels
}

/// Whether a selector that says something holds for labels.
fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && selects_or_empty(selector, labels)
}

fn selects_or_empty(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// As Istio labels its ingress gateway: some select it by the one, some by the other.
fn default_labels() -> BTreeMap<String, String> {
    let labels = [("app", DEFAULT_NAME), ("istio", "ingressgateway")];
    labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Name and service account of a gateway that has no Deployment in the folder, as Istio installs it.
const DEFAULT_NAME: &str = "istio-ingressgateway";

#[cfg(test)]
pub(crate) mod tests;
