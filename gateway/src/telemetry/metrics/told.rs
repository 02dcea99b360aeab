//! The figures, for those who read JSON.

use super::Metrics;
use crate::telemetry::told::{self, Family};

impl Metrics {
    /// Everything that is counted.
    pub(crate) fn told(&self) -> Vec<Family> {
        self.look_at_process();
        told::families(&self.registry)
    }
}
