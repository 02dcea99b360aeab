//! Which documents are ours, and which were meant to be.

use super::foreign::{self, Foreign};
use crate::api::decode::nearest::nearest;

/// Kinds that routing reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Istio Gateway.
    Gateway,
    /// Istio VirtualService.
    VirtualService,
    /// Istio DestinationRule.
    DestinationRule,
    /// Istio ServiceEntry.
    ServiceEntry,
    /// Istio WorkloadEntry.
    WorkloadEntry,
    /// Istio PeerAuthentication.
    PeerAuthentication,
    /// Istio AuthorizationPolicy.
    AuthorizationPolicy,
    /// Istio RequestAuthentication.
    RequestAuthentication,
    /// Istio Telemetry.
    Telemetry,
    /// Our Issuer.
    Issuer,
    /// Our RateLimit.
    RateLimit,
    /// Kubernetes Secret.
    Secret,
    /// Kubernetes Service.
    Service,
    /// Kubernetes EndpointSlice.
    EndpointSlice,
    /// Kubernetes Pod.
    Pod,
    /// Kubernetes Node.
    Node,
    /// Kubernetes Deployment.
    Deployment,
    /// Kubernetes StatefulSet.
    StatefulSet,
    /// Kubernetes DaemonSet.
    DaemonSet,
    /// Istio Sidecar.
    Sidecar,
    /// Istio WorkloadGroup.
    WorkloadGroup,
    /// Istio ProxyConfig.
    ProxyConfig,
    /// Kubernetes ConfigMap, of which the one with the mesh configuration is read.
    ConfigMap,
}

impl Kind {
    /// Group, versions and name of every kind; the first version is the one to recommend.
    const ALL: [(Self, &'static str, &'static [&'static str], &'static str); 23] = [
        (Self::Gateway, NETWORKING, ISTIO_VERSIONS, "Gateway"),
        (Self::VirtualService, NETWORKING, ISTIO_VERSIONS, "VirtualService"),
        (Self::DestinationRule, NETWORKING, ISTIO_VERSIONS, "DestinationRule"),
        (Self::ServiceEntry, NETWORKING, ISTIO_VERSIONS, "ServiceEntry"),
        (Self::WorkloadEntry, NETWORKING, ISTIO_VERSIONS, "WorkloadEntry"),
        (Self::PeerAuthentication, SECURITY, &["v1", "v1beta1"], "PeerAuthentication"),
        (Self::AuthorizationPolicy, SECURITY, &["v1", "v1beta1"], "AuthorizationPolicy"),
        (Self::RequestAuthentication, SECURITY, &["v1", "v1beta1"], "RequestAuthentication"),
        (Self::Telemetry, TELEMETRY, &["v1", "v1alpha1"], "Telemetry"),
        (Self::Issuer, ACME, &["v1alpha1"], "Issuer"),
        (Self::RateLimit, POLICY, &["v1alpha1"], "RateLimit"),
        (Self::Secret, "", &["v1"], "Secret"),
        (Self::Service, "", &["v1"], "Service"),
        (Self::EndpointSlice, "discovery.k8s.io", &["v1"], "EndpointSlice"),
        (Self::Pod, "", &["v1"], "Pod"),
        (Self::Node, "", &["v1"], "Node"),
        (Self::Deployment, "apps", &["v1"], "Deployment"),
        (Self::StatefulSet, "apps", &["v1"], "StatefulSet"),
        (Self::DaemonSet, "apps", &["v1"], "DaemonSet"),
        (Self::Sidecar, NETWORKING, ISTIO_VERSIONS, "Sidecar"),
        (Self::WorkloadGroup, NETWORKING, ISTIO_VERSIONS, "WorkloadGroup"),
        (Self::ProxyConfig, NETWORKING, &["v1beta1"], "ProxyConfig"),
        (Self::ConfigMap, "", &["v1"], "ConfigMap"),
    ];

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(.., known)| *known == name).map(|(kind, ..)| *kind)
    }

    /// As in `kind:`.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or("", |(.., name)| name)
    }

    /// API group (empty for the core group) and its versions that are read; the first is the one to ask for.
    pub fn group_versions(self) -> (&'static str, &'static [&'static str]) {
        let found = Self::ALL.iter().find(|(kind, ..)| *kind == self);
        found.map_or(("", &["v1"]), |(_, group, versions, _)| (group, versions))
    }

    /// Whether it is one of Istio's or ours, which refuse unknown fields and say below `spec` what they ask for.
    pub(super) fn is_strict(self) -> bool {
        let strict = |group: &str| group.ends_with("istio.io") || group.ends_with("sluice.dev");
        Self::ALL.iter().any(|(kind, group, ..)| *kind == self && strict(group))
    }
}

const NETWORKING: &str = "networking.istio.io";
const ACME: &str = "acme.sluice.dev";
const POLICY: &str = "policy.sluice.dev";
const TELEMETRY: &str = "telemetry.istio.io";
const SECURITY: &str = "security.istio.io";
const ISTIO_VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3"];

/// What a document is, by `apiVersion` and `kind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// One of ours.
    Ours(Kind),
    /// Harmless and not worth a word: Namespace, ServiceAccount.
    Quiet,
    /// A list whose items are objects, of this kind where the list's own kind tells it.
    List(Option<String>),
    /// Meant to be ours, with another spelling, group or version.
    Misspelt(Misspelt),
    /// Not ours.
    Foreign(Foreign),
}

/// What was meant by a document of a kind or version that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misspelt {
    /// The kind as it is spelt.
    pub(super) kind: &'static str,
    /// The field that is wrong.
    pub(super) field: &'static str,
    /// What is wrong and what is right.
    pub(super) message: String,
}

impl Class {
    /// Finds out what a document is.
    pub(super) fn of(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let exact = Kind::ALL.iter().find(|(_, own_group, _, name)| *own_group == group && *name == kind);
        match (exact, group, kind) {
            (Some((ours, _, versions, _)), ..) if versions.contains(&version) => return Self::Ours(*ours),
            (Some((ours, ..)), ..) => return Self::Misspelt(ours.wrong_version(api_version)),
            (None, "", "Namespace" | "ServiceAccount") => return Self::Quiet,
            // `kubectl get -o yaml` writes `List`, the API server `SecretList` and the like.
            (None, _, "List") => return Self::List(None),
            _ => {}
        }
        if let Some(known) = foreign::find(group, kind) {
            return Self::Foreign(known);
        }
        // A list of lists is none.
        if let Some(item) = kind.strip_suffix("List").filter(|item| !item.ends_with("List")) {
            match Self::of(api_version, item) {
                Self::Foreign(other) if other.is_unknown() => {}
                Self::Misspelt(item) if item.field == "kind" => return Self::List(Some(item.kind.to_owned())),
                _ => return Self::List(Some(item.to_owned())),
            }
        }
        match misspelt(group, api_version, kind) {
            Some(misspelt) => Self::Misspelt(misspelt),
            None => Self::Foreign(foreign::unknown(group)),
        }
    }

    /// For a document without `apiVersion`: what to write, when the kind is one of ours.
    pub(super) fn api_version_of(kind: &str) -> Option<String> {
        let (kind, ..) = Kind::ALL.iter().find(|(.., name)| *name == kind)?;
        Some(kind.api_version())
    }
}

impl Kind {
    /// The `apiVersion` to recommend.
    fn api_version(self) -> String {
        let (group, versions) = self.group_versions();
        let version = versions.first().unwrap_or(&"v1");
        if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") }
    }

    fn wrong_version(self, given: &str) -> Misspelt {
        let (kind, wanted) = (self.name(), self.api_version());
        let message = format!("there is no {kind} in `{given}`; write `apiVersion: {wanted}`");
        Misspelt { kind, field: "apiVersion", message }
    }

    fn wrong_spelling(self, given: &str, api_version: &str) -> Misspelt {
        let (kind, wanted) = (self.name(), self.api_version());
        let (group, versions) = self.group_versions();
        let (own, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let beside = if own == group && versions.contains(&version) {
            String::new()
        } else {
            format!(" and `apiVersion: {wanted}`")
        };
        let message = format!("there is no kind `{given}`; write `kind: {kind}`{beside}");
        Misspelt { kind, field: "kind", message }
    }
}

/// A document that is one of ours but for a letter, or but for the group.
fn misspelt(group: &str, api_version: &str, kind: &str) -> Option<Misspelt> {
    let same_letters = |(_, own, _, name): &&(Kind, &str, &[&str], &str)| {
        name.eq_ignore_ascii_case(kind) && (own.eq_ignore_ascii_case(group) || !is_anothers(group, name))
    };
    if let Some((ours, .., name)) = Kind::ALL.iter().find(same_letters) {
        return Some(match *name == kind {
            true => ours.wrong_version(api_version),
            false => ours.wrong_spelling(kind, api_version),
        });
    }
    let of_group = Kind::ALL.iter().filter(|(_, own, ..)| !own.is_empty() && own.eq_ignore_ascii_case(group));
    let names: Vec<&'static str> = of_group.map(|(.., name)| *name).collect();
    let near = nearest(kind, &names).into_iter().next()?;
    let (ours, ..) = Kind::ALL.iter().find(|(.., name)| *name == near)?;
    Some(ours.wrong_spelling(kind, api_version))
}

/// Whether a group that is not ours may well have its own kind of this name. What only Istio's API has is always ours.
fn is_anothers(group: &str, kind: &str) -> bool {
    const ISTIO_ONLY: [&str; 9] = [
        "VirtualService",
        "DestinationRule",
        "ServiceEntry",
        "WorkloadEntry",
        "WorkloadGroup",
        "PeerAuthentication",
        "AuthorizationPolicy",
        "RequestAuthentication",
        "ProxyConfig",
    ];
    let lower = group.to_ascii_lowercase();
    let ours = ["istio", "sluice"].iter().any(|part| lower.contains(part));
    let kubernetes = !lower.contains('.') || lower.ends_with(".k8s.io");
    !ISTIO_ONLY.contains(&kind) && !ours && !kubernetes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_lists_of_lists_is_no_kind() {
        assert!(
            matches!(Class::of("networking.istio.io/v1", "GatewayList"), Class::List(Some(item)) if item == "Gateway")
        );
        let deep = format!("Gateway{}", "List".repeat(100_000));
        assert!(!matches!(Class::of("networking.istio.io/v1", &deep), Class::List(_) | Class::Ours(_)));
    }
}
