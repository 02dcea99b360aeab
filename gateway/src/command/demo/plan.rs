//! What a folder asks for: which gateways and which pods a cluster would run for it.

mod applications;
mod credentials;

use std::collections::{BTreeMap, BTreeSet};

use routing::{
    api::{self, Deployment},
    resources::{Object, Resources},
};

pub(crate) use applications::{Application, OwnTls};
pub(crate) use credentials::{ClientCredential, Credential};

/// Everything that has to run.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// One gateway process each.
    pub(crate) gateways: Vec<GatewayPlan>,
    /// One application each, and mostly a sidecar.
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
    /// Secrets that it needs as a client of applications of the demo.
    pub(crate) client_credentials: BTreeSet<ClientCredential>,
    /// The Services that select it, with the name and number of each port.
    pub(crate) services: BTreeMap<String, Vec<(String, u16)>>,
}

/// One pod: an application, mostly with a sidecar.
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
    /// Whether a sidecar stands in front.
    pub(crate) sidecar: bool,
    /// What its application speaks.
    pub(crate) application: Application,
}

impl Plan {
    /// Reads the plan out of the folder's objects.
    ///
    /// # Errors
    /// A sentence about what is meant for the demo alone and cannot be understood.
    pub(crate) fn of(resources: &Resources) -> anyhow::Result<Self> {
        let mut plan = Self { gateways: gateways(resources), pods: Vec::new() };
        for deployment in resources.deployments.iter() {
            let labels = &deployment.spec.spec.template.metadata.labels;
            let runs_a_gateway = resources.gateways.iter().any(|gateway| selects(&gateway.spec.selector, labels));
            if !runs_a_gateway {
                plan.pods.extend(pods(resources, deployment)?);
            }
        }
        for gateway in &mut plan.gateways {
            gateway.client_credentials = credentials::of_rules(resources, gateway, &plan.pods);
        }
        Ok(plan)
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
        plan.credentials = credentials::of_servers(resources, plan);
        plan.services = services(resources, plan);
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
            let installed = INSTALLED.iter().find(|known| selects_or_empty(selector, &known.labels()));
            match installed {
                Some(known) => (known.name, gateway.namespace(), known.labels(), known.name),
                None => (gateway.name(), gateway.namespace(), selector.clone(), INSTALLED[0].name),
            }
        }
    };
    GatewayPlan {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        labels,
        service_account: service_account.to_owned(),
        ports: BTreeSet::new(),
        credentials: Vec::new(),
        client_credentials: BTreeSet::new(),
        services: BTreeMap::new(),
    }
}

/// The Services by which others in the mesh find a gateway.
fn services(resources: &Resources, plan: &GatewayPlan) -> BTreeMap<String, Vec<(String, u16)>> {
    let own = resources.services.in_namespace(&plan.namespace).iter();
    let selecting = own.filter(|service| selects(&service.spec.spec.selector, &plan.labels));
    let ports = |service: &Object<api::Service>| {
        let tcp = service.spec.spec.ports.iter().filter(|port| matches!(port.protocol.as_str(), "" | "TCP"));
        tcp.map(|port| (port.name.clone(), port.port)).collect()
    };
    selecting.map(|service| (service.name().to_owned(), ports(service))).collect()
}

fn servers<'a>(resources: &'a Resources, plan: &'a GatewayPlan) -> impl Iterator<Item = &'a api::gateway::Server> {
    let served = resources.gateways.iter().filter(|gateway| plan.serves(&gateway.spec));
    served.flat_map(|gateway| &gateway.spec.servers)
}

fn pods(resources: &Resources, deployment: &Object<Deployment>) -> anyhow::Result<Vec<PodPlan>> {
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
    let sidecar = applications::wants_sidecar(deployment);
    let application = applications::application(resources, deployment)?;
    let pod = |number: u32| PodPlan {
        namespace: deployment.namespace().to_owned(),
        name: format!("{}-{number}", deployment.name()),
        labels: if sidecar { with_sidecar(labels) } else { labels.clone() },
        annotations: template.metadata.annotations.clone(),
        service_account: template.spec.account().to_owned(),
        ports: tcp.clone().map(|port| (port.name.clone(), port.container_port)).collect(),
        service: service.to_owned(),
        sidecar,
        application: application.clone(),
    };
    Ok((0..deployment.spec.spec.replicas.unwrap_or(1)).map(pod).collect())
}

/// Istio's injector marks pods that have a sidecar; clients without a DestinationRule choose mutual TLS by it.
pub(crate) fn with_sidecar(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
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

/// A gateway as Istio installs it.
struct Installed {
    /// Name of its Deployment, its service account, and its label `app`.
    name: &'static str,
    /// Its label `istio`.
    istio: &'static str,
}

impl Installed {
    /// Some select it by the one label, some by the other.
    fn labels(&self) -> BTreeMap<String, String> {
        let labels = [("app", self.name), ("istio", self.istio)];
        labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

/// Gateways that have no Deployment in the folder are these, where a selector fits; the first for whatever fits none.
const INSTALLED: [Installed; 2] = [
    Installed { name: "istio-ingressgateway", istio: "ingressgateway" },
    Installed { name: "istio-egressgateway", istio: "egressgateway" },
];

#[cfg(test)]
pub(crate) mod tests;
