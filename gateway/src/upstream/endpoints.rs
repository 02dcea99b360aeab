//! What must survive a reload: counts of requests in flight, keyed by cluster and address, never inside a snapshot.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use routing::{balance, upstream::Cluster};

use super::dial::{Dial, Dials};

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
}

/// A cluster with everything that is needed to send it a request.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// As compiled.
    pub(crate) cluster: Arc<Cluster>,
    counters: Arc<Counters>,
    /// In the order of [`Cluster::endpoints`].
    loads: Vec<Arc<Load>>,
    dials: Dials,
    /// `host:port/*`: Envoy's name for what the receiving proxy is asked to do.
    pub(crate) decorator: http::HeaderValue,
}

/// Why no endpoint could be had.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoEndpoint {
    /// There is none that may be used.
    Unhealthy,
    /// `connectionPool` is exhausted.
    Overflow,
}

/// One request on its way to one endpoint; counted until dropped.
#[derive(Debug)]
pub(crate) struct Picked {
    /// Index into [`Cluster::endpoints`].
    pub(crate) endpoint: usize,
    counters: Arc<Counters>,
    load: Arc<Load>,
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.load.0.fetch_sub(1, Ordering::Relaxed);
        self.counters.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream {
    /// Chooses an endpoint and counts the request there. `avoid` lists endpoints that this request already tried: they
    /// are taken only when nothing else is left.
    ///
    /// # Errors
    /// [`NoEndpoint`].
    pub(crate) fn pick(&self, avoid: &[SocketAddr], random: impl FnMut() -> u32) -> Result<Picked, NoEndpoint> {
        if let Some(limit) = self.cluster.limits.max_requests
            && self.counters.active.load(Ordering::Relaxed) >= limit
        {
            return Err(NoEndpoint::Overflow);
        }
        let endpoints = &self.cluster.endpoints;
        let fresh = endpoints.iter().any(|endpoint| !avoid.contains(&endpoint.address));
        let endpoint = balance::pick(
            &self.cluster.balance,
            endpoints,
            random,
            |index| self.loads[index].0.load(Ordering::Relaxed),
            |index| avoid.is_empty() || !fresh || !avoid.contains(&endpoints[index].address),
            &self.counters.cursor,
        )
        .ok_or(NoEndpoint::Unhealthy)?;
        let (counters, load) = (Arc::clone(&self.counters), Arc::clone(&self.loads[endpoint]));
        counters.active.fetch_add(1, Ordering::Relaxed);
        load.0.fetch_add(1, Ordering::Relaxed);
        Ok(Picked { endpoint, counters, load })
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
        Upstream { cluster: Arc::clone(cluster), counters, loads, dials, decorator }
    }

    /// Forgets what no snapshot uses any more.
    pub(crate) fn sweep(&self) {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, found| found.strong_count() > 0);
        self.loads.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, found| found.strong_count() > 0);
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
    use routing::upstream::{Balance, Endpoint, Limits};

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
        let request = before.pick(&[], || 0).unwrap();
        let after = endpoints.join(&cluster, Dials::default());
        assert_eq!(after.pick(&[], || 0).unwrap_err(), NoEndpoint::Overflow);
        drop(request);
        assert!(after.pick(&[], || 0).is_ok());
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
}
