//! Listening, and answering one connection after the other.

use std::{convert::Infallible, future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, info};

use super::{
    Admin,
    answers::Reply,
    door::Stranger,
    pages::{Kind, answer},
    scrapes::{Leave, Scrapes},
};
use crate::net::{everywhere, holder};

/// Connections per server; these pages have few readers, and two of the servers are open to the network.
const MOST_CONNECTIONS: usize = 256;
/// For a request's head, and for the next request on a connection.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// From an answer to the next request: whoever reads no faster keeps what others could have.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// When the system is short of files.
const BACK_OFF: Duration = Duration::from_millis(100);

/// A server could not listen.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {address} cannot be bound; {advice}")]
pub(crate) struct BindError {
    flag: &'static str,
    address: SocketAddr,
    advice: String,
    #[source]
    source: io::Error,
}

/// Bound and not yet served: connections wait.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(super) listeners: Vec<(Kind, TcpListener)>,
}

impl Servers {
    /// Binds `--status`, `--stats` and `--admin`, in this order.
    ///
    /// # Errors
    /// The address is taken or not ours; the sentence names the flag.
    pub(crate) fn bind([status, stats, admin]: [SocketAddr; 3]) -> Result<Self, BindError> {
        let mut listeners = Vec::new();
        for (kind, flag, address) in
            [(Kind::Status, "--status", status), (Kind::Stats, "--stats", stats), (Kind::Admin, "--admin", admin)]
        {
            let listener = everywhere::listen(address).map_err(|source| {
                let advice = holder::advice(&source, address, &format!("choose another with {flag}"));
                BindError { flag, address, advice, source }
            })?;
            listeners.push((kind, listener));
        }
        Ok(Self { listeners })
    }

    /// Serves until `stop` becomes true (or its sender is dropped).
    pub(crate) async fn serve(self, admin: Arc<Admin>, mut stop: watch::Receiver<bool>) {
        let mut servers = JoinSet::new();
        let scrapes = Scrapes::default();
        for (kind, listener) in self.listeners {
            if let Ok(address) = listener.local_addr() {
                info!(listener = %address, "{kind:?} pages are served");
            }
            servers.spawn(accept(
                listener,
                Arc::new(Served { kind, admin: Arc::clone(&admin), scrapes: scrapes.clone() }),
            ));
        }
        // Dropping the servers ends them and their connections.
        drop(stop.wait_for(|stop| *stop).await);
    }
}

/// Whoever answers what is asked of pages.
pub(crate) trait Pages: Send + Sync + 'static {
    /// One answer.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Reply> + Send;
}

/// The pages of this process.
struct Served {
    kind: Kind,
    admin: Arc<Admin>,
    scrapes: Scrapes,
}

impl Pages for Served {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        if !Scrapes::is_one(request.uri().path()) {
            return answer(self.kind, &request, &self.admin);
        }
        let (head, _) = request.into_parts();
        let (kind, admin) = (self.kind, Arc::clone(&self.admin));
        self.scrapes.answer(move || answer(kind, &Request::from_parts(head, ()), &admin)).await
    }
}

/// Serves pages on one socket until `stop` becomes true (or its sender is dropped).
pub(crate) async fn serve_pages(listener: TcpListener, pages: Arc<impl Pages>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = accept(listener, pages) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn accept(listener: TcpListener, pages: Arc<impl Pages>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let pages = Arc::clone(&pages);
                connections.spawn(async move {
                    converse(stream, &pages).await;
                    drop(place);
                });
            }
            Err(error) => {
                debug!(%error, "a connection to the pages was lost");
                sleep(BACK_OFF).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(stream: TcpStream, pages: &Arc<impl Pages>) {
    let (answered, due) = watch::channel(None);
    let answered = &answered;
    let stranger = stream.peer_addr().and_then(|far| Ok((far, stream.local_addr()?)));
    // Of whom nothing is known has gone already.
    let stranger = stranger.ok().and_then(|(far, near)| Stranger::of(far, near));
    let service = service_fn(|mut request: Request<Incoming>| async move {
        if let Some(stranger) = stranger {
            request.extensions_mut().insert(stranger);
        }
        answered.send_replace(None);
        let reply = pages.answer(request).await;
        let leave = reply.extensions().get::<Leave>().cloned();
        answered.send_replace(Some((Instant::now() + ANSWER_DEADLINE, leave)));
        Ok::<_, Infallible>(reply)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        served = served => if let Err(error) = served {
            debug!(%error, "a connection to the pages ended");
        },
        () = overdue(due) => debug!("a connection to the pages took too long to read its answer"),
    }
}

/// Ends when an answer is overdue to be read, or others wait for what it takes.
async fn overdue(mut due: watch::Receiver<Option<(Instant, Option<Leave>)>>) {
    loop {
        let due_by = due.borrow_and_update().clone();
        let late = async {
            match due_by {
                Some((at, None)) => sleep_until(at).await,
                Some((at, Some(leave))) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = leave.wait() => {}
                },
                None => pending().await,
            }
        };
        tokio::select! {
            () = late => return,
            // Its sender lives as long as the connection.
            changed = due.changed() => if changed.is_err() {
                pending().await
            },
        }
    }
}
