//! What only cryptography can tell about a configuration: whether certificates and keys in Secrets are readable, belong
//! together and are valid now, which cipher suites there are, and whether keys of tokens can verify anything.

use std::{collections::HashMap, sync::Arc};

use routing::{
    acme::ISSUER,
    api::{MeshDocument, Secret, gateway::Gateway, issuer::ca_bundle_pem},
    problem::{Problem, Severity},
    resources::{Object, Resources},
};
use tls::server::{CertifiedPem, ClientAuth, ServerSpec, ServerTls, unsupported_cipher_suites, unsupported_curves};

#[cfg(test)]
mod tests;
mod tokens;

/// A certificate that ends within this many seconds (14 days) is worth a warning.
const SOON: i64 = 14 * 24 * 3600;
/// One that the gateway renews itself, at two thirds of its lifetime, is when less than this part of it is left.
const OVERDUE: i64 = 5;

/// Looks at certificates and keys. What was found out about an object is kept as long as it stays the same, since only a
/// whole key agreement shows that a certificate and a key belong together.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// By the digest of the Secret.
    known: HashMap<u64, Arc<Examined>>,
    tokens: tokens::Examined,
}

/// What does not change while a Secret stays the same.
#[derive(Debug, Default)]
struct Examined {
    faults: Vec<Fault>,
    /// What serves all the same and should be known.
    remarks: Vec<Fault>,
    /// Key of the certificate, its begin and its end in seconds since 1970.
    end: Option<(&'static str, i64, i64)>,
}

/// Something wrong with the value of a key.
#[derive(Debug)]
struct Fault {
    key: &'static str,
    message: String,
}

impl Audit {
    /// Looks at every certificate, key and CA in Secrets, and at the cipher suites of Gateways. `now` is in seconds since
    /// 1970.
    pub(crate) fn run(&mut self, resources: &Resources, now: i64) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut known = HashMap::with_capacity(resources.secrets.len());
        for secret in &resources.secrets {
            let before = self.known.get(&secret.digest).cloned();
            let examined = before.unwrap_or_else(|| Arc::new(examine(secret)));
            let faults = examined.faults.iter();
            problems
                .extend(faults.map(|fault| {
                    problem(secret, Severity::Error, "bad-certificate", fault.key, fault.message.clone())
                }));
            problems.extend(examined.remarks.iter().map(|remark| {
                problem(secret, Severity::Warning, "odd-certificate", remark.key, remark.message.clone())
            }));
            problems.extend(examined.end.and_then(|end| ending(secret, end, now)));
            known.insert(secret.digest, examined);
        }
        self.known = known;
        for gateway in &resources.gateways {
            of_gateway(gateway, &mut problems);
        }
        for mesh in &resources.meshes {
            of_mesh(mesh, &mut problems);
        }
        self.tokens.run(resources, &mut problems);
        for issuer in &resources.issuers {
            // What is no PEM at all is refused where Issuers are read.
            let Some(bundle) = issuer.spec.ca_bundle.as_deref().and_then(ca_bundle_pem) else { continue };
            let mut tell = |severity, code, message| {
                problems.push(issuer.problem(severity, code, "spec.caBundle", message));
            };
            match tls::remarks::authorities(&bundle) {
                Ok(remarks) => remarks.into_iter().for_each(|it| tell(Severity::Warning, "odd-certificate", it)),
                Err(error) => tell(Severity::Error, "bad-certificate", sentence(&error)),
            }
        }
        problems
    }
}

fn examine(secret: &Object<Secret>) -> Examined {
    let mut examined = Examined::default();
    let own = certificate(secret, &mut examined);
    let fault = authority(secret, own, &mut examined.remarks);
    examined.faults.extend(fault);
    examined
}

/// The pair that a `credentialName` would use: `cert` and `key`, else `tls.crt` and `tls.key`. Given back when it is good.
fn certificate(secret: &Object<Secret>, examined: &mut Examined) -> Option<CertifiedPem> {
    let pair = [("cert", "key"), ("tls.crt", "tls.key")]
        .into_iter()
        .find_map(|(chain, key)| Some((chain, key, value(secret, chain)?, value(secret, key)?)));
    let (chain_name, key_name, chain, key) = pair?;
    let certificate = CertifiedPem { chain: chain.to_vec(), key: key.to_vec(), ocsp: None };
    let spec = ServerSpec { certificates: vec![certificate.clone()], ..ServerSpec::default() };
    match ServerTls::build(&spec, None) {
        Ok(server) => {
            let begin = tls::facts::facts(chain).map_or(0, |facts| facts.not_before);
            examined.end = Some((chain_name, begin, server.not_after()));
            let remarks = server.remarks().iter();
            examined.remarks.extend(remarks.map(|it| Fault { key: chain_name, message: it.text.clone() }));
            Some(certificate)
        }
        Err(error) => {
            let key = if tls::pem::certificates(chain).is_err() { chain_name } else { key_name };
            examined.faults.push(Fault { key, message: sentence(&error) });
            None
        }
    }
}

/// That a certificate has ended or soon will.
fn ending(secret: &Object<Secret>, (key, begin, end): (&str, i64, i64), now: i64) -> Option<Problem> {
    let left = end.saturating_sub(now);
    if left <= 0 {
        let message =
            format!("the certificate ended {}; clients refuse it, renew it", days(left.saturating_neg(), "ago"));
        return Some(problem(secret, Severity::Error, "expired-certificate", key, message));
    }
    let ordered = secret.meta.annotations.contains_key(ISSUER);
    let soon = if ordered { SOON.min(end.saturating_sub(begin) / OVERDUE) } else { SOON };
    (left < soon).then(|| {
        let what = if ordered { "its renewal is overdue, see `sluice certs`" } else { "renew it" };
        let message = format!("the certificate ends in {}; {what}", days(left, ""));
        problem(secret, Severity::Warning, "expiring-certificate", key, message)
    })
}

/// The CA that client certificates would be checked against: `cacert`, else `ca.crt`. Its revocation list can be looked at
/// where the server's `own` certificate is in the same Secret, because only a whole server can be tried.
fn authority(secret: &Object<Secret>, own: Option<CertifiedPem>, remarks: &mut Vec<Fault>) -> Option<Fault> {
    let (name, roots) = ["cacert", "ca.crt"].into_iter().find_map(|name| Some((name, value(secret, name)?)))?;
    match tls::remarks::authorities(roots) {
        // A self-signed certificate stands in both places, where cert-manager put it: nobody meant it for a CA.
        Ok(_) if own.as_ref().is_some_and(|own| own.chain == roots) => {}
        Ok(found) => remarks.extend(found.into_iter().map(|message| Fault { key: name, message })),
        Err(error) => return Some(Fault { key: name, message: sentence(&error) }),
    }
    let revoked = if name == "cacert" { "crl" } else { "ca.crl" };
    let (own, crl) = (own?, value(secret, revoked)?);
    let client = ClientAuth::Required { roots_pem: roots.to_vec(), crl: Some(crl.to_vec()), sans: Vec::new() };
    let spec = ServerSpec { certificates: vec![own], client, ..ServerSpec::default() };
    let error = ServerTls::build(&spec, None).err()?;
    let key = if matches!(error, tls::Error::NoRoots) { name } else { revoked };
    Some(Fault { key, message: sentence(&error) })
}

/// Names of cipher suites and groups that nobody can use, with the field in which they stand.
fn algorithms<T>(
    object: &Object<T>,
    (suites, suites_field): (&[String], &str),
    (groups, groups_field): (&[String], &str),
    problems: &mut Vec<Problem>,
) {
    let ignored = unsupported_cipher_suites(suites);
    if !ignored.is_empty() {
        let rest = if ignored.len() == suites.len() { "all supported suites are" } else { "the others are" };
        let message =
            format!("{} cannot be used and {rest} offered; ECDHE suites with GCM or CHACHA20 can", ignored.join(", "));
        problems.push(object.problem(Severity::Warning, "unsupported-value", suites_field, message));
    }
    let ignored = unsupported_curves(groups);
    if !ignored.is_empty() {
        let rest = if ignored.len() == groups.len() { "the proxy's own are" } else { "the others are" };
        let message = format!(
            "{} cannot be used and {rest} offered; X25519, P-256, P-384 and X25519MLKEM768 can",
            ignored.join(", ")
        );
        problems.push(object.problem(Severity::Warning, "unsupported-value", groups_field, message));
    }
}

fn of_gateway(gateway: &Object<Gateway>, problems: &mut Vec<Problem>) {
    for (index, server) in gateway.spec.servers.iter().enumerate() {
        let Some(tls) = &server.tls else { continue };
        let [suites, groups] = ["cipherSuites", "ecdhCurves"].map(|name| format!("spec.servers[{index}].tls.{name}"));
        algorithms(gateway, (&tls.cipher_suites, &suites), (&tls.ecdh_curves, &groups), problems);
    }
}

fn of_mesh(object: &Object<MeshDocument>, problems: &mut Vec<Problem>) {
    let mesh = &object.spec.mesh;
    for (name, tls) in [("tlsDefaults", &mesh.tls_defaults), ("meshMTLS", &mesh.mesh_mtls)] {
        let Some(tls) = tls else { continue };
        let [suites, groups] =
            ["cipherSuites", "ecdhCurves"].map(|field| object.spec.field(&format!("{name}.{field}")));
        algorithms(object, (&tls.cipher_suites, &suites), (&tls.ecdh_curves, &groups), problems);
    }
}

fn value<'a>(secret: &'a Object<Secret>, key: &str) -> Option<&'a [u8]> {
    secret.spec.data.get(key).map(Vec::as_slice).filter(|bytes| !bytes.is_empty())
}

/// A problem at a key of a Secret, which may stand in `data` or in `stringData`.
fn problem(secret: &Object<Secret>, severity: Severity, code: &'static str, key: &str, message: String) -> Problem {
    let key = if key.contains('.') { format!("[\"{key}\"]") } else { format!(".{key}") };
    let [data, text] = ["data", "stringData"].map(|part| format!("{part}{key}"));
    // A key that is not there is placed at its parent: the deeper of the two places is where the key is.
    let in_text = secret.place(&text) > secret.place("stringData") && secret.place("stringData") != secret.place("");
    secret.problem(severity, code, if in_text { &text } else { &data }, message)
}

fn sentence(error: &tls::Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        sentence.push_str(&format!(": {error}"));
        cause = error.source();
    }
    sentence
}

fn days(seconds: i64, suffix: &str) -> String {
    let days = seconds / 86_400;
    let text = match days {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        _ => format!("{days} days"),
    };
    if suffix.is_empty() { text } else { format!("{text} {suffix}") }
}
