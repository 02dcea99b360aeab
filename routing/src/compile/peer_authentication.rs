//! Which PeerAuthentication holds for a workload's port: the narrowest level that says something.

use std::collections::{BTreeMap, HashMap};

use super::proxy::is_subset;
use crate::{
    api::{PeerAuthentication, peer_authentication::MutualTlsMode},
    inbound::MtlsMode,
    resources::{Object, Resources},
};

/// All policies by namespace, oldest first.
pub(super) struct PeerAuthentications<'a> {
    by_namespace: HashMap<&'a str, Vec<&'a Object<PeerAuthentication>>>,
    mesh: MutualTlsMode,
}

/// What the policies say about one workload.
pub(super) struct WorkloadMtls<'a> {
    /// For ports without a word of their own.
    pub(super) default: MtlsMode,
    ports: Option<&'a BTreeMap<u16, crate::api::peer_authentication::MutualTls>>,
}

impl<'a> PeerAuthentications<'a> {
    pub(super) fn new(resources: &'a Resources, root_namespace: &str) -> Self {
        let mut by_namespace: HashMap<&str, Vec<&Object<PeerAuthentication>>> = HashMap::new();
        for object in &resources.peer_authentications {
            by_namespace.entry(object.namespace()).or_default().push(object);
        }
        // A policy with a selector in the root namespace is ignored: Istio's mesh level has no selector.
        let root = by_namespace.remove(root_namespace).unwrap_or_default();
        let mesh = root.into_iter().find(|object| !has_selector(object)).map(mode).unwrap_or_default();
        Self { by_namespace, mesh }
    }

    /// Within each level the oldest policy counts; UNSET asks the next wider one; PERMISSIVE when none says anything.
    pub(super) fn of(&self, namespace: &str, labels: &BTreeMap<String, String>) -> WorkloadMtls<'a> {
        let policies = self.by_namespace.get(namespace).map(Vec::as_slice).unwrap_or_default();
        let selects = |object: &Object<PeerAuthentication>| {
            object.spec.selector.as_ref().is_some_and(|selector| is_subset(&selector.match_labels, labels))
        };
        let own = policies.iter().find(|object| has_selector(object) && selects(object));
        let wide = policies.iter().find(|object| !has_selector(object));
        let levels = [own.map(|object| mode(object)), wide.map(|object| mode(object)), Some(self.mesh)];
        let default = levels.into_iter().flatten().find_map(effective).unwrap_or_default();
        WorkloadMtls { default, ports: own.map(|object| &object.spec.port_level_mtls) }
    }
}

impl WorkloadMtls<'_> {
    /// The mode of a workload port.
    pub(super) fn port(&self, port: u16) -> MtlsMode {
        let own = self.ports.and_then(|ports| ports.get(&port)).and_then(|mtls| effective(mtls.mode));
        own.unwrap_or(self.default)
    }

    /// The ports that the policy names.
    pub(super) fn ports(&self) -> impl Iterator<Item = u16> {
        self.ports.into_iter().flat_map(BTreeMap::keys).copied()
    }
}

fn has_selector(object: &Object<PeerAuthentication>) -> bool {
    object.spec.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty())
}

fn mode(object: &Object<PeerAuthentication>) -> MutualTlsMode {
    object.spec.mtls.map(|mtls| mtls.mode).unwrap_or_default()
}

fn effective(mode: MutualTlsMode) -> Option<MtlsMode> {
    match mode {
        MutualTlsMode::Unset => None,
        MutualTlsMode::Disable => Some(MtlsMode::Disable),
        MutualTlsMode::Permissive => Some(MtlsMode::Permissive),
        MutualTlsMode::Strict => Some(MtlsMode::Strict),
    }
}
