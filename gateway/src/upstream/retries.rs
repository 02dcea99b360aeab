//! Retries and mirrored requests of a cluster that are under way, counted for the whole process.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use routing::retry_budget::{Ledger, Load, RetryBudget};

/// Mirrored requests of one cluster that are on their way at once: a slow one must not pile them up.
const MIRRORED: u32 = 128;

/// What a cluster keeps of them over reloads.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Tries begun; it wraps.
    begun: AtomicU32,
    retrying: AtomicU32,
    mirrored: AtomicU32,
    ledger: Mutex<Ledger>,
}

impl Account {
    /// A try begins.
    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Lets a retry begin, if the budget allows one. `active`: tries in flight; `sent`: the one before was sent.
    pub(super) fn retry(self: &Arc<Self>, budget: &RetryBudget, active: u32, sent: bool) -> Option<Retrying> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let (retrying, begun) = (self.retrying.load(Ordering::Relaxed), self.begun.load(Ordering::Relaxed));
        if !ledger.admit(budget, Load { active, retrying, begun }, sent, Instant::now()) {
            return None;
        }
        self.retrying.fetch_add(1, Ordering::Relaxed);
        Some(Retrying { account: Arc::clone(self), paid: sent })
    }

    /// Lets a mirrored request begin, unless there are too many.
    pub(super) fn mirror(self: &Arc<Self>) -> Option<Mirrored> {
        // Counted first: two threads never take the last place both.
        let guard = Mirrored(Arc::clone(self));
        (self.mirrored.fetch_add(1, Ordering::Relaxed) < MIRRORED).then_some(guard)
    }
}

/// A retry under way, its wait included; counted until dropped.
#[derive(Debug)]
pub(crate) struct Retrying {
    account: Arc<Account>,
    paid: bool,
}

impl Retrying {
    /// It got an answer that needs no further retry.
    pub(crate) fn helped(self) {
        if self.paid {
            self.account.ledger.lock().unwrap_or_else(PoisonError::into_inner).refund();
        }
    }
}

impl Drop for Retrying {
    fn drop(&mut self) {
        self.account.retrying.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A mirrored request on its way; counted until dropped.
#[derive(Debug)]
pub(crate) struct Mirrored(Arc<Account>);

impl Drop for Mirrored {
    fn drop(&mut self) {
        self.0.mirrored.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_counted_until_it_ends() {
        let account = Arc::new(Account::default());
        let one = account.retry(&RetryBudget::AtOnce(1), 1, true);
        assert!(one.is_some() && account.retry(&RetryBudget::AtOnce(1), 1, true).is_none());
        drop(one);
        assert!(account.retry(&RetryBudget::AtOnce(1), 1, true).is_some());
        let mirrored: Vec<_> = (0..MIRRORED).filter_map(|_| account.mirror()).collect();
        assert_eq!(mirrored.len(), MIRRORED as usize);
        assert!(account.mirror().is_none() && account.mirror().is_none());
        drop(mirrored);
        assert!(account.mirror().is_some());
    }

    #[test]
    fn a_retry_that_helps_gives_back_what_it_cost() {
        let account = Arc::new(Account::default());
        let budget = RetryBudget::Share { parts: 0, least: 1, at_once: false, window: std::time::Duration::ZERO };
        account.retry(&budget, 1, true).expect("the first is allowed").helped();
        for _ in 0..2 {
            drop(account.retry(&budget, 1, true).expect("it was given back"));
        }
        assert!(account.retry(&budget, 1, true).is_none());
    }
}
