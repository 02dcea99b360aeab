//! Endpoints of a cluster that are ejected (Istio `outlierDetection`) or warm up (`warmup`): who they are survives reloads,
//! and how requests are shared follows them.
//!
//! Tables can be large, so none is laid where requests are served: whoever ejects an endpoint marks it, and everybody passes
//! it by until [`tend`] has laid the tables anew.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::{ArcSwap, Guard};
use routing::{
    balance::{Asked, Standing, Table},
    outlier::{Ejections, Outcome, Outliers, Tally, Verdict, Why},
    unix,
    upstream::{Balance, Cluster},
};
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use crate::telemetry::metrics::Metrics;

/// Keys whose endpoint is out are turned into others so often, until its table is laid anew.
const TURNS: usize = 8;

/// What a cluster knows of its endpoints, over reloads.
#[derive(Debug)]
pub(crate) struct Health {
    state: Mutex<State>,
    /// Counts what tables have to follow; and how much of it they follow.
    changes: AtomicU64,
    followed: AtomicU64,
    /// The table that was laid last, with a digest of what it was made of.
    laid: Mutex<(u64, Weak<Table>)>,
    /// Wakes [`tend`].
    alarm: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<SocketAddr, Known>,
    ejections: Ejections,
    /// The cluster in every snapshot that is still in use, the newest last. One snapshot may have it twice: for requests, and
    /// for bytes.
    shared: Vec<Weak<Varying>>,
    /// When to see who may come back; `None` = nobody is out.
    look: Option<Instant>,
    /// When new endpoints get more; `None` = nobody is new.
    step: Option<Instant>,
}

#[derive(Debug)]
struct Known {
    /// When it appeared.
    since: Instant,
    mark: Arc<Mark>,
}

/// What every worker sees of an endpoint, without a lock.
#[derive(Debug, Default)]
struct Mark {
    tally: Tally,
    out: AtomicBool,
}

/// A cluster of one snapshot, shared by [`Health`].
#[derive(Debug)]
pub(crate) struct Varying {
    cluster: Arc<Cluster>,
    /// In the order of [`Cluster::endpoints`].
    marks: Vec<Arc<Mark>>,
    table: ArcSwap<Table>,
    health: Arc<Health>,
}

impl Health {
    /// Knows nobody. `alarm` wakes [`tend`].
    pub(crate) fn new(alarm: Arc<Notify>) -> Self {
        let (changes, followed) = Default::default();
        Self { state: Mutex::default(), changes, followed, laid: Mutex::default(), alarm }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins a compiled cluster with what is known of its endpoints; those that are no more are forgotten.
    pub(crate) fn join(self: &Arc<Self>, cluster: &Arc<Cluster>, now: Instant) -> Arc<Varying> {
        let marks = self.state().take(cluster, now);
        let seen = self.changes.load(Ordering::Acquire);
        let table = ArcSwap::new(self.lay(cluster, now));
        let varying = Arc::new(Varying { cluster: Arc::clone(cluster), marks, table, health: Arc::clone(self) });
        let mut state = self.state();
        state.shared.retain(|one| one.strong_count() > 0);
        state.shared.push(Arc::downgrade(&varying));
        state.set_times(cluster, now);
        drop(state);
        if self.changes.load(Ordering::Acquire) != seen {
            // Somebody was ejected while the table was laid.
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
        self.alarm.notify_one();
        varying
    }

    /// Whether tables do not follow yet.
    fn is_behind(&self) -> bool {
        self.changes.load(Ordering::Acquire) != self.followed.load(Ordering::Acquire)
    }

    fn due(&self) -> Option<Instant> {
        if self.is_behind() {
            return Some(Instant::now());
        }
        let state = self.state();
        [state.look, state.step].into_iter().flatten().min()
    }

    /// What time has changed by now, and who was ejected meanwhile.
    fn tend(&self, now: Instant) {
        let mut state = self.state();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if !due(state.look) && !due(state.step) && !self.is_behind() {
            return;
        }
        let seen = self.changes.load(Ordering::Acquire);
        let Some(current) = state.current() else {
            (state.look, state.step) = (None, None);
            self.followed.store(seen, Ordering::Release);
            return;
        };
        let cluster = &current.cluster;
        if due(state.look) {
            state.look = None;
            if let Some(outliers) = &cluster.outliers {
                for address in state.look(outliers, now) {
                    info!(cluster = %cluster.name, endpoint = %unix::shown(address), "an ejected endpoint is back");
                }
            }
        }
        if due(state.step) {
            state.step = None;
        }
        state.set_times(cluster, now);
        let all: Vec<_> = state.shared.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        // Whoever holds the cluster sees the same endpoints out.
        for one in all {
            one.table.store(self.lay(&one.cluster, now));
        }
        self.followed.store(seen, Ordering::Release);
    }

    /// Lays the endpoints out as they are now, or takes what was laid out for the same ones.
    fn lay(&self, cluster: &Cluster, now: Instant) -> Arc<Table> {
        let standings: Vec<Standing> = {
            let state = self.state();
            (0..cluster.endpoints.len()).map(|index| state.standing(cluster, index, now)).collect()
        };
        let digest = digest(cluster, &standings);
        let mut laid = self.laid.lock().unwrap_or_else(PoisonError::into_inner);
        if laid.0 == digest
            && let Some(known) = laid.1.upgrade()
        {
            return known;
        }
        let fresh = Arc::new(Table::new(cluster, |index| standings[index]));
        *laid = (digest, Arc::downgrade(&fresh));
        fresh
    }
}

/// Of everything that a table is made of.
fn digest(cluster: &Cluster, standings: &[Standing]) -> u64 {
    let mut digest = DefaultHasher::new();
    let keys = match &cluster.balance {
        Balance::Hash(hash) => Some(hash),
        _ => None,
    };
    let least = cluster.outliers.as_ref().map(|outliers| outliers.min_health_percent);
    (keys, &cluster.groups, least).hash(&mut digest);
    for (endpoint, standing) in cluster.endpoints.iter().zip(standings) {
        (endpoint.address, endpoint.weight, endpoint.priority, endpoint.group).hash(&mut digest);
        (standing.out, standing.warmth.to_bits()).hash(&mut digest);
    }
    digest.finish()
}

impl State {
    /// The cluster as it is in force now.
    fn current(&self) -> Option<Arc<Varying>> {
        self.shared.iter().rev().find_map(Weak::upgrade)
    }

    /// Knows the endpoints of this cluster from now on, and no others. Returns their marks.
    fn take(&mut self, cluster: &Cluster, now: Instant) -> Vec<Arc<Mark>> {
        let mut known = std::mem::take(&mut self.known);
        let endpoints = cluster.endpoints.iter();
        self.known = endpoints
            .map(|endpoint| {
                let fresh = || Known { since: now, mark: Arc::default() };
                (endpoint.address, known.remove(&endpoint.address).unwrap_or_else(fresh))
            })
            .collect();
        if cluster.outliers.is_some() {
            let Self { known, ejections, .. } = self;
            ejections.retain(|address| known.contains_key(&address));
        } else {
            self.ejections = Ejections::default();
            self.known.values().for_each(|known| known.mark.out.store(false, Ordering::Relaxed));
        }
        cluster.endpoints.iter().map(|endpoint| Arc::clone(&self.known[&endpoint.address].mark)).collect()
    }

    /// Lets those back whose time is over, and names them.
    fn look(&mut self, outliers: &Outliers, now: Instant) -> Vec<SocketAddr> {
        let back = self.ejections.look(outliers, now);
        for known in back.iter().filter_map(|address| self.known.get(address)) {
            known.mark.out.store(false, Ordering::Relaxed);
        }
        back
    }

    fn standing(&self, cluster: &Cluster, index: usize, now: Instant) -> Standing {
        let address = cluster.endpoints[index].address;
        let warm = |known: &Known| {
            let age = now.saturating_duration_since(known.since);
            cluster.warmup.as_ref().map_or(1.0, |warmup| warmup.warmth(age))
        };
        Standing { out: self.ejections.is_out(address), warmth: self.known.get(&address).map_or(1.0, warm) }
    }

    /// When to look again, where that is not known yet.
    fn set_times(&mut self, cluster: &Cluster, now: Instant) {
        if self.look.is_none()
            && let Some(outliers) = cluster.outliers.as_ref().filter(|_| !self.ejections.is_empty())
        {
            self.look = Some(now + outliers.interval);
        }
        let new = |warmup: &routing::balance::Warmup| {
            self.known.values().any(|known| now.saturating_duration_since(known.since) < warmup.duration)
        };
        if self.step.is_none()
            && let Some(warmup) = cluster.warmup.as_ref().filter(|warmup| new(warmup))
        {
            self.step = Some(now + warmup.step());
        }
    }
}

impl Varying {
    /// As [`Table::pick`], as the endpoints are now.
    pub(crate) fn pick<R, L, U>(&self, asked: Asked<'_, R, L, U>) -> Option<usize>
    where
        R: FnMut() -> u32,
        L: Fn(usize) -> u32,
        U: Fn(usize) -> bool,
    {
        if !self.health.is_behind() {
            return self.table().pick(&self.cluster, asked);
        }
        let Asked { mut key, mut random, load, usable, cursor } = asked;
        let (table, stays) = (self.table(), |index: usize| !self.is_out(index));
        // A key leads to its endpoint, whatever is usable.
        for _ in 0..TURNS {
            let Some(one) = key else { break };
            let mut none = || 0;
            let led = Asked { key, random: &mut none, load: &load, usable: &usable, cursor };
            match table.pick(&self.cluster, led) {
                Some(endpoint) if !stays(endpoint) => key = Some(turned(one)),
                found => return found,
            }
        }
        let staying = |index: usize| usable(index) && stays(index);
        let among = Asked { key: None, random: &mut random, load: &load, usable: staying, cursor };
        if let Some(found) = table.pick(&self.cluster, among) {
            return Some(found);
        }
        let among = Asked { key: None, random: &mut random, load: &load, usable: staying, cursor };
        if let Some(found) = table.pick_beyond(&self.cluster, among, |_| false) {
            return Some(found);
        }
        // Nobody stays: whoever is out may be used all the same where too few are well.
        let panics = self.cluster.outliers.as_ref().is_some_and(|outliers| outliers.min_health_percent > 0);
        panics.then(|| table.pick(&self.cluster, Asked { key: None, random, load, usable, cursor })).flatten()
    }

    /// Laid out as the endpoints are now, but for those that were ejected just now.
    pub(crate) fn table(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    /// Whether an endpoint was ejected, and the table does not know it yet.
    pub(crate) fn is_just_out(&self, index: usize) -> bool {
        self.health.is_behind() && self.is_out(index)
    }

    fn is_out(&self, index: usize) -> bool {
        self.marks[index].out.load(Ordering::Relaxed)
    }

    /// How many endpoints are ejected now; `None`: none ever was.
    pub(crate) fn ejected(&self) -> Option<usize> {
        let ever = self.cluster.outliers.is_some() && self.health.changes.load(Ordering::Relaxed) > 0;
        ever.then(|| self.health.state().ejections.active())
    }

    /// What an endpoint gets now, by its index.
    pub(crate) fn standing(&self, index: usize) -> Standing {
        self.health.state().standing(&self.cluster, index, Instant::now())
    }

    /// Counts what came of a try.
    pub(crate) fn record(&self, index: usize, outcome: Outcome, metrics: &Metrics) {
        let Some(outliers) = &self.cluster.outliers else { return };
        if let Some(why) = self.marks[index].tally.note(outliers, outcome) {
            self.eject(index, why, metrics);
        }
    }

    fn eject(&self, index: usize, why: Why, metrics: &Metrics) {
        let (mut state, now) = (self.health.state(), Instant::now());
        // A request may live under a configuration of before.
        let Some(current) = state.current() else { return };
        let (cluster, address) = (&current.cluster, self.cluster.endpoints[index].address);
        let Some(outliers) = &cluster.outliers else { return };
        let Some(mark) = state.known.get(&address).map(|known| Arc::clone(&known.mark)) else { return };
        let count = cluster.endpoints.len();
        let verdict = state.ejections.eject(outliers, address, count, now);
        let out = state.ejections.active();
        if let Verdict::Ejected(_) = verdict {
            mark.out.store(true, Ordering::Relaxed);
            self.health.changes.fetch_add(1, Ordering::AcqRel);
        }
        drop(state);
        match verdict {
            Verdict::Already => {}
            Verdict::TooMany => {
                metrics.ejection(&cluster.name, false);
                let most = outliers.max_percent;
                debug!(
                    cluster = %cluster.name, endpoint = %unix::shown(address), reason = %why,
                    "an endpoint fails and is not ejected: {out} of {count} are out, and maxEjectionPercent is {most}"
                );
            }
            Verdict::Ejected(length) => {
                self.health.alarm.notify_one();
                metrics.ejection(&cluster.name, true);
                let seconds = length.as_secs_f64();
                warn!(cluster = %cluster.name, endpoint = %unix::shown(address), reason = %why, seconds, "an endpoint is ejected");
            }
        }
    }
}

/// Another key; the same one for the same.
const fn turned(key: u64) -> u64 {
    let mixed = (key ^ (key >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

/// Follows ejections and the time of all clusters, for ever.
pub(crate) async fn tend(alarm: &Notify, all: impl Fn() -> Vec<Arc<Health>>) {
    loop {
        match all().iter().filter_map(|health| health.due()).min() {
            None => alarm.notified().await,
            Some(due) => tokio::select! {
                () = alarm.notified() => {}
                () = tokio::time::sleep_until(due.into()) => {}
            },
        }
        let now = Instant::now();
        for health in all() {
            health.tend(now);
        }
    }
}
