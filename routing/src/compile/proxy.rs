//! Who a snapshot is compiled for.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    sync::Arc,
};

use super::networks;
use crate::{
    api::Secret,
    locality::Locality,
    mesh::Mesh,
    resources::{Object, Resources},
};

/// One proxy, as its command line and its identity describe it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Proxy {
    /// What it does.
    pub role: Role,
    /// Name of the proxy's workload (`istio-ingressgateway`), for metrics and problems.
    pub name: String,
    /// Namespace of the proxy: where `credentialName` is looked up.
    pub namespace: String,
    /// Labels of the proxy's pod: what `Gateway.selector` and `sourceLabels` compare with.
    pub labels: BTreeMap<String, String>,
    /// Service account of the proxy.
    pub service_account: String,
    /// Where it is; empty = unknown.
    pub locality: Locality,
    /// Name of its node; empty = unknown.
    pub node: String,
    /// Its network; empty = there is one only.
    pub network: String,
    /// Trust domain of its identity, as `cluster.local`.
    pub trust_domain: String,
    /// Whether that was given by hand, so that the mesh configuration does not count.
    pub trust_domain_given: bool,
    /// Where the mesh configuration is, `istio-system`: nothing in the configuration can move that.
    pub mesh_namespace: String,
    /// Istio's root namespace, `istio-system` by default: where mesh-wide policies are.
    pub root_namespace: String,
    /// The mesh configuration, as far as [`Self::within`] has looked.
    pub mesh: Arc<Mesh>,
    /// Domain of the cluster's services, `cluster.local` by default.
    pub cluster_domain: String,
    /// Of [`crate::telemetry::tracing::SHARES`] requests so many are traced where the configuration says nothing of it.
    pub trace_share: Option<u32>,
    /// Addresses of the names in [`crate::snapshot::Snapshot::names`], as far as they are resolved by now.
    pub resolved: Arc<BTreeMap<String, Vec<IpAddr>>>,
}

/// What a proxy does.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Role {
    /// Serves Istio Gateways.
    Gateway,
    /// Stands beside one workload.
    Sidecar {
        /// Namespace of the workload.
        namespace: String,
        /// Name of a Pod, WorkloadEntry, Deployment, StatefulSet or DaemonSet.
        workload: String,
    },
}

impl Default for Proxy {
    /// Istio's defaults for an ingress gateway.
    fn default() -> Self {
        Self {
            role: Role::Gateway,
            name: "istio-ingressgateway".to_owned(),
            namespace: "istio-system".to_owned(),
            labels: BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]),
            service_account: "istio-ingressgateway".to_owned(),
            locality: Locality::default(),
            node: String::new(),
            network: String::new(),
            trust_domain: "cluster.local".to_owned(),
            trust_domain_given: false,
            mesh_namespace: "istio-system".to_owned(),
            root_namespace: "istio-system".to_owned(),
            mesh: Arc::default(),
            cluster_domain: "cluster.local".to_owned(),
            trace_share: None,
            resolved: Arc::default(),
        }
    }
}

impl Proxy {
    /// Whether this is a gateway.
    pub fn is_gateway(&self) -> bool {
        self.role == Role::Gateway
    }

    /// The same proxy with what the mesh configuration says, except where the command line says it. Twice is as good as once.
    #[must_use]
    pub fn within(&self, resources: &Resources) -> Self {
        let mut own = self.clone();
        if let Role::Sidecar { namespace, workload } = &self.role
            && own.labels.is_empty()
            && let Some(facts) = super::workload(resources, namespace, workload)
        {
            own.labels = facts.labels;
        }
        if let Role::Sidecar { namespace, workload } = &self.role
            && own.node.is_empty()
            && let Some(pod) = resources.pods.get(namespace, workload)
        {
            own.node.clone_from(&pod.spec.spec.node_name);
        }
        if own.network.is_empty() {
            own.network = networks::of_proxy(resources, &own);
        }
        let mesh = Mesh::of(resources, &own);
        if let Some(domain) = mesh.config.trust_domain.as_ref().filter(|_| !self.trust_domain_given) {
            own.trust_domain.clone_from(domain);
        }
        if let Some(namespace) = &mesh.config.root_namespace {
            own.root_namespace.clone_from(namespace);
        }
        own.mesh = Arc::new(mesh);
        own
    }

    /// The SPIFFE id of a service account in this proxy's trust domain (Istio replaces `@` there by `.`).
    pub(super) fn spiffe_id(&self, namespace: &str, service_account: &str) -> String {
        spiffe_id(&self.trust_domain, namespace, service_account)
    }

    /// Whether a selector holds for this proxy's labels.
    pub fn selected_by(&self, selector: &BTreeMap<String, String>) -> bool {
        is_subset(selector, &self.labels)
    }

    /// Whether a Service or ServiceEntry of `namespace` with this `exportTo` is visible to this proxy.
    pub(super) fn sees_service(&self, export_to: &[String], namespace: &str) -> bool {
        self.sees(export_to, &self.mesh.config.default_service_export_to, namespace)
    }

    /// As [`Self::sees_service`], of a VirtualService.
    pub(super) fn sees_virtual_service(&self, export_to: &[String], namespace: &str) -> bool {
        self.sees(export_to, &self.mesh.config.default_virtual_service_export_to, namespace)
    }

    /// As [`Self::sees_service`], of a DestinationRule.
    pub(super) fn sees_destination_rule(&self, export_to: &[String], namespace: &str) -> bool {
        self.sees(export_to, &self.mesh.config.default_destination_rule_export_to, namespace)
    }

    /// An empty `exportTo` is the mesh's default, and without that everywhere.
    fn sees(&self, export_to: &[String], default: &[String], namespace: &str) -> bool {
        let export_to = if export_to.is_empty() { default } else { export_to };
        export_to.is_empty()
            || export_to.iter().any(|to| match to.as_str() {
                "*" => true,
                "." => namespace == self.namespace,
                "~" => false,
                name => name == self.namespace,
            })
    }

    /// Hash of what this proxy may read: it is the same for a folder that also holds Deployments and Secrets which nothing
    /// names, and for a cluster, of which neither is read. Issuers are for gateways only.
    pub fn content(&self, resources: &Resources) -> u64 {
        let named = super::named_secrets(resources, self);
        let read = |secret: &Object<Secret>| secret.namespace() == self.namespace && named.contains(secret.name());
        let secrets = resources.secrets.iter().filter(|secret| !read(secret)).map(|secret| secret.digest);
        let deployments = resources.deployments.iter().filter(|_| self.is_gateway()).map(|object| object.digest);
        let issuers = resources.issuers.iter().filter(|_| !self.is_gateway()).map(|object| object.digest);
        let sidecars = resources.sidecars.iter().filter(|_| self.is_gateway()).map(|object| object.digest);
        let groups = resources.workload_groups.iter().filter(|_| self.is_gateway()).map(|object| object.digest);
        let settings = resources.proxy_configs.iter().map(|object| object.digest);
        let beside = sidecars.chain(groups).chain(settings);
        secrets.chain(deployments).chain(issuers).chain(beside).fold(resources.digest(), u64::wrapping_sub)
    }

    /// As [`Self::content`] without endpoints, which come and go all the time and which no two proxies see at the same
    /// moment: what people write. Two replicas with the same number have the same configuration in force.
    pub fn configuration(&self, resources: &Resources) -> u64 {
        let pods = resources.pods.iter().map(|object| object.digest);
        let slices = resources.endpoint_slices.iter().map(|object| object.digest);
        let nodes = resources.nodes.iter().map(|object| object.digest);
        pods.chain(slices).chain(nodes).fold(self.content(resources), u64::wrapping_sub)
    }

    /// The content hash of a snapshot: same resources and same proxy, same number.
    pub(super) fn digest(&self, resources: &Resources) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.content(resources), self).hash(&mut hasher);
        hasher.finish()
    }
}

/// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
pub(super) fn spiffe_id(trust_domain: &str, namespace: &str, service_account: &str) -> String {
    format!("spiffe://{}/ns/{namespace}/sa/{service_account}", trust_domain.replace('@', "."))
}

/// Whether labels hold everything that a selector names. An empty selector selects all.
pub(super) fn is_subset(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}
