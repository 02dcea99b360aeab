//! Makes connections to endpoints: TCP, then TLS as the dial says.

use std::{io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use routing::{
    connections::{Connections, Keepalive, Preamble, ProxyVersion},
    host::strip_port,
    proxy_protocol, unix,
    upstream::Sni,
};
use socket2::{SockRef, TcpKeepalive};
use tls::stream::Stream;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{dial::Dial, terms::named};
use crate::{
    net::{
        connection::Connection,
        facts::{Arrival, Facts, Made, TlsFacts},
    },
    telemetry::metrics::{Connect, Metrics},
};

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(crate) enum NoConnection {
    /// Refused, unreachable, or its TLS failed; the reason in words.
    Failed(String),
    /// Not in time.
    TimedOut,
}

/// Where a connection goes, and for whom.
pub(crate) struct To<'a> {
    /// The endpoint.
    pub(crate) address: SocketAddr,
    /// The authority that [`Sni::Host`] stands for.
    pub(crate) host: &'a str,
    /// The connection of the client.
    pub(crate) client: &'a Rc<Facts>,
}

/// Connects, not longer than the dial's `connectTimeout` and not beyond `deadline`.
///
/// # Errors
/// [`NoConnection`].
pub(crate) async fn connect(
    dial: &Dial,
    to: &To<'_>,
    deadline: Option<Instant>,
    metrics: &Metrics,
) -> Result<Connection, NoConnection> {
    let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
    let limit = left.min(dial.connect_timeout);
    let opened = timeout(limit, open(dial, to)).await;
    let (counted, result) = match opened {
        Ok(Ok(connection)) => (Connect::Ok, Ok(connection)),
        Ok(Err((counted, why))) => (counted, Err(NoConnection::Failed(why))),
        Err(_) => (Connect::TimedOut, Err(NoConnection::TimedOut)),
    };
    metrics.connect(counted);
    result
}

/// The name that TLS asks for; empty = none.
pub(crate) fn sni<'a>(dial: &'a Dial, host: &'a str) -> &'a str {
    match &dial.sni {
        Some(Sni::Fixed(sni)) => sni,
        Some(Sni::Host) => strip_port(host),
        None => "",
    }
}

/// Why there is no TLS, in words that lead to the setting.
fn refused(error: &tls::Error) -> String {
    match error {
        tls::Error::NotTls => {
            "TLS: the endpoint speaks plain text, and TLS was asked of it: a DestinationRule's tls, or \
                               what is known of its sidecar, says so"
                .to_owned()
        }
        other => format!("TLS: {other}"),
    }
}

/// What a DestinationRule asks of the socket, and what it says first.
async fn begin(settings: &Connections, to: &To<'_>, tcp: &mut TcpStream) -> io::Result<()> {
    // A unix socket has no other side that could vanish without a word.
    if let Some(keepalive) = settings.keepalive.as_ref().filter(|_| !unix::is_unix(to.address)) {
        SockRef::from(&*tcp).set_tcp_keepalive(&probes(keepalive))?;
    }
    let Some(Preamble::Proxy(version)) = &settings.preamble else { return Ok(()) };
    let (client, met) = named(to.client);
    let header = match version {
        ProxyVersion::V1 => proxy_protocol::version_1_of(client, met),
        ProxyVersion::V2 => proxy_protocol::version_2_of(client, met),
    };
    tcp.write_all(&header).await
}

/// The system's seconds are whole ones, and no less than one.
fn probes(keepalive: &Keepalive) -> TcpKeepalive {
    let seconds = |time: Duration| time.max(Duration::from_secs(1));
    let mut probes = TcpKeepalive::new();
    if let Some(time) = keepalive.time {
        probes = probes.with_time(seconds(time));
    }
    if let Some(interval) = keepalive.interval {
        probes = probes.with_interval(seconds(interval));
    }
    keepalive.probes.map_or(probes.clone(), |number| probes.with_retries(number))
}

async fn open(dial: &Dial, to: &To<'_>) -> Result<Connection, (Connect, String)> {
    let address = to.address;
    let failed = |error| (Connect::Failed, format!("{}: {error}", unix::shown(address)));
    let begun = Instant::now();
    let mut tcp = crate::tcp::connect(address, dial.source(address)).await.map_err(failed)?;
    if let Some(settings) = &dial.settings {
        begin(settings, to, &mut tcp).await.map_err(failed)?;
    }
    let local = tcp.local_addr().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    let mut facts = Facts::new(address, local, Arrival::Upstream);
    let connected = Instant::now();
    facts.made = Some(Made { begun, connected, shaken: None });
    let tls = match &dial.tls {
        None => return Ok(Connection::new(Stream::new(tcp), facts, dial.h2)),
        Some(Ok(tls)) => tls,
        Some(Err(why)) => return Err((Connect::TlsFailed, why.to_string())),
    };
    let name = sni(dial, to.host).to_ascii_lowercase();
    let stream = tls.connect(&name, tcp).await.map_err(|error| (Connect::TlsFailed, refused(&error)))?;
    if dial.h2 && stream.alpn() != Some(b"h2".as_slice()) {
        let why = "TLS: the endpoint is declared HTTP/2 but did not agree on h2 (ALPN)";
        return Err((Connect::TlsFailed, why.to_owned()));
    }
    let peer: Arc<str> = stream.peer_spiffe().map(Into::into).unwrap_or_default();
    let (version, cipher) = (stream.version(), stream.cipher());
    let mesh = dial.mesh && !peer.is_empty();
    facts.tls = Some(TlsFacts { sni: name.into(), mesh, peer, version, cipher, ..TlsFacts::default() });
    facts.made = Some(Made { begun, connected, shaken: Some(Instant::now()) });
    Ok(Connection::new(stream, facts, dial.h2))
}
