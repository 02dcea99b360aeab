//! Tokens whose key is not there: when its issuer is asked again because of them. A key that is new is to be known soon, and
//! whoever invents keys must not make every proxy of a mesh ask without end.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// How long after the last time an issuer is asked for a key that nobody named before.
const SOON: Duration = Duration::from_secs(10);
/// The most, when asking brought nothing again and again.
const LATE: Duration = Duration::from_secs(5 * 60);
/// The most, while the issuer gives no keys at all: so soon after it is back it is asked for those that were missed.
const AWAY: Duration = Duration::from_secs(60);
/// How often at once it is asked soon, though nothing new came of it; one more each time that [`LATE`] is over.
const CREDIT: u32 = 5;
/// Names of keys that are remembered as not being there.
const MOST: usize = 256;

/// The misses of one source.
#[derive(Debug)]
pub(super) struct Misses {
    wake: Notify,
    round: Mutex<Round>,
    names: RandomState,
}

/// Since the issuer was asked last.
#[derive(Debug)]
struct Round {
    /// Names of keys that were missed and asked for, or will be.
    known: HashSet<u64>,
    /// One was missed that is not among those asked for in vain.
    is_new: bool,
    /// One of those was missed again.
    is_old: bool,
    /// How often running nothing new came.
    vain: u32,
    /// How often running it gave no keys, which says nothing of those that were missed.
    failures: u32,
    /// How often it may be asked soon.
    credit: u32,
    /// When the credit was full, or grew.
    since: Instant,
}

impl Misses {
    /// None yet.
    pub(super) fn new(now: Instant) -> Self {
        let round = Round {
            known: HashSet::new(),
            is_new: false,
            is_old: false,
            vain: 0,
            failures: 0,
            credit: CREDIT,
            since: now,
        };
        Self { wake: Notify::new(), round: Mutex::new(round), names: RandomState::new() }
    }

    /// A token names a key that is not there, or none, and no key fits.
    pub(super) fn miss(&self, name: Option<&str>) {
        let name = self.names.hash_one(name.unwrap_or_default());
        let news = self.with(|round| {
            let is_known = round.known.contains(&name);
            if !is_known && round.known.len() < MOST {
                round.known.insert(name);
            }
            let flag = if is_known { &mut round.is_old } else { &mut round.is_new };
            !std::mem::replace(flag, true)
        });
        if news {
            self.wake.notify_one();
        }
    }

    /// Ends with the next thing that may change [`Self::due`].
    pub(super) async fn news(&self) {
        self.wake.notified().await;
    }

    /// Whoever waits is to look.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// When the issuer is to be asked because of what was missed; `asked` is the last time. `None`: nothing was.
    pub(super) fn due(&self, asked: Instant) -> Option<Instant> {
        self.with(|round| match (round.is_new, round.is_old) {
            (true, _) if round.credit > 0 => Some(asked + late(round.failures.saturating_sub(1)).min(AWAY)),
            (false, false) => None,
            _ => Some(asked + late(round.vain)),
        })
    }

    /// It was asked in vain, as it gave no keys: whether those that were missed are among them is as open as before.
    pub(super) fn failed(&self) {
        self.with(|round| round.failures = round.failures.saturating_add(1));
    }

    /// It gave its keys, and there was something new or not.
    pub(super) fn asked(&self, now: Instant, brought: bool) {
        self.with(|round| {
            round.failures = 0;
            while round.credit < CREDIT && now.duration_since(round.since) >= LATE {
                round.credit += 1;
                round.since += LATE;
            }
            if brought {
                (round.vain, round.credit) = (0, CREDIT);
                round.known.clear();
            } else if round.is_new || round.is_old {
                round.vain += 1;
                if round.is_new {
                    round.credit = round.credit.saturating_sub(1);
                }
            } else {
                // Nobody missed anything for as long as keys are kept.
                round.vain = 0;
                round.known.clear();
            }
            if round.credit == CREDIT {
                round.since = now;
            }
            (round.is_new, round.is_old) = (false, false);
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Round) -> T) -> T {
        act(&mut self.round.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Twice as long each time.
fn late(vain: u32) -> Duration {
    (SOON * 2_u32.pow(vain.min(8))).min(LATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who misses something all the time: how often its issuer is asked within an hour.
    fn hour(mut name: impl FnMut(u32) -> String) -> u32 {
        let start = Instant::now();
        let misses = Misses::new(start);
        let (mut now, mut asked) = (start, 0);
        while now < start + Duration::from_secs(3600) {
            misses.miss(Some(&name(asked)));
            now = misses.due(now).unwrap();
            misses.asked(now, false);
            asked += 1;
        }
        asked
    }

    #[test]
    fn invented_keys_are_asked_for_less_and_less() {
        let same = hour(|_| "old".to_owned());
        assert!((12..24).contains(&same), "{same}");
        let new = hour(|number| number.to_string());
        assert!((12..24).contains(&new), "{new}");
    }

    #[test]
    fn a_client_that_never_learns_is_heard_less_and_less() {
        let start = Instant::now();
        let misses = Misses::new(start);
        assert_eq!(misses.due(start), None);
        for pause in [10, 20, 40, 80, 160, 300, 300] {
            misses.miss(Some("stale"));
            assert_eq!(misses.due(start), Some(start + Duration::from_secs(pause)));
            misses.asked(start, false);
        }
        // Nobody misses anything any more, until the keys are old.
        misses.asked(start, false);
        misses.miss(Some("stale"));
        assert_eq!(misses.due(start), Some(start + SOON));
    }

    #[test]
    fn a_rotation_is_seen_beside_a_client_that_never_learns() {
        let start = Instant::now();
        let misses = Misses::new(start);
        let mut now = start;
        for _ in 0..20 {
            misses.miss(Some("stale"));
            now = misses.due(now).unwrap();
            misses.asked(now, false);
        }
        misses.miss(Some("stale"));
        assert_eq!(misses.due(now), Some(now + LATE));
        misses.miss(Some("next"));
        assert_eq!(misses.due(now), Some(now + SOON));
        misses.asked(now + SOON, true);
        assert_eq!(misses.due(now), None);
        misses.miss(Some("another"));
        assert_eq!(misses.due(now), Some(now + SOON));
    }

    #[test]
    fn an_issuer_that_is_away_was_not_asked_in_vain() {
        let start = Instant::now();
        let misses = Misses::new(start);
        for pause in [10, 10, 20, 40, 60, 60, 60, 60] {
            misses.miss(Some("next"));
            assert_eq!(misses.due(start), Some(start + Duration::from_secs(pause)));
            misses.failed();
        }
        assert_eq!(misses.with(|round| (round.vain, round.credit)), (0, CREDIT));
        // It is back, without the key yet.
        misses.asked(start, false);
        misses.miss(Some("next"));
        assert_eq!(misses.due(start), Some(start + 2 * SOON));
        misses.miss(Some("another"));
        assert_eq!(misses.due(start), Some(start + SOON));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let misses = Misses::new(Instant::now());
        (0..10 * MOST).for_each(|name| misses.miss(Some(&name.to_string())));
        assert_eq!(misses.with(|round| round.known.len()), MOST);
    }
}
