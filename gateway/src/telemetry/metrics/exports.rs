//! What came of what is told to collectors, by provider: names of the mesh configuration, so few.

use prometheus::{IntCounter, IntCounterVec, Registry};

use super::{EXPORTS, Metrics, options, register};

/// What came of spans and records.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Result {
    /// The collector has them.
    Sent,
    /// There was no room for them to wait.
    NoRoom,
    /// The collector did not want them.
    Refused,
    /// It could not be reached, however often that was tried.
    Unreachable,
}

/// In the order of [`Result`].
const RESULTS: [&str; 4] = ["sent", "no_room", "refused", "unreachable"];

/// Counts them all.
#[derive(Clone, Debug)]
pub(crate) struct Exporting(IntCounterVec);

/// Those of one provider and signal, in the order of [`Result`].
#[derive(Clone, Debug)]
pub(crate) struct Exported([IntCounter; RESULTS.len()]);

impl Exporting {
    pub(super) fn new(registry: &Registry) -> Self {
        Self(register(registry, IntCounterVec::new(options(&EXPORTS), EXPORTS.labels)))
    }

    /// Those of one provider and signal.
    pub(crate) fn of(&self, provider: &str, signal: &str) -> Exported {
        Exported(RESULTS.map(|result| self.0.with_label_values(&[provider, signal, result])))
    }
}

impl Exported {
    /// So many more.
    pub(crate) fn add(&self, result: Result, count: usize) {
        self.0[result as usize].inc_by(count as u64);
    }
}

impl Metrics {
    /// What came of what is told to collectors.
    pub(crate) fn exporting(&self) -> &Exporting {
        &self.exporting
    }
}
