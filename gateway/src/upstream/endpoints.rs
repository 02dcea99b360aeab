//! What must survive a reload: counts of requests in flight, who is ejected, who is new; keyed by cluster and address, never
//! inside a snapshot.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Instant,
};

use routing::{
    balance::{Asked, Standing, Table},
    outlier::Outcome,
    upstream::{Balance, Cluster, UpstreamProtocol},
};
use tokio::sync::Notify;

use super::{
    breaker::{Breaker, Tallies},
    dial::{Dial, Dials},
    health::{self, Health, Varying},
    retries::{Account, Mirrored, Retrying},
};
use crate::telemetry::metrics::Metrics;

/// Requests in flight to one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Load(AtomicU32);

/// What a cluster keeps over reloads.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Requests in flight to the whole cluster.
    active: AtomicU32,
    /// Round robin's place.
    cursor: AtomicUsize,
    /// How the endpoints were laid out last, with a digest of what that depends on: keys need large tables.
    laid: Mutex<(u64, Weak<Table>)>,
    /// Its retries and mirrored requests.
    account: Arc<Account>,
}

/// A cluster with everything that is needed to send it a request.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// As compiled.
    pub(crate) cluster: Arc<Cluster>,
    counters: Arc<Counters>,
    /// In the order of [`Cluster::endpoints`].
    loads: Vec<Arc<Load>>,
    /// Laid out to be picked, as configured.
    table: Arc<Table>,
    /// For clusters whose endpoints are ejected or warm up: laid out as they are now.
    varying: Option<Arc<Varying>>,
    dials: Dials,
    /// Its limits; `None` = it has none.
    pub(crate) breaker: Option<Box<Breaker>>,
    /// `host:port/*`: Envoy's name for what the receiving proxy is asked to do.
    pub(crate) decorator: http::HeaderValue,
}

/// Priorities of endpoints that a request has tried; beyond the 64th they are one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Priorities(u64);

impl Priorities {
    /// One more.
    pub(crate) fn add(&mut self, priority: usize) {
        self.0 |= 1 << priority.min(63);
    }

    fn has(self, priority: usize) -> bool {
        self.0 & (1 << priority.min(63)) != 0
    }
}

/// Why no endpoint could be had.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoEndpoint {
    /// There is none that may be used.
    Unhealthy,
}

/// One request on its way to one endpoint; counted until dropped.
#[derive(Debug)]
pub(crate) struct Picked {
    /// Index into [`Cluster::endpoints`].
    pub(crate) endpoint: usize,
    /// Where it counts as a request; `None` = it is none, but a connection.
    counters: Option<Arc<Counters>>,
    load: Arc<Load>,
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.load.0.fetch_sub(1, Ordering::Relaxed);
        if let Some(counters) = &self.counters {
            counters.active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Upstream {
    /// Whether all of its endpoints are spoken to in mutual TLS of the mesh.
    pub(crate) fn is_mesh(&self) -> bool {
        self.cluster.tls.as_ref().is_some_and(|tls| tls.mesh) && self.cluster.endpoints.iter().all(|one| one.tls)
    }

    /// As [`Self::pick_by`], of a request without a key.
    #[cfg(test)]
    pub(crate) fn pick(&self, avoid: &[SocketAddr], random: impl FnMut() -> u32) -> Result<Picked, NoEndpoint> {
        self.pick_by(None, avoid, random)
    }

    /// Chooses an endpoint and counts the request there. A `key` leads to its endpoint, whatever was tried. Else `avoid` lists
    /// endpoints that this request already tried: they are taken only when nothing else is left.
    ///
    /// # Errors
    /// [`NoEndpoint`].
    pub(crate) fn pick_by(
        &self,
        key: Option<u64>,
        avoid: &[SocketAddr],
        mut random: impl FnMut() -> u32,
    ) -> Result<Picked, NoEndpoint> {
        let mut endpoint = None;
        if !avoid.is_empty() {
            endpoint = self.choose(key, &mut random, |index| !avoid.contains(&self.cluster.endpoints[index].address));
        }
        let endpoint = endpoint.or_else(|| self.choose(key, random, |_| true)).ok_or(NoEndpoint::Unhealthy)?;
        Ok(self.picked(endpoint))
    }

    /// As [`Self::pick_by`], at a priority that is not among the `left` ones, as long as there is one.
    ///
    /// # Errors
    /// [`NoEndpoint`].
    pub(crate) fn pick_beyond(
        &self,
        key: Option<u64>,
        left: Priorities,
        avoid: &[SocketAddr],
        mut random: impl FnMut() -> u32,
    ) -> Result<Picked, NoEndpoint> {
        let load = |index: usize| self.loads[index].0.load(Ordering::Relaxed);
        let just_out = |index| self.varying.as_ref().is_some_and(|varying| varying.is_just_out(index));
        let usable = |index: usize| !avoid.contains(&self.cluster.endpoints[index].address) && !just_out(index);
        let asked = Asked { key, random: &mut random, load, usable, cursor: &self.counters.cursor };
        let left = |priority: usize| left.has(priority);
        let endpoint = match &self.varying {
            None => self.table.pick_beyond(&self.cluster, asked, left),
            Some(varying) => varying.table().pick_beyond(&self.cluster, asked, left),
        };
        match endpoint {
            Some(endpoint) => Ok(self.picked(endpoint)),
            None => self.pick_by(key, avoid, random),
        }
    }

    fn picked(&self, endpoint: usize) -> Picked {
        let picked = self.counted(endpoint, Arc::clone(&self.loads[endpoint]));
        if let Some(counters) = &picked.counters {
            counters.account.begin();
        }
        picked
    }

    /// A cluster of bytes has no requests: retries are not a share of its connections.
    fn counted(&self, endpoint: usize, load: Arc<Load>) -> Picked {
        load.0.fetch_add(1, Ordering::Relaxed);
        let counters = (self.cluster.protocol != UpstreamProtocol::Opaque).then(|| Arc::clone(&self.counters));
        if let Some(counters) = &counters {
            counters.active.fetch_add(1, Ordering::Relaxed);
        }
        Picked { endpoint, counters, load }
    }

    fn choose(&self, key: Option<u64>, random: impl FnMut() -> u32, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let load = |index: usize| self.loads[index].0.load(Ordering::Relaxed);
        let asked = Asked { key, random, load, usable, cursor: &self.counters.cursor };
        match &self.varying {
            None => self.table.pick(&self.cluster, asked),
            Some(varying) => varying.pick(asked),
        }
    }

    /// Tells what came of a try at an endpoint, by its index: too many failures in a row eject it.
    pub(crate) fn record(&self, endpoint: usize, outcome: Outcome, metrics: &Metrics) {
        if let Some(varying) = &self.varying {
            varying.record(endpoint, outcome, metrics);
        }
    }

    /// Endpoints that are ejected or warm up, for people.
    pub(crate) fn varying(&self) -> Option<&Arc<Varying>> {
        self.varying.as_ref()
    }

    /// How many requests are in flight to an endpoint, by its index.
    pub(crate) fn in_flight(&self, endpoint: usize) -> u32 {
        self.loads[endpoint].0.load(Ordering::Relaxed)
    }

    /// Lets a retry begin, if the cluster bears one. `sent`: an endpoint was sent the request before.
    pub(crate) fn retry(&self, sent: bool) -> Option<Retrying> {
        let active = self.counters.active.load(Ordering::Relaxed);
        self.counters.account.retry(&self.cluster.retry_budget, active, sent)
    }

    /// Lets a mirrored request begin, unless there are too many.
    pub(crate) fn mirror(&self) -> Option<Mirrored> {
        self.counters.account.mirror()
    }

    /// Counts something that goes to just this endpoint.
    ///
    /// # Errors
    /// [`NoEndpoint`].
    pub(crate) fn take(&self, endpoint: usize) -> Result<Picked, NoEndpoint> {
        let load = self.loads.get(endpoint).ok_or(NoEndpoint::Unhealthy)?;
        Ok(self.counted(endpoint, Arc::clone(load)))
    }

    /// How to reach an endpoint, with TLS or without, speaking HTTP/2 or HTTP/1.1.
    pub(crate) fn dial(&self, tls: bool, h2: bool) -> Option<&Arc<Dial>> {
        self.dials.get(tls, h2)
    }
}

/// An endpoint of a cluster, by the cluster's name.
type Place = (Arc<str>, SocketAddr);

/// The counters of every cluster and endpoint that some snapshot still uses.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    clusters: Mutex<HashMap<Arc<str>, Weak<Counters>>>,
    loads: Mutex<HashMap<Place, Weak<Load>>>,
    healths: Mutex<HashMap<Arc<str>, Weak<Health>>>,
    /// Somebody is out or new, and time has to be looked at.
    alarm: Arc<Notify>,
    tallies: Tallies,
}

impl Endpoints {
    /// Joins a compiled cluster with its counters of before.
    pub(crate) fn join(&self, cluster: &Arc<Cluster>, dials: Dials) -> Upstream {
        let counters: Arc<Counters> = reuse(&self.clusters, Arc::clone(&cluster.name));
        if Arc::strong_count(&counters) == 1 && cluster.balance == Balance::LeastRequest {
            // Proxies that start together do not begin with the same endpoint.
            counters.cursor.store(fastrand::usize(..), Ordering::Relaxed);
        }
        let loads = cluster
            .endpoints
            .iter()
            .map(|endpoint| reuse(&self.loads, (Arc::clone(&cluster.name), endpoint.address)))
            .collect();
        let decorator = http::HeaderValue::try_from(format!("{}:{}/*", cluster.host, cluster.port))
            .unwrap_or_else(|_| http::HeaderValue::from_static("/*"));
        let varies = cluster.outliers.is_some() || cluster.warmup.is_some();
        let varying = varies.then(|| self.health(&cluster.name).join(cluster, Instant::now()));
        let table = match &varying {
            Some(_) => Arc::default(),
            None => counters.lay(cluster),
        };
        let breaker = self.tallies.join(cluster);
        Upstream { cluster: Arc::clone(cluster), counters, loads, table, varying, dials, breaker, decorator }
    }

    fn health(&self, cluster: &Arc<str>) -> Arc<Health> {
        let mut all = self.healths.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = all.entry(Arc::clone(cluster)).or_default();
        slot.upgrade().unwrap_or_else(|| {
            let fresh = Arc::new(Health::new(Arc::clone(&self.alarm)));
            *slot = Arc::downgrade(&fresh);
            fresh
        })
    }

    /// Lays out what has to do without ejected endpoints, lets them back and new ones take more, as time goes by; for ever.
    pub(crate) async fn tend(&self) {
        health::tend(&self.alarm, || {
            let all = self.healths.lock().unwrap_or_else(PoisonError::into_inner);
            all.values().filter_map(Weak::upgrade).collect()
        })
        .await;
    }

    /// Forgets what no snapshot uses any more.
    pub(crate) fn sweep(&self) {
        self.healths.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, found| found.strong_count() > 0);
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, found| found.strong_count() > 0);
        self.loads.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, found| found.strong_count() > 0);
        self.tallies.sweep();
    }
}

impl Counters {
    /// Lays the endpoints out, or takes what was laid out for the same ones: the tables of keys are large.
    fn lay(&self, cluster: &Cluster) -> Arc<Table> {
        let table = || Arc::new(Table::new(cluster, |_| Standing::FULL));
        let Balance::Hash(hash) = &cluster.balance else { return table() };
        let mut digest = DefaultHasher::new();
        (hash, &cluster.groups).hash(&mut digest);
        for endpoint in &cluster.endpoints {
            (endpoint.address, endpoint.weight, endpoint.priority, endpoint.group).hash(&mut digest);
        }
        let digest = digest.finish();
        let mut laid = self.laid.lock().unwrap_or_else(PoisonError::into_inner);
        if laid.0 == digest
            && let Some(known) = laid.1.upgrade()
        {
            return known;
        }
        let fresh = table();
        *laid = (digest, Arc::downgrade(&fresh));
        fresh
    }
}

fn reuse<K: Eq + std::hash::Hash, V: Default>(all: &Mutex<HashMap<K, Weak<V>>>, key: K) -> Arc<V> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    let slot = all.entry(key).or_default();
    slot.upgrade().unwrap_or_else(|| {
        let fresh = Arc::new(V::default());
        *slot = Arc::downgrade(&fresh);
        fresh
    })
}

#[cfg(test)]
mod tests;
