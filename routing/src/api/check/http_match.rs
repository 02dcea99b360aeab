//! Rules for the conditions of HTTP routes.

use std::collections::BTreeMap;

use super::{BAD_VALUE, Findings, names, virtual_service};
use crate::api::StringMatch;
use crate::api::virtual_service::HttpMatch;
use crate::re2::Expression;

/// Longest regular expression that Istio accepts, in bytes.
const MAX_REGEX: usize = 1024;

impl HttpMatch {
    pub(super) fn check(&self, findings: &mut Findings) {
        check_pattern(findings, "uri", self.uri.as_ref(), EmptyPrefix::MatchesAll);
        for (field, pattern) in [("scheme", &self.scheme), ("method", &self.method), ("authority", &self.authority)] {
            check_pattern(findings, field, pattern.as_ref(), EmptyPrefix::Refused);
        }
        check_headers(findings, "headers", &self.headers);
        check_headers(findings, "withoutHeaders", &self.without_headers);
        findings.each_key("queryParams", &self.query_params, |findings, name, pattern| {
            if name.is_empty() {
                findings.error(BAD_VALUE, "the name of the query parameter is empty; write one as `version`");
            }
            pattern_fault(findings, pattern, EmptyPrefix::Refused);
        });
        virtual_service::check_port(findings, self.port);
        names::labels(findings, "sourceLabels", &self.source_labels);
        if let Some(namespace) = self.source_namespace.as_ref().filter(|namespace| !names::is_dns_label(namespace)) {
            let message = format!("`{namespace}` is not a namespace; lower-case letters, digits and `-` are wanted");
            findings.error_at("sourceNamespace", BAD_VALUE, message);
        }
        virtual_service::check_gateways(findings, &self.gateways);
    }
}

/// What an empty prefix means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EmptyPrefix {
    /// In `uri`.
    MatchesAll,
    /// Everywhere else.
    Refused,
}

fn check_headers(findings: &mut Findings, field: &'static str, headers: &BTreeMap<String, StringMatch>) {
    findings.each_key(field, headers, |findings, name, pattern| {
        // `@request.auth.claims...` is Istio's form for claims of a JSON Web Token.
        if !name.starts_with("@request.auth.claims")
            && let Some(fault) = names::header_name_fault(name)
        {
            findings.error(BAD_VALUE, fault);
        }
        pattern_fault(findings, pattern, EmptyPrefix::Refused);
    });
}

fn check_pattern(findings: &mut Findings, field: &'static str, pattern: Option<&StringMatch>, empty: EmptyPrefix) {
    if let Some(pattern) = pattern {
        findings.within(field, |findings| {
            if *pattern == StringMatch::Present {
                findings.error(BAD_VALUE, "nothing to compare with; give exact, prefix or regex");
            }
            pattern_fault(findings, pattern, empty);
        });
    }
}

/// Checks a pattern at the current field.
pub(super) fn pattern_fault(findings: &mut Findings, pattern: &StringMatch, empty: EmptyPrefix) {
    match pattern {
        StringMatch::Prefix(prefix) if prefix.is_empty() && empty == EmptyPrefix::Refused => {
            findings.error_at(
                "prefix",
                BAD_VALUE,
                "an empty prefix matches everything; leave the condition out, or write `{}` for presence",
            );
        }
        StringMatch::Regex(regex) => check_regex(findings, "regex", regex),
        StringMatch::Present | StringMatch::Exact(_) | StringMatch::Prefix(_) => {}
    }
}

/// Checks a regular expression in one of the fields here.
pub(super) fn check_regex(findings: &mut Findings, field: &'static str, regex: &str) {
    if regex.is_empty() {
        return findings.error_at(field, BAD_VALUE, "the regular expression is empty; write one as `/v[0-9]+/.*`");
    }
    if regex.len() > MAX_REGEX {
        let message = format!("the regular expression has {} bytes; at most {MAX_REGEX} are allowed", regex.len());
        return findings.error_at(field, BAD_VALUE, message);
    }
    if let Err(fault) = Expression::size(regex) {
        let words = if fault.is_syntax() { "is not a regular expression (RE2)" } else { "is too much" };
        findings.error_at(field, BAD_VALUE, format!("`{regex}` {words}: {fault}"));
    }
}
