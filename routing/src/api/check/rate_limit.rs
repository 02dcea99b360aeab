//! Rules for RateLimit.

use std::collections::BTreeSet;

use super::{BAD_VALUE, CONFLICT, Findings, MISSING_FIELD, names};
use crate::{
    api::{
        RateLimit, StringMatch,
        rate_limit::{Amount, ClientAddress, Global, KeyPart, LimitMatch, LimitRule, TargetRef},
        virtual_service::HttpMatch,
    },
    host::HostPattern,
    limits::{Rate, claim_path},
};

/// What `targetRefs` may name.
const TARGETS: [(&str, &str); 4] = [
    ("networking.istio.io", "Gateway"),
    ("networking.istio.io", "VirtualService"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("", "Service"),
];

impl RateLimit {
    /// Says what is wrong with the object by itself.
    pub fn check(&self, findings: &mut Findings) {
        if let Some(selector) = &self.selector {
            findings.within("selector", |findings| names::selector(findings, "matchLabels", &selector.match_labels));
        }
        if self.selector.is_some() && !self.target_refs.is_empty() {
            let message = "both selector and targetRefs say what is limited; keep one of them";
            findings.error_at("targetRefs", CONFLICT, message);
        }
        findings.each("targetRefs", &self.target_refs, |findings, _, target| target.check(findings));
        if self.rules.is_empty() {
            findings.error_at(
                "rules",
                MISSING_FIELD,
                "a rule with a limit is wanted, as `- limit: {requests: 10, per: second}`",
            );
        }
        let mut seen = BTreeSet::new();
        // A rule without a name is called by its number.
        let unnamed = self.rules.iter().enumerate().filter(|(_, rule)| rule.name.is_none());
        let numbers: BTreeSet<String> = unnamed.map(|(number, _)| number.to_string()).collect();
        findings.each("rules", &self.rules, |findings, _, rule| {
            let taken = |name: &&String| numbers.contains(name.as_str());
            if let Some(name) = rule.name.as_ref().filter(|name| !seen.insert(name.as_str()) || taken(name)) {
                findings.error_at(
                    "name",
                    BAD_VALUE,
                    format!("another rule is called `{name}`, too; names have to differ"),
                );
            }
            rule.check(findings);
        });
    }
}

impl TargetRef {
    fn check(&self, findings: &mut Findings) {
        if self.name.is_empty() {
            findings.error_at("name", MISSING_FIELD, "the name of what is limited is wanted");
        }
        if !TARGETS.contains(&(self.group.as_str(), self.kind.as_str())) {
            let message = format!(
                "`{}` of group `{}` cannot be limited; there are Gateway and VirtualService of networking.istio.io, Gateway of \
                 gateway.networking.k8s.io, and Service (without group)",
                self.kind, self.group
            );
            findings.error_at("kind", BAD_VALUE, message);
        } else if self.section_name.is_some() && self.kind != "VirtualService" {
            let message = "sectionName is the name of a route, which only a VirtualService has; remove it";
            findings.error_at("sectionName", BAD_VALUE, message);
        }
    }
}

impl LimitRule {
    fn check(&self, findings: &mut Findings) {
        let odd =
            |name: &&String| !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) || name.len() > 63;
        if let Some(name) = self.name.as_ref().filter(odd) {
            let message = format!("`{name}` is no name; letters, digits, `-`, `_` and `.` are wanted, at most 63");
            findings.error_at("name", BAD_VALUE, message);
        }
        findings.each("match", &self.matches, |findings, _, one| one.check(findings));
        findings.each("key", &self.key, |findings, _, part| part.check(findings));
        match (&self.local, &self.global, &self.limit) {
            (Some(_), Some(_), _) => {
                findings.error_at("global", CONFLICT, "who counts is either local or global; keep one of them");
            }
            (_, Some(_), Some(_)) => {
                let message = "how much global lets through is in the configuration of its service; remove limit here";
                findings.error_at("limit", CONFLICT, message);
            }
            (_, Some(global), None) => {
                findings.within("global", |findings| global.check(findings));
                if self.key.is_empty() {
                    let message = "a descriptor to ask the service with is wanted, as `- constant: everybody`";
                    findings.error_at("key", MISSING_FIELD, message);
                }
            }
            (_, None, None) => {
                findings.error_at(
                    "limit",
                    MISSING_FIELD,
                    "how much is let through is wanted, as `{requests: 10, per: second}`",
                );
            }
            (_, None, Some(limit)) => findings.within("limit", |findings| limit.check(findings)),
        }
        if self.status.is_some_and(|status| !(400..=599).contains(&status)) {
            findings.error_at("status", BAD_VALUE, "400 to 599 is wanted; 429 is what clients expect");
        }
    }
}

impl Amount {
    fn check(&self, findings: &mut Findings) {
        if self.requests == 0 {
            let message = "1 or more is wanted; to let nothing through, write an AuthorizationPolicy with action DENY";
            return findings.error_at("requests", BAD_VALUE, message);
        }
        if self.burst == Some(0) {
            return findings.error_at("burst", BAD_VALUE, "1 or more is wanted, or nothing would pass");
        }
        if self.per.is_some_and(|per| per.get().is_zero()) {
            return findings.error_at("per", BAD_VALUE, "0s is too short, at least 1ms is wanted");
        }
        if Rate::new(self).is_none() {
            let message = "this cannot be counted; at most a thousand million requests a second, and at most ten years until \
                           `burst` is there again";
            findings.error(BAD_VALUE, message);
        }
    }
}

impl LimitMatch {
    fn check(&self, findings: &mut Findings) {
        findings.each("hosts", &self.hosts, |findings, _, host| {
            if let Err(fault) = host.parse::<HostPattern>() {
                findings.error(BAD_VALUE, format!("`{host}`: {fault}"));
            }
        });
        findings.each("paths", &self.paths, |findings, _, path| {
            if *path == StringMatch::Present {
                findings.error(BAD_VALUE, "nothing to compare with; give exact, prefix or regex");
            }
            super::http_match::pattern_fault(findings, path, super::http_match::EmptyPrefix::MatchesAll);
        });
        findings.each("methods", &self.methods, |findings, _, method| {
            if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
                findings.error(BAD_VALUE, format!("`{method}` is no method; write it in capitals, as `GET`"));
            }
        });
        findings.each("routes", &self.routes, |findings, _, route| {
            if route.is_empty() {
                findings.error(BAD_VALUE, "the name of a route is wanted, as `http[].name` of its VirtualService says");
            }
        });
        self.rest().check(findings);
    }

    /// What a VirtualService's match can say as well.
    pub(crate) fn rest(&self) -> HttpMatch {
        HttpMatch {
            headers: self.headers.clone(),
            without_headers: self.without_headers.clone(),
            query_params: self.query_params.clone(),
            ..HttpMatch::default()
        }
    }
}

impl KeyPart {
    fn check(&self, findings: &mut Findings) {
        let given = [
            self.client_address.is_some(),
            self.header.is_some(),
            self.cookie.is_some(),
            self.claim.is_some(),
            self.principal.is_some(),
            self.namespace.is_some(),
            self.method.is_some(),
            self.path.is_some(),
            self.host.is_some(),
            self.route.is_some(),
            self.constant.is_some(),
        ];
        match given.iter().filter(|given| **given).count() {
            1 => {}
            0 => {
                let message = "one of clientAddress, header, cookie, claim, principal, namespace, method, path, host, route and \
                               constant is wanted";
                findings.error(MISSING_FIELD, message);
            }
            _ => findings.error(CONFLICT, "each entry of key is one thing; write the others as entries of their own"),
        }
        if let Some(fault) = self.header.as_deref().and_then(names::header_name_fault) {
            findings.error_at("header", BAD_VALUE, fault);
        }
        if let Some(claim) = self.claim.as_ref().filter(|claim| claim_path(claim).is_none()) {
            let message =
                format!("`{claim}` is no claim; write it as `sub`, or as `request.auth.claims[realm][tenant]`");
            findings.error_at("claim", BAD_VALUE, message);
        }
        if let Some(address) = &self.client_address {
            findings.within("clientAddress", |findings| address.check(findings));
        }
    }
}

impl ClientAddress {
    fn check(&self, findings: &mut Findings) {
        for (field, given, most) in [("ipv4Prefix", self.ipv4_prefix, 32), ("ipv6Prefix", self.ipv6_prefix, 128)] {
            if given.is_some_and(|bits| bits > most) {
                findings.error_at(field, BAD_VALUE, format!("an address has {most} bits; 0 to {most} is wanted"));
            }
        }
    }
}

impl Global {
    fn check(&self, findings: &mut Findings) {
        if self.service.is_empty() {
            let message = "the host of the rate limit service is wanted, as `ratelimit.istio-system.svc.cluster.local`";
            findings.error_at("service", MISSING_FIELD, message);
        } else if let Some(fault) = names::plain_host_fault(&self.service) {
            findings.error_at("service", BAD_VALUE, fault);
        }
        if self.port == Some(0) {
            findings.error_at("port", BAD_VALUE, "1 to 65535 is wanted");
        }
        if self.domain.is_empty() {
            let message = "the domain is wanted that the service's configuration begins with (`domain: ...`)";
            findings.error_at("domain", MISSING_FIELD, message);
        }
        findings.positive("timeout", self.timeout, "leave it out for 20ms");
    }
}
