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
        let usable = |index: usize| !avoid.contains(&self.cluster.endpoints[index].address);
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
            Some(varying) => varying.table().pick(&self.cluster, asked),
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
        let counters = reuse(&self.clusters, Arc::clone(&cluster.name));
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

    /// Lets ejected endpoints back and new ones take more, as time goes by; for ever.
    pub(crate) async fn tend(&self, metrics: &Metrics) {
        health::tend(&self.alarm, metrics, || {
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
mod tests {
    use routing::upstream::{Balance, Endpoint, Limits, UpstreamProtocol};

    use super::*;

    fn cluster(addresses: &[&str], limits: Limits) -> Arc<Cluster> {
        Arc::new(Cluster {
            name: "outbound|80||a".into(),
            balance: Balance::RoundRobin,
            limits,
            endpoints: addresses.iter().map(|address| Endpoint::new(address.parse().unwrap())).collect(),
            ..Cluster::default()
        })
    }

    #[test]
    fn counts_survive_a_reload_and_end_with_the_request() {
        let endpoints = Endpoints::default();
        let cluster = cluster(&["127.0.0.1:1"], Limits { max_requests: Some(1), ..Limits::default() });
        let before = endpoints.join(&cluster, Dials::default());
        let request = before.breaker.as_ref().unwrap().request().unwrap();
        let after = endpoints.join(&cluster, Dials::default());
        assert!(after.breaker.as_ref().unwrap().request().is_err());
        drop(request);
        assert!(after.breaker.as_ref().unwrap().request().is_ok());
    }

    #[test]
    fn a_retry_goes_elsewhere_while_there_is_an_elsewhere() {
        let endpoints = Endpoints::default();
        let upstream = endpoints.join(&cluster(&["127.0.0.1:1", "127.0.0.1:2"], Limits::default()), Dials::default());
        let tried = ["127.0.0.1:1".parse().unwrap()];
        assert!((0..8).all(|_| upstream.pick(&tried, || 0).unwrap().endpoint == 1));
        let both = ["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()];
        assert!(upstream.pick(&both, || 0).is_ok());
    }

    #[test]
    fn the_less_loaded_is_so_for_the_whole_process() {
        let endpoints = Arc::new(Endpoints::default());
        let both = Arc::new(Cluster {
            balance: Balance::LeastRequest,
            ..(*cluster(&["127.0.0.1:1", "127.0.0.1:2"], Limits::default())).clone()
        });
        // Another worker, under another configuration, holds requests at the first endpoint.
        let (other, theirs) = (Arc::clone(&endpoints), Arc::clone(&both));
        let worker = std::thread::spawn(move || {
            let upstream = other.join(&theirs, Dials::default());
            let held: Vec<Picked> =
                (0..64).map(|_| upstream.pick(&["127.0.0.1:2".parse().unwrap()], || 0).unwrap()).collect();
            held
        });
        let held = worker.join().unwrap();
        let upstream = endpoints.join(&both, Dials::default());
        assert_eq!((upstream.in_flight(0), upstream.in_flight(1)), (64, 0));
        // One draw of each endpoint: the other worker's requests decide.
        let mut draws = [0, u32::MAX].into_iter().cycle();
        assert!((0..32).all(|_| upstream.pick(&[], || draws.next().unwrap()).unwrap().endpoint == 1));
        drop(held);
        assert_eq!(upstream.in_flight(0), 0);
    }

    fn ejecting(addresses: &[&str]) -> Arc<Cluster> {
        let outliers = routing::outlier::Outliers {
            server_errors: Some(2),
            gateway_errors: None,
            local_failures: None,
            split: false,
            interval: std::time::Duration::from_millis(10),
            base: std::time::Duration::from_millis(50),
            max_percent: 50,
            min_health_percent: 0,
            codes: Box::default(),
        };
        let plain = cluster(addresses, Limits::default());
        Arc::new(Cluster { outliers: Some(Box::new(outliers)), ..(*plain).clone() })
    }

    fn picks(upstream: &Upstream) -> Vec<usize> {
        (0..8).map(|_| upstream.pick(&[], || 0).unwrap().endpoint).collect()
    }

    #[tokio::test]
    async fn an_ejected_endpoint_is_out_over_reloads_and_comes_back() {
        let (endpoints, metrics) = (Arc::new(Endpoints::default()), Arc::new(Metrics::new()));
        let both = ejecting(&["127.0.0.1:1", "127.0.0.1:2"]);
        let before = endpoints.join(&both, Dials::default());
        before.record(0, Outcome::Status(500), &metrics);
        assert!(picks(&before).contains(&0));
        let after = endpoints.join(&both, Dials::default());
        after.record(0, Outcome::Status(503), &metrics);
        assert!(picks(&after).iter().all(|index| *index == 1), "what was counted before the reload counts");
        let again = endpoints.join(&ejecting(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]), Dials::default());
        assert!(!picks(&again).contains(&0));
        assert!(metrics.render().contains("ejections_active{cluster_name=\"outbound|80||a\"} 1"));
        let tended = Arc::clone(&endpoints);
        let (counted, stop) = (Arc::clone(&metrics), tokio::time::sleep(std::time::Duration::from_secs(10)));
        let back = async {
            while !picks(&again).contains(&0) {
                tokio::task::yield_now().await
            }
        };
        tokio::select! {
            () = tended.tend(&counted) => {}
            () = stop => panic!("it is out for 50 ms"),
            () = back => {}
        }
        assert!(metrics.render().contains("ejections_active{cluster_name=\"outbound|80||a\"} 0"));
    }

    #[test]
    fn an_endpoint_is_out_for_requests_and_for_bytes_of_one_port() {
        let (endpoints, metrics) = (Endpoints::default(), Metrics::new());
        let requests = ejecting(&["127.0.0.1:1", "127.0.0.1:2"]);
        let bytes = Arc::new(Cluster { protocol: UpstreamProtocol::Opaque, ..(*requests).clone() });
        let both = [endpoints.join(&requests, Dials::default()), endpoints.join(&bytes, Dials::default())];
        (0..2).for_each(|_| both[0].record(0, Outcome::Status(500), &metrics));
        for upstream in &both {
            assert!(picks(upstream).iter().all(|index| *index == 1), "{:?}", upstream.cluster.protocol);
        }
    }

    #[test]
    fn connections_are_no_requests_in_flight() {
        let endpoints = Endpoints::default();
        let requests = cluster(&["127.0.0.1:1"], Limits::default());
        let bytes = Arc::new(Cluster { protocol: UpstreamProtocol::Opaque, ..(*requests).clone() });
        let [requests, bytes] = [&requests, &bytes].map(|it| endpoints.join(it, Dials::default()));
        let held = (bytes.pick(&[], || 0).unwrap(), bytes.take(0).unwrap());
        let active = || requests.counters.active.load(Ordering::Relaxed);
        assert_eq!((active(), bytes.in_flight(0)), (0, 2));
        let request = requests.pick(&[], || 0).unwrap();
        assert_eq!((active(), requests.in_flight(0)), (1, 3));
        drop((held, request));
        assert_eq!((active(), requests.in_flight(0)), (0, 0));
    }

    #[test]
    fn tables_of_keys_are_made_once_for_the_same_endpoints() {
        use routing::balance::{ConsistentHash, HashKey, HashTable};
        let hash = ConsistentHash { key: HashKey::Source, table: HashTable::Maglev { size: 65_537 } };
        let keyed = |addresses: &[&str]| {
            let plain = cluster(addresses, Limits::default());
            Arc::new(Cluster { balance: Balance::Hash(Box::new(hash.clone())), ..(*plain).clone() })
        };
        let endpoints = Endpoints::default();
        let before = endpoints.join(&keyed(&["127.0.0.1:1", "127.0.0.1:2"]), Dials::default());
        let same = endpoints.join(&keyed(&["127.0.0.1:1", "127.0.0.1:2"]), Dials::default());
        assert!(Arc::ptr_eq(&before.table, &same.table));
        let other = endpoints.join(&keyed(&["127.0.0.1:1", "127.0.0.1:3"]), Dials::default());
        assert!(!Arc::ptr_eq(&before.table, &other.table));
    }
}
