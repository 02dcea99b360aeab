//! Exemplars: of the requests that fell into a bucket the last one whose trace is told, so that whoever sees a slow bucket
//! finds a trace that shows why.

use std::{
    sync::{Mutex, OnceLock, PoisonError, TryLockError},
    time::Duration,
};

use super::BUCKETS;

/// How many buckets there are.
const ALL: usize = BUCKETS.len() + 1;

/// A request whose trace is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::telemetry) struct Exemplar {
    /// The trace.
    pub(in crate::telemetry) trace: u128,
    /// The request's span in it.
    pub(in crate::telemetry) span: u64,
    /// What was observed.
    pub(in crate::telemetry) value: f64,
    /// When, since 1970.
    pub(in crate::telemetry) at: Duration,
}

/// The last one of each bucket. There is no room for them before there is one.
#[derive(Debug, Default)]
pub(super) struct Exemplars(OnceLock<Box<[Mutex<Option<Exemplar>>; ALL]>>);

impl Exemplars {
    /// Keeps one in place of the one before. Nobody waits: where two are kept at the same time, one of them is as good.
    pub(super) fn keep(&self, bucket: usize, exemplar: Exemplar) {
        let all = self.0.get_or_init(Box::default);
        match all[bucket].try_lock() {
            Ok(mut kept) => *kept = Some(exemplar),
            Err(TryLockError::Poisoned(kept)) => *kept.into_inner() = Some(exemplar),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    /// That of one bucket.
    pub(super) fn of(&self, bucket: usize) -> Option<Exemplar> {
        *self.0.get()?[bucket].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last one of all.
    pub(super) fn last(&self) -> Option<Exemplar> {
        last((0..ALL).filter_map(|bucket| self.of(bucket)))
    }
}

/// The last one of some.
pub(super) fn last(all: impl Iterator<Item = Exemplar>) -> Option<Exemplar> {
    all.max_by_key(|exemplar| exemplar.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(trace: u128, seconds: u64) -> Exemplar {
        Exemplar { trace, span: 7, value: 1.5, at: Duration::from_secs(seconds) }
    }

    #[test]
    fn each_bucket_keeps_its_last_one() {
        let exemplars = Exemplars::default();
        assert_eq!((exemplars.of(3), exemplars.last()), (None, None));
        for (bucket, trace) in [(3, 1), (ALL - 1, 2), (3, 3)] {
            exemplars.keep(bucket, exemplar(trace, trace as u64));
        }
        assert_eq!(exemplars.of(3), Some(exemplar(3, 3)));
        assert_eq!(exemplars.of(ALL - 1), Some(exemplar(2, 2)));
        assert_eq!(exemplars.of(0), None);
        assert_eq!(exemplars.last(), Some(exemplar(3, 3)));
    }

    #[test]
    fn whoever_counts_does_not_wait_for_whoever_reads() {
        let exemplars = Exemplars::default();
        exemplars.keep(0, exemplar(1, 1));
        let held = exemplars.0.get().unwrap()[0].lock().unwrap();
        exemplars.keep(0, exemplar(2, 2));
        drop(held);
        assert_eq!(exemplars.of(0), Some(exemplar(1, 1)));
    }

    #[test]
    fn threads_keep_whole_exemplars() {
        let exemplars = Exemplars::default();
        std::thread::scope(|scope| {
            for thread in 1..=4 {
                let exemplars = &exemplars;
                scope.spawn(move || (0..500).for_each(|_| exemplars.keep(0, exemplar(thread, thread as u64))));
            }
            for _ in 0..500 {
                if let Some(seen) = exemplars.of(0) {
                    assert_eq!(seen, exemplar(seen.trace, seen.trace as u64));
                }
            }
        });
        assert!(exemplars.of(0).is_some());
    }
}
