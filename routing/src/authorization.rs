//! Who may do what: Istio's `AuthorizationPolicy`, compiled.

pub(crate) mod attribute;
mod blocks;
pub(crate) mod pattern;
pub(crate) mod rule;
mod rules;
pub(crate) mod template;
mod texts;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rule::Rule;
use rules::Rules;

use crate::request::RequestView;

/// What stands for a rule where none matches.
pub const NO_RULE: &str = "none";

/// What policies look at: one request, or one connection whose bytes nobody looks at.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// The peer's SPIFFE id, as its verified certificate has it; empty = none.
    pub peer: &'a str,
    /// Where the packets come from (`source.ip`).
    pub source: IpAddr,
    /// Who the client is where proxies in front are trusted to say so (`remote.ip`).
    pub remote: IpAddr,
    /// Where it was received: our address, and the port that is bound, or the workload's (`destination.ip`,
    /// `destination.port`).
    pub local: SocketAddr,
    /// The server name that the client asked for; empty = none.
    pub sni: &'a str,
    /// The request, with its verified token; `None` for bytes.
    pub request: Option<RequestView<'a>>,
}

/// What policies say of an access.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Judgement {
    /// `Some`: it is denied, by the rule of this id (`ns[..]-policy[..]-rule[..]`), or by none that allows it (`none`).
    pub denied: Option<Arc<str>>,
    /// The rule of an AUDIT policy that matches.
    pub audited: Option<Arc<str>>,
    /// What the DENY policies would say that are only tried.
    pub tried_deny: Option<Trial>,
    /// What the ALLOW policies would say that are only tried; `None` where a DENY policy has ended it.
    pub tried_allow: Option<Trial>,
}

impl Judgement {
    /// Whether there are policies that are only tried.
    pub fn tries(&self) -> bool {
        self.tried_deny.is_some() || self.tried_allow.is_some()
    }
}

/// What policies would say that are only tried (annotation `istio.io/dry-run`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trial {
    /// Whether the access would be denied.
    pub denied: bool,
    /// The rule that matches; `none`.
    pub rule: Arc<str>,
}

/// The policies of one workload.
#[derive(Debug, Default)]
pub struct Authorization {
    http: Policies,
    bytes: Policies,
    none: Arc<str>,
}

/// Policies by action, for requests or for bytes, of which less is known. `None`: there are none.
#[derive(Debug, Default)]
struct Policies {
    custom: Option<Rules>,
    audit: Option<Rules>,
    deny: Option<Rules>,
    allow: Option<Rules>,
    tried_deny: Option<Rules>,
    tried_allow: Option<Rules>,
}

/// Rules by action, as the compiler gathers them. Where there are ALLOW policies that allow nothing, the list is there
/// and empty.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) custom: Vec<Rule>,
    pub(crate) audit: Vec<Rule>,
    pub(crate) deny: Vec<Rule>,
    pub(crate) allow: Option<Vec<Rule>>,
    pub(crate) tried_deny: Vec<Rule>,
    pub(crate) tried_allow: Option<Vec<Rule>>,
}

impl From<Gathered> for Policies {
    fn from(all: Gathered) -> Self {
        Self {
            custom: Rules::new(all.custom),
            audit: Rules::new(all.audit),
            deny: Rules::new(all.deny),
            allow: all.allow.map(Rules::of),
            tried_deny: Rules::new(all.tried_deny),
            tried_allow: all.tried_allow.map(Rules::of),
        }
    }
}

impl Authorization {
    pub(crate) fn new(http: Gathered, bytes: Gathered) -> Self {
        Self { http: http.into(), bytes: bytes.into(), none: NO_RULE.into() }
    }

    fn policies(&self, access: &Access<'_>) -> &Policies {
        if access.request.is_some() { &self.http } else { &self.bytes }
    }

    /// Who has to be asked first, by name (Istio `extensionProviders`): the provider of a CUSTOM policy that matches.
    pub fn asks(&self, access: &Access<'_>) -> Option<&Arc<str>> {
        self.policies(access).custom.as_ref()?.any(access)?.provider.as_ref()
    }

    /// Everybody who may have to be asked.
    pub fn providers(&self) -> BTreeSet<&Arc<str>> {
        // For bytes there is no provider more than for requests.
        self.http.custom.as_ref().map(Rules::providers).unwrap_or_default()
    }

    /// The policies whose verdicts are told by name.
    pub fn named(&self) -> BTreeSet<&str> {
        let all = [&self.http, &self.bytes].into_iter();
        let rules = all.flat_map(|all| [&all.audit, &all.deny, &all.tried_deny, &all.tried_allow]).flatten();
        rules.flat_map(Rules::ids).map(policy).collect()
    }

    /// Every policy that is in force, with its action, sorted.
    pub fn in_force(&self) -> BTreeSet<(&str, &'static str)> {
        let mut found = BTreeSet::new();
        for all in [&self.http, &self.bytes] {
            for (action, rules) in [
                ("CUSTOM", &all.custom),
                ("AUDIT", &all.audit),
                ("DENY", &all.deny),
                ("ALLOW", &all.allow),
                ("DENY (dry run)", &all.tried_deny),
                ("ALLOW (dry run)", &all.tried_allow),
            ] {
                found.extend(rules.iter().flat_map(Rules::ids).map(|id| (policy(id), action)));
            }
        }
        found
    }

    /// What the policies say that need nobody's word: AUDIT, DENY, ALLOW, in this order.
    pub fn judge(&self, access: &Access<'_>) -> Judgement {
        let policies = self.policies(access);
        let first = |rules: &Option<Rules>| Some(Arc::clone(&rules.as_ref()?.first(access)?.id));
        let mut judgement = Judgement {
            audited: first(&policies.audit),
            tried_deny: policies.tried_deny.as_ref().map(|rules| {
                let found = rules.first(access);
                Trial { denied: found.is_some(), rule: self.rule(found) }
            }),
            denied: first(&policies.deny),
            tried_allow: None,
        };
        if judgement.denied.is_some() {
            return judgement;
        }
        judgement.tried_allow = policies.tried_allow.as_ref().map(|rules| {
            let found = rules.first(access);
            Trial { denied: found.is_none(), rule: self.rule(found) }
        });
        if policies.allow.as_ref().is_some_and(|rules| rules.any(access).is_none()) {
            judgement.denied = Some(Arc::clone(&self.none));
        }
        judgement
    }

    fn rule(&self, found: Option<&Rule>) -> Arc<str> {
        Arc::clone(found.map_or(&self.none, |rule| &rule.id))
    }
}

/// Of a rule's id, `ns[..]-policy[..]-rule[..]`, what does not tell the rule.
pub fn policy(rule: &str) -> &str {
    rule.split("-rule[").next().unwrap_or(rule)
}
