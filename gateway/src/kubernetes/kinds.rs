//! Which kinds are read, and how they are named at an API server.

use kube::api::{ApiResource, GroupVersionKind};
use routing::{compile::Proxy, mesh, resources::Kind};

/// Kinds that every proxy reads from every namespace. Deployments are not among them: pods tell what runs.
pub(super) const KINDS: [Kind; 9] = [
    Kind::Gateway,
    Kind::VirtualService,
    Kind::DestinationRule,
    Kind::ServiceEntry,
    Kind::WorkloadEntry,
    Kind::PeerAuthentication,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Pod,
];

/// Kinds that a cluster may lack, or keep from a proxy, which is as good as holding none of them: Issuers are for gateways and
/// missed by who orders certificates alone, Nodes say where pods
/// are, Sidecars and WorkloadGroups are for sidecars, and a mesh without its configuration
/// is one with Istio's defaults.
pub(super) const OPTIONAL: [Kind; 5] = [Kind::Issuer, Kind::Node, Kind::ConfigMap, Kind::Sidecar, Kind::WorkloadGroup];

/// Whether a proxy reads a kind of [`OPTIONAL`].
pub(super) fn is_read(kind: Kind, proxy: &Proxy) -> bool {
    match kind {
        Kind::Issuer => proxy.is_gateway(),
        Kind::Sidecar | Kind::WorkloadGroup => !proxy.is_gateway(),
        _ => true,
    }
}

/// Of one kind, the objects that are asked for.
#[derive(Clone, Debug)]
pub(super) enum Which {
    /// All of them, in every namespace.
    All,
    /// Those of this name, in every namespace.
    Named(String),
}

/// What is asked for of a kind: of ConfigMaps the mesh configuration alone.
pub(super) fn which(kind: Kind, proxy: &Proxy) -> Which {
    if kind == Kind::ConfigMap { Which::Named(mesh::document_name(&proxy.labels)) } else { Which::All }
}

/// How a kind is named at the API server, in the version `index` of those that can be read, counted round.
pub(super) fn resource(kind: Kind, index: usize) -> ApiResource {
    let (group, versions) = kind.group_versions();
    let version = versions[index % versions.len()];
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind.name()))
}
