//! How the workload's identity is doing.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::{ATTEMPTS, EXPIRY, Metrics, RENEWAL, options, register};

/// What came of asking for an identity.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attempt {
    /// It was given.
    Given,
    /// Nobody answered in time.
    Unreachable,
    /// The answer was no.
    Refused,
    /// What was given is not what was asked for.
    Unfit,
    /// There was nothing to ask with: no token, no roots.
    Unprepared,
}

const RESULTS: [&str; 5] = ["given", "unreachable", "refused", "unfit", "unprepared"];

#[derive(Debug)]
pub(super) struct Identity {
    /// Indexed by [`Attempt`].
    attempts: [IntCounter; 5],
    expiry: IntGauge,
    renewal: IntGauge,
}

impl Identity {
    pub(super) fn new(registry: &Registry) -> Self {
        let attempts = register(registry, IntCounterVec::new(options(&ATTEMPTS), ATTEMPTS.labels));
        Self {
            attempts: RESULTS.map(|result| attempts.with_label_values(&[result])),
            expiry: register(registry, IntGauge::with_opts(options(&EXPIRY))),
            renewal: register(registry, IntGauge::with_opts(options(&RENEWAL))),
        }
    }
}

impl Metrics {
    /// A CA or a socket was asked for the workload's identity.
    pub(crate) fn identity_attempt(&self, attempt: Attempt) {
        self.identity.attempts[attempt as usize].inc();
    }

    /// The identity that is held ends then, and another is asked for then (seconds since 1970).
    pub(crate) fn set_identity(&self, end: i64, renewal: Option<i64>) {
        self.identity.expiry.set(end);
        self.identity.renewal.set(renewal.unwrap_or(0));
    }
}
