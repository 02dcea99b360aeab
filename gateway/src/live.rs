//! The configuration in force: swapped whole, pinned once per request.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use routing::{
    api::ending::Ending,
    snapshot::{Listener, Snapshot, TlsServer},
    telemetry::Sides,
    template::Demands,
    upstream::ClusterId,
};

use crate::{
    challenges::LiveChallenges,
    http::{
        buckets::{Buckets, Held},
        limits::{HELD_ALL, MIRROR_ALL, REPLAY_ALL},
        room::Room,
    },
    keys::{KeyBook, Slot},
    peers::{Own, Peers},
    telemetry::exports::Destination,
    upstream::{
        dial::{DialBook, Dials},
        endpoints::{Endpoints, Upstream},
        lookups::Lookups,
    },
};

/// A TLS server's configuration, or why its handshakes are refused.
pub(crate) type Server = Result<tls::server::ServerTls, Arc<str>>;

/// What a server asks of client certificates, as a number: whether any, the CAs, the names, the revocation list, the trust
/// domains. Equal rules have equal numbers in a process, and no number ever stands for another rule.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct ClientPolicy(pub(crate) u64);

impl ClientPolicy {
    /// Of a server whose CAs nobody has: no connection ever met it.
    pub(crate) const UNMET: Self = Self(0);
    /// Of a server whose TLS ends elsewhere: whoever it is asks what it wants.
    pub(crate) const PASSED: Self = Self(u64::MAX);
}

/// Where TLS ends.
#[derive(Clone, Debug)]
pub(crate) struct Termination {
    /// What shakes hands.
    pub(crate) tls: Server,
    /// What a connection that it took has met.
    pub(crate) policy: ClientPolicy,
}

/// What a process adds to a listener.
#[derive(Debug)]
pub(crate) struct Front {
    /// Index into [`Snapshot::listeners`].
    index: usize,
    /// In the order of `TlsServers::servers`.
    servers: Vec<Termination>,
    /// What all of them ask, when that is the same: no host has to be looked up.
    common: Option<ClientPolicy>,
}

impl Front {
    /// Joins a listener with the configurations of its servers.
    pub(crate) fn new(index: usize, servers: Vec<Termination>) -> Self {
        let first = servers.first().map(|first| first.policy);
        let common = first.filter(|first| servers.iter().all(|server| server.policy == *first));
        Self { index, servers, common }
    }

    /// Changes with anything that may change what a connection had to meet to come in.
    pub(crate) fn digest(&self, listener: &Listener) -> u64 {
        let mut digest = DefaultHasher::new();
        listener.tls.is_some().hash(&mut digest);
        // Whose host is gone comes in no more, and goes.
        if let Some(tls) = &listener.tls {
            tls.by_sni.iter().for_each(|(host, _)| host.hash(&mut digest));
        }
        match (&self.common, &listener.tls) {
            (None, Some(tls)) => tls.by_sni.iter().for_each(|(host, server)| {
                (host, self.servers.get(*server).map(|server| server.policy)).hash(&mut digest);
            }),
            (common, _) => common.hash(&mut digest),
        }
        digest.finish()
    }
}

/// A snapshot joined with what only this process has: TLS configurations, counters, ways to dial.
#[derive(Debug, Default)]
pub(crate) struct Installed {
    /// Counts installs of this process, from 1; 0 = nothing yet.
    pub(crate) generation: u64,
    /// As compiled.
    pub(crate) snapshot: Snapshot,
    /// In the order of the rules for tokens.
    pub(crate) keys: Vec<Arc<Slot>>,
    /// In the order of [`Snapshot::clusters`].
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    /// What has been let through of what is limited.
    pub(crate) buckets: Arc<Buckets>,
    /// In the order of the snapshot's limits.
    pub(crate) limits: Box<[Arc<Held>]>,
    /// By bind address and port.
    pub(crate) listeners: HashMap<(Option<IpAddr>, u16), Front>,
    /// A sidecar's own side of mesh TLS.
    pub(crate) inbound_tls: Option<Termination>,
    /// By port of the workload: TLS of its own.
    pub(crate) own_tls: HashMap<u16, Termination>,
    /// The same, in front of ports that carry no HTTP.
    pub(crate) inbound_bytes: Option<Termination>,
    /// What is told of this workload to others of the mesh; `None` = nothing.
    pub(crate) own: Option<Own>,
    /// What others have told of theirs.
    pub(crate) peers: Arc<Peers>,
    /// Names that are looked up on the way.
    pub(crate) lookups: Arc<Lookups>,
    /// To addresses that no service claims.
    pub(crate) direct: Dials,
    /// To the sidecar's application.
    pub(crate) application: Dials,
    /// By port of the workload: what the application may be given at once, and the ways to it then.
    pub(crate) pools: HashMap<u16, Arc<Upstream>>,
    /// Who gets spans of requests that have this configuration.
    pub(crate) collectors: OnceLock<Sides<Arc<Destination>>>,
    /// What has to be kept of requests for those who are told of them.
    pub(crate) demands: Demands,
    /// Port a Gateway names -> port that clients see, where the two differ (`--port-map`).
    pub(crate) port_map: BTreeMap<u16, u16>,
}

impl Installed {
    /// A gateway's listener.
    pub(crate) fn listener(&self, bind: Option<IpAddr>, port: u16) -> Option<(&Listener, &Front)> {
        let front = self.listeners.get(&(bind, port))?;
        Some((self.snapshot.listeners.get(front.index)?, front))
    }

    /// The TLS server of a listener that an SNI belongs to. A client that sends no SNI is served when there is no choice.
    pub(crate) fn server(&self, bind: Option<IpAddr>, port: u16, sni: &str) -> Option<&Termination> {
        self.choose(bind, port, sni).map(|(_, termination)| termination)
    }

    /// As [`Self::server`], with what follows the ClientHello.
    pub(crate) fn choose(&self, bind: Option<IpAddr>, port: u16, sni: &str) -> Option<(&TlsServer, &Termination)> {
        let (listener, front) = self.listener(bind, port)?;
        let tls = listener.tls.as_ref()?;
        let chosen = tls.by_sni.get(sni).copied().or_else(|| tls.only().filter(|_| sni.is_empty()))?;
        Some((tls.servers.get(chosen)?, front.servers.get(chosen)?))
    }

    /// Whether a connection may carry requests for a host. Routes are chosen among all servers of a port, so that a client
    /// may reuse its connection for every host that the certificate covers; but only where the server of that host asks of
    /// client certificates what the connection has met. `met`: `None` on plain text.
    pub(crate) fn may_carry(listener: &Listener, front: &Front, host: &str, met: Option<ClientPolicy>) -> bool {
        if met == front.common {
            // Plain text where it belongs, too.
            return met.is_some() || listener.tls.is_none();
        }
        let (Some(tls), Some(met)) = (&listener.tls, met) else { return false };
        let server = tls.by_sni.get(host).and_then(|index| front.servers.get(*index));
        server.is_none_or(|server| server.policy == met)
    }

    /// Whether a host that this listener does not have is another one's, which asks for other client certificates.
    pub(crate) fn is_elsewhere(&self, host: &str, met: ClientPolicy) -> bool {
        self.listeners.values().any(|front| {
            let listener = self.snapshot.listeners.get(front.index);
            let found = listener.and_then(|listener| listener.tls.as_ref()?.by_sni.get(host));
            found.and_then(|index| front.servers.get(*index)).is_some_and(|server| server.policy != met)
        })
    }

    /// What is told of the certificates of clients, when somebody says it.
    pub(crate) fn told_of_clients(&self) -> Option<[bool; 4]> {
        self.snapshot.mesh.headers.as_ref()?.client_cert_details
    }

    /// A cluster of this snapshot.
    pub(crate) fn upstream(&self, id: ClusterId) -> &Arc<Upstream> {
        &self.upstreams[id.0 as usize]
    }
}

/// What is in force, and what outlives it.
#[derive(Debug)]
pub(crate) struct Live {
    current: ArcSwap<Installed>,
    /// Counters that survive reloads.
    pub(crate) endpoints: Endpoints,
    /// Names that requests asked for.
    pub(crate) lookups: Arc<Lookups>,
    /// Workloads that others have told of.
    pub(crate) peers: Arc<Peers>,
    /// Ways to dial, by key.
    pub(crate) dials: Arc<DialBook>,
    /// What CAs may check now; changes while certificates are ordered, without a new configuration.
    pub(crate) challenges: LiveChallenges,
    /// What has been let through of what is limited.
    pub(crate) buckets: Arc<Buckets>,
    /// Keys of issuers of tokens.
    pub(crate) keys: Arc<KeyBook>,
    /// Room for bodies that are kept to send them again.
    pub(crate) replayed: Room,
    /// Room for bodies that are held while somebody is asked about them.
    pub(crate) held: Room,
    /// Room for bodies that are copied for mirrors.
    pub(crate) mirrored: Room,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            lookups: Arc::default(),
            peers: Arc::default(),
            current: ArcSwap::default(),
            endpoints: Endpoints::default(),
            dials: Arc::default(),
            challenges: LiveChallenges::default(),
            buckets: Arc::default(),
            keys: Arc::default(),
            replayed: Room::new(REPLAY_ALL),
            held: Room::new(HELD_ALL),
            mirrored: Room::new(MIRROR_ALL),
        }
    }
}

/// Istio's default of `drainDuration`.
const DRAIN: Duration = Duration::from_secs(45);
/// Istio's default of `terminationDrainDuration`.
const DRAIN_DELAY: Duration = Duration::from_secs(5);

impl Live {
    /// How long a drain takes at most: as given, else as the mesh says.
    pub(crate) fn drain_time(&self, given: Option<Duration>) -> Duration {
        let mesh = || self.pin().snapshot.mesh.proxy.drain_duration.map(Duration::from);
        given.or_else(mesh).unwrap_or(DRAIN)
    }

    /// How long connections are still accepted before a drain: as given, else as the mesh says.
    pub(crate) fn drain_delay(&self, given: Option<Duration>) -> Duration {
        let mesh = || self.pin().snapshot.mesh.proxy.termination_drain_duration.map(Duration::from);
        given.or_else(mesh).unwrap_or(DRAIN_DELAY)
    }

    /// What the mesh, or the pod's annotation, says of the end. What cannot be read of it was told of as a problem.
    pub(crate) fn ending(&self) -> Ending {
        let installed = self.pin();
        let metadata = &installed.snapshot.mesh.proxy.proxy_metadata;
        Ending::read(|name| metadata.get(name).cloned()).unwrap_or_default()
    }

    /// The configuration one request uses from its first byte to its log line.
    pub(crate) fn pin(&self) -> Arc<Installed> {
        self.current.load_full()
    }

    /// Puts a configuration in force. Requests that are on their way keep theirs.
    pub(crate) fn install(&self, installed: Installed) {
        self.current.store(Arc::new(installed));
        self.endpoints.sweep();
        self.dials.sweep();
        self.buckets.sweep();
        self.peers.sweep();
    }
}
