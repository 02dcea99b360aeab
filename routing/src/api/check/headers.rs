//! Rules for cross-origin policies and header operations.

use super::http_match::{self, EmptyPrefix};
use super::{BAD_VALUE, CONFLICT, DEPRECATED_FIELD, Findings, names};
use crate::api::StringMatch;
use crate::api::virtual_service::{CorsPolicy, HeaderOperations, Headers};

impl CorsPolicy {
    pub(super) fn check(&self, findings: &mut Findings) {
        const METHODS: [&str; 10] =
            ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];
        findings.each("allowOrigins", &self.allow_origins, |findings, _, origin| {
            let empty =
                matches!(origin, StringMatch::Present) || matches!(origin, StringMatch::Exact(text) if text.is_empty());
            if empty {
                findings.error(BAD_VALUE, "the origin is empty; write one as `exact: https://example.com`");
            }
            http_match::pattern_fault(findings, origin, EmptyPrefix::Refused);
        });
        if !self.allow_origin.is_empty() {
            findings.warn_at(
                "allowOrigin",
                DEPRECATED_FIELD,
                "allowOrigin is deprecated; write `allowOrigins: [{exact: ...}]`",
            );
        }
        if !self.allow_origin.is_empty() && !self.allow_origins.is_empty() {
            findings.warn_at(
                "allowOrigin",
                CONFLICT,
                "allowOrigins is given, so allowOrigin is not looked at; remove it",
            );
        }
        findings.each("allowMethods", &self.allow_methods, |findings, _, method| {
            if !METHODS.contains(&method.as_str()) {
                findings
                    .error(BAD_VALUE, format!("`{method}` is not a method; one of {} is wanted", METHODS.join(", ")));
            }
        });
        for (field, names) in [("allowHeaders", &self.allow_headers), ("exposeHeaders", &self.expose_headers)] {
            findings.each(field, names, |findings, _, name| {
                if let Some(fault) = names::header_name_fault(name) {
                    findings.error(BAD_VALUE, fault);
                }
            });
        }
        findings.positive("maxAge", self.max_age, "leave it out for the browser's default");
        if self.max_age.is_some_and(|age| age.get().subsec_millis() != 0) {
            findings.error_at("maxAge", BAD_VALUE, "maxAge counts whole seconds, as `24h` or `600s`");
        }
    }
}

/// Checks header operations of a route or a destination.
pub(super) fn check_headers(findings: &mut Findings, headers: Option<&Headers>) {
    let Some(headers) = headers else { return };
    findings.within("headers", |findings| {
        for (field, operations) in [("request", &headers.request), ("response", &headers.response)] {
            if let Some(operations) = operations {
                findings.within(field, |findings| operations.check(findings));
            }
        }
    });
}

impl HeaderOperations {
    fn check(&self, findings: &mut Findings) {
        for (field, values) in [("set", &self.set), ("add", &self.add)] {
            findings.each_key(field, values, |findings, name, value| {
                check_changed_header(findings, name);
                if let Some(fault) = header_value_fault(value) {
                    findings.error(BAD_VALUE, fault);
                }
            });
        }
        findings.each("remove", &self.remove, |findings, _, name| check_changed_header(findings, name));
    }
}

/// What says where a message ends, and what is for the next hop alone (RFC 9110 section 7.6.1, RFC 9112 section 6).
const FRAMING: [&str; 8] =
    ["content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"];

fn check_changed_header(findings: &mut Findings, name: &str) {
    if let Some(fault) = names::header_name_fault(name) {
        findings.error(BAD_VALUE, fault);
    } else if FRAMING.iter().any(|own| name.eq_ignore_ascii_case(own)) {
        findings.error(BAD_VALUE, format!("`{name}` belongs to one connection, whose ends alone say it; remove it"));
    } else if name.starts_with(':') && !name.eq_ignore_ascii_case(":authority") {
        findings.error(
            BAD_VALUE,
            format!(
                "`{name}` cannot be changed; of the pseudo-headers only `:authority` can, use rewrite for the path"
            ),
        );
    }
}

/// Control characters, and `%` that begins no `%COMMAND%` of Envoy.
fn header_value_fault(value: &str) -> Option<String> {
    if value.chars().any(|letter| letter.is_control() && letter != '\t') {
        return Some("the value has control characters, which headers may not hold; remove them".to_owned());
    }
    has_lone_percent(value).then(|| format!("`{value}` has a lone `%`; write `%%` for a percent sign"))
}

/// Whether a `%` is neither doubled nor part of `%COMMAND%`, `%COMMAND(argument)%` or `%COMMAND(argument):10%`.
fn has_lone_percent(value: &str) -> bool {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('%') {
        if let Some(tail) = after.strip_prefix('%') {
            rest = tail;
            continue;
        }
        let mut tail = after.trim_start_matches(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        if tail.len() == after.len() {
            return true;
        }
        if let Some(argument) = tail.strip_prefix('(') {
            let Some((_, behind)) = argument.split_once(')') else { return true };
            tail = behind;
        }
        if let Some(length) = tail.strip_prefix(':') {
            tail = length.trim_start_matches(|c: char| c.is_ascii_digit());
        }
        let Some(tail) = tail.strip_prefix('%') else { return true };
        rest = tail;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percent_sign_is_doubled_or_part_of_a_command() {
        for good in ["", "a", "100%%", "%UPSTREAM_HOST%", "%START_TIME(%Y/%m)% x", "%REQ(X-A):10%", "%A%%B%%%"] {
            assert!(!has_lone_percent(good), "{good}");
        }
        for bad in ["100%", "% ", "%a%", "%REQ(", "%REQ(x)", "%A%%"] {
            assert!(has_lone_percent(bad), "{bad}");
        }
    }
}
