//! What policies said, for whoever has to find out why.

use std::{fmt::Display, net::SocketAddr};

use routing::authorization::Judgement;
use tracing::debug;

use super::metrics::Metrics;

/// Counts what policies said of an access, and writes it into the log at level `debug`.
pub(crate) fn tell(
    metrics: &Metrics,
    judgement: &Judgement,
    (remote, listener): (SocketAddr, SocketAddr),
    what: impl Display,
) {
    let told = |verdict: &'static str, rule: &str| {
        metrics.verdict(verdict, policy(rule));
        debug!(%remote, %listener, verdict, rule, "what a policy says of {what}");
    };
    if let Some(rule) = &judgement.audited {
        told("audited", rule);
    }
    for trial in judgement.tried_deny.iter().chain(&judgement.tried_allow) {
        told(if trial.denied { "dry_run_denied" } else { "dry_run_allowed" }, &trial.rule);
    }
    match &judgement.denied {
        None => metrics.allowed(),
        Some(rule) => told("denied", rule),
    }
}

/// Of `ns[..]-policy[..]-rule[..]` what does not name a rule.
fn policy(rule: &str) -> &str {
    rule.split("-rule[").next().unwrap_or(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_told_without_its_rule() {
        assert_eq!(policy("ns[shop]-policy[read]-rule[3]"), "ns[shop]-policy[read]");
        assert_eq!(policy("none"), "none");
    }
}
