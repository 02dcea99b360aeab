//! Circuit breakers: how much of everything one cluster may have at once, in the whole process (Istio `connectionPool`).
//!
//! A cluster without limits has none of this. One with `maxConnections` counts its connections at a [`Gate`], where requests
//! wait in turn; see there.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use routing::upstream::Cluster;

use super::gate::{Gate, Permit};

/// What was reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Limit {
    /// `tcp.maxConnections`, by those that cannot wait.
    Connections,
    /// `http.http1MaxPendingRequests`.
    Pending,
    /// `http.http2MaxRequests`.
    Requests,
}

impl Limit {
    /// In the order of their numbers.
    pub(crate) const ALL: [Self; 3] = [Self::Connections, Self::Pending, Self::Requests];

    /// For metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Pending => "pending",
            Self::Requests => "requests",
        }
    }
}

/// What is counted of every cluster with limits that some snapshot still uses, or some connection.
#[derive(Debug, Default)]
pub(crate) struct Tallies(Mutex<HashMap<Arc<str>, Known>>);

/// A connection outlives the last snapshot that has its cluster, and counts when that comes back.
#[derive(Debug, Default)]
struct Known {
    tally: Weak<Tally>,
    gate: Weak<Gate>,
}

impl Tallies {
    /// The limits of a cluster, with what was counted before; `None` for one without limits.
    pub(crate) fn join(&self, cluster: &Cluster) -> Option<Box<Breaker>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut breaker) = Breaker::of(cluster) else {
            // Those who wait need not any more.
            if let Some(before) = all.get(&cluster.name).and_then(|known| known.gate.upgrade()) {
                before.set_limit(None);
            }
            return None;
        };
        let known = all.entry(Arc::clone(&cluster.name)).or_default();
        breaker.tally = known.tally.upgrade().unwrap_or_else(|| {
            let gate = known.gate.upgrade().unwrap_or_default();
            let fresh = Arc::new(Tally { gate, ..Tally::default() });
            *known = Known { tally: Arc::downgrade(&fresh), gate: Arc::downgrade(&fresh.gate) };
            fresh
        });
        breaker.tally.gate.set_limit(breaker.connections);
        Some(Box::new(breaker))
    }

    /// Forgets what no snapshot and no connection uses any more.
    pub(crate) fn sweep(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, known| known.gate.strong_count() > 0);
    }
}

/// What is counted of a cluster, over reloads.
#[derive(Debug, Default)]
struct Tally {
    requests: AtomicU32,
    pending: AtomicU32,
    gate: Arc<Gate>,
    /// Indexed by [`Limit`].
    overflows: [AtomicU64; 3],
}

/// One of what is counted; until dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    tally: Arc<Tally>,
    of: fn(&Tally) -> &AtomicU32,
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.of)(&self.tally).fetch_sub(1, Ordering::Relaxed);
    }
}

/// The limits of a cluster, with what is counted.
#[derive(Debug)]
pub(crate) struct Breaker {
    connections: Option<u32>,
    pending: Option<u32>,
    requests: Option<u32>,
    tally: Arc<Tally>,
}

impl Breaker {
    fn of(cluster: &Cluster) -> Option<Self> {
        let connections = cluster.connections.as_ref().filter(|connections| connections.are_counted());
        let requests = cluster.limits.max_requests;
        if connections.is_none() && requests.is_none() {
            return None;
        }
        let most = connections.and_then(|connections| connections.most);
        let pending = connections.and_then(|connections| connections.pending);
        Some(Self { connections: most, pending, requests, tally: Arc::default() })
    }

    /// A request is about to be sent.
    ///
    /// # Errors
    /// [`Limit::Requests`].
    pub(crate) fn request(&self) -> Result<Option<Counted>, Limit> {
        self.count(self.requests, |tally| &tally.requests, Limit::Requests)
    }

    /// A request begins to wait for a connection.
    ///
    /// # Errors
    /// [`Limit::Pending`].
    pub(crate) fn wait(&self) -> Result<Option<Counted>, Limit> {
        self.count(self.pending, |tally| &tally.pending, Limit::Pending)
    }

    /// A connection is about to be made by who cannot wait for one.
    ///
    /// # Errors
    /// [`Limit::Connections`].
    pub(crate) fn connection(&self) -> Result<Option<Permit>, Limit> {
        let Some(gate) = self.gate() else { return Ok(None) };
        let permit = gate.permit();
        if permit.is_none() {
            self.overflown(Limit::Connections);
        }
        permit.map(Some).ok_or(Limit::Connections)
    }

    /// Where connections are counted, when they are.
    pub(crate) fn gate(&self) -> Option<&Arc<Gate>> {
        self.connections.map(|_| &self.tally.gate)
    }

    /// Something was refused.
    fn overflown(&self, limit: Limit) {
        self.tally.overflows[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self, most: Option<u32>, of: fn(&Tally) -> &AtomicU32, limit: Limit) -> Result<Option<Counted>, Limit> {
        let Some(most) = most else { return Ok(None) };
        let counted = of(&self.tally);
        let below = |number: u32| (number < most).then_some(number + 1);
        if counted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).is_err() {
            self.overflown(limit);
            return Err(limit);
        }
        Ok(Some(Counted { tally: Arc::clone(&self.tally), of }))
    }

    /// For metrics: each limit with how much there is, and how often it was reached.
    pub(crate) fn figures(&self) -> impl Iterator<Item = (&'static str, u32, u64)> + use<> {
        let tally = Arc::clone(&self.tally);
        let given = [self.connections, self.pending, self.requests].map(|limit| limit.is_some());
        Limit::ALL.into_iter().filter(move |limit| given[*limit as usize]).map(move |limit| {
            let now = match limit {
                Limit::Connections => tally.gate.open(),
                Limit::Pending => tally.pending.load(Ordering::Relaxed),
                Limit::Requests => tally.requests.load(Ordering::Relaxed),
            };
            (limit.name(), now, tally.overflows[limit as usize].load(Ordering::Relaxed))
        })
    }
}

#[cfg(test)]
mod tests {
    use routing::{connections::Connections, upstream::Limits};

    use super::*;

    #[test]
    fn a_cluster_without_limits_counts_nothing() {
        let cluster = Cluster { connections: Some(Arc::default()), ..Cluster::default() };
        assert!(Tallies::default().join(&cluster).is_none());
    }

    #[test]
    fn a_connection_counts_while_its_cluster_is_away() {
        let connections = Connections { most: Some(1), ..Connections::default() };
        let cluster = Cluster { connections: Some(Arc::new(connections)), ..Cluster::default() };
        let tallies = Tallies::default();
        let before = tallies.join(&cluster).unwrap();
        let held = before.connection().unwrap();
        drop(before);
        tallies.sweep();
        let after = tallies.join(&cluster).unwrap();
        assert_eq!(after.connection().unwrap_err(), Limit::Connections);
        drop(held);
        assert!(after.connection().is_ok());
    }

    #[test]
    fn limits_are_exact_whoever_counts() {
        let limits = Limits { max_requests: Some(50), ..Limits::default() };
        let connections = Connections { pending: Some(1), ..Connections::default() };
        let cluster = Cluster { limits, connections: Some(Arc::new(connections)), ..Cluster::default() };
        let tallies = Tallies::default();
        let breaker = tallies.join(&cluster).unwrap();
        let held: Vec<_> = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..100).filter_map(|_| breaker.request().ok()).collect::<Vec<_>>()))
                .collect();
            tries.into_iter().flat_map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(held.len(), 50);
        let waiting = breaker.wait().unwrap();
        assert_eq!(breaker.wait().unwrap_err(), Limit::Pending);
        let again = tallies.join(&cluster).unwrap();
        let figures: Vec<_> = again.figures().collect();
        assert_eq!(figures, [("pending", 1, 1), ("requests", 50, 350)], "over a reload");
        drop((held, waiting));
        assert!(again.figures().all(|(_, now, _)| now == 0));
        assert!(again.wait().is_ok());
    }
}
