//! How issuers of tokens are doing, for people: a problem at each RequestAuthentication whose keys cannot be had.

use routing::{
    problem::{Problem, Severity},
    resources::Resources,
    tokens::KeySource,
};

use crate::live::Installed;

/// Code of the problem that there are no keys.
const NO_KEYS: &str = "jwks-missing";
/// Code of the problem that there are no newer keys than the last good ones.
const OLD_KEYS: &str = "jwks-not-refreshed";

/// What is wrong with the keys that are in force.
pub(crate) fn problems(installed: &Installed, resources: &Resources) -> Vec<Problem> {
    let tokens = installed.snapshot.guard.as_ref().and_then(|guard| guard.tokens.as_ref());
    let rules = tokens.into_iter().flat_map(|tokens| &tokens.rules).zip(&installed.keys);
    let problem = |(rule, slot): (&routing::tokens::TokenRule, &std::sync::Arc<super::Slot>)| {
        // Those that are here are looked at as they are read: see the audit.
        if matches!(rule.keys, KeySource::Inline(_)) {
            return None;
        }
        let state = slot.state();
        let error = state.error?;
        let (namespace, name) = rule.object.split_once('/')?;
        let object = resources.request_authentications.get(namespace, name)?;
        let (severity, code, what) = match state.has_keys {
            true => (Severity::Warning, OLD_KEYS, "the last good ones are used"),
            false => (Severity::Error, NO_KEYS, "its tokens are refused with 401"),
        };
        let message = format!("the keys of issuer `{}` cannot be had: {error}; {what}", rule.issuer);
        Some(object.problem(severity, code, "spec.jwtRules", message))
    };
    rules.filter_map(problem).collect()
}
