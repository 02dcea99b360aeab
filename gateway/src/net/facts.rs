//! What is known of a connection. It travels with the stream and is read by every request on it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tls::identity::PeerIdentity;
use tokio::time::Instant;

use crate::{live::ClientPolicy, peers::Heard};

/// Facts of one connection, downstream or upstream.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Tells it from others of this process.
    pub(crate) id: u64,
    /// The other side.
    pub(crate) remote: SocketAddr,
    /// Our side.
    pub(crate) local: SocketAddr,
    /// Who sends the packets, when that is a balancer that says who the other side is (the PROXY protocol).
    pub(crate) balancer: Option<IpAddr>,
    /// The other side's IP address as a header value, made once.
    pub(crate) remote_ip: Box<str>,
    /// Through which door it came.
    pub(crate) arrival: Arrival,
    /// `None` on plain text.
    pub(crate) tls: Option<TlsFacts>,
    /// What the other side told of its workload.
    pub(crate) heard: Heard,
    /// How it came about, when we made it.
    pub(crate) made: Option<Made>,
}

/// How a connection of ours came about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    /// When that was begun.
    pub(crate) begun: Instant,
    /// When the other side was there.
    pub(crate) connected: Instant,
    /// When TLS was agreed on.
    pub(crate) shaken: Option<Instant>,
}

/// The id of the next connection.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Through which door a connection came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Arrival {
    /// A gateway's listener, as the Gateway names it.
    Gateway {
        /// Istio `Server.bind`.
        bind: Option<IpAddr>,
        /// Istio `Server.port.number`.
        port: u16,
    },
    /// A sidecar's inbound side.
    Inbound {
        /// The workload's port.
        port: u16,
        /// Where the application listens.
        application: SocketAddr,
    },
    /// A sidecar's outbound side.
    Outbound {
        /// Where the application meant to go, when its connection was captured.
        original: Option<SocketAddr>,
    },
    /// We made it.
    Upstream,
}

/// What TLS said.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFacts {
    /// SNI, lower-case; empty = none.
    pub(crate) sni: Arc<str>,
    /// SPIFFE id of the other side; empty = none, also where a sidecar's port has TLS of its own.
    pub(crate) peer: Arc<str>,
    /// Our own SPIFFE id on a client's connection; empty = none.
    pub(crate) own: Arc<str>,
    /// On a connection that we made: the TLS is the mesh's, and the endpoint has proven to be of it.
    pub(crate) mesh: bool,
    /// What our side asked of the client's certificate, and got.
    pub(crate) policy: ClientPolicy,
    /// What the client showed.
    pub(crate) certificate: Option<Arc<PeerIdentity>>,
    /// `TLSv1.3` or `TLSv1.2`.
    pub(crate) version: &'static str,
    /// The cipher suite by OpenSSL's name.
    pub(crate) cipher: &'static str,
    /// Our element of `x-forwarded-client-cert`; `None` when the client showed no certificate.
    pub(crate) client_certificate: Option<Box<str>>,
}

impl Facts {
    /// Facts of a fresh connection.
    pub(crate) fn new(remote: SocketAddr, local: SocketAddr, arrival: Arrival) -> Self {
        let remote_ip = remote.ip().to_canonical().to_string().into_boxed_str();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let heard = Heard::default();
        Self { id, remote, local, balancer: None, remote_ip, arrival, tls: None, heard, made: None }
    }

    /// Whom the packets come from.
    pub(crate) fn source(&self) -> IpAddr {
        self.balancer.unwrap_or_else(|| self.remote.ip()).to_canonical()
    }

    /// Where it was received: our address, and the port that is bound, or the workload's.
    pub(crate) fn destination(&self) -> SocketAddr {
        let port = match self.arrival {
            Arrival::Inbound { port, .. } => port,
            _ => self.local.port(),
        };
        SocketAddr::new(self.local.ip().to_canonical(), port)
    }

    /// The same, with the server name of a ClientHello that somebody else answers.
    pub(crate) fn passing(self, sni: &str, policy: ClientPolicy) -> Self {
        let tls = TlsFacts { sni: sni.into(), policy, ..TlsFacts::default() };
        Self { tls: Some(tls), ..self }
    }

    /// SPIFFE id of the other side; empty = none.
    pub(crate) fn peer(&self) -> &str {
        self.tls.as_ref().map_or("", |tls| &tls.peer)
    }

    /// Our own SPIFFE id on this connection; empty = none.
    pub(crate) fn own(&self) -> &str {
        self.tls.as_ref().map_or("", |tls| &tls.own)
    }

    /// The client, when it has proven an identity of the mesh to a workload of it.
    pub(crate) fn proven(&self) -> Option<&Arc<str>> {
        let tls = self.tls.as_ref().filter(|tls| !tls.peer.is_empty() && !tls.own.is_empty())?;
        Some(&tls.peer)
    }

    /// Whether a client of a workload has shown a certificate of a CA that is not the mesh's.
    pub(crate) fn is_partner(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_certificate.is_some() && tls.own.is_empty())
    }

    /// Whether we have connected to an endpoint that has proven to be of the mesh.
    pub(crate) fn is_mesh(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.mesh)
    }

    /// SNI; empty = none.
    pub(crate) fn sni(&self) -> &str {
        self.tls.as_ref().map_or("", |tls| &tls.sni)
    }
}
