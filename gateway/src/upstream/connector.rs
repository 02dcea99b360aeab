//! Makes upstream connections for pingora: TCP, our TLS, then HTTP/1.1 (which pingora pools) or HTTP/2 (which we pool).

use std::{any::Any, net::SocketAddr, os::fd::AsRawFd, sync::Arc, time::Duration};

use async_trait::async_trait;
use pingora::{
    BError, Error, ErrorType,
    connectors::http::custom::{Connection as Connected, Connector as CustomConnector},
    protocols::l4::socket::SocketAddr as PeerAddress,
    upstreams::peer::{HttpPeer, Peer},
};
use tls::stream::Stream;
use tokio::time::timeout;

use super::{
    dial::{Dial, DialBook},
    h2_pool::H2Pool,
    h2_session::H2Session,
};
use crate::{
    net::{
        connection::Connection,
        facts::{Arrival, Facts, TlsFacts},
    },
    telemetry::metrics::{Connect, Metrics},
};

/// See the module.
pub(crate) struct Connector {
    dials: Arc<DialBook>,
    h2: Arc<H2Pool>,
    metrics: Arc<Metrics>,
}

impl Connector {
    /// One per worker: kept connections stay on the thread that made them.
    pub(crate) fn new(dials: Arc<DialBook>, h2: Arc<H2Pool>, metrics: Arc<Metrics>) -> Self {
        Self { dials, h2, metrics }
    }

    fn dial_of(&self, peer: &HttpPeer) -> Result<Arc<Dial>, BError> {
        self.dials.find(peer.group_key).ok_or_else(|| {
            Error::explain(ErrorType::InternalError, "the configuration changed while the request was on its way")
        })
    }

    async fn connect(&self, dial: &Dial, address: SocketAddr, peer: &HttpPeer) -> Result<Connection, BError> {
        let limit = limit(dial, peer);
        let result = timeout(limit, open(dial, address, &peer.sni)).await.unwrap_or_else(|_| Err(too_late(limit)));
        self.metrics.connect(match &result {
            Ok(_) => Connect::Ok,
            Err(error) if *error.etype() == ErrorType::ConnectTimedout => Connect::TimedOut,
            Err(error) if *error.etype() == ErrorType::TLSHandshakeFailure => Connect::TlsFailed,
            Err(_) => Connect::Failed,
        });
        result
    }
}

/// Longest wait for a connection: the request's own deadline may be nearer than the cluster's connect timeout.
fn limit(dial: &Dial, peer: &HttpPeer) -> Duration {
    peer.total_connection_timeout().map_or(dial.connect_timeout, |left| left.min(dial.connect_timeout))
}

fn too_late(limit: Duration) -> BError {
    Error::explain(ErrorType::ConnectTimedout, format!("no connection within {} ms", limit.as_millis()))
}

/// Our own peers are the only ones that reach this connector.
fn http_peer<P: Peer + 'static>(peer: &P) -> Result<&HttpPeer, BError> {
    (peer as &dyn Any).downcast_ref().ok_or_else(|| Error::explain(ErrorType::InternalError, "not an HTTP peer"))
}

fn address_of(peer: &HttpPeer) -> Result<SocketAddr, BError> {
    match peer.address() {
        PeerAddress::Inet(address) => Ok(*address),
        PeerAddress::Unix(_) => Err(Error::explain(ErrorType::InternalError, "not an IP endpoint")),
    }
}

async fn open(dial: &Dial, address: SocketAddr, host: &str) -> Result<Connection, BError> {
    let tcp = crate::tcp::connect(address, dial.source)
        .await
        .map_err(|error| Error::explain(ErrorType::ConnectError, format!("{address}: {error}")))?;
    let local = tcp.local_addr().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    let mut facts = Facts::new(tcp.as_raw_fd(), address, local, Arrival::Upstream);
    let tls = match &dial.tls {
        None => return Ok(Connection::new(Stream::new(tcp), facts, dial.h2).kept_while(dial.in_use())),
        Some(Ok(tls)) => tls,
        Some(Err(why)) => return Err(Error::explain(ErrorType::TLSHandshakeFailure, why.to_string())),
    };
    let sni = match &dial.sni {
        Some(routing::upstream::Sni::Fixed(sni)) => sni,
        _ => host,
    };
    let stream = tls
        .connect(sni, tcp)
        .await
        .map_err(|error| Error::explain(ErrorType::TLSHandshakeFailure, format!("TLS: {error}")))?;
    if dial.h2 && stream.alpn() != Some(b"h2".as_slice()) {
        return Err(Error::explain(
            ErrorType::TLSHandshakeFailure,
            "TLS: the endpoint is declared HTTP/2 but did not agree on h2 (ALPN)",
        ));
    }
    facts.tls = Some(TlsFacts { peer: stream.peer_spiffe().map(Arc::from).unwrap_or_default(), ..TlsFacts::default() });
    Ok(Connection::new(stream, facts, dial.h2).kept_while(dial.in_use()))
}

#[async_trait]
impl CustomConnector for Connector {
    type Session = H2Session;

    async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> pingora::Result<(Connected<H2Session>, bool)> {
        let peer = http_peer(peer)?;
        let dial = self.dial_of(peer)?;
        let address = address_of(peer)?;
        if !dial.h2 {
            let connection = self.connect(&dial, address, peer).await?;
            return Ok((Connected::Stream(Box::new(connection)), false));
        }
        let connect = || self.connect(&dial, address, peer);
        // Waiting for another request's dial counts as connecting, too.
        let dialled = timeout(limit(&dial, peer), self.h2.session(peer.reuse_hash(), &dial, connect))
            .await
            .unwrap_or_else(|_| Err(too_late(limit(&dial, peer))))?;
        Ok((Connected::Session(dialled), false))
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, peer: &P) -> Option<H2Session> {
        let peer = http_peer(peer).ok()?;
        if self.h2.is_empty() {
            return None;
        }
        self.h2.reuse(peer.reuse_hash()).await
    }

    /// A session gives its stream back when dropped; the pool keeps the connection.
    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        session: H2Session,
        _: &P,
        _: Option<Duration>,
    ) {
        drop(session);
    }
}
