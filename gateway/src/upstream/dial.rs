//! How to reach an endpoint: with which TLS, speaking what, and which kept connections may serve.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use pingora::{
    protocols::{ALPN, l4::socket::SocketAddr as PeerAddress, tls::CustomALPN},
    upstreams::peer::{HttpPeer, Scheme},
};
use routing::{
    host::strip_port,
    upstream::{Cluster, Sni},
};
use tokio::sync::watch;

/// Istio's default connect timeout.
const DIRECT_CONNECT: Duration = Duration::from_secs(10);
/// Applications close kept connections early; ask them not to wait for ours.
const DIRECT_IDLE: Duration = Duration::from_secs(60);

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
    /// Speak HTTP/2.
    pub(crate) h2: bool,
    /// Istio `connectTimeout`.
    pub(crate) connect_timeout: Duration,
    /// Istio `maxRequestsPerConnection`; `None` = unlimited.
    pub(crate) requests: Option<u32>,
    /// Address that the connection comes from; `None` = the system chooses.
    pub(crate) source: Option<IpAddr>,
    /// Ends with the dial: kept connections that nobody can ask for any more see it and close.
    in_use: watch::Sender<()>,
    peer: HttpPeer,
}

impl Dial {
    /// `content` is whatever distinguishes two ways: it is hashed into the key.
    pub(crate) fn new(
        cluster: &Cluster,
        tls: Option<Result<tls::client::ClientTls, Arc<str>>>,
        h2: bool,
        content: impl Hash,
    ) -> Self {
        let key = hash(&(&cluster.name, tls.is_some(), h2, cluster.limits.max_requests_per_connection, hash(&content)));
        let peer = peer(key, tls.is_some(), cluster.idle_timeout);
        let sni = tls.is_some().then(|| cluster.tls.as_ref().map(|tls| tls.sni.clone())).flatten();
        Self {
            key,
            tls,
            sni,
            h2,
            connect_timeout: cluster.connect_timeout,
            requests: cluster.limits.max_requests_per_connection,
            source: None,
            in_use: watch::Sender::default(),
            peer,
        }
    }

    /// Plain text to an address that no cluster stands for.
    pub(crate) fn direct(h2: bool, source: Option<IpAddr>) -> Self {
        let key = hash(&("direct", h2, source));
        let peer = peer(key, false, DIRECT_IDLE);
        Self {
            key,
            tls: None,
            sni: None,
            h2,
            connect_timeout: DIRECT_CONNECT,
            requests: None,
            source,
            in_use: watch::Sender::default(),
            peer,
        }
    }

    /// Fails once the configuration does not use this way any more and no request is left on it.
    pub(crate) fn in_use(&self) -> watch::Receiver<()> {
        self.in_use.subscribe()
    }

    /// pingora's form of "this endpoint, this way". `host`: the authority that [`Sni::Host`] stands for.
    pub(crate) fn peer(&self, address: SocketAddr, host: &str) -> Box<HttpPeer> {
        let mut peer = Box::new(self.peer.clone());
        peer._address = PeerAddress::Inet(address);
        if matches!(self.sni, Some(Sni::Host)) {
            peer.sni = strip_port(host).to_ascii_lowercase();
        }
        peer
    }
}

fn hash(content: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

fn peer(key: u64, tls: bool, idle: Duration) -> HttpPeer {
    let mut peer = HttpPeer::new(SocketAddr::from(([127, 0, 0, 1], 0)), tls, String::new());
    peer.group_key = key;
    peer.scheme = Scheme::from_tls_bool(tls);
    // A name of our own makes pingora ask our connector for the connection. It never reaches the wire.
    peer.options.alpn = ALPN::Custom(CustomALPN::new(b"sluice".to_vec()));
    peer.options.idle_timeout = Some(idle);
    peer
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

/// Every way that some snapshot still uses, by key: pingora hands our connector a key, not a value.
#[derive(Debug, Default)]
pub(crate) struct DialBook(Mutex<HashMap<u64, Weak<Dial>>>);

impl DialBook {
    /// The way with this key, while a snapshot uses it.
    pub(crate) fn find(&self, key: u64) -> Option<Arc<Dial>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key)?.upgrade()
    }

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
