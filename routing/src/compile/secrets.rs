//! `credentialName`: which Secret it means and what is in it. Istio looks in the proxy's own namespace only.

use std::{collections::BTreeSet, sync::Arc};

use super::{context::Context, proxy::Proxy, report::MISSING_SECRET};
use crate::{
    acme::ISSUER,
    api::{Secret, check::is_object_name},
    resources::{Kind, Object, Resources},
    snapshot::{CertificateSecret, CertificateSource, RootsSource},
};

/// Names of the Secrets, all in the proxy's namespace, that a Gateway served by this proxy or a DestinationRule names.
/// Whoever reads Secrets from a cluster needs these and no others.
pub fn named_secrets(resources: &Resources, proxy: &Proxy) -> BTreeSet<String> {
    let gateways =
        resources.gateways.iter().filter(|gateway| proxy.is_gateway() && proxy.selected_by(&gateway.spec.selector));
    let servers = gateways.flat_map(|gateway| &gateway.spec.servers).filter_map(|server| server.tls.as_ref());
    let edge = servers
        .flat_map(|tls| tls.credential_name.iter().chain(&tls.credential_names).chain(&tls.ca_cert_credential_name));
    // A sidecar may use only what a rule with a selector gives it, see `upstream_tls`.
    let rules = resources.destination_rules.iter().filter(|rule| match &rule.spec.workload_selector {
        Some(selector) => rule.namespace() == proxy.namespace && proxy.selected_by(&selector.match_labels),
        None => proxy.is_gateway() && proxy.sees_destination_rule(&rule.spec.export_to, rule.namespace()),
    });
    let policies = rules.flat_map(|rule| {
        let subsets = rule.spec.subsets.iter().filter_map(|subset| subset.traffic_policy.as_ref());
        rule.spec.traffic_policy.iter().chain(subsets)
    });
    let upstream = policies.flat_map(|policy| {
        let ports = policy.port_level_settings.iter().filter_map(|settings| settings.tls.as_ref());
        policy.tls.iter().chain(ports).filter_map(|tls| tls.credential_name.as_ref())
    });
    let mut names: BTreeSet<String> = issuer_secrets(resources, proxy).map(str::to_owned).collect();
    for name in edge.chain(upstream) {
        let name = match target(&proxy.namespace, name) {
            Target::Secret(name) if !name.is_empty() => name,
            _ => continue,
        };
        names.insert(name.to_owned());
        names.insert(format!("{name}-cacert"));
    }
    names
}

/// The Secrets of the issuers that Gateways served by this proxy name.
fn issuer_secrets<'a>(resources: &'a Resources, proxy: &'a Proxy) -> impl Iterator<Item = &'a str> {
    let gateways = resources.gateways.iter();
    let own = gateways.filter(|gateway| proxy.is_gateway() && proxy.selected_by(&gateway.spec.selector));
    let names = own.filter_map(|gateway| gateway.meta.annotations.get(ISSUER));
    let issuers = names.filter_map(|name| resources.issuers.get(&proxy.namespace, name));
    issuers.flat_map(|issuer| issuer.spec.secret_names()).filter(|name| !name.is_empty())
}

/// A `credentialName` and where it is written, for problems.
pub(super) struct Credential<'a, 'o, T> {
    pub(super) name: &'a str,
    pub(super) object: &'o Object<T>,
    pub(super) field: &'a str,
    /// It is a Secret to order a certificate for; see `certificates`, which says what is wrong with it.
    pub(super) ordered: bool,
}

/// What a Secret has that a certificate can be ordered for.
pub(super) enum Held {
    /// It is not there, or empty.
    Nothing,
    /// A certificate, and whether it was ordered.
    Certificate(CertificateSecret, bool),
    /// Something else.
    Other,
}

/// What is in a Secret of the proxy's namespace.
pub(super) fn held(context: &Context<'_>, name: &str) -> Held {
    let Some(secret) = context.resources.secrets.get(&context.proxy.namespace, name) else { return Held::Nothing };
    let ours = secret.meta.annotations.contains_key(ISSUER);
    match pair(secret) {
        Some(found) => Held::Certificate(found, ours),
        None if ours || secret.spec.data.values().all(Vec::is_empty) => Held::Nothing,
        None => Held::Other,
    }
}

/// The Secret that a `credentialName` means, when it is one of the proxy's own namespace.
pub(super) fn own_name<'n>(context: &Context<'_>, credential: &'n str) -> Option<&'n str> {
    match target(&context.proxy.namespace, credential) {
        Target::Secret(name) => Some(name).filter(|name| is_object_name(name)),
        Target::Workload | Target::Never(_) => None,
    }
}

/// What a `credentialName` points to.
enum Target<'a> {
    /// A Secret of the proxy's namespace.
    Secret(&'a str),
    /// `builtin://`: the workload's own certificate.
    Workload,
    /// Something that can never be served, and why.
    Never(String),
}

/// Certificate and key of a credential. A Secret that is not there or incomplete is reported.
pub(super) fn certificate<T>(context: &Context<'_>, credential: &Credential<'_, '_, T>) -> CertificateSource {
    let name = match target(&context.proxy.namespace, credential.name) {
        Target::Workload => return CertificateSource::Workload,
        Target::Never(why) => return missing(context, credential, why),
        Target::Secret(name) => name,
    };
    let namespace = &context.proxy.namespace;
    let Some(secret) = context.resources.secrets.get(namespace, name) else {
        let mut elsewhere = context.resources.secrets.iter().filter(|secret| secret.name() == name);
        let hint = elsewhere.next().map(|other| format!("; the one in namespace `{}` is not used", other.namespace()));
        if !credential.ordered {
            let absence = context.absent(credential.object, MISSING_SECRET, Kind::Secret, (namespace, name));
            let rest = format!(
                "; it is looked up in the proxy's own namespace and needs tls.crt and tls.key (or cert and key){}",
                hint.unwrap_or_default()
            );
            context.report.absent(credential.object, credential.field, absence, &rest);
        }
        return CertificateSource::Missing(secret_name(context, credential.name));
    };
    match pair(secret) {
        Some(found) => CertificateSource::Secrets(vec![found]),
        None => {
            let message = format!(
                "Secret `{namespace}/{name}` has no certificate with its key; it needs tls.crt and tls.key (or cert and key)"
            );
            missing(context, credential, message)
        }
    }
}

fn missing<T>(context: &Context<'_>, credential: &Credential<'_, '_, T>, message: String) -> CertificateSource {
    if !credential.ordered {
        context.report.error(credential.object, MISSING_SECRET, credential.field, message);
    }
    CertificateSource::Missing(secret_name(context, credential.name))
}

/// `namespace/name` of a Secret of the proxy's namespace; what is none as it is written.
fn secret_name(context: &Context<'_>, name: &str) -> String {
    match target(&context.proxy.namespace, name) {
        Target::Secret(name) => format!("{}/{name}", context.proxy.namespace),
        Target::Workload | Target::Never(_) => name.to_owned(),
    }
}

/// CA and revocation list of a credential: Secret `<name>-cacert`, else the Secret itself. `None` when neither holds a CA.
pub(super) fn authority(context: &Context<'_>, name: &str) -> Option<(RootsSource, Option<Arc<[u8]>>)> {
    let Target::Secret(name) = target(&context.proxy.namespace, name) else { return None };
    let namespace = &context.proxy.namespace;
    let separate = context.resources.secrets.get(namespace, &format!("{name}-cacert"));
    let secret = separate.or_else(|| context.resources.secrets.get(namespace, name))?;
    let (roots, revoked) =
        [("cacert", "crl"), ("ca.crt", "ca.crl")].iter().find_map(|(ca, crl)| Some((value(secret, ca)?, *crl)))?;
    Some((RootsSource::Pem(roots), value(secret, revoked)))
}

/// Whether there is neither the Secret of a credential nor the one beside it.
pub(super) fn is_absent(context: &Context<'_>, name: &str) -> bool {
    let of = |name: &str| context.resources.secrets.get(&context.proxy.namespace, name);
    matches!(target(&context.proxy.namespace, name), Target::Secret(name)
        if of(name).is_none() && of(&format!("{name}-cacert")).is_none())
}

/// As [`authority`]; a CA that is not there is reported, and then nobody is trusted.
pub(super) fn required_authority<T>(
    context: &Context<'_>,
    credential: &Credential<'_, '_, T>,
) -> (RootsSource, Option<Arc<[u8]>>) {
    let (namespace, name) = (&context.proxy.namespace, credential.name);
    authority(context, name).unwrap_or_else(|| {
        let missing = RootsSource::Missing(secret_name(context, name));
        if let (Target::Secret(bare), false) = (target(namespace, name), credential.ordered)
            && is_absent(context, name)
        {
            let absence = context.absent(credential.object, MISSING_SECRET, Kind::Secret, (namespace, bare));
            let rest = format!("; it, or `{bare}-cacert` beside it, needs cacert or ca.crt");
            context.report.absent(credential.object, credential.field, absence, &rest);
            return (missing, None);
        }
        let message = match target(&context.proxy.namespace, name) {
            Target::Never(why) => why,
            Target::Secret(name) if credential.ordered => format!(
                "no CA certificates for client certificates: Secret `{namespace}/{name}` holds an ordered certificate and no \
                 CA, so put cacert or ca.crt into Secret `{namespace}/{name}-cacert`"
            ),
            _ => format!(
                "no CA certificates in namespace `{namespace}`; Secret `{name}-cacert` or `{name}` needs cacert or ca.crt"
            ),
        };
        context.report.error(credential.object, MISSING_SECRET, credential.field, message);
        (missing, None)
    })
}

fn target<'a>(own: &str, name: &'a str) -> Target<'a> {
    let Some((scheme, rest)) = name.split_once("://") else { return Target::Secret(name) };
    match (scheme, rest.split_once('/')) {
        ("kubernetes", None) => Target::Secret(rest),
        ("kubernetes", Some((namespace, name))) if namespace == own => Target::Secret(name),
        ("kubernetes", Some((namespace, _))) => Target::Never(format!(
            "Secrets of namespace `{namespace}` may not be used; put it into the proxy's own namespace `{own}`"
        )),
        ("builtin", _) => Target::Workload,
        ("configmap", _) => Target::Never(
            "`configmap://` is not read, since whoever may write ConfigMaps would say who is trusted; put the CA into a Secret, as \
             ca.crt"
                .to_owned(),
        ),
        _ => Target::Never(format!("`{scheme}://` is not supported; name a Secret of the proxy's namespace")),
    }
}

fn pair(secret: &Object<Secret>) -> Option<CertificateSecret> {
    let name = format!("{}/{}", secret.namespace(), secret.name());
    if let (Some(chain), Some(key)) = (value(secret, "cert"), value(secret, "key")) {
        return Some(CertificateSecret { name, chain, key, ocsp: None });
    }
    let (chain, key) = (value(secret, "tls.crt")?, value(secret, "tls.key")?);
    Some(CertificateSecret { name, chain, key, ocsp: value(secret, "tls.ocsp-staple") })
}

fn value(secret: &Object<Secret>, key: &str) -> Option<Arc<[u8]>> {
    secret.spec.data.get(key).filter(|bytes| !bytes.is_empty()).map(|bytes| bytes.as_slice().into())
}
