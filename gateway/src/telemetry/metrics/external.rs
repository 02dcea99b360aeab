//! What came of asking others about requests, by whom was asked: names of the mesh configuration and of policies, so few.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Registry};

use super::{ASKED, ASKING, BUCKETS, Metrics, options, register};
use crate::telemetry::outcomes::{ASKED_RESULTS, Asked};

/// By provider.
#[derive(Debug)]
pub(super) struct External {
    asked: IntCounterVec,
    asking: HistogramVec,
}

impl External {
    pub(super) fn new(registry: &Registry) -> Self {
        let buckets = HistogramOpts { common_opts: options(&ASKING), buckets: BUCKETS.to_vec() };
        Self {
            asked: register(registry, IntCounterVec::new(options(&ASKED), ASKED.labels)),
            asking: register(registry, HistogramVec::new(buckets, ASKING.labels)),
        }
    }
}

impl Metrics {
    /// A provider was asked, and this came of it after this time.
    pub(crate) fn asked(&self, provider: &str, result: Asked, time: Duration) {
        self.external.asked.with_label_values(&[provider, ASKED_RESULTS[result as usize]]).inc();
        self.external.asking.with_label_values(&[provider]).observe(time.as_secs_f64() * 1000.0);
    }
}
