//! Rules for HTTP routes.

use super::headers::check_headers;
use super::http_match;
use super::virtual_service::{check_destination, check_weights};
use super::{BAD_VALUE, CONFLICT, DEPRECATED_FIELD, Findings, MISSING_FIELD, names};
use crate::api::StringMatch;
use crate::api::virtual_service::{Delegate, HttpDirectResponse, HttpRedirect, HttpRetry, HttpRewrite, HttpRoute};
use crate::re2::Substitution;

impl HttpRoute {
    pub(super) fn check(&self, findings: &mut Findings) {
        self.check_action(findings);
        findings.each("match", &self.matches, |findings, _, matching| matching.check(findings));
        let weights: Vec<i32> = self.route.iter().map(|destination| destination.weight).collect();
        check_weights(findings, &weights);
        findings.each("route", &self.route, |findings, _, route| {
            check_destination(findings, route.destination.as_ref());
            check_headers(findings, route.headers.as_ref());
        });
        check_headers(findings, self.headers.as_ref());
        if let Some(rewrite) = &self.rewrite {
            findings.within("rewrite", |findings| rewrite.check(findings));
        }
        findings.positive("timeout", self.timeout, "leave timeout out for no limit");
        if let Some(retries) = &self.retries {
            findings.within("retries", |findings| retries.check(findings));
        }
        if let Some(fault) = &self.fault {
            findings.within("fault", |findings| fault.check(findings));
        }
        if let Some(cors) = &self.cors_policy {
            findings.within("corsPolicy", |findings| cors.check(findings));
        }
        self.check_mirrors(findings);
    }

    /// Exactly one of route, redirect, directResponse and delegate says what happens.
    fn check_action(&self, findings: &mut Findings) {
        let actions: Vec<&str> = [
            ("route", !self.route.is_empty()),
            ("redirect", self.redirect.is_some()),
            ("directResponse", self.direct_response.is_some()),
            ("delegate", self.delegate.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect();
        match actions.as_slice() {
            [] => findings.error(
                MISSING_FIELD,
                "the route does nothing; give one of route, redirect, directResponse or delegate",
            ),
            [_] => {}
            several => {
                findings.error(CONFLICT, format!("{} exclude each other; keep one of them", several.join(" and ")))
            }
        }
        let answers_itself = self.redirect.is_some() || self.direct_response.is_some();
        for (field, given) in [("fault", self.fault.is_some()), ("rewrite", self.rewrite.is_some())] {
            if answers_itself && given {
                let message = format!(
                    "{field} cannot stand beside redirect or directResponse, no request is forwarded; remove it"
                );
                findings.error_at(field, CONFLICT, message);
            }
        }
        if let Some(redirect) = &self.redirect {
            findings.within("redirect", |findings| redirect.check(self, findings));
        }
        if let Some(response) = &self.direct_response {
            findings.within("directResponse", |findings| response.check(findings));
        }
        if let Some(delegate) = &self.delegate {
            findings.within("delegate", |findings| delegate.check(findings));
        }
    }

    fn check_mirrors(&self, findings: &mut Findings) {
        if let Some(mirror) = &self.mirror {
            findings.within("mirror", |findings| mirror.check(findings));
            if !self.mirrors.is_empty() {
                findings.error_at("mirrors", CONFLICT, "mirror and mirrors exclude each other; keep mirrors");
            }
        }
        findings.each("mirrors", &self.mirrors, |findings, _, mirror| {
            check_destination(findings, mirror.destination.as_ref());
            findings.percent("percentage", mirror.percentage);
        });
        findings.percent("mirrorPercentage", self.mirror_percentage);
        if let Some(percent) = self.mirror_percent {
            findings.warn_at(
                "mirrorPercent",
                DEPRECATED_FIELD,
                "mirrorPercent is deprecated; write `mirrorPercentage: {value: 10}`",
            );
            check_whole_percent(findings, "mirrorPercent", i64::from(percent));
        }
    }
}

/// Checks a deprecated percentage in whole numbers.
pub(super) fn check_whole_percent(findings: &mut Findings, field: &'static str, percent: i64) {
    if !(0..=100).contains(&percent) {
        findings.error_at(field, BAD_VALUE, format!("{percent} is not a percentage; 0 to 100 is wanted"));
    }
}

impl Delegate {
    fn check(&self, findings: &mut Findings) {
        if self.name.is_empty() {
            findings.error_at("name", MISSING_FIELD, "the name of the delegate VirtualService is wanted");
        } else if !names::is_host_name(&self.name) {
            findings.error_at("name", BAD_VALUE, format!("`{}` is not the name of an object", self.name));
        }
        if let Some(namespace) = self.namespace.as_ref().filter(|namespace| !names::is_dns_label(namespace)) {
            findings.error_at(
                "namespace",
                BAD_VALUE,
                format!("`{namespace}` is not a namespace; lower-case letters, digits and `-` are wanted"),
            );
        }
    }
}

impl HttpRedirect {
    fn check(&self, route: &HttpRoute, findings: &mut Findings) {
        let changes = [&self.uri, &self.prefix_rewrite, &self.authority, &self.scheme].into_iter().any(Option::is_some)
            || self.port.is_some()
            || self.derive_port.is_some();
        if !changes {
            findings.error(
                MISSING_FIELD,
                "the redirect leads back to itself; give uri, prefixRewrite, authority, port, derivePort or scheme",
            );
        }
        if self.port.is_some() && self.derive_port.is_some() {
            findings.error_at("derivePort", CONFLICT, "port and derivePort exclude each other; keep one");
        }
        super::virtual_service::check_port(findings, self.port);
        if self.redirect_code != 0 && !(300..=399).contains(&self.redirect_code) {
            findings.error_at(
                "redirectCode",
                BAD_VALUE,
                format!("{} is not a redirect status; 300 to 399 is wanted, as 301 or 302", self.redirect_code),
            );
        }
        if let Some(scheme) = self.scheme.as_deref().filter(|scheme| !matches!(*scheme, "http" | "https")) {
            findings.error_at(
                "scheme",
                BAD_VALUE,
                format!("`{scheme}` is not a scheme here; `http` or `https` is wanted"),
            );
        }
        if self.prefix_rewrite.is_some() {
            if self.uri.is_some() {
                findings.error_at("prefixRewrite", CONFLICT, "uri and prefixRewrite exclude each other; keep one");
            }
            let prefixes = |uri: Option<&StringMatch>| matches!(uri, Some(StringMatch::Prefix(_)));
            if route.matches.is_empty() || !route.matches.iter().all(|matching| prefixes(matching.uri.as_ref())) {
                findings.error_at(
                    "prefixRewrite",
                    CONFLICT,
                    "prefixRewrite needs a uri prefix in every match; there is another match",
                );
            }
        }
    }
}

impl HttpDirectResponse {
    fn check(&self, findings: &mut Findings) {
        const LARGE: usize = 100 << 10;
        const TOO_LARGE: usize = 1 << 20;
        if !(200..=599).contains(&self.status) {
            findings.error_at(
                "status",
                BAD_VALUE,
                format!("{} is not a status to answer; 200 to 599 is wanted", self.status),
            );
        }
        let Some(body) = &self.body else { return };
        let length = match (&body.string, &body.bytes) {
            (Some(_), Some(_)) => {
                return findings.error_at("body", CONFLICT, "string and bytes exclude each other; keep one");
            }
            (Some(text), None) => text.len(),
            (None, Some(bytes)) => bytes.0.len(),
            (None, None) => 0,
        };
        if length > TOO_LARGE {
            findings.error_at(
                "body",
                BAD_VALUE,
                format!("the body has {length} bytes; at most {TOO_LARGE} are allowed"),
            );
        } else if length > LARGE {
            findings.warn_at(
                "body",
                BAD_VALUE,
                format!("the body has {length} bytes; above {LARGE} a service should answer"),
            );
        }
    }
}

impl HttpRewrite {
    fn check(&self, findings: &mut Findings) {
        if self.uri.is_none() && self.authority.is_none() && self.uri_regex_rewrite.is_none() {
            findings.error(MISSING_FIELD, "the rewrite changes nothing; give uri, uriRegexRewrite or authority");
        }
        let Some(regex) = &self.uri_regex_rewrite else { return };
        if self.uri.is_some() {
            findings.error_at("uriRegexRewrite", CONFLICT, "uri and uriRegexRewrite exclude each other; keep one");
        }
        findings.within("uriRegexRewrite", |findings| {
            http_match::check_regex(findings, "match", &regex.pattern);
            if regex.rewrite.is_empty() {
                let message = "what the match becomes is wanted, as `/\\1`";
                findings.error_at("rewrite", MISSING_FIELD, message);
            } else if let Err(fault) = Substitution::new(&regex.rewrite) {
                findings.error_at("rewrite", BAD_VALUE, fault.to_string());
            }
        });
    }
}

/// Conditions that Envoy knows for HTTP and gRPC.
const RETRY_CONDITIONS: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

impl HttpRetry {
    pub(super) fn check(&self, findings: &mut Findings) {
        if self.attempts < 0 {
            findings.error_at(
                "attempts",
                BAD_VALUE,
                format!("{} is below 0; write 0 to turn retries off", self.attempts),
            );
        }
        if self.attempts == 0 {
            let without = [
                ("perTryTimeout", self.per_try_timeout.is_some()),
                ("retryOn", self.retry_on.is_some()),
                ("retryRemoteLocalities", self.retry_remote_localities.is_some()),
            ];
            for (field, _) in without.into_iter().filter(|(_, given)| *given) {
                findings.error_at(
                    field,
                    CONFLICT,
                    format!("attempts is 0, so {field} has no meaning; give attempts, as 2"),
                );
            }
        }
        findings.positive("perTryTimeout", self.per_try_timeout, "leave it out to use the route's timeout");
        findings.positive("backoff", self.backoff, "leave it out for the default of 25ms");
        for condition in self.retry_on.iter().flat_map(|list| list.split(',')) {
            let condition = condition.trim();
            let status = condition.parse::<u16>().is_ok_and(|status| (100..=599).contains(&status));
            if !status && !RETRY_CONDITIONS.contains(&condition) {
                let message = format!(
                    "`{condition}` is not a condition; one of {} or a status number is wanted",
                    RETRY_CONDITIONS.join(", ")
                );
                findings.error_at("retryOn", BAD_VALUE, message);
            }
        }
    }
}
