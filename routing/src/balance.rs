//! Which endpoint of a cluster a request goes to. Randomness, load and usability are the caller's.
//!
//! What a pick needs is laid out when endpoints change, so that it costs the same for ten endpoints and for ten thousand.

pub(crate) mod cookie;
mod hash;
mod levels;
mod maglev;
mod ring;
mod shares;
mod warmup;

use std::sync::atomic::{AtomicUsize, Ordering};

pub use cookie::HashCookie;
pub use hash::{ConsistentHash, HashKey, HashTable, of_bytes};
pub use warmup::Warmup;

use self::{levels::Levels, maglev::Maglev, ring::Ring, shares::Shares};
use crate::{
    unix,
    upstream::{Balance, Cluster},
};

/// What is known of an endpoint beyond the configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// It is ejected.
    pub out: bool,
    /// Share of its weight that it gets while it is new: above 0, at most 1.
    pub warmth: f64,
}

impl Standing {
    /// It takes its full share.
    pub const FULL: Self = Self { out: false, warmth: 1.0 };
}

/// The endpoints of a cluster, laid out to be picked.
#[derive(Debug, Default)]
pub struct Table {
    first: Level,
    /// What comes in when endpoints of the first priority fail; few clusters have it.
    spill: Option<Box<Spill>>,
}

/// Several priorities.
#[derive(Debug)]
struct Spill {
    further: Vec<Level>,
    /// Percent of the requests by priority, added up.
    shares: Vec<u32>,
}

/// The endpoints of one priority that may be used.
#[derive(Debug, Default)]
struct Level {
    /// How many.
    count: u32,
    /// Their indexes; `None` = all of the cluster, in order.
    members: Option<Box<[u32]>>,
    /// Their shares; `None` = all the same.
    shares: Option<Box<Shares>>,
    /// Where keys lead.
    lookup: Option<Lookup>,
}

#[derive(Debug)]
enum Lookup {
    Ring(Ring),
    Maglev(Maglev),
}

/// What a pick asks the caller for.
#[derive(Debug)]
pub struct Asked<'a, R, L, U> {
    /// Hash of what the request is to stay with an endpoint for; `None` = of nothing.
    pub key: Option<u64>,
    /// Gives uniformly distributed numbers.
    pub random: R,
    /// Requests in flight at an endpoint.
    pub load: L,
    /// Whether an endpoint may be tried at all (this request has not tried it before). Keys do not ask.
    pub usable: U,
    /// Belongs to the cluster and survives reloads.
    pub cursor: &'a AtomicUsize,
}

impl Table {
    /// Lays out a cluster; `standing` tells of each endpoint by its index.
    pub fn new(cluster: &Cluster, standing: impl Fn(usize) -> Standing) -> Self {
        let plain = cluster.groups.len() < 2
            && cluster.endpoints.iter().all(|endpoint| endpoint.priority == 0)
            && (0..cluster.endpoints.len()).all(|index| standing(index) == Standing::FULL);
        if plain {
            return Self { first: Level::whole(cluster), spill: None };
        }
        let levels = Levels::of(cluster, &standing);
        let mut laid = levels.members.iter().map(|members| Level::of(cluster, members));
        let first = laid.next().unwrap_or_default();
        let further: Vec<Level> = laid.collect();
        let mut sum = 0;
        let shares = levels.shares.iter().map(|share| {
            sum += share;
            sum
        });
        let spill = (!further.is_empty()).then(|| Box::new(Spill { shares: shares.collect(), further }));
        Self { first, spill }
    }

    /// The index of the endpoint to use; `None` when none may be used.
    pub fn pick<R, L, U>(&self, cluster: &Cluster, mut asked: Asked<'_, R, L, U>) -> Option<usize>
    where
        R: FnMut() -> u32,
        L: Fn(usize) -> u32,
        U: Fn(usize) -> bool,
    {
        let level = match &self.spill {
            None => &self.first,
            Some(spill) => {
                let point = asked.key.map_or_else(|| asked.random() % 100, |key| (key % 100) as u32);
                match spill.shares.iter().position(|sum| point < *sum).unwrap_or(0) {
                    0 => &self.first,
                    at => &spill.further[at - 1],
                }
            }
        };
        level.pick(cluster, &mut asked)
    }

    /// As [`Self::pick`], at the first priority that was not `left` and has somebody to pick.
    pub fn pick_beyond<R, L, U>(
        &self,
        cluster: &Cluster,
        mut asked: Asked<'_, R, L, U>,
        left: impl Fn(usize) -> bool,
    ) -> Option<usize>
    where
        R: FnMut() -> u32,
        L: Fn(usize) -> u32,
        U: Fn(usize) -> bool,
    {
        let further = self.spill.iter().flat_map(|spill| &spill.further);
        let levels = std::iter::once(&self.first).chain(further).enumerate().filter(|(at, _)| !left(*at));
        levels.map(|(_, level)| level).find_map(|level| level.pick(cluster, &mut asked))
    }

    /// Percent of the requests that each priority gets.
    pub fn shares(&self) -> Vec<u32> {
        let Some(spill) = &self.spill else { return vec![100] };
        let before = std::iter::once(0).chain(spill.shares.iter().copied());
        spill.shares.iter().zip(before).map(|(sum, before)| sum - before).collect()
    }
}

impl<R: FnMut() -> u32, L, U> Asked<'_, R, L, U> {
    fn random(&mut self) -> u32 {
        (self.random)()
    }

    fn random_key(&mut self) -> u64 {
        u64::from(self.random()) << 32 | u64::from(self.random())
    }
}

impl Level {
    /// All endpoints of a cluster.
    fn whole(cluster: &Cluster) -> Self {
        let endpoints = &cluster.endpoints;
        let weight = |at: usize| endpoints[at].weight.max(1);
        let even = (1..endpoints.len()).all(|at| weight(at) == weight(0));
        let shares = (!even).then(|| Box::new(Shares::whole((0..endpoints.len()).map(weight))));
        let weights = || (0..endpoints.len()).map(|at| f64::from(weight(at))).collect::<Vec<_>>();
        let lookup = Lookup::of(cluster, |at| at, weights);
        Self { count: count(endpoints.len()), members: None, shares, lookup }
    }

    /// Some of them, with their shares.
    fn of(cluster: &Cluster, members: &[(u32, f64)]) -> Self {
        let even = members.windows(2).all(|two| two[0].1 == two[1].1);
        let shares = (!even).then(|| Box::new(Shares::parts(members.iter().map(|(_, share)| *share))));
        let weights = || members.iter().map(|(_, share)| *share).collect::<Vec<_>>();
        let lookup = Lookup::of(cluster, |at| members[at].0 as usize, weights);
        let indexes = members.iter().map(|(index, _)| *index).collect();
        Self { count: count(members.len()), members: Some(indexes), shares, lookup }
    }

    fn pick<R, L, U>(&self, cluster: &Cluster, asked: &mut Asked<'_, R, L, U>) -> Option<usize>
    where
        R: FnMut() -> u32,
        L: Fn(usize) -> u32,
        U: Fn(usize) -> bool,
    {
        if self.count == 0 {
            return None;
        }
        match (&cluster.balance, &self.lookup) {
            (_, Some(lookup)) => {
                if let Some(key) = asked.key {
                    return Some(self.index(lookup.at(key)));
                }
                let key = asked.random_key();
                let drawn = self.index(lookup.at(key));
                if (asked.usable)(drawn) { Some(drawn) } else { self.draw(asked) }
            }
            (Balance::RoundRobin, _) => {
                let turn = asked.cursor.fetch_add(1, Ordering::Relaxed);
                self.from(self.in_turn(turn), asked)
            }
            (Balance::Random | Balance::Hash(_), _) => self.draw(asked),
            (Balance::LeastRequest, _) => self.less_loaded(cluster, asked),
        }
    }

    /// The less loaded of two: the next in turn, so that those who are equal get the same, and a random one.
    fn less_loaded<R, L, U>(&self, cluster: &Cluster, asked: &mut Asked<'_, R, L, U>) -> Option<usize>
    where
        R: FnMut() -> u32,
        L: Fn(usize) -> u32,
        U: Fn(usize) -> bool,
    {
        let turn = asked.cursor.fetch_add(1, Ordering::Relaxed);
        let at = self.in_turn(turn);
        let first = self.from(at, asked)?;
        let random = asked.random();
        let second = self.index(match (&self.shares, self.count) {
            // Any but the first.
            (None, count @ 2..) => (at + 1 + even(random, count - 1)) % count,
            _ => self.under(random),
        });
        if second == first || !(asked.usable)(second) {
            return Some(first);
        }
        // Load per weight, without dividing. The request about to be sent counts, or idle endpoints would all tie.
        let weight = |index: usize| u64::from(cluster.endpoints[index].weight.max(1));
        let cost = |index, other| (u64::from((asked.load)(index)) + 1) * weight(other);
        Some(if cost(second, first) < cost(first, second) { second } else { first })
    }

    /// A random usable one: a few draws by share, then one after the other.
    fn draw<R, L, U>(&self, asked: &mut Asked<'_, R, L, U>) -> Option<usize>
    where
        R: FnMut() -> u32,
        U: Fn(usize) -> bool,
    {
        for _ in 0..DRAWS {
            let random = asked.random();
            let index = self.index(self.under(random));
            if (asked.usable)(index) {
                return Some(index);
            }
        }
        let start = asked.random();
        self.from(even(start, self.count), asked)
    }

    /// The first usable one, from a place on and around.
    fn from<R, L, U: Fn(usize) -> bool>(&self, start: u32, asked: &Asked<'_, R, L, U>) -> Option<usize> {
        (start..self.count).chain(0..start).map(|at| self.index(at)).find(|index| (asked.usable)(*index))
    }

    /// The place under a random number.
    fn under(&self, random: u32) -> u32 {
        match &self.shares {
            None => even(random, self.count),
            Some(shares) => shares.under(random),
        }
    }

    fn in_turn(&self, turn: usize) -> u32 {
        match &self.shares {
            None => (turn % self.count as usize) as u32,
            Some(shares) => shares.in_turn(turn),
        }
    }

    /// Index into [`Cluster::endpoints`] of a place here.
    fn index(&self, at: u32) -> usize {
        self.members.as_ref().map_or(at, |members| members[at as usize]) as usize
    }
}

impl Lookup {
    /// What keys need, where there are keys. `index`: of the endpoint at a place.
    fn of(cluster: &Cluster, index: impl Fn(usize) -> usize, weights: impl Fn() -> Vec<f64>) -> Option<Self> {
        let Balance::Hash(hash) = &cluster.balance else { return None };
        let weights = weights();
        if weights.is_empty() {
            return None;
        }
        // Envoy's name of an endpoint: its address.
        let name = |at: usize| unix::shown(cluster.endpoints[index(at)].address).to_string();
        Some(match hash.table {
            HashTable::Ring { minimum } => Self::Ring(Ring::new(&weights, name, minimum)),
            HashTable::Maglev { size } => Self::Maglev(Maglev::new(&weights, name, size)),
        })
    }

    fn at(&self, key: u64) -> u32 {
        match self {
            Self::Ring(ring) => ring.at(key),
            Self::Maglev(maglev) => maglev.at(key),
        }
    }
}

/// Draws by share before every endpoint is looked at.
const DRAWS: usize = 3;

fn even(random: u32, count: u32) -> u32 {
    ((u64::from(random) * u64::from(count)) >> 32) as u32
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
