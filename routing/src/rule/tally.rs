//! How often a rule was followed. It hangs on the rule, so that whoever counts looks nothing up; a rule that a reload leaves as it
//! was, or makes anew with the same name and match (`compile/tallies.rs`), keeps its count.

use std::sync::atomic::{AtomicU64, Ordering};

/// Finished requests of one rule.
#[derive(Debug, Default)]
pub struct Tally {
    good: AtomicU64,
    client_errors: AtomicU64,
    server_errors: AtomicU64,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// All finished requests.
    pub requests: u64,
    /// Those that were answered with 4xx.
    pub client_errors: u64,
    /// Those that were answered with 5xx, or not at all.
    pub server_errors: u64,
}

impl Tally {
    /// One more; `status`: 0 = nothing was answered.
    pub fn count(&self, status: u16) {
        let counter = match status {
            100..=399 => &self.good,
            400..=499 => &self.client_errors,
            _ => &self.server_errors,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// So far.
    pub fn counts(&self) -> Counts {
        let [good, client_errors, server_errors] =
            [&self.good, &self.client_errors, &self.server_errors].map(|counter| counter.load(Ordering::Relaxed));
        Counts { requests: good + client_errors + server_errors, client_errors, server_errors }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_counted_by_whose_error_they_are() {
        let tally = Tally::default();
        for status in [200, 204, 301, 404, 429, 500, 503, 0] {
            tally.count(status);
        }
        assert_eq!(tally.counts(), Counts { requests: 8, client_errors: 2, server_errors: 3 });
    }
}
