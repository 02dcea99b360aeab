//! The figures, for those who read JSON.

use super::{Metrics, TABLE};
use crate::telemetry::told::{self, Family};

impl Metrics {
    /// Everything that is counted.
    pub(crate) fn told(&self) -> Vec<Family> {
        self.look_at_process();
        self.look_at_series();
        let mut all = self.standard.told(&TABLE);
        all.extend(told::families(&self.registry));
        all
    }
}
