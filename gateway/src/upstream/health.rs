//! Endpoints of a cluster that are ejected (Istio `outlierDetection`) or warm up (`warmup`): who they are survives reloads,
//! and how requests are shared follows them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};

use arc_swap::{ArcSwap, Guard};
use routing::{
    balance::{Standing, Table},
    outlier::{Ejections, Outcome, Tally, Verdict, Why},
    upstream::Cluster,
};
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use crate::telemetry::metrics::Metrics;

/// What a cluster knows of its endpoints, over reloads.
#[derive(Debug)]
pub(crate) struct Health {
    state: Mutex<State>,
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
    tally: Arc<Tally>,
}

/// A cluster of one snapshot, shared by [`Health`].
#[derive(Debug)]
pub(crate) struct Varying {
    cluster: Arc<Cluster>,
    /// In the order of [`Cluster::endpoints`].
    tallies: Vec<Arc<Tally>>,
    table: ArcSwap<Table>,
    health: Arc<Health>,
}

impl Health {
    /// Knows nobody. `alarm` wakes [`tend`].
    pub(crate) fn new(alarm: Arc<Notify>) -> Self {
        Self { state: Mutex::default(), alarm }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins a compiled cluster with what is known of its endpoints; those that are no more are forgotten.
    pub(crate) fn join(self: &Arc<Self>, cluster: &Arc<Cluster>, now: Instant) -> Arc<Varying> {
        let mut state = self.state();
        let mut known = std::mem::take(&mut state.known);
        let endpoints = cluster.endpoints.iter();
        state.known = endpoints
            .map(|endpoint| {
                let fresh = || Known { since: now, tally: Arc::default() };
                (endpoint.address, known.remove(&endpoint.address).unwrap_or_else(fresh))
            })
            .collect();
        match &cluster.outliers {
            Some(_) => {
                let State { known, ejections, .. } = &mut *state;
                ejections.retain(|address| known.contains_key(&address));
            }
            None => state.ejections = Ejections::default(),
        }
        let tallies =
            cluster.endpoints.iter().map(|endpoint| Arc::clone(&state.known[&endpoint.address].tally)).collect();
        let table = ArcSwap::from_pointee(state.lay(cluster, now));
        let varying = Arc::new(Varying { cluster: Arc::clone(cluster), tallies, table, health: Arc::clone(self) });
        state.shared.retain(|one| one.strong_count() > 0);
        state.shared.push(Arc::downgrade(&varying));
        state.set_times(cluster, now);
        drop(state);
        self.alarm.notify_one();
        varying
    }

    fn due(&self) -> Option<Instant> {
        let state = self.state();
        [state.look, state.step].into_iter().flatten().min()
    }

    /// What time has changed by now.
    fn tend(&self, now: Instant, metrics: &Metrics) {
        let mut state = self.state();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if !due(state.look) && !due(state.step) {
            return;
        }
        let Some(current) = state.current() else {
            (state.look, state.step) = (None, None);
            return;
        };
        let cluster = &current.cluster;
        if due(state.look) {
            state.look = None;
            if let Some(outliers) = &cluster.outliers {
                for address in state.ejections.look(outliers, now) {
                    info!(cluster = %cluster.name, endpoint = %address, "an ejected endpoint is back");
                }
                metrics.set_ejected(&cluster.name, state.ejections.active());
            }
        }
        if due(state.step) {
            state.step = None;
        }
        state.set_times(cluster, now);
        state.lay_all(now);
    }
}

impl State {
    /// The cluster as it is in force now.
    fn current(&self) -> Option<Arc<Varying>> {
        self.shared.iter().rev().find_map(Weak::upgrade)
    }

    /// Whoever holds the cluster sees the same endpoints out.
    fn lay_all(&self, now: Instant) {
        for one in self.shared.iter().filter_map(Weak::upgrade) {
            one.table.store(Arc::new(self.lay(&one.cluster, now)));
        }
    }

    fn lay(&self, cluster: &Cluster, now: Instant) -> Table {
        Table::new(cluster, |index| self.standing(cluster, index, now))
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
    /// Laid out as the endpoints are now.
    pub(crate) fn table(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    /// What an endpoint gets now, by its index.
    pub(crate) fn standing(&self, index: usize) -> Standing {
        self.health.state().standing(&self.cluster, index, Instant::now())
    }

    /// Counts what came of a try.
    pub(crate) fn record(&self, index: usize, outcome: Outcome, metrics: &Metrics) {
        let Some(outliers) = &self.cluster.outliers else { return };
        if let Some(why) = self.tallies[index].note(outliers, outcome) {
            self.eject(index, why, metrics);
        }
    }

    fn eject(&self, index: usize, why: Why, metrics: &Metrics) {
        let (mut state, now) = (self.health.state(), Instant::now());
        // A request may live under a configuration of before.
        let Some(current) = state.current() else { return };
        let (cluster, address) = (&current.cluster, self.cluster.endpoints[index].address);
        let Some(outliers) = cluster.outliers.as_ref().filter(|_| state.known.contains_key(&address)) else { return };
        let count = cluster.endpoints.len();
        match state.ejections.eject(outliers, address, count, now) {
            Verdict::Already => {}
            Verdict::TooMany => {
                metrics.ejection(&cluster.name, false);
                let (out, most) = (state.ejections.active(), outliers.max_percent);
                debug!(
                    cluster = %cluster.name, endpoint = %address, reason = %why,
                    "an endpoint fails and is not ejected: {out} of {count} are out, and maxEjectionPercent is {most}"
                );
            }
            Verdict::Ejected(length) => {
                state.lay_all(now);
                state.set_times(cluster, now);
                metrics.ejection(&cluster.name, true);
                metrics.set_ejected(&cluster.name, state.ejections.active());
                let seconds = length.as_secs_f64();
                warn!(cluster = %cluster.name, endpoint = %address, reason = %why, seconds, "an endpoint is ejected");
                drop(state);
                self.health.alarm.notify_one();
            }
        }
    }
}

/// Follows the time of all clusters, for ever.
pub(crate) async fn tend(alarm: &Notify, metrics: &Metrics, all: impl Fn() -> Vec<Arc<Health>>) {
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
            health.tend(now, metrics);
        }
    }
}
