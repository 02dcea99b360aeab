//! The configuration in force: swapped whole, pinned once per request.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use arc_swap::ArcSwap;
use routing::{
    snapshot::{ClientAuth, Listener, Snapshot},
    upstream::ClusterId,
};

use crate::{
    challenges::LiveChallenges,
    upstream::{
        dial::{DialBook, Dials},
        endpoints::{Endpoints, Upstream},
    },
};

/// A TLS server's configuration, or why its handshakes are refused.
pub(crate) type Server = Result<tls::server::ServerTls, Arc<str>>;

/// What a process adds to a listener.
#[derive(Debug)]
pub(crate) struct Front {
    /// Index into [`Snapshot::listeners`].
    index: usize,
    /// In the order of `TlsServers::servers`.
    servers: Vec<Server>,
    /// Whether any server demands client certificates.
    demanding: bool,
}

impl Front {
    /// Joins a listener with the configurations of its servers.
    pub(crate) fn new(index: usize, listener: &Listener, servers: Vec<Server>) -> Self {
        let all = listener.tls.iter().flat_map(|tls| &tls.servers);
        let demanding = all.into_iter().any(|server| demands(&server.settings.client));
        Self { index, servers, demanding }
    }
}

fn demands(client: &ClientAuth) -> bool {
    matches!(client, ClientAuth::Required(_) | ClientAuth::Mesh { .. })
}

/// A snapshot joined with what only this process has: TLS configurations, counters, ways to dial.
#[derive(Debug, Default)]
pub(crate) struct Installed {
    /// Counts installs of this process, from 1; 0 = nothing yet.
    pub(crate) generation: u64,
    /// As compiled.
    pub(crate) snapshot: Snapshot,
    /// In the order of [`Snapshot::clusters`].
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    /// By bind address and port.
    pub(crate) listeners: HashMap<(Option<IpAddr>, u16), Front>,
    /// A sidecar's own side of mesh TLS.
    pub(crate) inbound_tls: Option<Server>,
    /// To addresses that no service claims.
    pub(crate) direct: Dials,
    /// To the sidecar's application.
    pub(crate) application: Dials,
    /// Port a Gateway names -> port that clients see, where the two differ (`--port-map`).
    pub(crate) port_map: BTreeMap<u16, u16>,
}

impl Installed {
    /// A gateway's listener.
    pub(crate) fn listener(&self, bind: Option<IpAddr>, port: u16) -> Option<(&Listener, &Front)> {
        let front = self.listeners.get(&(bind, port))?;
        Some((self.snapshot.listeners.get(front.index)?, front))
    }

    /// The TLS server of a listener that an SNI belongs to, and what it demands of clients. A client that sends no SNI is
    /// served when there is no choice.
    pub(crate) fn server(&self, bind: Option<IpAddr>, port: u16, sni: &str) -> Option<(&Server, &ClientAuth)> {
        let (listener, front) = self.listener(bind, port)?;
        let tls = listener.tls.as_ref()?;
        let only = (sni.is_empty() && front.servers.len() == 1).then_some(0);
        let chosen = tls.by_sni.get(sni).copied().or(only)?;
        Some((front.servers.get(chosen)?, &tls.servers.get(chosen)?.settings.client))
    }

    /// Whether a connection may carry requests for a host. Routes are chosen among all servers of a port, so that a client
    /// may reuse its connection for every host that the certificate covers; but a host whose server demands a client
    /// certificate is only reached by connections that met the same demand.
    pub(crate) fn may_carry(listener: &Listener, front: &Front, host: &str, met: Option<&ClientAuth>) -> bool {
        let Some(tls) = listener.tls.as_ref().filter(|_| front.demanding) else { return true };
        let Some(server) = tls.by_sni.get(host).and_then(|index| tls.servers.get(*index)) else { return true };
        !demands(&server.settings.client) || met == Some(&server.settings.client)
    }

    /// A cluster of this snapshot.
    pub(crate) fn upstream(&self, id: ClusterId) -> &Arc<Upstream> {
        &self.upstreams[id.0 as usize]
    }
}

/// What is in force, and what outlives it.
#[derive(Debug, Default)]
pub(crate) struct Live {
    current: ArcSwap<Installed>,
    /// Counters that survive reloads.
    pub(crate) endpoints: Endpoints,
    /// Ways to dial, by key.
    pub(crate) dials: Arc<DialBook>,
    /// What CAs may check now; changes while certificates are ordered, without a new configuration.
    pub(crate) challenges: LiveChallenges,
}

impl Live {
    /// The configuration one request uses from its first byte to its log line.
    pub(crate) fn pin(&self) -> Arc<Installed> {
        self.current.load_full()
    }

    /// Puts a configuration in force. Requests that are on their way keep theirs.
    pub(crate) fn install(&self, installed: Installed) {
        self.current.store(Arc::new(installed));
        self.endpoints.sweep();
        self.dials.sweep();
    }
}
