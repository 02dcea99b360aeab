//! Issuers: the one that a Gateway names, with the Secrets that it names read.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose};

use super::{context::Context, report::MISSING_SECRET};
use crate::{
    acme::{self, Dns01, Exec, ExternalAccount, Publisher, Rfc2136, TERMS_AGREED, Tsig},
    api::{
        self, Gateway,
        issuer::{BUILT_IN, built_in, ca_bundle_pem},
    },
    problem::Severity,
    resources::{Extent, Kind, Object},
};

/// Why nothing can be ordered from an issuer.
pub(super) struct Fault {
    /// Stable name for programs.
    pub(super) code: &'static str,
    pub(super) severity: Severity,
    /// A sentence that says what to do.
    pub(super) message: String,
}

impl Fault {
    fn error(code: &'static str, message: String) -> Self {
        Self { code, severity: Severity::Error, message }
    }
}

/// There is no issuer of this name.
const UNKNOWN_ISSUER: &str = "unknown-issuer";
/// Nobody has agreed to the CA's terms of service.
const TERMS: &str = "terms-not-agreed";
/// How long a hook may take when nothing is said.
const HOOK_TIMEOUT: api::ProtoDuration = api::ProtoDuration::from_millis(120_000);

/// The issuer of this name, for a Gateway: an Issuer of the proxy's namespace, else a built-in one.
pub(super) fn named(context: &Context<'_>, gateway: &Object<Gateway>, name: &str) -> Result<Arc<acme::Issuer>, Fault> {
    let namespace = &context.proxy.namespace;
    let Some(object) = context.resources.issuers.get(namespace, name) else {
        let server = built_in(name).ok_or_else(|| unknown(context, gateway, name))?;
        if gateway.meta.annotations.get(TERMS_AGREED).is_none_or(|agreed| agreed != "true") {
            let message = format!(
                "the terms of service of `{name}` are not agreed to, so nothing is ordered: read them ({server} names their \
                 place as `termsOfService`), then annotate the Gateway with {TERMS_AGREED}: \"true\""
            );
            return Err(Fault::error(TERMS, message));
        }
        return Ok(Arc::new(acme::Issuer { name: name.to_owned(), server: server.to_owned(), ..bare() }));
    };
    let spec = &object.spec;
    let server = spec.server.as_deref().or_else(|| built_in(name)).unwrap_or_default().to_owned();
    if !spec.terms_of_service_agreed {
        let message = format!(
            "the terms of service of Issuer `{namespace}/{name}` are not agreed to, so nothing is ordered: read them \
             ({server} names their place as `termsOfService`), then write termsOfServiceAgreed: true in its spec"
        );
        return Err(Fault::error(TERMS, message));
    }
    let looked_up = Lookup { context, issuer: object };
    Ok(Arc::new(acme::Issuer {
        name: name.to_owned(),
        server,
        email: spec.email.clone(),
        ca_bundle: spec.ca_bundle.as_deref().and_then(ca_bundle_pem).map(Into::into),
        external_account: looked_up.external_account()?,
        profile: spec.profile.clone(),
        challenges: spec.challenges.clone(),
        dns01: looked_up.dns01()?,
        key_type: spec.key_type,
    }))
}

/// What an issuer is when its name is all that is known.
fn bare() -> acme::Issuer {
    acme::Issuer {
        name: String::new(),
        server: String::new(),
        email: None,
        ca_bundle: None,
        external_account: None,
        profile: None,
        challenges: Vec::new(),
        dns01: None,
        key_type: acme::KeyType::default(),
    }
}

fn unknown(context: &Context<'_>, gateway: &Object<Gateway>, name: &str) -> Fault {
    let namespace = &context.proxy.namespace;
    let mut elsewhere = context.resources.issuers.iter().filter(|issuer| issuer.name() == name);
    let hint = elsewhere.next().map(|other| format!("; the one in namespace `{}` is not used", other.namespace()));
    let absence = context.absent(gateway, UNKNOWN_ISSUER, Kind::Issuer, (namespace, name));
    let message = format!(
        "{}, so nothing is ordered; issuers are looked up in the proxy's own namespace, and only {} need no object{}",
        absence.words,
        BUILT_IN.join(" and "),
        hint.unwrap_or_default()
    );
    Fault { code: absence.code, severity: absence.severity, message }
}

/// An Issuer whose Secrets are looked up.
struct Lookup<'s, 'a> {
    context: &'s Context<'a>,
    issuer: &'s Object<api::Issuer>,
}

impl Lookup<'_, '_> {
    fn external_account(&self) -> Result<Option<ExternalAccount>, Fault> {
        let Some(account) = &self.issuer.spec.external_account else { return Ok(None) };
        let wanted = Wanted {
            name: &account.secret_name,
            field: "spec.externalAccount.secretName",
            keys: ["key", "hmac-key", "secret"],
            form: "the CA's base64url text",
            decode: mac_key,
        };
        Ok(Some(ExternalAccount { key_id: account.key_id.clone(), key: self.secret(&wanted)? }))
    }

    fn dns01(&self) -> Result<Option<Dns01>, Fault> {
        let Some(dns01) = &self.issuer.spec.dns01 else { return Ok(None) };
        let publisher = match (&dns01.rfc2136, &dns01.exec) {
            (Some(update), _) => Publisher::Rfc2136(Rfc2136 {
                nameserver: update.authority().unwrap_or_default(),
                zone: update.zone.as_deref().map(undotted),
                tsig: self.tsig(update)?,
            }),
            (None, Some(exec)) => Publisher::Exec(Exec {
                command: exec.command.clone(),
                timeout: exec.timeout.unwrap_or(HOOK_TIMEOUT).get(),
            }),
            (None, None) => return Ok(None),
        };
        Ok(Some(Dns01 { publisher, propagation: dns01.propagation_delay.unwrap_or_default().get() }))
    }

    fn tsig(&self, update: &api::issuer::Rfc2136) -> Result<Option<Tsig>, Fault> {
        let (Some(key_name), Some(name)) = (&update.tsig_key_name, &update.tsig_secret_name) else { return Ok(None) };
        let wanted = Wanted {
            name,
            field: "spec.dns01.rfc2136.tsigSecretName",
            keys: ["key", "secret", "tsig-secret-key"],
            form: "base64 text, as in BIND's key files",
            decode: tsig_key,
        };
        let algorithm = update.tsig_algorithm.unwrap_or_default();
        Ok(Some(Tsig { key_name: undotted(key_name), algorithm, key: self.secret(&wanted)? }))
    }

    /// A key out of a Secret of the issuer's namespace.
    fn secret(&self, wanted: &Wanted<'_>) -> Result<Arc<[u8]>, Fault> {
        let (namespace, [first, second, third]) = (self.issuer.namespace(), wanted.keys);
        let fault = |what: &str| {
            let message = format!(
                "Issuer `{namespace}/{}` cannot be used: {} names Secret `{namespace}/{}`, {what}; it needs the key under \
                 `{first}`, `{second}` or `{third}`, as {}",
                self.issuer.name(),
                wanted.field,
                wanted.name,
                wanted.form
            );
            Fault::error(MISSING_SECRET, message)
        };
        let secret = self.context.resources.secrets.get(namespace, wanted.name);
        let secret = secret.ok_or_else(|| match self.context.resources.extent() {
            Extent::Whole => fault("which is not there"),
            Extent::Part => Fault { severity: Severity::Warning, ..fault("which is not among what was read") },
        })?;
        let held = wanted.keys.iter().find_map(|key| secret.spec.data.get(*key).filter(|bytes| !bytes.is_empty()));
        let held = held.ok_or_else(|| fault("which has no key"))?;
        let text = str::from_utf8(held).ok().and_then(wanted.decode).filter(|key| !key.is_empty());
        text.map(Into::into).ok_or_else(|| fault("whose key is no base64"))
    }
}

/// A key that an issuer needs.
struct Wanted<'a> {
    /// Of the Secret.
    name: &'a str,
    /// Where that is written.
    field: &'static str,
    /// Where in the Secret the key may be.
    keys: [&'static str; 3],
    /// What it looks like.
    form: &'static str,
    decode: fn(&str) -> Option<Vec<u8>>,
}

/// base64url as RFC 8555 section 7.3.4 has it, padded or not; some CAs hand out the other alphabet.
fn mac_key(text: &str) -> Option<Vec<u8>> {
    let text = text.trim().trim_end_matches('=').replace('+', "-").replace('/', "_");
    general_purpose::URL_SAFE_NO_PAD.decode(text).ok()
}

fn tsig_key(text: &str) -> Option<Vec<u8>> {
    let packed: String = text.split_ascii_whitespace().collect();
    general_purpose::STANDARD.decode(packed).ok()
}

/// A domain name without the dot at its end.
fn undotted(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_key_is_read_in_every_form_that_cas_hand_out() {
        let bytes = vec![0xfb, 0xef, 0xff, 0x01];
        for text in ["--__AQ", "--__AQ==", "++//AQ", "++//AQ==", " --__AQ\n"] {
            assert_eq!(mac_key(text).as_ref(), Some(&bytes), "{text}");
        }
        assert_eq!(mac_key("not base64!"), None);
    }

    #[test]
    fn a_tsig_key_may_be_broken_into_lines() {
        assert_eq!(tsig_key("AQID\nBAUG\n").unwrap(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(tsig_key("AQID-_"), None);
    }
}
