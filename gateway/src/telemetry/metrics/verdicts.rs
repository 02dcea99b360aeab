//! What policies said of requests and connections.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use foldhash::fast::RandomState;
use prometheus::{IntCounter, IntCounterVec, Registry};
use routing::authorization::policy;

use super::{Metrics, VERDICTS, options, register};
use crate::telemetry::outcomes::{VERDICT_NAMES, Verdict};

/// Policies that are told apart; those beyond share one name.
const MOST: usize = 1000;
/// What no policy said.
const NONE: &str = "none";
/// Rules that a thread remembers; when it knows so many, it starts again with none.
const CAPACITY: usize = 4096;

/// Epochs are unique in the process, as one thread may serve several of these (tests do).
static NEXT_EPOCH: AtomicU64 = AtomicU64::new(1);

fn next_epoch() -> u64 {
    NEXT_EPOCH.fetch_add(1, Ordering::Relaxed)
}

thread_local! {
    static REMEMBERED: RefCell<Remembered> = RefCell::default();
}

/// Where a thread counts what rules say, so that a flood of denials meets no lock.
#[derive(Default)]
struct Remembered {
    epoch: u64,
    rules: HashMap<Box<str>, [Option<IntCounter>; VERDICT_NAMES.len()], RandomState>,
}

impl Remembered {
    fn counter(&mut self, all: &Verdicts, verdict: Verdict, rule: &str) -> IntCounter {
        let epoch = all.epoch.load(Ordering::Acquire);
        if self.epoch != epoch || self.rules.len() >= CAPACITY {
            self.rules.clear();
            self.epoch = epoch;
        }
        if !self.rules.contains_key(rule) {
            self.rules.insert(rule.into(), Default::default());
        }
        let find = || all.find(verdict, rule);
        let known = self.rules.get_mut(rule).and_then(|counters| counters.get_mut(verdict as usize));
        known.map_or_else(find, |counter| counter.get_or_insert_with(find).clone())
    }
}

/// By verdict and policy.
#[derive(Debug)]
pub(super) struct Verdicts {
    all: IntCounterVec,
    /// Of nearly all requests, so that nothing is looked up for them.
    allowed: IntCounter,
    /// Policies that have a name of their own.
    known: Mutex<HashSet<Box<str>>>,
    /// What threads remember is good as long as this stays.
    epoch: AtomicU64,
}

impl Verdicts {
    pub(super) fn new(registry: &Registry) -> Self {
        let all = register(registry, IntCounterVec::new(options(&VERDICTS), VERDICTS.labels));
        let allowed = all.with_label_values(&["allowed", ""]);
        Self { all, allowed, known: Mutex::default(), epoch: AtomicU64::new(next_epoch()) }
    }

    fn count(&self, verdict: Verdict, rule: &str) {
        let found = REMEMBERED.try_with(|remembered| remembered.borrow_mut().counter(self, verdict, rule));
        // A thread that ends has no memory any more.
        found.unwrap_or_else(|_| self.find(verdict, rule)).inc();
    }

    fn find(&self, verdict: Verdict, rule: &str) -> IntCounter {
        let policy = policy(rule);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let name = match policy {
            NONE => NONE,
            policy if known.contains(policy) => policy,
            _ if known.len() >= MOST => "others",
            policy => {
                known.insert(policy.into());
                policy
            }
        };
        // Under the lock, or a name that has just gone would be back.
        self.all.with_label_values(&[verdict.name(), name])
    }

    /// Names of policies that are gone give way where those in force need the room.
    fn make_room(&self, in_force: &BTreeSet<&str>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let new = in_force.iter().filter(|name| !known.contains(**name)).count();
        if known.len() + new > MOST {
            known.retain(|name| {
                let stays = in_force.contains(&**name);
                for verdict in VERDICT_NAMES.iter().filter(|_| !stays) {
                    // It need not have said this one.
                    drop(self.all.remove_label_values(&[*verdict, &**name]));
                }
                stays
            });
        }
        self.epoch.store(next_epoch(), Ordering::Release);
    }
}

impl Metrics {
    /// Policies let somebody in.
    pub(crate) fn allowed(&self) {
        self.verdicts.allowed.inc();
    }

    /// A rule said something else, or would have.
    pub(crate) fn verdict(&self, verdict: Verdict, rule: &str) {
        self.verdicts.count(verdict, rule);
    }

    /// These policies are in force.
    pub(crate) fn set_policies(&self, in_force: &BTreeSet<&str>) {
        self.verdicts.make_room(in_force);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(from: usize, count: usize) -> Vec<String> {
        (from..from + count).map(|number| format!("ns[a]-policy[p{number}]")).collect()
    }

    fn denied(verdicts: &Verdicts, policy: &str) -> u64 {
        verdicts.all.with_label_values(&["denied", policy]).get()
    }

    #[test]
    fn policies_are_told_apart_up_to_a_thousand() {
        let verdicts = Verdicts::new(&Registry::new());
        for name in names(0, MOST + 5) {
            verdicts.count(Verdict::Denied, &format!("{name}-rule[0]"));
            verdicts.count(Verdict::Denied, &format!("{name}-rule[1]"));
        }
        verdicts.count(Verdict::Denied, NONE);
        let all = names(0, MOST);
        assert!(all.iter().all(|name| denied(&verdicts, name) == 2));
        assert_eq!([denied(&verdicts, "others"), denied(&verdicts, NONE)], [10, 1]);
    }

    #[test]
    fn a_policy_that_is_gone_gives_way_and_one_in_force_keeps_its_count() {
        let verdicts = Verdicts::new(&Registry::new());
        let (before, after) = (names(0, MOST), names(MOST - 1, MOST));
        let judge = |all: &[String]| {
            for name in all {
                verdicts.count(Verdict::Denied, &format!("{name}-rule[0]"));
                verdicts.count(Verdict::Audited, &format!("{name}-rule[0]"));
            }
        };
        judge(&before);
        verdicts.make_room(&after.iter().map(String::as_str).collect());
        judge(&after);
        assert_eq!(denied(&verdicts, &after[0]), 2, "it was there before, too");
        assert!(after.iter().skip(1).all(|name| denied(&verdicts, name) == 1));
        assert_eq!(denied(&verdicts, "others"), 0);
        assert_eq!(denied(&verdicts, &before[0]), 0, "its series is gone");
    }

    #[test]
    fn names_stay_while_there_is_room() {
        let verdicts = Verdicts::new(&Registry::new());
        verdicts.count(Verdict::TriedAllowed, "ns[a]-policy[old]-rule[0]");
        verdicts.make_room(&BTreeSet::from(["ns[a]-policy[new]"]));
        verdicts.count(Verdict::TriedAllowed, "ns[a]-policy[old]-rule[0]");
        assert_eq!(verdicts.all.with_label_values(&["dry_run_allowed", "ns[a]-policy[old]"]).get(), 2);
    }
}
