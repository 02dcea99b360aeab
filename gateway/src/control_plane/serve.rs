//! Listeners of the control plane: HTTP/1.1 and HTTP/2 by hyper, over TLS with a certificate that changes while they serve, or
//! in plain text on loopback.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tls::{accept, identity::PeerIdentity, server::ServerTls, stream::Stream};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, info};

use crate::{
    grpc::server::Reply,
    net::{everywhere, holder},
};

/// For a handshake, a request's head, and an answer to a ping.
const PATIENCE: Duration = Duration::from_secs(10);
/// When the system is short of files.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Connections of a listener.
const MOST_CONNECTIONS: usize = 10_000;
/// Calls that one connection may have open.
const MOST_CALLS: u32 = 100;
/// Bytes of a request's head.
const HEAD: u32 = 64 << 10;
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
    /// What its certificate says, which was verified; `None`: it showed none.
    pub(crate) identity: Option<Arc<PeerIdentity>>,
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
        Ok(Self { listener, address })
    }

    /// Serves until `stop` becomes true; what is open then has some seconds. `certificate`: `None` = plain text.
    pub(crate) async fn serve<A: Answer>(
        self,
        certificate: Option<Certificate>,
        answer: Arc<A>,
        mut stop: watch::Receiver<bool>,
    ) {
        info!(listener = %self.address, tls = certificate.is_some(), "listening");
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let mut connections = JoinSet::new();
        let (listener, stops) = (self.listener, stop.clone());
        loop {
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                    match Arc::clone(&places).try_acquire_owned() {
                        Ok(place) => {
                            let (certificate, answer, stop) = (certificate.clone(), Arc::clone(&answer), stops.clone());
                            connections.spawn(async move {
                            let ended = converse(stream, address, certificate, answer, stop).await;
                            ended.unwrap_or_else(|error| debug!(peer = %address, error = format!("{error:#}"), "a connection failed"));
                            drop(place);
                        });
                        }
                        Err(_) => debug!(peer = %address, "closed unserved: {MOST_CONNECTIONS} connections are open"),
                    }
                }
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

async fn converse<A: Answer>(
    stream: TcpStream,
    address: SocketAddr,
    certificate: Option<Certificate>,
    answer: Arc<A>,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    stream.set_nodelay(true).ok();
    let Some(mut certificate) = certificate else {
        let peer = Peer { address, identity: None };
        return speak(stream, peer, answer, stop).await;
    };
    let shaken = timeout(PATIENCE, async {
        let tls = certificate.wait_for(Option::is_some).await.ok().and_then(|tls| tls.clone());
        let tls = tls.context("the process ends")?;
        let hello = accept::hello(Stream::new(stream)).await?;
        anyhow::Ok(hello.accept(&tls).await?)
    });
    let stream = shaken.await.context("the handshake took too long")?.context("the handshake failed")?;
    let peer = Peer { address, identity: stream.peer.clone() };
    speak(stream, peer, answer, stop).await
}

async fn speak<A: Answer>(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    peer: Peer,
    answer: Arc<A>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let service = service_fn(|request| {
        let answered = Arc::clone(&answer).answer(request, peer.clone());
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(HEAD as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_CALLS)
        .max_header_list_size(HEAD)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PATIENCE);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended.map_err(|error| anyhow::anyhow!(error)),
        _ = stop.wait_for(|stop| *stop) => {}
        () = sleep(AGE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let ended = timeout(LAST_CALLS, connection).await.context("a call took too long at the end")?;
    ended.map_err(|error| anyhow::anyhow!(error))
}
