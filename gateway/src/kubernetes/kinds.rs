//! Which kinds are read, and how they are named at an API server.

use kube::api::{ApiResource, GroupVersionKind};
use routing::resources::Kind;

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

/// Kinds that gateways read as well. Only who orders certificates misses them, so a cluster that does not have them, or keeps
/// them from a gateway, is as good as one that holds none.
pub(super) const OPTIONAL: [Kind; 1] = [Kind::Issuer];

/// How a kind is named at the API server, in the version `index` of those that can be read, counted round.
pub(super) fn resource(kind: Kind, index: usize) -> ApiResource {
    let (group, versions) = kind.group_versions();
    let version = versions[index % versions.len()];
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind.name()))
}
