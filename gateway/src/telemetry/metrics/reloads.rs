//! What came of reading the configuration again, and how long that took.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Registry};

use super::{BUCKETS, INSTALLED, Metrics, RELOADING, RELOADS, options, register};

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reload {
    /// Something new was installed.
    Installed,
    /// The content was the same.
    Unchanged,
}

#[derive(Debug)]
pub(super) struct Reloads {
    count: IntCounterVec,
    installed: IntGauge,
    time: Histogram,
}

impl Reloads {
    pub(super) fn new(registry: &Registry) -> Self {
        // Seconds, and no reload takes hours.
        let buckets = BUCKETS.iter().map(|bucket| bucket / 1e3).filter(|bucket| *bucket <= 60.0).collect();
        let buckets = HistogramOpts { common_opts: options(&RELOADING), buckets };
        Self {
            count: register(registry, IntCounterVec::new(options(&RELOADS), RELOADS.labels)),
            installed: register(registry, IntGauge::with_opts(options(&INSTALLED))),
            time: register(registry, Histogram::with_opts(buckets)),
        }
    }
}

impl Metrics {
    /// The configuration was read; compiling it and putting it in force took so long.
    pub(crate) fn reload(&self, result: Reload, took: Duration) {
        let name = match result {
            Reload::Installed => "installed",
            Reload::Unchanged => "unchanged",
        };
        self.reloads.count.with_label_values(&[name]).inc();
        self.reloads.time.observe(took.as_secs_f64());
        if let Reload::Installed = result {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            self.reloads.installed.set(i64::try_from(now).unwrap_or(i64::MAX));
        }
    }
}
