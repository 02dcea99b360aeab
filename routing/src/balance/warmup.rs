//! New endpoints take less at first (Istio `warmup`; Envoy calls it slow start).

use std::time::Duration;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warmup {
    /// How long an endpoint is new.
    pub duration: Duration,
    /// Share of its weight that it gets at least, 0 to 1.
    pub minimum: f64,
    /// How fast the share grows: 1 = evenly, more = earlier.
    pub aggression: f64,
}

/// A share of 0 would be none at all, for ever, where nothing else is there.
const LEAST: f64 = 0.0001;

impl Warmup {
    /// Share of the weight of an endpoint that is so old.
    pub fn warmth(&self, age: Duration) -> f64 {
        if age >= self.duration {
            return 1.0;
        }
        // Envoy counts the first millisecond as passed.
        let passed = age.as_secs_f64().max(0.001) / self.duration.as_secs_f64();
        passed.min(1.0).powf(1.0 / self.aggression).max(self.minimum).max(LEAST)
    }

    /// How often shares are worked out anew while anybody is new: in steps of a hundredth.
    pub fn step(&self) -> Duration {
        (self.duration / 100).clamp(Duration::from_millis(50), Duration::from_secs(1))
    }
}
