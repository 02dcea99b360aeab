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
    match &judgement.denied {
        None => metrics.allowed(),
        Some(rule) => {
            metrics.verdict("denied", policy(rule));
            debug!(%remote, %listener, rule = &**rule, "{what} is denied");
        }
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
