//! How many retries a cluster bears. Retries that help cost nothing; those that do not are a share of the requests, so that an
//! endpoint which fails gets little more load than one which does not.

use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// What limits the retries of one cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RetryBudget {
    /// `connectionPool.http.maxRetries`: so many at once.
    AtOnce(u32),
    /// `retryBudget`, or what holds when nothing is said.
    Share {
        /// Retries per request, in millionths.
        parts: u32,
        /// So many are always allowed: at once, and in a second, twice as many in the first one.
        least: u32,
        /// `retryBudget` is given, so the same share limits how many there are at once, as Envoy does.
        at_once: bool,
        /// `retryBudget.budgetInterval`: the requests of so long count beside those in flight; zero = these alone.
        window: Duration,
    },
}

impl Default for RetryBudget {
    /// Istio has no limit. A fifth of the requests is the default of its `retryBudget`; where there are few requests, whoever
    /// tries out a route has to see what it says.
    fn default() -> Self {
        Self::Share { parts: 200_000, least: 10, at_once: false, window: Duration::ZERO }
    }
}

/// What a cluster has under way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Tries in flight.
    pub active: u32,
    /// Retries among them, those included that wait for their turn.
    pub retrying: u32,
    /// Tries begun so far; it may wrap.
    pub begun: u32,
}

/// One retry.
const RETRY: i64 = 1_000_000;
/// What is saved up of quiet times, for many requests that fail at once, unless the budget allows more at once.
const SAVED: i64 = 100 * RETRY;
const SECOND: Duration = Duration::from_secs(1);

/// What a cluster's requests have earned and its retries have spent, in millionths of a retry.
#[derive(Debug, Default)]
pub struct Ledger {
    credit: i64,
    /// More is not saved up, where the budget allows more at once than [`SAVED`].
    most: i64,
    /// What it began with, as far as that is not earned yet: nothing is earned twice.
    owed: i64,
    /// [`Load::begun`] when it was last looked at.
    begun: u32,
    /// Retries admitted that have not been seen among those yet: they are tries that earn nothing.
    retries: u32,
    /// Of a budget with an interval: what there was at the beginning of it, and of the one before.
    marks: Option<[(Instant, u32); 2]>,
    /// When the current second began, and what it has earned.
    second: Option<(Instant, i64)>,
}

impl Ledger {
    /// Whether another retry may begin; it is paid for then. `sent`: an endpoint was sent the request before, so that the retry
    /// is more load than there would have been without.
    pub fn admit(&mut self, budget: &RetryBudget, load: Load, sent: bool, now: Instant) -> bool {
        let (parts, least, at_once, window) = match *budget {
            RetryBudget::AtOnce(most) => return load.retrying < most,
            RetryBudget::Share { parts, least, at_once, window } => (parts, least, at_once, window),
        };
        let requests = u64::from(load.active) + self.recent(window, load.begun, now);
        let share = requests * u64::from(parts) / RETRY as u64;
        if at_once && u64::from(load.retrying) >= share.max(u64::from(least)) {
            return false;
        }
        let least = i64::from(least) * RETRY;
        // Who may have more under way at once than is saved up can also pay for them.
        let burst = if at_once { i64::try_from(share).unwrap_or(i64::MAX).saturating_mul(RETRY) } else { 0 };
        self.most = burst.max(2 * least);
        self.earn(parts, least, load.begun, now);
        if sent && self.credit < RETRY {
            return false;
        }
        if sent {
            self.credit -= RETRY;
        }
        self.retries = self.retries.wrapping_add(1);
        true
    }

    /// About how many tries began within the last `window`, as far as anybody has looked.
    fn recent(&mut self, window: Duration, begun: u32, now: Instant) -> u64 {
        if window.is_zero() {
            return 0;
        }
        let marks = self.marks.get_or_insert([(now, begun); 2]);
        let [(since, before), (newer, _)] = *marks;
        let (tries, span) = (f64::from(begun.wrapping_sub(before)), now.saturating_duration_since(since));
        if now.saturating_duration_since(newer) >= window {
            *marks = [marks[1], (now, begun)];
        }
        (tries * (window.as_secs_f64() / span.as_secs_f64().max(window.as_secs_f64()))) as u64
    }

    /// A retry that was paid for has helped.
    pub fn refund(&mut self) {
        self.credit = (self.credit + RETRY).min(SAVED.max(self.most));
    }

    /// A share of every request, and never less than the least of each second.
    fn earn(&mut self, parts: u32, least: i64, begun: u32, now: Instant) {
        let tries = begun.wrapping_sub(self.begun);
        let retries = tries.min(self.retries);
        let requests = tries - retries;
        (self.begun, self.retries) = (begun, self.retries - retries);
        let earned = i64::from(requests).saturating_mul(i64::from(parts));
        let added = match &mut self.second {
            None => {
                self.second = Some((now, earned));
                (self.credit, self.owed) = (2 * least, 2 * least);
                earned
            }
            Some((since, so_far)) => {
                *so_far = so_far.saturating_add(earned);
                let seconds = now.saturating_duration_since(*since).as_secs();
                if seconds == 0 {
                    earned
                } else {
                    let missing = least.saturating_mul(i64::try_from(seconds).unwrap_or(i64::MAX)) - *so_far;
                    (*since, *so_far) = (*since + SECOND * u32::try_from(seconds).unwrap_or(u32::MAX), 0);
                    earned.saturating_add(missing.max(0))
                }
            }
        };
        let paid = added.min(self.owed);
        self.owed -= paid;
        self.credit = self.credit.saturating_add(added - paid).min(SAVED.max(self.most));
    }
}
