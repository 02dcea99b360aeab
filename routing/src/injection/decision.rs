//! Whether a pod gets a sidecar: Istio's two tables, what the webhook's selectors let through and what is decided then.

use std::fmt;

use serde_json::Value;

use super::json::{text, texts};
use super::{IGNORED_NAMESPACES, Settings, Texts};

/// Label (and, of pods, annotation) that asks for a sidecar or declines it.
pub(super) const INJECT: &str = "sidecar.istio.io/inject";
/// Label of a namespace that asks for sidecars or declines them.
const NAMESPACE_INJECTION: &str = "istio-injection";
/// Label that names a revision of the control plane.
pub(super) const REVISION: &str = "istio.io/rev";

/// Whether, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The pod gets a sidecar.
    pub inject: bool,
    /// Why, or why not.
    pub reason: Reason,
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The namespace has `istio-injection` with another value than `enabled`.
    NamespaceDeclines,
    /// Neither namespace nor pod ask for this control plane.
    NobodyAsks,
    /// Namespace or pod name another revision.
    AnotherRevision(String),
    /// The pod shares the network of its node, whose traffic would be captured.
    HostNetwork,
    /// One of [`IGNORED_NAMESPACES`].
    IgnoredNamespace,
    /// The pod's label says so.
    Label,
    /// The pod's annotation says so.
    Annotation,
    /// A selector of `neverInjectSelector`.
    NeverSelector(String),
    /// A selector of `alwaysInjectSelector`.
    AlwaysSelector(String),
    /// Nothing speaks of this pod: the policy of the mesh.
    Policy,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NamespaceDeclines => f.write_str("the namespace's label istio-injection is not `enabled`"),
            Self::NobodyAsks => f.write_str(
                "neither the namespace (istio-injection=enabled, istio.io/rev) nor the pod (sidecar.istio.io/inject) asks for it",
            ),
            Self::AnotherRevision(name) => write!(f, "revision `{name}` is another control plane's"),
            Self::HostNetwork => f.write_str("the pod has hostNetwork, and its node's traffic is not to be captured"),
            Self::IgnoredNamespace => {
                write!(f, "pods of {} never get a sidecar", IGNORED_NAMESPACES.join(", "))
            }
            Self::Label => f.write_str("the pod's label sidecar.istio.io/inject"),
            Self::Annotation => f.write_str("the pod's annotation sidecar.istio.io/inject"),
            Self::NeverSelector(selector) => write!(f, "neverInjectSelector `{selector}`"),
            Self::AlwaysSelector(selector) => write!(f, "alwaysInjectSelector `{selector}`"),
            Self::Policy => f.write_str("the mesh's policy (global.proxy.autoInject)"),
        }
    }
}

/// Decides. `namespace_labels` are `None` where the selectors of the webhook have been applied already, by the API server, and
/// where there are none, as for manifests in files.
pub fn decide(namespace: &str, namespace_labels: Option<&Texts>, pod: &Value, settings: &Settings) -> Verdict {
    let labels = texts(pod, "/metadata/labels");
    let not = |reason| Verdict { inject: false, reason };
    if let Some(of_namespace) = namespace_labels
        && let Err(reason) = let_through(namespace, of_namespace, &labels, settings)
    {
        return not(reason);
    }
    if pod["spec"]["hostNetwork"] == true {
        return not(Reason::HostNetwork);
    }
    if IGNORED_NAMESPACES.contains(&namespace) {
        return not(Reason::IgnoredNamespace);
    }
    let annotated = text(pod, "/metadata/annotations/sidecar.istio.io~1inject");
    let (said, reason) = match labels.get(INJECT) {
        Some(label) => (label.as_str(), Reason::Label),
        None => (annotated, Reason::Annotation),
    };
    match said.to_ascii_lowercase().as_str() {
        "true" => return Verdict { inject: true, reason },
        "false" => return not(reason),
        // Anything else is told of where the pod's wishes are read.
        _ => {}
    }
    if let Some(selector) = settings.never.iter().find(|selector| selector.selects(&labels)) {
        return not(Reason::NeverSelector(selector.shown()));
    }
    if let Some(selector) = settings.always.iter().find(|selector| selector.selects(&labels)) {
        return Verdict { inject: true, reason: Reason::AlwaysSelector(selector.shown()) };
    }
    Verdict { inject: settings.enabled, reason: Reason::Policy }
}

/// Whether a pod asks for a sidecar of this control plane by itself, and nothing in it declines one. Its annotation counts where
/// the label is silent.
pub(super) fn asks(pod: &Value, settings: &Settings) -> bool {
    let labels = texts(pod, "/metadata/labels");
    let annotated = text(pod, "/metadata/annotations/sidecar.istio.io~1inject");
    match labels.get(INJECT).map_or(annotated, String::as_str).to_ascii_lowercase().as_str() {
        "true" => true,
        "false" => false,
        _ => labels.get(REVISION).is_some_and(|named| settings.serves(named)),
    }
}

/// What the selectors of the webhook configuration let through; one of its entries has to match.
fn let_through(namespace: &str, of_namespace: &Texts, pod: &Texts, settings: &Settings) -> Result<(), Reason> {
    let inject = pod.get(INJECT).map(String::as_str);
    let injection = of_namespace.get(NAMESPACE_INJECTION).map(String::as_str);
    let revision = |labels: &Texts| labels.get(REVISION).cloned();
    match (injection, revision(of_namespace)) {
        // Whatever is said beside it.
        (Some("enabled"), _) if settings.is_default() => declined(inject),
        (Some("enabled"), _) => Err(Reason::AnotherRevision("default".to_owned())),
        (Some(_), _) => Err(Reason::NamespaceDeclines),
        (None, Some(named)) if settings.serves(&named) => declined(inject),
        (None, Some(named)) => Err(Reason::AnotherRevision(named)),
        (None, None) => match (inject, revision(pod)) {
            (Some("false"), _) => Err(Reason::Label),
            (_, Some(named)) if settings.serves(&named) => Ok(()),
            (_, Some(named)) => Err(Reason::AnotherRevision(named)),
            (Some("true"), None) if settings.is_default() => Ok(()),
            (None, None) if settings.by_default => {
                if IGNORED_NAMESPACES.contains(&namespace) {
                    Err(Reason::IgnoredNamespace)
                } else {
                    Ok(())
                }
            }
            _ => Err(Reason::NobodyAsks),
        },
    }
}

fn declined(inject: Option<&str>) -> Result<(), Reason> {
    if inject == Some("false") { Err(Reason::Label) } else { Ok(()) }
}
