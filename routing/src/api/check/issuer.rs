//! Rules for Issuer.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use http::Uri;

use super::{BAD_VALUE, CONFLICT, Findings, MISSING_FIELD, NO_EFFECT, names};
use crate::api::Issuer;
use crate::api::issuer::{Challenge, Dns01, Exec, ExternalAccount, Rfc2136, built_in, ca_bundle_pem};

impl Issuer {
    /// Says what is wrong with the object of this name by itself.
    pub fn check(&self, name: &str, findings: &mut Findings) {
        match &self.server {
            Some(server) => {
                if let Some(fault) = server_fault(server) {
                    findings.error_at("server", BAD_VALUE, fault);
                }
            }
            None if built_in(name).is_none() => {
                let message = "the URL of the CA's directory is wanted, as `https://ca.example.com/directory`; only an \
                               Issuer named `letsencrypt` or `letsencrypt-staging` may leave it out";
                findings.error_at("server", MISSING_FIELD, message);
            }
            None => {}
        }
        if let Some(fault) = self.email.as_deref().and_then(email_fault) {
            findings.error_at("email", BAD_VALUE, fault);
        }
        if self.ca_bundle.as_deref().is_some_and(|text| ca_bundle_pem(text).is_none()) {
            let message = "these are no certificates; write PEM (`-----BEGIN CERTIFICATE-----` and so on), or base64 of \
                           PEM as `base64 -w0 ca.pem` prints it";
            findings.error_at("caBundle", BAD_VALUE, message);
        }
        if let Some(account) = &self.external_account {
            findings.within("externalAccount", |findings| account.check(findings));
        }
        self.check_challenges(findings);
        if let Some(dns01) = &self.dns01 {
            findings.within("dns01", |findings| dns01.check(findings));
        }
    }

    fn check_challenges(&self, findings: &mut Findings) {
        let mut seen = BTreeSet::new();
        findings.each("challenges", &self.challenges, |findings, _, challenge| {
            if !seen.insert(challenge) {
                findings.error(BAD_VALUE, format!("`{}` is listed twice; keep one", challenge.name()));
            }
        });
        let listed = self.challenges.contains(&Challenge::Dns01);
        match &self.dns01 {
            None if listed => {
                let message = "dns-01 is listed in challenges; say under dns01 how TXT records are published, with rfc2136 \
                               or exec";
                findings.error_at("dns01", MISSING_FIELD, message);
            }
            Some(_) if !listed && !self.challenges.is_empty() => {
                let message = "challenges does not list dns-01, so dns01 is not used; add it there or remove dns01";
                findings.warn_at("dns01", NO_EFFECT, message);
            }
            _ => {}
        }
    }
}

impl ExternalAccount {
    fn check(&self, findings: &mut Findings) {
        if self.key_id.is_empty() {
            findings.error_at("keyID", MISSING_FIELD, "the CA's name for the account is wanted");
        }
        let message = "the name of the Secret that holds the MAC key is wanted";
        match self.secret_name.as_str() {
            "" => findings.error_at("secretName", MISSING_FIELD, message),
            name => secret_name(findings, "secretName", name),
        }
    }
}

impl Dns01 {
    fn check(&self, findings: &mut Findings) {
        match (&self.rfc2136, &self.exec) {
            (None, None) => {
                let message =
                    "how TXT records are published is wanted: rfc2136 with a nameserver, or exec with a command";
                findings.error(MISSING_FIELD, message);
            }
            (Some(_), Some(_)) => {
                findings.error(CONFLICT, "TXT records are published by rfc2136 and by exec; keep one of them");
            }
            (Some(update), None) => findings.within("rfc2136", |findings| update.check(findings)),
            (None, Some(exec)) => findings.within("exec", |findings| exec.check(findings)),
        }
    }
}

impl Rfc2136 {
    fn check(&self, findings: &mut Findings) {
        match self.nameserver.as_str() {
            "" => {
                let message = "the primary name server is wanted, as `ns1.example.com` or `192.0.2.53:5353`";
                findings.error_at("nameserver", MISSING_FIELD, message);
            }
            text if self.authority().is_none() => {
                let message = format!(
                    "`{text}` is no name server; write `host` or `host:port`, as `ns1.example.com`, `192.0.2.53:53` or \
                     `[2001:db8::53]:53`"
                );
                findings.error_at("nameserver", BAD_VALUE, message);
            }
            _ => {}
        }
        if let Some(zone) = self.zone.as_deref().filter(|zone| !names::is_host_name(zone)) {
            findings.error_at("zone", BAD_VALUE, format!("`{zone}` is no zone; write its name, as `example.com`"));
        }
        self.check_tsig(findings);
    }

    fn check_tsig(&self, findings: &mut Findings) {
        match (&self.tsig_key_name, &self.tsig_secret_name) {
            (Some(_), None) => {
                let message = "tsigKeyName needs tsigSecretName, the Secret that holds the key";
                findings.error_at("tsigSecretName", MISSING_FIELD, message);
            }
            (None, Some(_)) => {
                let message = "tsigSecretName needs tsigKeyName, the key's name at the name server";
                findings.error_at("tsigKeyName", MISSING_FIELD, message);
            }
            (None, None) if self.tsig_algorithm.is_some() => {
                let message = "without tsigKeyName and tsigSecretName updates are not signed, so this has no effect";
                findings.warn_at("tsigAlgorithm", NO_EFFECT, message);
            }
            _ => {}
        }
        if let Some(name) = self.tsig_key_name.as_deref().filter(|name| !names::is_host_name(name)) {
            let message = format!("`{name}` is no key name; write it as the name server does, as `acme-update`");
            findings.error_at("tsigKeyName", BAD_VALUE, message);
        }
        if let Some(name) = &self.tsig_secret_name {
            secret_name(findings, "tsigSecretName", name);
        }
    }
}

impl Exec {
    fn check(&self, findings: &mut Findings) {
        let command = self.command.as_str();
        if command.is_empty() {
            findings.error_at("command", MISSING_FIELD, "the name of a file in the folder of hooks is wanted");
        } else if matches!(command, "." | "..") || command.contains(['/', '\0']) {
            let message = format!(
                "`{command}` is no file name; write the name alone, as `publish-txt`: it is looked for in the folder of hooks \
                 that the gateway was started with"
            );
            findings.error_at("command", BAD_VALUE, message);
        }
        findings.positive("timeout", self.timeout, "leave it out for 2m");
    }
}

fn secret_name(findings: &mut Findings, field: &'static str, name: &str) {
    if !names::is_object_name(name) {
        let message = format!("`{name}` is no name of a Secret; write the name of one in the Issuer's namespace");
        findings.error_at(field, BAD_VALUE, message);
    }
}

/// Says what is wrong with the URL of a directory.
fn server_fault(text: &str) -> Option<String> {
    const WANTED: &str = "write the URL of the CA's directory, as `https://ca.example.com/directory`";
    if text.starts_with("http://") {
        return Some(format!("`{text}` is not encrypted; an account's orders go over https:// only"));
    }
    let Ok(uri) = text.parse::<Uri>() else { return Some(format!("`{text}` is no URL; {WANTED}")) };
    if uri.scheme_str() != Some("https") {
        return Some(format!("`{text}` does not begin with https://; {WANTED}"));
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') || text.contains('#') {
        return Some(format!("`{text}` holds a user name or a fragment, which a directory does not have; {WANTED}"));
    }
    let host = uri.host().unwrap_or_default();
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let good = match address {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => names::is_host_name(host),
    };
    (!good).then(|| format!("`{host}` in `{text}` is no host; {WANTED}"))
}

/// Says what is wrong with an e-mail address: it becomes a `mailto:` URL of one address (RFC 8555 section 7.3).
fn email_fault(text: &str) -> Option<String> {
    if let Some(address) = text.strip_prefix("mailto:") {
        return Some(format!("`{text}` is a URL; write the address alone: `{address}`"));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$'*+-./=^_`{|}~&".contains(&b);
    let good = text.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty() && local.bytes().all(plain) && names::is_host_name(domain) && !domain.ends_with('.')
    });
    (!good).then(|| format!("`{text}` is no e-mail address; write one, as `ops@example.com`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_directories_are_right() {
        for good in [
            "https://ca.example.com/directory",
            "https://localhost:14000/dir",
            "https://[::1]:14000/dir?x=1",
            "https://ca",
        ] {
            assert_eq!(server_fault(good), None, "{good}");
        }
        for bad in [
            "http://ca.example.com/directory",
            "ca.example.com",
            "/directory",
            "https://",
            "https://u:p@ca.example.com",
            "https://ca.example.com/directory#x",
            "https://ca ",
            "ftp://ca.example.com",
        ] {
            assert!(server_fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn an_email_address_is_one_and_no_url() {
        for good in ["ops@example.com", "first.last+acme@sub.example.com", "root@localhost"] {
            assert_eq!(email_fault(good), None, "{good}");
        }
        for bad in
            ["ops", "@example.com", "ops@", "a@b@c", "a b@example.com", "a@example.com,b@example.com", "mailto:a@b.c"]
        {
            assert!(email_fault(bad).is_some(), "{bad}");
        }
    }
}
