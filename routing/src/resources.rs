//! From text to typed objects, each of which knows where it was written.
//!
//! ```text
//! file --parse_file--> Parsed (objects, problems) --Store::replace--> Resources --compile--> Snapshot
//! ```
//!
//! One bad document never hides another, and the [`Store`] keeps the last good version of a broken object.

mod class;
mod digest;
mod document;
mod foreign;
mod legacy;
mod mesh;
mod parse;
mod parsed;
mod position;
mod rejected_policy;
mod shares;
mod source;
mod store;
mod table;
mod template;
mod yaml;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::api::{
    AuthorizationPolicy, Deployment, DestinationRule, EndpointSlice, Gateway, Issuer, MeshDocument, Node, ObjectMeta,
    PeerAuthentication, Pod, ProxyConfig, RateLimit, RequestAuthentication, Secret, Service, ServiceEntry, Sidecar,
    Telemetry, VirtualService, WorkloadEntry, WorkloadGroup,
};
use crate::problem::{ObjectRef, Place, Problem, Problems, Severity};

pub use class::Kind;
pub use parse::{parse_file, parse_files, parse_object};
pub use parsed::{Parsed, UNREADABLE_FILE};
pub use rejected_policy::RejectedPolicy;
pub(crate) use rejected_policy::{DRY_RUN, truth};
pub use source::Source;
pub(crate) use source::forget_places;
pub use store::Store;
pub use table::Table;
pub use template::patch_files;

/// Reads YAML that stands in a text; the reason why it cannot be read names the line.
pub(crate) fn read_yaml(text: &str) -> Result<serde_json::Value, String> {
    yaml::parse(text).map_err(|fault| match fault.at {
        Some((line, column)) => format!("{} (line {line}, column {column} of the text)", fault.message),
        None => fault.message,
    })
}

/// Writes a value as a YAML document.
///
/// # Errors
/// A sentence.
pub fn write_yaml(value: &serde_json::Value) -> Result<String, String> {
    yaml::write(value)
}

/// One object: what it says about itself, what it asks for, and where it was written.
#[derive(Clone, Debug)]
pub struct Object<T> {
    /// Its kind; a [`Deployment`] may also be a StatefulSet or a DaemonSet.
    pub kind: Kind,
    /// `metadata`.
    pub meta: ObjectMeta,
    /// `spec` of Istio's kinds and of ours; for Kubernetes' kinds the object without kind and metadata.
    pub spec: T,
    /// Where it was written.
    pub source: Source,
    /// Hash of what is read of it, so that an API server's own fields and defaults make no difference.
    pub digest: u64,
}

impl<T> Object<T> {
    /// `metadata.namespace`.
    pub fn namespace(&self) -> &str {
        &self.meta.namespace
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.meta.name
    }

    /// Kind, namespace and name.
    pub fn reference(&self) -> ObjectRef {
        ObjectRef::new(self.kind.name(), &self.meta.namespace, &self.meta.name)
    }

    /// Where a field is written, as `spec.http[0].timeout`, or else its nearest parent.
    ///
    /// Reads the document again, so it is meant for problems and not for every request.
    pub fn place(&self, field: &str) -> Option<Place> {
        self.source.place(field)
    }

    /// A problem about a field of this object, with its place.
    pub fn problem(&self, severity: Severity, code: &'static str, field: &str, message: impl Into<String>) -> Problem {
        Problem {
            code,
            severity,
            object: self.reference(),
            field: field.to_owned(),
            place: self.place(field),
            message: message.into(),
        }
    }
}

/// An object of any kind that routing reads.
#[derive(Clone, Debug)]
pub enum AnyObject {
    /// Istio Gateway.
    Gateway(Arc<Object<Gateway>>),
    /// Istio VirtualService.
    VirtualService(Arc<Object<VirtualService>>),
    /// Istio DestinationRule.
    DestinationRule(Arc<Object<DestinationRule>>),
    /// Istio ServiceEntry.
    ServiceEntry(Arc<Object<ServiceEntry>>),
    /// Istio WorkloadEntry.
    WorkloadEntry(Arc<Object<WorkloadEntry>>),
    /// Istio PeerAuthentication.
    PeerAuthentication(Arc<Object<PeerAuthentication>>),
    /// Istio AuthorizationPolicy.
    AuthorizationPolicy(Arc<Object<AuthorizationPolicy>>),
    /// Istio RequestAuthentication.
    RequestAuthentication(Arc<Object<RequestAuthentication>>),
    /// Istio Telemetry.
    Telemetry(Arc<Object<Telemetry>>),
    /// Our Issuer.
    Issuer(Arc<Object<Issuer>>),
    /// Our RateLimit.
    RateLimit(Arc<Object<RateLimit>>),
    /// Kubernetes Secret.
    Secret(Arc<Object<Secret>>),
    /// Kubernetes Service.
    Service(Arc<Object<Service>>),
    /// Kubernetes EndpointSlice.
    EndpointSlice(Arc<Object<EndpointSlice>>),
    /// Kubernetes Pod.
    Pod(Arc<Object<Pod>>),
    /// Kubernetes Node.
    Node(Arc<Object<Node>>),
    /// Kubernetes Deployment, StatefulSet or DaemonSet.
    Deployment(Arc<Object<Deployment>>),
    /// Istio Sidecar.
    Sidecar(Arc<Object<Sidecar>>),
    /// Istio WorkloadGroup.
    WorkloadGroup(Arc<Object<WorkloadGroup>>),
    /// Istio ProxyConfig.
    ProxyConfig(Arc<Object<ProxyConfig>>),
    /// Istio's mesh configuration.
    Mesh(Arc<Object<MeshDocument>>),
}

impl AnyObject {
    /// What every object carries about itself.
    pub fn meta(&self) -> &ObjectMeta {
        self.parts().1
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.parts().0
    }

    /// Where it was written.
    pub fn source(&self) -> &Source {
        self.parts().2
    }

    /// Hash of the content.
    pub fn digest(&self) -> u64 {
        self.parts().3
    }

    /// Kind, namespace and name.
    pub fn reference(&self) -> ObjectRef {
        let (kind, meta, ..) = self.parts();
        ObjectRef::new(kind.name(), &meta.namespace, &meta.name)
    }

    fn parts(&self) -> (Kind, &ObjectMeta, &Source, u64) {
        fn of<T>(object: &Object<T>) -> (Kind, &ObjectMeta, &Source, u64) {
            (object.kind, &object.meta, &object.source, object.digest)
        }
        match self {
            Self::Gateway(object) => of(object),
            Self::VirtualService(object) => of(object),
            Self::DestinationRule(object) => of(object),
            Self::ServiceEntry(object) => of(object),
            Self::WorkloadEntry(object) => of(object),
            Self::PeerAuthentication(object) => of(object),
            Self::AuthorizationPolicy(object) => of(object),
            Self::RequestAuthentication(object) => of(object),
            Self::Telemetry(object) => of(object),
            Self::Issuer(object) => of(object),
            Self::RateLimit(object) => of(object),
            Self::Secret(object) => of(object),
            Self::Service(object) => of(object),
            Self::EndpointSlice(object) => of(object),
            Self::Pod(object) => of(object),
            Self::Node(object) => of(object),
            Self::Deployment(object) => of(object),
            Self::Sidecar(object) => of(object),
            Self::WorkloadGroup(object) => of(object),
            Self::ProxyConfig(object) => of(object),
            Self::Mesh(object) => of(object),
        }
    }
}

/// Whether what was read is all there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// All there is, as an API server has it: what is not here does not exist.
    #[default]
    Whole,
    /// A part, as a folder of a repository is: Secrets and the objects of others may be elsewhere.
    Part,
}

/// A document that gave no object, although it says which object it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Kind, namespace and name.
    pub object: ObjectRef,
    /// Hosts that it would have had, as written.
    pub hosts: Vec<String>,
    /// Of a Gateway: the TLS servers that it would have had.
    pub servers: Vec<RejectedServer>,
    /// Where its first error is; `None` when it did not come from a file.
    pub place: Option<Place>,
    /// It is a template or a patch, which is not read, and nothing is wrong with it.
    pub skipped: bool,
    /// Of a policy: where it would have held.
    pub policy: Option<RejectedPolicy>,
}

/// A TLS server of a Gateway that gave no object, as far as it could be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RejectedServer {
    /// The Gateway's selector; empty selects every proxy.
    pub selector: BTreeMap<String, String>,
    /// `bind`.
    pub bind: Option<String>,
    /// `port.number`.
    pub port: u16,
    /// `port.name`.
    pub port_name: String,
    /// `hosts`, as written.
    pub hosts: Vec<String>,
}

/// All objects, by kind.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// Istio Gateways.
    pub gateways: Table<Gateway>,
    /// Istio VirtualServices.
    pub virtual_services: Table<VirtualService>,
    /// Istio DestinationRules.
    pub destination_rules: Table<DestinationRule>,
    /// Istio ServiceEntries.
    pub service_entries: Table<ServiceEntry>,
    /// Istio WorkloadEntries.
    pub workload_entries: Table<WorkloadEntry>,
    /// Istio PeerAuthentications.
    pub peer_authentications: Table<PeerAuthentication>,
    /// Istio AuthorizationPolicies.
    pub authorization_policies: Table<AuthorizationPolicy>,
    /// Istio RequestAuthentications.
    pub request_authentications: Table<RequestAuthentication>,
    /// Istio Telemetries.
    pub telemetries: Table<Telemetry>,
    /// Our Issuers.
    pub issuers: Table<Issuer>,
    /// Our RateLimits.
    pub rate_limits: Table<RateLimit>,
    /// Kubernetes Secrets.
    pub secrets: Table<Secret>,
    /// Kubernetes Services.
    pub services: Table<Service>,
    /// Kubernetes EndpointSlices.
    pub endpoint_slices: Table<EndpointSlice>,
    /// Kubernetes Pods.
    pub pods: Table<Pod>,
    /// Kubernetes Nodes.
    pub nodes: Table<Node>,
    /// Kubernetes Deployments, StatefulSets and DaemonSets; kinds may share a name.
    pub deployments: Table<Deployment>,
    /// Istio Sidecars.
    pub sidecars: Table<Sidecar>,
    /// Istio WorkloadGroups.
    pub workload_groups: Table<WorkloadGroup>,
    /// Istio ProxyConfigs.
    pub proxy_configs: Table<ProxyConfig>,
    /// Mesh configurations, of which one is a proxy's.
    pub meshes: Table<MeshDocument>,
    digest: u64,
    order: u64,
    kept: BTreeSet<ObjectRef>,
    rejected: BTreeMap<ObjectRef, Rejection>,
    extent: Extent,
}

impl Resources {
    /// From objects of which no two share kind, namespace and name.
    fn collect(objects: impl IntoIterator<Item = AnyObject>) -> Self {
        let mut all = Self::default();
        for object in objects {
            // Addition forgets the order, so the layout of files does not matter.
            all.digest = all.digest.wrapping_add(object.digest());
            all.add(object);
        }
        all.gateways.sort();
        all.virtual_services.sort();
        all.destination_rules.sort();
        all.service_entries.sort();
        all.workload_entries.sort();
        all.peer_authentications.sort();
        all.authorization_policies.sort();
        all.request_authentications.sort();
        all.telemetries.sort();
        all.issuers.sort();
        all.rate_limits.sort();
        all.secrets.sort();
        all.services.sort();
        all.endpoint_slices.sort();
        all.pods.sort();
        all.nodes.sort();
        all.deployments.sort();
        all.sidecars.sort();
        all.workload_groups.sort();
        all.proxy_configs.sort();
        all.meshes.sort();
        all.order = digest::of_order([
            all.gateways.age_order(),
            all.virtual_services.age_order(),
            all.destination_rules.age_order(),
            all.service_entries.age_order(),
            all.peer_authentications.age_order(),
            all.sidecars.age_order(),
            all.telemetries.age_order(),
        ]);
        all
    }

    fn add(&mut self, object: AnyObject) {
        match object {
            AnyObject::Gateway(object) => self.gateways.push(object),
            AnyObject::VirtualService(object) => self.virtual_services.push(object),
            AnyObject::DestinationRule(object) => self.destination_rules.push(object),
            AnyObject::ServiceEntry(object) => self.service_entries.push(object),
            AnyObject::WorkloadEntry(object) => self.workload_entries.push(object),
            AnyObject::PeerAuthentication(object) => self.peer_authentications.push(object),
            AnyObject::AuthorizationPolicy(object) => self.authorization_policies.push(object),
            AnyObject::RequestAuthentication(object) => self.request_authentications.push(object),
            AnyObject::Telemetry(object) => self.telemetries.push(object),
            AnyObject::Issuer(object) => self.issuers.push(object),
            AnyObject::RateLimit(object) => self.rate_limits.push(object),
            AnyObject::Secret(object) => self.secrets.push(object),
            AnyObject::Service(object) => self.services.push(object),
            AnyObject::EndpointSlice(object) => self.endpoint_slices.push(object),
            AnyObject::Pod(object) => self.pods.push(object),
            AnyObject::Node(object) => self.nodes.push(object),
            AnyObject::Deployment(object) => self.deployments.push(object),
            AnyObject::Sidecar(object) => self.sidecars.push(object),
            AnyObject::WorkloadGroup(object) => self.workload_groups.push(object),
            AnyObject::ProxyConfig(object) => self.proxy_configs.push(object),
            AnyObject::Mesh(object) => self.meshes.push(object),
        }
    }

    /// With what was rejected: servers that are not there still keep their hosts from others, and policies fail closed.
    fn without(mut self, rejected: BTreeMap<ObjectRef, Rejection>) -> Self {
        let servers = rejected.iter().flat_map(|(object, it)| it.servers.iter().map(move |server| (object, server)));
        for server in servers {
            self.digest = self.digest.wrapping_add(digest::of_kubernetes("Gateway", &server));
        }
        for (object, policy) in rejected.iter().filter_map(|(object, it)| Some((object, it.policy.as_ref()?))) {
            let content = (&object.namespace, &object.name, policy);
            self.digest = self.digest.wrapping_add(digest::of_kubernetes(&object.kind, &content));
        }
        Self { rejected, ..self }
    }

    /// The same for the same content, whatever the files it is spread over and their order.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Tells apart which of Istio's objects are older than which, for where the older one wins. Not part of
    /// [`Self::digest`]: files have no age, and a copy of a cluster in files is the same configuration.
    pub fn order(&self) -> u64 {
        self.order
    }

    /// Objects whose newest version is broken, so that it is their last good one which is here.
    pub fn kept(&self) -> &BTreeSet<ObjectRef> {
        &self.kept
    }

    /// Documents that were rejected and of which no good version is here.
    pub fn rejected(&self) -> &BTreeMap<ObjectRef, Rejection> {
        &self.rejected
    }

    /// Whether this is all there is.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// The same objects, as all there is or as a part of it.
    #[must_use]
    pub fn with_extent(self, extent: Extent) -> Self {
        Self { extent, ..self }
    }

    /// Reads files once, as (name, text): for `check` and for tests. Problems come sorted by place.
    pub fn read<'f>(files: impl IntoIterator<Item = (&'f str, &'f str)>) -> (Self, Vec<Problem>) {
        let parsed = files.into_iter().map(|(file, text)| (file.to_owned(), parse_file(file, text))).collect();
        let (resources, problems) = Store::default().replace(parsed);
        (resources, Problems::from(problems).into_sorted())
    }
}
