//! Listeners of the control plane: HTTP/1.1 and HTTP/2 by hyper, over TLS with a certificate that changes while they serve, or
//! in plain text on loopback.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tls::{accept, client_chain::ClientChain, identity::PeerIdentity, server::ServerTls, stream::Stream};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, info};

use super::shares::{Full, Shares};
use crate::{
    grpc::server::Reply,
    net::{everywhere, holder},
    telemetry::ca::CaMetrics,
};

/// For a handshake, the first request after it, any request's head, and an answer to a ping.
const PATIENCE: Duration = Duration::from_secs(10);
/// When the system is short of files.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Connections of a listener.
const MOST_CONNECTIONS: usize = 10_000;
/// Those of one address, which may be a gateway that others are behind.
const OF_ONE: usize = 1000;
/// Bytes of a request's head; tokens are in it.
const HEAD: u32 = 40 << 10;
/// A connection without a call ends after this time. Clients written in Go give theirs up after 90 s: those close first.
const IDLE: Duration = Duration::from_secs(120);
/// A connection ends in order at this age: a client that is balanced anew finds other replicas.
const AGE: Duration = Duration::from_secs(30 * 60);
/// How often a silent client is asked whether it is still there.
const PING: Duration = Duration::from_secs(60);
/// How long open calls may take when a connection ends.
const LAST_CALLS: Duration = Duration::from_secs(5);

/// The TLS configuration of a listener; `None` until there is a certificate.
pub(crate) type Certificate = watch::Receiver<Option<ServerTls>>;

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// Its certificate; `None`: it showed none.
    pub(crate) proof: Option<Arc<Proof>>,
}

/// A certificate that was verified when the connection began, which may be half an hour ago.
#[derive(Debug)]
pub(crate) struct Proof {
    /// What it says.
    identity: Arc<PeerIdentity>,
    chain: ClientChain,
    certificate: Certificate,
}

impl Proof {
    fn of<IO>(stream: &Stream<IO>, certificate: &Certificate) -> Option<Arc<Self>> {
        let (identity, chain) = (stream.peer.clone()?, stream.client_chain()?);
        Some(Arc::new(Self { identity, chain, certificate: certificate.clone() }))
    }

    /// What it says, if it holds by the clock, the roots and the revocation lists of now.
    ///
    /// # Errors
    /// Why it does not, in words.
    pub(crate) fn now(&self) -> Result<&PeerIdentity, String> {
        let tls = self.certificate.borrow().clone().ok_or("the process ends")?;
        match self.chain.stands(&tls, SystemTime::now()) {
            Ok(()) => Ok(&self.identity),
            Err(why) => Err(format!("the client's certificate has held at first and does not any more: {why}")),
        }
    }
}

/// What answers the requests of a listener.
pub(crate) trait Answer: Send + Sync + 'static {
    /// Answers one.
    fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> impl Future<Output = Reply> + Send;
}

/// A bound port. Connections wait until it is served.
#[derive(Debug)]
pub(crate) struct Door {
    listener: TcpListener,
    address: SocketAddr,
    size: Size,
    places: Shares,
    tally: Tally,
}

/// What one connection may ask for at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Calls that are open.
    pub(crate) calls: u32,
    /// Bytes that are taken before somebody reads them, of one call and of all.
    pub(crate) window: u32,
}

/// A workload asks one question at a time, and a short one.
const SMALL: Size = Size { calls: 16, window: 32 << 10 };

/// Where connections of a listener are counted, if anywhere.
#[derive(Clone, Debug, Default)]
struct Tally(Option<(Arc<CaMetrics>, &'static str)>);

impl Tally {
    fn ended(&self, reason: &str) {
        if let Some((metrics, listener)) = &self.0 {
            metrics.doors.ended(listener, reason);
        }
    }

    fn open(&self, change: i64) {
        if let Some((metrics, listener)) = &self.0 {
            metrics.doors.open(listener).add(change);
        }
    }
}

impl Door {
    /// Binds; the sentence names the flag.
    ///
    /// # Errors
    /// The address is taken, or not ours.
    pub(crate) fn bind(flag: &str, address: SocketAddr) -> Result<Self> {
        let listener = everywhere::listen(address).map_err(|error| {
            let advice = holder::advice(&error, address, &format!("choose another with {flag}"));
            anyhow::Error::new(error).context(format!("{flag} {address} cannot be bound; {advice}"))
        })?;
        let address = listener.local_addr().context("asking a listener for its address")?;
        let places = Shares::new(MOST_CONNECTIONS, OF_ONE);
        Ok(Self { listener, address, size: SMALL, places, tally: Tally::default() })
    }

    /// Counts its connections under this name.
    pub(crate) fn counted(self, metrics: &Arc<CaMetrics>, listener: &'static str) -> Self {
        Self { tally: Tally(Some((Arc::clone(metrics), listener))), ..self }
    }

    /// Takes more, or less, from one connection.
    pub(crate) fn sized(self, size: Size) -> Self {
        Self { size, ..self }
    }

    /// Serves until `stop` becomes true; what is open then has some seconds. `certificate`: `None` = plain text.
    pub(crate) async fn serve<A: Answer>(
        self,
        certificate: Option<Certificate>,
        answer: Arc<A>,
        mut stop: watch::Receiver<bool>,
    ) {
        info!(listener = %self.address, tls = certificate.is_some(), "listening");
        let mut connections = JoinSet::new();
        let (listener, stops) = (self.listener, stop.clone());
        loop {
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = listener.accept() => accepted.map(|(stream, address)| (stream, canonical(address))),
            };
            match accepted {
                Ok((stream, address)) => match self.places.try_take(address.ip()) {
                    Ok(place) => {
                        let (certificate, answer, stop) = (certificate.clone(), Arc::clone(&answer), stops.clone());
                        let (size, tally) = (self.size, self.tally.clone());
                        connections.spawn(async move {
                            tally.open(1);
                            let ended = converse((stream, address), certificate, answer, stop, (size, &tally)).await;
                            ended.unwrap_or_else(|error| {
                                debug!(peer = %address, error = format!("{error:#}"), "a connection failed");
                            });
                            tally.open(-1);
                            drop(place);
                        });
                    }
                    Err(full) => {
                        let (reason, most) = match full {
                            Full::Address => ("address", OF_ONE),
                            Full::All => ("full", MOST_CONNECTIONS),
                        };
                        self.tally.ended(reason);
                        debug!(peer = %address, reason, most, "closed unserved: so many connections are open");
                    }
                },
                Err(error) => {
                    debug!(%error, "a connection was lost");
                    sleep(BACK_OFF).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        let ended = timeout(LAST_CALLS, async { while connections.join_next().await.is_some() {} });
        drop(ended.await);
    }
}

/// As the client knows it, also where one listener is for both families.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

async fn converse<A: Answer>(
    (stream, address): (TcpStream, SocketAddr),
    certificate: Option<Certificate>,
    answer: Arc<A>,
    stop: watch::Receiver<bool>,
    terms: (Size, &Tally),
) -> Result<()> {
    stream.set_nodelay(true).ok();
    let Some(mut certificate) = certificate else {
        let peer = Peer { address, proof: None };
        return speak(stream, peer, answer, stop, terms).await;
    };
    let shaken = timeout(PATIENCE, async {
        let tls = certificate.wait_for(Option::is_some).await.ok().and_then(|tls| tls.clone());
        let tls = tls.context("the process ends")?;
        let hello = accept::hello(Stream::new(stream)).await?;
        anyhow::Ok(hello.accept(&tls).await?)
    });
    let Ok(shaken) = shaken.await else {
        terms.1.ended("handshake");
        anyhow::bail!("the handshake took too long");
    };
    let stream = shaken.context("the handshake failed")?;
    let peer = Peer { address, proof: Proof::of(&stream, &certificate) };
    speak(stream, peer, answer, stop, terms).await
}

/// The calls of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    open: usize,
    /// There was one.
    begun: bool,
}

/// One that is being answered, until dropped.
struct Call(Arc<watch::Sender<Calls>>);

impl Call {
    fn begin(calls: &Arc<watch::Sender<Calls>>) -> Self {
        calls.send_modify(|calls| *calls = Calls { open: calls.open + 1, begun: true });
        Self(Arc::clone(calls))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.send_modify(|calls| calls.open -= 1);
    }
}

/// Waits until there was no call for too long; gives the reason's name. Who answers pings and asks nothing holds a place, too.
async fn lull(mut calls: watch::Receiver<Calls>) -> &'static str {
    loop {
        let Calls { open, begun } = *calls.borrow_and_update();
        let (patience, reason) = if begun { (IDLE, "idle") } else { (PATIENCE, "silent") };
        tokio::select! {
            changed = calls.changed() => if changed.is_err() { std::future::pending::<()>().await },
            () = sleep(patience), if open == 0 => return reason,
        }
    }
}

async fn speak<A: Answer>(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    peer: Peer,
    answer: Arc<A>,
    mut stop: watch::Receiver<bool>,
    (size, tally): (Size, &Tally),
) -> Result<()> {
    let calls = Arc::new(watch::Sender::new(Calls::default()));
    let lull = lull(calls.subscribe());
    let service = service_fn(|request| {
        let call = Call::begin(&calls);
        let answered = Arc::clone(&answer).answer(request, peer.clone());
        async move {
            let reply = answered.await;
            drop(call);
            Ok::<_, Infallible>(reply)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(HEAD as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(size.calls)
        .initial_stream_window_size(size.window)
        .initial_connection_window_size(size.window)
        .max_header_list_size(HEAD)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PATIENCE);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended.map_err(|error| anyhow::anyhow!(error)),
        _ = stop.wait_for(|stop| *stop) => {}
        () = sleep(AGE) => {}
        reason = lull => tally.ended(reason),
    }
    connection.as_mut().graceful_shutdown();
    let ended = timeout(LAST_CALLS, connection).await.context("a call took too long at the end")?;
    ended.map_err(|error| anyhow::anyhow!(error))
}

#[cfg(test)]
mod tests;
