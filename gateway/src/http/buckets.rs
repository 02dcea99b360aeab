//! What has been let through of what is limited: buckets that all workers share and that outlive a reload, as long as their limit
//! is the same. Those of clients stand in one table of bounded size, whatever number of clients comes.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use routing::{
    limits::{Asked, Limit, Limits, Rate, Refused},
    snapshot::Snapshot,
};
use tokio::time::Instant;

/// Clients that are kept apart, of all limits together.
const MOST: usize = 100_000;
/// The table is in so many parts, each with its lock.
const SHARDS: usize = 64;
/// So many places of each part one limit may have, so that its clients leave room for those of others.
const SHARE: usize = MOST.div_ceil(SHARDS) / 2;
/// So many places are looked at to find one whose client has used nothing lately.
const LOOKED_AT: usize = 16;

/// What comes of looking at a limit, for the metrics.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// It passed.
    Passed,
    /// It was turned away.
    Refused,
    /// It would have been, but for `dryRun`.
    DryRun,
    /// There was no place for its client, so that it shared one with others.
    Crowded,
    /// Nobody could say.
    Failed,
}

/// As metrics call them, in the order of [`Verdict`].
const RESULTS: [&str; 5] = ["passed", "refused", "dry_run", "crowded", "failed"];

/// One limit as this process counts it.
#[derive(Debug)]
pub(crate) struct Held {
    number: u64,
    name: Arc<str>,
    /// Everybody's, where there is no key.
    all: AtomicU64,
    /// Of clients that found no place in the table.
    crowd: AtomicU64,
    tally: [AtomicU64; RESULTS.len()],
    /// When a line about it was written last, seconds since the beginning, from 1.
    told: AtomicU64,
}

/// Which bucket one was taken from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Whose {
    All,
    Client(u64),
    Crowd,
}

/// One that was taken, and can be put back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken(Whose);

/// Buckets of clients.
#[derive(Debug, Default)]
struct Shard {
    places: HashMap<(u64, u64), u32>,
    slots: Vec<Slot>,
    /// How many places each limit has.
    had: HashMap<u64, usize>,
    hand: usize,
}

#[derive(Debug)]
struct Slot {
    limit: u64,
    client: u64,
    full: u64,
}

/// By name and identity.
type Known = HashMap<(Arc<str>, u64), Weak<Held>>;

/// All of a process.
#[derive(Debug)]
pub(crate) struct Buckets {
    began: Instant,
    random: RandomState,
    held: Mutex<Known>,
    numbers: AtomicU64,
    shards: Box<[Mutex<Shard>]>,
}

impl Default for Buckets {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            random: RandomState::new(),
            held: Mutex::default(),
            numbers: AtomicU64::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Held {
    /// Counts for the metrics.
    pub(crate) fn count(&self, result: Verdict) {
        self.tally[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a line may be written about it now: one in ten seconds.
    pub(crate) fn may_tell(&self, now: u64) -> bool {
        let second = now / 1_000_000_000 + 1;
        let told = self.told.load(Ordering::Relaxed);
        (told == 0 || told + 10 <= second)
            && self.told.compare_exchange(told, second, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Buckets {
    /// The time that buckets go by.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The limits of a snapshot, with what was counted so far.
    pub(crate) fn join(&self, snapshot: &Snapshot) -> Box<[Arc<Held>]> {
        let limits = snapshot.guard.as_ref().and_then(|guard| guard.limits.as_ref());
        limits.map(Limits::all).unwrap_or_default().iter().map(|limit| self.enter(limit)).collect()
    }

    fn enter(&self, limit: &Limit) -> Arc<Held> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = held.entry((Arc::clone(&limit.name), limit.identity)).or_default();
        slot.upgrade().unwrap_or_else(|| {
            let fresh = Arc::new(Held {
                number: self.numbers.fetch_add(1, Ordering::Relaxed),
                name: Arc::clone(&limit.name),
                all: AtomicU64::default(),
                crowd: AtomicU64::default(),
                tally: Default::default(),
                told: AtomicU64::default(),
            });
            *slot = Arc::downgrade(&fresh);
            fresh
        })
    }

    /// Forgets what no snapshot limits any more.
    pub(crate) fn sweep(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let before = held.len();
        held.retain(|_, found| found.strong_count() > 0);
        if held.len() == before {
            return;
        }
        let mut alive: Vec<u64> = held.values().filter_map(|held| Some(held.upgrade()?.number)).collect();
        drop(held);
        alive.sort_unstable();
        for shard in &self.shards {
            let mut shard = lock(shard);
            for slot in &mut shard.slots {
                if alive.binary_search(&slot.limit).is_err() {
                    // The next one who needs a place takes it.
                    slot.full = 0;
                }
            }
        }
    }

    /// What was counted: limit, result, how often.
    pub(crate) fn counted(&self) -> Vec<(Arc<str>, &'static str, u64)> {
        let held: Vec<Arc<Held>> = {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.values().filter_map(Weak::upgrade).collect()
        };
        let all = held.iter().flat_map(|held| {
            let counts = RESULTS.iter().zip(&held.tally);
            counts.map(|(result, count)| (Arc::clone(&held.name), *result, count.load(Ordering::Relaxed)))
        });
        all.collect()
    }

    /// Whose bucket a request is about; `None` = it is not counted.
    pub(crate) fn client(&self, held: &Held, limit: &Limit, asked: &Asked<'_>) -> Option<Taken> {
        if limit.key.0.is_empty() {
            return Some(Taken(Whose::All));
        }
        // With a secret of this process: nobody can make two clients the same.
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(held.number);
        limit.key.hash(asked, &mut hasher).then(|| Taken(Whose::Client(hasher.finish())))
    }

    /// Takes one, for a client that [`Self::client`] told, and says when the bucket is full again.
    pub(crate) fn take(&self, held: &Held, rate: &Rate, taken: &mut Taken, now: u64) -> Result<u64, Refused> {
        if let Whose::Client(client) = taken.0 {
            match lock(self.shard(client)).take((held.number, client), rate, now) {
                Some(result) => return result,
                None => {
                    held.count(Verdict::Crowded);
                    taken.0 = Whose::Crowd;
                }
            }
        }
        let full = if taken.0 == Whose::Crowd { &held.crowd } else { &held.all };
        let mut result = Ok(0);
        let _ = full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full| {
            result = rate.take(full, now);
            result.ok()
        });
        result
    }

    /// Puts one back that was taken for nothing.
    pub(crate) fn give_back(&self, held: &Held, rate: &Rate, taken: Taken) {
        let full = match taken.0 {
            Whose::All => &held.all,
            Whose::Crowd => &held.crowd,
            Whose::Client(client) => return lock(self.shard(client)).give_back((held.number, client), rate),
        };
        let _ = full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full| Some(rate.give_back(full)));
    }

    fn shard(&self, client: u64) -> &Mutex<Shard> {
        &self.shards[(client >> 32) as usize % SHARDS]
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    /// `None`: there is no place.
    fn take(&mut self, key: (u64, u64), rate: &Rate, now: u64) -> Option<Result<u64, Refused>> {
        if let Some(place) = self.places.get(&key) {
            let slot = &mut self.slots[*place as usize];
            let result = rate.take(slot.full, now);
            if let Ok(full) = result {
                slot.full = full;
            }
            return Some(result);
        }
        let result = rate.take(0, now);
        let slot = Slot { limit: key.0, client: key.1, full: *result.as_ref().ok()? };
        let full = self.had.get(&key.0).is_some_and(|had| *had >= SHARE);
        let place = if self.slots.len() < MOST.div_ceil(SHARDS) && !full {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let place = self.idle(now, full.then_some(key.0))?;
            let old = std::mem::replace(&mut self.slots[place], slot);
            self.places.remove(&(old.limit, old.client));
            self.leave(old.limit);
            place
        };
        *self.had.entry(key.0).or_default() += 1;
        self.places.insert(key, u32::try_from(place).ok()?);
        Some(result)
    }

    fn leave(&mut self, limit: u64) {
        if let Some(had) = self.had.get_mut(&limit) {
            *had -= 1;
            if *had == 0 {
                self.had.remove(&limit);
            }
        }
    }

    /// A place whose bucket is full, which is as good as none; of this limit, when one is given.
    fn idle(&mut self, now: u64, of: Option<u64>) -> Option<usize> {
        for _ in 0..LOOKED_AT {
            self.hand = (self.hand + 1) % self.slots.len().max(1);
            let fits = |slot: &Slot| slot.full <= now && of.is_none_or(|limit| limit == slot.limit);
            if self.slots.get(self.hand).is_some_and(fits) {
                return Some(self.hand);
            }
        }
        None
    }

    fn give_back(&mut self, key: (u64, u64), rate: &Rate) {
        if let Some(place) = self.places.get(&key) {
            let slot = &mut self.slots[*place as usize];
            slot.full = rate.give_back(slot.full);
        }
    }
}

#[cfg(test)]
mod tests {
    use routing::api::rate_limit::Amount;

    use super::*;

    fn held(number: u64) -> Held {
        Held {
            number,
            name: "a".into(),
            all: AtomicU64::default(),
            crowd: AtomicU64::default(),
            tally: Default::default(),
            told: AtomicU64::default(),
        }
    }

    fn rate(requests: u32, per: &str, burst: u32) -> Rate {
        Rate::new(&Amount { requests, per: per.parse().ok(), burst: Some(burst) }).unwrap()
    }

    #[test]
    fn many_threads_take_no_more_and_no_less_than_there_is() {
        let (buckets, rate) = (Buckets::default(), rate(1, "hour", 10_000));
        let (one, other) = (held(0), held(1));
        let passed = |held: &Held, whose: Whose| -> usize {
            let count = || (0..5000).filter(|_| buckets.take(held, &rate, &mut Taken(whose), 1).is_ok()).count();
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(count)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            })
        };
        assert_eq!(passed(&one, Whose::All), 10_000);
        assert_eq!(passed(&one, Whose::Client(7)), 10_000);
        assert_eq!(passed(&other, Whose::Client(7)), 10_000, "of another limit");
        buckets.give_back(&one, &rate, Taken(Whose::Client(7)));
        assert_eq!(passed(&one, Whose::Client(7)), 1);
        buckets.give_back(&one, &rate, Taken(Whose::All));
        assert_eq!(passed(&one, Whose::All), 1);
    }

    #[test]
    fn a_million_clients_take_the_places_of_those_that_rest_and_else_share_one() {
        let (buckets, held) = (Buckets::default(), held(0));
        let size = |buckets: &Buckets| -> usize { buckets.shards.iter().map(|shard| lock(shard).places.len()).sum() };
        let spread = |number: u64| number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let quick = rate(1000, "second", 1);
        for number in 0..1_000_000 {
            let now = number * 1000;
            assert!(buckets.take(&held, &quick, &mut Taken(Whose::Client(spread(number))), now).is_ok());
        }
        assert_eq!(held.tally[Verdict::Crowded as usize].load(Ordering::Relaxed), 0);
        assert_eq!(size(&buckets), SHARE * SHARDS);

        let (slow, late) = (rate(1, "day", 5), 2_000_000_000);
        let take = |number: u64| buckets.take(&held, &slow, &mut Taken(Whose::Client(spread(number))), late).is_ok();
        let passed = (2_000_000..3_000_000).filter(|number| take(*number)).count();
        assert_eq!(size(&buckets), SHARE * SHARDS, "no more than that");
        assert_eq!(passed, size(&buckets) + 5, "a place each, and one bucket for all others");
        assert!(take(2_000_000), "whoever has a place keeps it");

        let other = self::held(1);
        let took = (0..1000)
            .filter(|number| buckets.take(&other, &slow, &mut Taken(Whose::Client(spread(*number))), late).is_ok());
        assert_eq!(took.count(), 1000);
        assert_eq!(
            other.tally[Verdict::Crowded as usize].load(Ordering::Relaxed),
            0,
            "another limit has its own places"
        );
    }
}
