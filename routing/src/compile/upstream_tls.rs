//! TLS towards the endpoints of a cluster: what a DestinationRule says, else what the endpoints can do (auto mTLS).

use std::{collections::BTreeSet, sync::Arc};

use super::{
    context::Context,
    destination_rules::TlsPolicy,
    endpoints::Instance,
    report::CREDENTIAL_AT_A_SIDECAR,
    secrets::{self, Credential},
    services::Service,
};
use crate::{
    api::destination_rule::ClientTlsMode,
    inbound::MtlsMode,
    snapshot::{CertificateFiles, CertificateSource, RootsSource},
    upstream::{ClientCertificate, ClientRoots, ClientTls, ServerNames, Sni},
};

/// What a cluster is for, as far as TLS cares.
pub(super) struct Peer<'s, 'a> {
    pub(super) service: &'s Service<'a>,
    pub(super) port: u16,
    pub(super) subset: &'s str,
    /// All endpoints of the port, whatever their subset: their accounts are the service's.
    pub(super) instances: &'s [Instance],
}

/// TLS of a cluster, and for which endpoints it holds.
pub(super) struct UpstreamTls {
    pub(super) tls: Option<Arc<ClientTls>>,
    /// Whether it holds for all, or only for those that can take part in mesh TLS.
    pub(super) always: bool,
}

impl UpstreamTls {
    /// Whether an endpoint is spoken to in TLS.
    pub(super) fn applies(&self, context: &Context<'_>, instance: &Instance) -> bool {
        self.tls.is_some() && (self.always || takes_mesh_tls(context, instance))
    }
}

pub(super) fn compile(context: &Context<'_>, peer: &Peer<'_, '_>, policy: Option<&TlsPolicy<'_>>) -> UpstreamTls {
    let Some(policy) = policy else { return automatic(context, peer) };
    let tls = match policy.tls.mode {
        ClientTlsMode::Disable => None,
        ClientTlsMode::IstioMutual => Some(mesh(context, peer, Some(policy))),
        ClientTlsMode::Simple | ClientTlsMode::Mutual => Some(origination(context, peer, policy)),
    };
    UpstreamTls { tls: tls.map(Arc::new), always: true }
}

fn automatic(context: &Context<'_>, peer: &Peer<'_, '_>) -> UpstreamTls {
    let wanted = context.proxy.mesh.auto_mtls() && !peer.service.external;
    let any = wanted && peer.instances.iter().any(|instance| takes_mesh_tls(context, instance));
    UpstreamTls { tls: any.then(|| Arc::new(mesh(context, peer, None))), always: false }
}

/// An endpoint with a sidecar, unless PeerAuthentication turned its mutual TLS off.
pub(super) fn takes_mesh_tls(context: &Context<'_>, instance: &Instance) -> bool {
    let owner = &instance.owner;
    owner.has_sidecar() && {
        let policies = context.peer_authentications.of(&owner.namespace, &owner.labels);
        policies.port(instance.address.port()) != MtlsMode::Disable
    }
}

/// `ISTIO_MUTUAL`: the service's accounts are the names to accept, and SNI says which cluster is meant.
fn mesh(context: &Context<'_>, peer: &Peer<'_, '_>, policy: Option<&TlsPolicy<'_>>) -> ClientTls {
    let sni = policy.and_then(|policy| policy.tls.sni.clone());
    let sni = sni.unwrap_or_else(|| format!("outbound_.{}_.{}_.{}", peer.port, peer.subset, peer.service.host));
    let given = policy.map(|policy| policy.tls.subject_alt_names.as_slice()).unwrap_or_default();
    let names: BTreeSet<String> =
        if given.is_empty() { accounts(context, peer) } else { given.iter().cloned().collect() };
    ClientTls {
        roots: ClientRoots::Mesh,
        crl: policy.and_then(|policy| policy.tls.ca_crl.clone()).map(RootsSource::File),
        names: if names.is_empty() { ServerNames::Any } else { ServerNames::Sans(names.into_iter().collect()) },
        certificate: ClientCertificate::Workload,
        sni: Sni::Fixed(sni.into()),
        mesh: true,
        range: None,
    }
}

/// The identities that may answer for a service, of any trust domain that is as good as the proxy's own.
fn accounts(context: &Context<'_>, peer: &Peer<'_, '_>) -> BTreeSet<String> {
    let owners = peer.instances.iter().filter_map(|instance| instance.owner.principal.as_deref());
    let named = peer.service.subject_alt_names.iter().chain(&peer.service.accounts).map(String::as_str);
    let domains = context.proxy.mesh.trust_domains(&context.proxy.trust_domain);
    owners.chain(named).flat_map(|account| in_domains(account, &domains)).collect()
}

/// An identity of one of these trust domains, in all of them; another one as it is.
fn in_domains(account: &str, domains: &[String]) -> Vec<String> {
    let parts = account.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/'));
    match parts.filter(|(domain, _)| domains.iter().any(|own| own == domain)) {
        Some((_, path)) => domains.iter().map(|domain| format!("spiffe://{domain}/{path}")).collect(),
        None => vec![account.to_owned()],
    }
}

/// `SIMPLE` and `MUTUAL`.
fn origination(context: &Context<'_>, peer: &Peer<'_, '_>, policy: &TlsPolicy<'_>) -> ClientTls {
    let tls = policy.tls;
    let usable = credential_allowed(context, policy);
    let (roots, crl) = if usable { roots(context, policy) } else { (no_roots(policy), None) };
    let skip = tls.insecure_skip_verify.unwrap_or(false);
    let given = if tls.subject_alt_names.is_empty() { peer.service.subject_alt_names } else { &tls.subject_alt_names };
    let names = match (skip, given) {
        (true, _) => ServerNames::Any,
        (false, [_, ..]) => ServerNames::Sans(given.to_vec()),
        // The name that is asked for: `sni`, else the request's host. Istio looks at the chain alone when `sni` is set, which
        // anybody passes who has a certificate of that CA.
        (false, []) => ServerNames::Host,
    };
    let certificate = match tls.mode {
        ClientTlsMode::Mutual if usable => client_certificate(context, policy),
        _ => ClientCertificate::None,
    };
    let sni = tls.sni.as_ref().map_or(Sni::Host, |sni| Sni::Fixed(sni.as_str().into()));
    // As Istio's, it is no less willing about versions: those are the server's choice.
    let range = context.proxy.mesh.tls_defaults().map(Arc::new);
    ClientTls { roots, crl, names, certificate, sni, mesh: false, range }
}

/// Istio's sidecars leave TLS out when a `credentialName` is given without a workload selector; we refuse instead.
fn credential_allowed(context: &Context<'_>, policy: &TlsPolicy<'_>) -> bool {
    let allowed = policy.tls.credential_name.is_none()
        || context.proxy.is_gateway()
        || policy.object.spec.workload_selector.is_some();
    if !allowed {
        let message = "a sidecar may use credentialName only in a DestinationRule with a workloadSelector; connections to \
                       this host are refused, use files or add the selector";
        context.report.error(
            policy.object,
            CREDENTIAL_AT_A_SIDECAR,
            &format!("{}.credentialName", policy.field),
            message,
        );
    }
    allowed
}

/// The CAs of a server, and its revocation list.
fn roots(context: &Context<'_>, policy: &TlsPolicy<'_>) -> (ClientRoots, Option<RootsSource>) {
    let tls = policy.tls;
    if tls.insecure_skip_verify.unwrap_or(false) {
        return (ClientRoots::Insecure, None);
    }
    let file = tls.ca_crl.clone().map(RootsSource::File);
    let given = |(roots, crl): (RootsSource, Option<Arc<[u8]>>)| {
        (ClientRoots::Given(roots), crl.map(RootsSource::Pem).or(file.clone()))
    };
    match (tls.ca_certificates.as_deref(), tls.credential_name.as_deref()) {
        (Some("system"), _) => (ClientRoots::System, file),
        (Some(path), _) => (ClientRoots::Given(RootsSource::File(path.to_owned())), file),
        (None, Some(name)) if tls.mode == ClientTlsMode::Simple => {
            let field = format!("{}.credentialName", policy.field);
            let credential = Credential { name, object: policy.object, field: &field, ordered: false };
            given(secrets::required_authority(context, &credential))
        }
        (None, Some(name)) => secrets::authority(context, name).map_or((ClientRoots::System, file.clone()), given),
        (None, None) => (ClientRoots::System, file),
    }
}

fn client_certificate(context: &Context<'_>, policy: &TlsPolicy<'_>) -> ClientCertificate {
    let tls = policy.tls;
    if let Some(name) = &tls.credential_name {
        let field = format!("{}.credentialName", policy.field);
        let credential = Credential { name, object: policy.object, field: &field, ordered: false };
        return ClientCertificate::Given(secrets::certificate(context, &credential));
    }
    match (&tls.client_certificate, &tls.private_key) {
        (Some(certificate), Some(key)) => {
            let (certificate, key) = (certificate.clone(), key.clone());
            ClientCertificate::Given(CertificateSource::Files(vec![CertificateFiles { certificate, key }]))
        }
        _ => {
            let message = "mode MUTUAL needs clientCertificate and privateKey, or credentialName";
            context.report.error(policy.object, super::report::BAD_VALUE, &policy.field, message);
            ClientCertificate::Given(CertificateSource::Missing(policy.field.clone()))
        }
    }
}

/// Nobody can be verified, so that every handshake is refused.
fn no_roots(policy: &TlsPolicy<'_>) -> ClientRoots {
    ClientRoots::Given(RootsSource::Missing(format!("{} of {}", policy.field, policy.object.reference())))
}
