//! Which documents are ours.

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
    /// Our Issuer.
    Issuer,
    /// Kubernetes Secret.
    Secret,
    /// Kubernetes Service.
    Service,
    /// Kubernetes EndpointSlice.
    EndpointSlice,
    /// Kubernetes Pod.
    Pod,
    /// Kubernetes Deployment.
    Deployment,
    /// Kubernetes StatefulSet.
    StatefulSet,
    /// Kubernetes DaemonSet.
    DaemonSet,
}

impl Kind {
    /// Group, versions and name of every kind; the first version is the one to recommend.
    const ALL: [(Self, &'static str, &'static [&'static str], &'static str); 14] = [
        (Self::Gateway, NETWORKING, ISTIO_VERSIONS, "Gateway"),
        (Self::VirtualService, NETWORKING, ISTIO_VERSIONS, "VirtualService"),
        (Self::DestinationRule, NETWORKING, ISTIO_VERSIONS, "DestinationRule"),
        (Self::ServiceEntry, NETWORKING, ISTIO_VERSIONS, "ServiceEntry"),
        (Self::WorkloadEntry, NETWORKING, ISTIO_VERSIONS, "WorkloadEntry"),
        (Self::PeerAuthentication, SECURITY, &["v1", "v1beta1"], "PeerAuthentication"),
        (Self::Issuer, ACME, &["v1alpha1"], "Issuer"),
        (Self::Secret, "", &["v1"], "Secret"),
        (Self::Service, "", &["v1"], "Service"),
        (Self::EndpointSlice, "discovery.k8s.io", &["v1"], "EndpointSlice"),
        (Self::Pod, "", &["v1"], "Pod"),
        (Self::Deployment, "apps", &["v1"], "Deployment"),
        (Self::StatefulSet, "apps", &["v1"], "StatefulSet"),
        (Self::DaemonSet, "apps", &["v1"], "DaemonSet"),
    ];

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
        let strict = |group: &str| group.ends_with("istio.io") || group == ACME;
        Self::ALL.iter().any(|(kind, group, ..)| *kind == self && strict(group))
    }
}

const NETWORKING: &str = "networking.istio.io";
const ACME: &str = "acme.sluice.dev";
const SECURITY: &str = "security.istio.io";
const ISTIO_VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3"];

/// What a document is, by `apiVersion` and `kind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// One of ours.
    Ours(Kind),
    /// Harmless and not worth a word: ConfigMap, Namespace, ServiceAccount.
    Quiet,
    /// A list whose items are objects.
    List,
    /// Ours, in a version that does not exist; holds the version to write.
    WrongVersion(String),
    /// Something that would protect the mesh but is not enforced.
    Unenforced,
    /// Anything else.
    Foreign,
}

impl Class {
    /// Finds out what a document is.
    pub(super) fn of(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        if let Some((ours, own_group, versions, _)) =
            Kind::ALL.iter().find(|(_, own_group, _, name)| *own_group == group && *name == kind)
        {
            if versions.contains(&version) {
                return Self::Ours(*ours);
            }
            let wanted = versions.first().unwrap_or(&"v1");
            return Self::WrongVersion(if own_group.is_empty() {
                (*wanted).to_owned()
            } else {
                format!("{own_group}/{wanted}")
            });
        }
        match (group, kind) {
            ("", "ConfigMap" | "Namespace" | "ServiceAccount") => Self::Quiet,
            // `kubectl get -o yaml` writes `List`, the API server `SecretList` and the like.
            (_, "List") => Self::List,
            (_, list) if list.strip_suffix("List").is_some_and(|item| Self::of(api_version, item) != Self::Foreign) => {
                Self::List
            }
            (SECURITY, _) => Self::Unenforced,
            _ => Self::Foreign,
        }
    }

    /// For a document without `apiVersion`: what to write, when the kind is one of ours.
    pub(super) fn api_version_of(kind: &str) -> Option<String> {
        let (_, group, versions, _) = Kind::ALL.iter().find(|(.., name)| *name == kind)?;
        let version = versions.first()?;
        Some(if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") })
    }
}
