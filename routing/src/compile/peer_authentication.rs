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
    mesh: Option<&'a Object<PeerAuthentication>>,
}

/// What the policies say about one workload.
pub struct WorkloadMtls<'a> {
    /// For ports without a word of their own.
    pub default: MtlsMode,
    /// The policy that says so; `None`: none does, and it is Istio's default.
    pub source: Option<&'a Object<PeerAuthentication>>,
    /// The policy that selects the workload.
    own: Option<&'a Object<PeerAuthentication>>,
}

impl<'a> PeerAuthentications<'a> {
    pub(super) fn new(resources: &'a Resources, root_namespace: &str) -> Self {
        let mut by_namespace: HashMap<&str, Vec<&Object<PeerAuthentication>>> = HashMap::new();
        for object in &resources.peer_authentications {
            by_namespace.entry(object.namespace()).or_default().push(object);
        }
        // A policy with a selector in the root namespace is ignored: Istio's mesh level has no selector.
        let root = by_namespace.remove(root_namespace).unwrap_or_default();
        let mesh = root.into_iter().find(|object| !has_selector(object));
        Self { by_namespace, mesh }
    }

    /// Within each level the oldest policy counts; UNSET asks the next wider one; PERMISSIVE when none says anything.
    pub(super) fn of(&self, namespace: &str, labels: &BTreeMap<String, String>) -> WorkloadMtls<'a> {
        let policies = self.by_namespace.get(namespace).map(Vec::as_slice).unwrap_or_default();
        let selects = |object: &Object<PeerAuthentication>| {
            object.spec.selector.as_ref().is_some_and(|selector| is_subset(&selector.match_labels, labels))
        };
        let own = policies.iter().copied().find(|object| has_selector(object) && selects(object));
        let wide = policies.iter().copied().find(|object| !has_selector(object));
        let mut levels = [own, wide, self.mesh].into_iter().flatten();
        let found = levels.find_map(|object| Some((effective(mode(object))?, object)));
        WorkloadMtls {
            default: found.map(|(mode, _)| mode).unwrap_or_default(),
            source: found.map(|(_, object)| object),
            own,
        }
    }
}

impl<'a> WorkloadMtls<'a> {
    /// The mode of a workload port.
    pub fn port(&self, port: u16) -> MtlsMode {
        self.at_port(port).0
    }

    /// The mode of a workload port, and the policy that says so.
    pub fn at_port(&self, port: u16) -> (MtlsMode, Option<&'a Object<PeerAuthentication>>) {
        let own = self.own.and_then(|object| Some((object, object.spec.port_level_mtls.as_ref()?.get(&port)?)));
        let own = own.and_then(|(object, mtls)| Some((effective(mtls.mode)?, Some(object))));
        own.unwrap_or((self.default, self.source))
    }

    /// The ports that the policy names.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.own
            .into_iter()
            .filter_map(|object| object.spec.port_level_mtls.as_ref())
            .flat_map(|ports| ports.keys())
            .copied()
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
