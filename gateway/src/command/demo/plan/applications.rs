//! What the applications of pods speak, as far as the folder tells: whatever leads to a port says its protocol.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use routing::{
    api::{Deployment, Protocol},
    compile::{LeadingPort, Proxy, View, template_facts},
    resources::{Object, Resources},
};

/// What an application is to be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Application {
    /// Its ports that speak no HTTP.
    pub(crate) bytes: BTreeSet<u16>,
    /// `None`: plain, as behind a sidecar.
    pub(crate) tls: Option<OwnTls>,
}

/// TLS of the application itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct OwnTls {
    /// Whether clients have to show a certificate.
    pub(crate) mutual: bool,
    /// Every host that leads to it.
    pub(crate) hosts: BTreeSet<String>,
}

/// Annotation of a pod whose application, as one outside of the mesh, ends TLS itself: `SIMPLE` or `MUTUAL`.
const TLS: &str = "demo.sluice.dev/tls";

/// Istio's word on whether a pod gets a sidecar, a label or (before) an annotation.
const INJECT: &str = "sidecar.istio.io/inject";

/// What the pods of a Deployment run.
///
/// # Errors
/// The annotation cannot be understood.
pub(super) fn application(resources: &Resources, deployment: &Object<Deployment>) -> anyhow::Result<Application> {
    let facts = template_facts(resources, deployment);
    // Whoever is of the same namespace sees whatever leads to the pod.
    let proxy = Proxy { namespace: deployment.namespace().to_owned(), ..Proxy::default() };
    let view = View::new(resources, &proxy);
    let leading = view.leading_to(&facts);
    let annotations = &deployment.spec.spec.template.metadata.annotations;
    let tls = match annotations.get(TLS).map(String::as_str) {
        None => None,
        Some(mode @ ("SIMPLE" | "MUTUAL")) => {
            let hosts = leading.iter().map(|port| port.host.to_string()).collect();
            Some(OwnTls { mutual: mode == "MUTUAL", hosts })
        }
        Some(other) => bail!(
            "Deployment {}/{}: annotation {TLS} is `{other}`; SIMPLE or MUTUAL is wanted",
            deployment.namespace(),
            deployment.name()
        ),
    };
    Ok(Application { bytes: bytes(&view, &leading), tls })
}

/// The ports that nobody calls HTTP, and somebody bytes.
fn bytes(view: &View<'_>, leading: &[LeadingPort]) -> BTreeSet<u16> {
    let protocol = |leading: &LeadingPort| {
        let service = view.service(&leading.host)?;
        service.ports.iter().find(|port| port.number == leading.port)?.protocol
    };
    let is_bytes =
        |protocol| matches!(protocol, Some(Protocol::Tcp | Protocol::Mongo | Protocol::Redis | Protocol::Mysql));
    let mut found: BTreeMap<u16, bool> = BTreeMap::new();
    for port in leading {
        let all = found.entry(port.workload_port).or_insert(true);
        *all &= is_bytes(protocol(port));
    }
    found.into_iter().filter(|(_, all)| *all).map(|(port, _)| port).collect()
}

/// Whether pods of a Deployment get a sidecar: those of a demo do, unless they say that they want none.
pub(super) fn wants_sidecar(deployment: &Object<Deployment>) -> bool {
    let meta = &deployment.spec.spec.template.metadata;
    let said = meta.labels.get(INJECT).or_else(|| meta.annotations.get(INJECT));
    said.is_none_or(|said| said != "false")
}
