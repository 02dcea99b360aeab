//! What policies said, for whoever has to find out why.

use std::{fmt::Display, net::SocketAddr};

use routing::authorization::Judgement;
use tracing::debug;

use super::{metrics::Metrics, outcomes::Verdict};

/// Counts what policies said of an access, and writes it into the log at level `debug`.
pub(crate) fn tell(
    metrics: &Metrics,
    judgement: &Judgement,
    (remote, listener): (SocketAddr, SocketAddr),
    what: impl Display,
) {
    let told = |verdict: Verdict, rule: &str| {
        metrics.verdict(verdict, rule);
        debug!(%remote, %listener, verdict = verdict.name(), rule, "what a policy says of {what}");
    };
    if let Some(rule) = &judgement.audited {
        told(Verdict::Audited, rule);
    }
    for trial in judgement.tried_deny.iter().chain(&judgement.tried_allow) {
        told(if trial.denied { Verdict::TriedDenied } else { Verdict::TriedAllowed }, &trial.rule);
    }
    match &judgement.denied {
        None => metrics.allowed(),
        Some(rule) => told(Verdict::Denied, rule),
    }
}
