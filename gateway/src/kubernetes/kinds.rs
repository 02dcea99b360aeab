//! Which kinds are read, and how they are named at an API server.

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use routing::{compile::Proxy, mesh, resources::Kind};

/// Kinds that every proxy reads from every namespace. Deployments are not among them: pods tell what runs.
pub(super) const KINDS: [Kind; 11] = [
    Kind::Gateway,
    Kind::VirtualService,
    Kind::DestinationRule,
    Kind::ServiceEntry,
    Kind::WorkloadEntry,
    Kind::PeerAuthentication,
    Kind::AuthorizationPolicy,
    Kind::RequestAuthentication,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Pod,
];

/// Kinds that a cluster may lack, or keep from a proxy, which is as good as holding none of them: Issuers are for gateways and
/// missed by who orders certificates alone, RateLimits are ours and limit nothing where there is no such kind, Nodes say where pods
/// are, Sidecars and WorkloadGroups are for sidecars, without Telemetry everything is told as usual, and a mesh without its configuration
/// is one with Istio's defaults.
pub(super) const OPTIONAL: [Kind; 7] =
    [Kind::RateLimit, Kind::Telemetry, Kind::Issuer, Kind::Node, Kind::ConfigMap, Kind::Sidecar, Kind::WorkloadGroup];

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
    /// The one of this name in this namespace: others may say what they like elsewhere.
    Named {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// What is asked for of a kind, each part by a watch of its own: of ConfigMaps the mesh configuration alone.
pub(super) fn which(kind: Kind, proxy: &Proxy) -> Vec<Which> {
    if kind == Kind::ConfigMap {
        let named = |name| Which::Named { namespace: proxy.mesh_namespace.clone(), name };
        mesh::document_names(&proxy.labels).into_iter().map(named).collect()
    } else {
        vec![Which::All]
    }
}

/// The objects of a kind at the API server, as far as they are asked for.
pub(super) fn api(client: Client, resource: &ApiResource, which: &Which) -> Api<DynamicObject> {
    match which {
        Which::All => Api::all_with(client, resource),
        Which::Named { namespace, .. } => Api::namespaced_with(client, namespace, resource),
    }
}

/// How a kind is named at the API server, in the version `index` of those that can be read, counted round.
pub(super) fn resource(kind: Kind, index: usize) -> ApiResource {
    let (group, versions) = kind.group_versions();
    let version = versions[index % versions.len()];
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn config_maps_are_asked_for_in_the_namespace_of_the_mesh_alone() {
        let client = || Client::try_from(kube::Config::new("http://127.0.0.1:9".parse().unwrap())).unwrap();
        let proxy = Proxy { namespace: "shop".to_owned(), root_namespace: "team".to_owned(), ..Proxy::default() };
        let path = |kind| api(client(), &resource(kind, 0), &which(kind, &proxy)[0]).resource_url().to_owned();
        assert_eq!(path(Kind::ConfigMap), "/api/v1/namespaces/istio-system/configmaps");
        assert_eq!(path(Kind::Service), "/api/v1/services");
        let labels = [("istio.io/rev".to_owned(), "canary".to_owned())].into();
        let names = |which: Vec<Which>| {
            which
                .into_iter()
                .map(|it| match it {
                    Which::Named { name, .. } => name,
                    Which::All => String::new(),
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(names(which(Kind::ConfigMap, &Proxy { labels, ..proxy })), ["istio-canary", "istio"]);
    }
}
