//! Makes connections to endpoints: TCP, then TLS as the dial says.

use std::{net::SocketAddr, time::Duration};

use routing::{host::strip_port, upstream::Sni};
use tls::stream::Stream;
use tokio::time::{Instant, timeout};

use super::dial::Dial;
use crate::{
    net::{
        connection::Connection,
        facts::{Arrival, Facts, TlsFacts},
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

/// Connects, not longer than the dial's `connectTimeout` and not beyond `deadline`. `host`: the authority that
/// [`Sni::Host`] stands for.
///
/// # Errors
/// [`NoConnection`].
pub(crate) async fn connect(
    dial: &Dial,
    address: SocketAddr,
    host: &str,
    deadline: Option<Instant>,
    metrics: &Metrics,
) -> Result<Connection, NoConnection> {
    let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
    let limit = left.min(dial.connect_timeout);
    let opened = timeout(limit, open(dial, address, host)).await;
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

async fn open(dial: &Dial, address: SocketAddr, host: &str) -> Result<Connection, (Connect, String)> {
    let tcp = crate::tcp::connect(address, dial.source)
        .await
        .map_err(|error| (Connect::Failed, format!("{address}: {error}")))?;
    let local = tcp.local_addr().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    let mut facts = Facts::new(address, local, Arrival::Upstream);
    let tls = match &dial.tls {
        None => return Ok(Connection::new(Stream::new(tcp), facts, dial.h2)),
        Some(Ok(tls)) => tls,
        Some(Err(why)) => return Err((Connect::TlsFailed, why.to_string())),
    };
    let name = sni(dial, host).to_ascii_lowercase();
    let stream = tls.connect(&name, tcp).await.map_err(|error| (Connect::TlsFailed, refused(&error)))?;
    if dial.h2 && stream.alpn() != Some(b"h2".as_slice()) {
        let why = "TLS: the endpoint is declared HTTP/2 but did not agree on h2 (ALPN)";
        return Err((Connect::TlsFailed, why.to_owned()));
    }
    facts.tls =
        Some(TlsFacts { peer: stream.peer_spiffe().map(Into::into).unwrap_or_default(), ..TlsFacts::default() });
    Ok(Connection::new(stream, facts, dial.h2))
}
