//! Rules for RequestAuthentication.

use std::time::Duration;

use http::Uri;
use serde_json::Value;

use super::{BAD_VALUE, CONFLICT, Findings, MISSING_FIELD, names, target_reference};
use crate::api::{
    RequestAuthentication,
    request_authentication::{ClaimToHeader, JwtRule},
};

/// Keys of one issuer that are tried at most.
pub const MOST_KEYS: usize = 100;
/// The longest that an issuer is waited for.
pub(crate) const LONGEST_FETCH: Duration = Duration::from_secs(60);

impl RequestAuthentication {
    /// Says what is wrong with the object by itself.
    pub fn check(&self, findings: &mut Findings) {
        let selector = self.selector.as_ref();
        target_reference::attachment(findings, selector, self.target_ref.as_ref(), &self.target_refs);
        findings.each("jwtRules", &self.jwt_rules, |findings, _, rule| rule.check(findings));
    }
}

impl JwtRule {
    fn check(&self, findings: &mut Findings) {
        if self.issuer.is_empty() && self.jwks_uri.is_none() {
            findings.error_at("issuer", MISSING_FIELD, "issuer is missing; write the `iss` of its tokens");
        }
        match (&self.jwks, &self.jwks_uri) {
            (Some(_), Some(_)) => {
                findings.error_at("jwks", CONFLICT, "only one of jwks and jwksUri may be set; remove the other");
            }
            (Some(jwks), None) => {
                if let Err(fault) = keys_fault(jwks) {
                    findings.error_at("jwks", BAD_VALUE, fault);
                }
            }
            (None, Some(uri)) => check_uri(findings, uri),
            (None, None) => warn_of_plain(findings, "issuer", &self.issuer),
        }
        let timeout = self.timeout.map(|given| given.get());
        if timeout.is_some_and(|given| given.is_zero()) {
            findings.warn_at(
                "timeout",
                BAD_VALUE,
                "no answer takes no time, so 5s are used; write how long an answer may take",
            );
        } else if timeout.is_some_and(|given| given > LONGEST_FETCH) {
            findings.warn_at(
                "timeout",
                BAD_VALUE,
                "keys that take longer than 60s are as good as none, so 60s are used",
            );
        }
        non_empty(findings, "audiences", &self.audiences);
        findings.each("fromHeaders", &self.from_headers, |findings, _, header| {
            if let Some(fault) = names::header_name_fault(&header.name) {
                findings.error_at("name", BAD_VALUE, fault);
            }
        });
        non_empty(findings, "fromParams", &self.from_params);
        non_empty(findings, "fromCookies", &self.from_cookies);
        if let Some(name) = &self.output_payload_to_header
            && let Some(fault) = output_fault(name)
        {
            findings.error_at("outputPayloadToHeader", BAD_VALUE, fault);
        }
        findings.each("outputClaimToHeaders", &self.output_claim_to_headers, |findings, _, one| claim(findings, one));
        non_empty(findings, "spaceDelimitedClaims", &self.space_delimited_claims);
    }
}

fn claim(findings: &mut Findings, one: &ClaimToHeader) {
    if let Some(fault) = output_fault(&one.header) {
        findings.error_at("header", BAD_VALUE, fault);
    }
    if one.claim.is_empty() {
        findings.error_at("claim", MISSING_FIELD, "claim is empty; write its name, as `sub`");
    }
}

fn non_empty(findings: &mut Findings, field: &'static str, values: &[String]) {
    findings.each(field, values, |findings, _, value| {
        if value.is_empty() {
            findings.error(BAD_VALUE, "an empty text is none of these; write one or remove it");
        }
    });
}

/// What is set from a token must not be mistaken for what the proxy itself needs.
fn output_fault(name: &str) -> Option<String> {
    let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let own = ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te"];
    if !good {
        return Some(format!("`{name}` is not a header name; letters, digits, `-` and `_` are wanted"));
    }
    own.iter().any(|own| own.eq_ignore_ascii_case(name)).then(|| {
        format!("`{name}` says how the message itself is to be read; choose another header, as `x-jwt-payload`")
    })
}

fn check_uri(findings: &mut Findings, text: &str) {
    let uri: Option<Uri> = text.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let scheme = uri.as_ref().and_then(Uri::scheme_str).unwrap_or_default();
    if host.is_empty() || !["http", "https"].contains(&scheme) || text.len() > 2048 {
        let message = format!("`{text}` is not the address of keys; one as `https://issuer.example/keys` is wanted");
        return findings.error_at("jwksUri", BAD_VALUE, message);
    }
    warn_of_plain(findings, "jwksUri", text);
}

fn warn_of_plain(findings: &mut Findings, field: &'static str, text: &str) {
    let uri: Option<Uri> = text.parse().ok();
    let host = uri.as_ref().filter(|uri| uri.scheme_str() == Some("http")).and_then(Uri::host);
    if host.is_some_and(|host| !is_near(host)) {
        let message = "over plain http whoever is on the way can put keys of his own there; use https";
        findings.warn_at(field, "insecure-jwks-uri", message);
    }
}

/// In the cluster, or on this machine.
fn is_near(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    match address {
        Ok(std::net::IpAddr::V4(address)) => address.is_private() || address.is_loopback(),
        Ok(std::net::IpAddr::V6(address)) => address.is_unique_local() || address.is_loopback(),
        Err(_) => !host.contains('.') || host.ends_with(".svc") || host.ends_with(".local"),
    }
}

/// What is wrong with a set of keys (RFC 7517 section 5), as far as that shows without cryptography.
fn keys_fault(text: &str) -> Result<(), String> {
    let wanted = "a JSON Web Key Set is wanted, as `{\"keys\": [{\"kty\": \"RSA\", \"n\": ..., \"e\": ...}]}`";
    let value: Value = serde_json::from_str(text).map_err(|error| format!("this is not JSON ({error}); {wanted}"))?;
    let keys = value.get("keys").and_then(Value::as_array);
    let keys = keys.ok_or_else(|| format!("`keys` is missing or no list; {wanted}"))?;
    if keys.is_empty() {
        return Err(format!("`keys` is empty, so no token could ever be right; {wanted}"));
    }
    if keys.len() > MOST_KEYS {
        return Err(format!("there are more than {MOST_KEYS} keys; remove those that sign nothing any more"));
    }
    match keys.iter().position(|key| key.get("kty").and_then(Value::as_str).is_none()) {
        Some(at) => Err(format!("key {at} has no `kty`; {wanted}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(rule: Value) -> Vec<String> {
        let object: RequestAuthentication = serde_json::from_value(json!({ "jwtRules": [rule] })).unwrap();
        let mut findings = Findings::default();
        object.check(&mut findings);
        findings.into_vec().into_iter().map(|finding| format!("{} {}", finding.field, finding.code)).collect()
    }

    #[test]
    fn a_rule_says_whose_tokens_and_whose_keys() {
        assert_eq!(found(json!({})), ["jwtRules[0].issuer missing-field"]);
        assert_eq!(found(json!({"issuer": "a"})), [""; 0]);
        let uri = |uri: &str| found(json!({"issuer": "a", "jwksUri": uri}));
        assert_eq!(uri("https://a.example/keys"), [""; 0]);
        assert_eq!(uri("http://keys.auth.svc.cluster.local/keys"), [""; 0]);
        assert_eq!(uri("http://a.example/keys"), ["jwtRules[0].jwksUri insecure-jwks-uri"]);
        assert_eq!(uri("ftp://a.example/keys"), ["jwtRules[0].jwksUri bad-value"]);
        assert_eq!(
            found(json!({"issuer": "a", "jwks": "{}", "jwksUri": "https://a"})),
            ["jwtRules[0].jwks conflicting-fields"]
        );
        assert_eq!(found(json!({"issuer": "http://a.example"})), ["jwtRules[0].issuer insecure-jwks-uri"]);
        assert_eq!(found(json!({"issuer": "http://dex.auth.svc"})), [""; 0]);
        for (given, code) in [("0s", 1), ("1ms", 0), ("60s", 0), ("61s", 1)] {
            let found = found(json!({"issuer": "https://a", "timeout": given}));
            assert_eq!(found, vec!["jwtRules[0].timeout bad-value"; code], "{given}");
        }
        for bad in ["{", "{}", "{\"keys\": []}", "{\"keys\": [{}]}"] {
            assert_eq!(found(json!({"issuer": "a", "jwks": bad})), ["jwtRules[0].jwks bad-value"], "{bad}");
        }
    }

    #[test]
    fn headers_that_frame_messages_are_no_place_for_claims() {
        let to =
            |header: &str| found(json!({"issuer": "a", "outputClaimToHeaders": [{"header": header, "claim": "sub"}]}));
        assert_eq!(to("x-sub"), [""; 0]);
        for bad in ["", "x sub", "x:sub", "Host", "content-length", "transfer-encoding"] {
            assert_eq!(to(bad), ["jwtRules[0].outputClaimToHeaders[0].header bad-value"], "{bad}");
        }
        assert_eq!(found(json!({"issuer": "a", "audiences": [""]})), ["jwtRules[0].audiences[0] bad-value"]);
    }
}
