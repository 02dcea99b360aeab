//! Istio's histograms.

use std::sync::atomic::{AtomicU64, Ordering};

/// Istio's default buckets; the last one, of everything, is not named.
pub(in crate::telemetry) const BUCKETS: [f64; 19] =
    [0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6, 3.6e6];

/// Counts by size.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Histogram {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    sum: AtomicU64,
}

impl Histogram {
    /// Where a value falls.
    pub(in crate::telemetry) fn bucket(value: f64) -> usize {
        BUCKETS.iter().position(|most| value <= *most).unwrap_or(BUCKETS.len())
    }

    /// Counts a value; `exact` is the same as a whole number, for the sum.
    pub(in crate::telemetry) fn observe(&self, value: f64, exact: u64) {
        self.buckets[Self::bucket(value)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(exact, Ordering::Relaxed);
    }

    /// How many values.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }

    /// How many values each bucket alone has.
    pub(super) fn counts(&self) -> Vec<u64> {
        self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Their sum.
    pub(super) fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// How many values are at most as large, for each bucket; the last is of all.
    pub(super) fn cumulative(&self) -> [u64; BUCKETS.len() + 1] {
        let mut so_far = 0;
        self.buckets.each_ref().map(|count| {
            so_far += count.load(Ordering::Relaxed);
            so_far
        })
    }
}
