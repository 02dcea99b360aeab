//! Values of the fields and conditions of an AuthorizationPolicy, each by what it is compared with.

use crate::{
    api::{
        authorization_policy::Key,
        check::{BAD_VALUE, Findings, NO_EFFECT, names},
    },
    authorization::template,
};

/// Most service accounts of one list, and most characters of one of them: Istio's limits.
const MOST_ACCOUNTS: usize = 16;
const LONGEST_ACCOUNT: usize = 320;

/// Checks the values of a field.
pub(super) fn check(findings: &mut Findings, field: &'static str, key: Key<'_>, values: &[String]) {
    if key == Key::SourceServiceAccount && values.len() > MOST_ACCOUNTS {
        let message = format!("{} service accounts are given, at most {MOST_ACCOUNTS} are allowed", values.len());
        findings.error_at(field, BAD_VALUE, message);
    }
    findings.each(field, values, |findings, _, value| {
        if value.is_empty() {
            return findings.error(BAD_VALUE, "the value is empty; write one, or `*` for any that is not empty");
        }
        if let Some(fault) = fault(key, value) {
            findings.error(BAD_VALUE, fault);
        } else if let Some(hint) = hint(key, value) {
            findings.warn(NO_EFFECT, hint);
        }
    });
}

/// What makes a value impossible.
fn fault(key: Key<'_>, value: &str) -> Option<String> {
    match key {
        Key::SourceIp | Key::RemoteIp | Key::DestinationIp => names::subnet_fault(value),
        Key::DestinationPort => {
            let good = value.parse::<u16>().is_ok_and(|port| port > 0) && value.bytes().all(|b| b.is_ascii_digit());
            (!good).then(|| format!("`{value}` is not a port; a number from 1 to 65535 is wanted"))
        }
        Key::SourceServiceAccount => account_fault(value),
        Key::SourceTrustDomain => {
            let inner = value.strip_prefix('*').or_else(|| value.strip_suffix('*')).unwrap_or(value);
            (inner.contains(['*', '/'])).then(|| {
                format!("`{value}` is not a trust domain; a name is wanted, perhaps with one `*` at its begin or end")
            })
        }
        Key::Path => template::fault(value),
        _ => None,
    }
}

fn account_fault(value: &str) -> Option<String> {
    let (namespace, account) = value.split_once('/').unwrap_or(("default", value));
    if value.contains('*') {
        return Some(format!("`{value}` has a wildcard; service accounts are named in full, as `NAMESPACE/ACCOUNT`"));
    }
    if value.len() > LONGEST_ACCOUNT {
        return Some(format!(
            "a service account of {} characters is given, at most {LONGEST_ACCOUNT} are allowed",
            value.len()
        ));
    }
    let good = !namespace.is_empty() && !account.is_empty() && !account.contains('/');
    (!good).then(|| format!("`{value}` is not a service account; write `ACCOUNT` or `NAMESPACE/ACCOUNT`"))
}

/// What makes a value one that nothing ever equals, or that means less than it seems to.
fn hint(key: Key<'_>, value: &str) -> Option<String> {
    let inner = value.strip_prefix('*').or_else(|| value.strip_suffix('*')).unwrap_or(value);
    let is_text = !matches!(key, Key::SourceNamespace | Key::EnvoyMetadata);
    if is_text && inner.contains('*') && !template::is_template(value) {
        return Some(format!(
            "`{value}` is compared with its inner `*` as it is; a `*` counts at the begin or at the end only"
        ));
    }
    match key {
        Key::SourcePrincipal if value.starts_with("spiffe://") => Some(format!(
            "`{value}` is never met, principals are compared without `spiffe://`; write `{}`",
            value.trim_start_matches("spiffe://")
        )),
        Key::Method if value.bytes().any(|b| b.is_ascii_lowercase()) => Some(format!(
            "`{value}` is compared as it is, and methods are written in capitals; write `{}`",
            value.to_uppercase()
        )),
        Key::Path if value.contains('?') => Some(format!(
            "`{value}` is never met, paths are compared without their query; write what stands before the `?`"
        )),
        Key::Path if !value.starts_with(['/', '*']) => {
            Some(format!("`{value}` is never met, paths begin with `/`; write `/{value}`"))
        }
        _ => None,
    }
}
