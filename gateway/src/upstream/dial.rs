//! How to reach an endpoint: with which TLS, speaking what, and which kept connections may serve.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use routing::{
    connections::{Connections, Preamble},
    upstream::{Cluster, Sni},
};

/// Istio's default connect timeout.
const DIRECT_CONNECT: Duration = Duration::from_secs(10);
/// Applications close kept connections early; ask them not to wait for ours.
const DIRECT_IDLE: Duration = Duration::from_secs(60);

/// Where a connection comes from, by the family of where it goes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Sources {
    /// For IPv4.
    pub(crate) v4: Ipv4Addr,
    /// For IPv6.
    pub(crate) v6: Ipv6Addr,
}

impl Sources {
    /// The one for a destination. What goes to `::1` is not captured, and the one for IPv6 may not be there.
    fn to(self, address: SocketAddr) -> Option<IpAddr> {
        match address.ip() {
            IpAddr::V4(_) => Some(self.v4.into()),
            IpAddr::V6(Ipv6Addr::LOCALHOST) => None,
            IpAddr::V6(_) => Some(self.v6.into()),
        }
    }
}

/// One way to reach the endpoints of one cluster.
///
/// Its key is part of the key of every kept connection: a connection made with another certificate, other roots or
/// another name check is never found again.
#[derive(Debug)]
pub(crate) struct Dial {
    /// Identifies equal ways over reloads.
    pub(crate) key: u64,
    /// TLS to originate. `Err`: it cannot be had (a Secret is missing, say), and the text says why; every attempt fails.
    pub(crate) tls: Option<Result<tls::client::ClientTls, Arc<str>>>,
    /// What to ask for.
    pub(crate) sni: Option<Sni>,
    /// The TLS is the mesh's.
    pub(crate) mesh: bool,
    /// Speak HTTP/2.
    pub(crate) h2: bool,
    /// Istio `connectTimeout`.
    pub(crate) connect_timeout: Duration,
    /// Istio `maxRequestsPerConnection`; `None` = unlimited.
    pub(crate) requests: Option<u32>,
    /// What else its DestinationRule says of connections.
    pub(crate) settings: Option<Arc<Connections>>,
    /// Addresses that the connection comes from; `None` = the system chooses.
    pub(crate) source: Option<Sources>,
    /// Istio `idleTimeout`: a kept connection without requests is closed after this time.
    pub(crate) idle_timeout: Duration,
}

impl Dial {
    /// `content` is whatever distinguishes two ways: it is hashed into the key.
    pub(crate) fn new(
        cluster: &Cluster,
        tls: Option<Result<tls::client::ClientTls, Arc<str>>>,
        h2: bool,
        content: impl Hash,
    ) -> Self {
        let requests = cluster.limits.max_requests_per_connection;
        let times = (cluster.connect_timeout, cluster.idle_timeout);
        let key = hash(&(&cluster.name, tls.is_some(), h2, requests, &cluster.connections, times, hash(&content)));
        let sni = tls.is_some().then(|| cluster.tls.as_ref().map(|tls| tls.sni.clone())).flatten();
        Self {
            key,
            mesh: tls.is_some() && cluster.tls.as_ref().is_some_and(|tls| tls.mesh),
            tls,
            sni,
            h2,
            connect_timeout: cluster.connect_timeout,
            requests,
            settings: cluster.connections.clone(),
            source: None,
            idle_timeout: cluster.idle_timeout,
        }
    }

    /// Plain text to an address that no cluster stands for.
    pub(crate) fn direct(h2: bool, source: Option<Sources>) -> Self {
        let key = hash(&("direct", h2, source));
        Self {
            key,
            tls: None,
            sni: None,
            mesh: false,
            h2,
            connect_timeout: DIRECT_CONNECT,
            requests: None,
            settings: None,
            source,
            idle_timeout: DIRECT_IDLE,
        }
    }

    /// The address that a connection to this one comes from; `None` = the system chooses.
    pub(crate) fn source(&self, to: SocketAddr) -> Option<IpAddr> {
        self.source.and_then(|sources| sources.to(to))
    }

    /// Whether a connection says who its client is, so that it is for nobody else.
    pub(crate) fn names_client(&self) -> bool {
        let preamble = self.settings.as_ref().and_then(|settings| settings.preamble.as_ref());
        matches!(preamble, Some(Preamble::Proxy(_)))
    }
}

fn hash(content: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

/// The ways of one cluster: by TLS, by HTTP/2.
#[derive(Debug, Default)]
pub(crate) struct Dials([[Option<Arc<Dial>>; 2]; 2]);

impl Dials {
    /// Sets one way.
    pub(crate) fn set(&mut self, tls: bool, h2: bool, dial: Arc<Dial>) {
        self.0[usize::from(tls)][usize::from(h2)] = Some(dial);
    }

    /// One way, when the cluster has it.
    pub(crate) fn get(&self, tls: bool, h2: bool) -> Option<&Arc<Dial>> {
        self.0[usize::from(tls)][usize::from(h2)].as_ref()
    }
}

/// Every way that some snapshot still uses, by key: an equal one of a new snapshot is the same one, with its connections.
#[derive(Debug, Default)]
pub(crate) struct DialBook(Mutex<HashMap<u64, Weak<Dial>>>);

impl DialBook {
    /// The way of before, if an equal one is in use, else this one.
    pub(crate) fn enter(&self, dial: Dial) -> Arc<Dial> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = all.entry(dial.key).or_default();
        // An equal key with a failure may have become a success meanwhile (a file appeared).
        if let Some(before) = slot.upgrade()
            && matches!(before.tls, None | Some(Ok(_)))
        {
            return before;
        }
        let dial = Arc::new(dial);
        *slot = Arc::downgrade(&dial);
        dial
    }

    /// Forgets what no snapshot uses any more.
    pub(crate) fn sweep(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, dial| dial.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_times_are_another_way() {
        let book = DialBook::default();
        let enter = |cluster: &Cluster| book.enter(Dial::new(cluster, None, false, ()));
        let plain = Cluster::default();
        let before = enter(&plain);
        assert!(Arc::ptr_eq(&before, &enter(&plain)));
        let second = Duration::from_secs(1);
        let quick = enter(&Cluster { connect_timeout: second, ..plain.clone() });
        assert_eq!((quick.connect_timeout, quick.idle_timeout), (second, before.idle_timeout));
        let brief = enter(&Cluster { idle_timeout: second, ..plain });
        assert_eq!((brief.connect_timeout, brief.idle_timeout), (before.connect_timeout, second));
    }
}
