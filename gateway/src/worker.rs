//! The data threads: one runtime each, with its own listening sockets and its own kept connections. Nothing of a request crosses from one to another.

use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use tokio::{
    net::TcpStream,
    runtime,
    sync::{mpsc, oneshot, watch},
    task::spawn_local,
    time::interval,
};
use tracing::info;

use crate::{
    drain::{Drain, Hold},
    http::{desk::Desk as Http, export::export, serve::serve},
    live::Live,
    net::{
        accept::{Received, Reception},
        coalescing::coalesce,
        listen::{Door, Standing, accept_until},
        own_ports::OwnPorts,
        standing::overdue,
    },
    opaque,
    overload::Overload,
    telemetry::{Telemetry, refusals::Refusals},
};

/// Between looks at connections to endpoints that wait for requests.
const SWEEP: Duration = Duration::from_secs(1);

/// What all workers share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// The configuration.
    pub(crate) live: Arc<Live>,
    /// Log and metrics.
    pub(crate) telemetry: Arc<Telemetry>,
    /// Who is busy.
    pub(crate) drain: Arc<Drain>,
    /// Sidecar: where the application listens; `None` = where the client meant to go.
    pub(crate) app_address: Option<IpAddr>,
    /// Ports of a sidecar itself.
    pub(crate) own_ports: OwnPorts,
    /// Where balancers may be that say who their clients are.
    pub(crate) balancers: Arc<[IpNet]>,
    /// Whether memory is short.
    pub(crate) overload: Arc<Overload>,
    /// How much there may be of everything.
    pub(crate) bounds: Bounds,
    /// How many workers there are.
    pub(crate) workers: usize,
}

/// Bounds of connections from clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// At once, of the process; more are closed unserved.
    pub(crate) connections: usize,
    /// At once, of one listener.
    pub(crate) listener_connections: usize,
    /// They end in order at this age.
    pub(crate) age: Option<Duration>,
    /// How long what has no end of its own may go on when it has to end; `None`: as the mesh says.
    pub(crate) drain: Option<Duration>,
}

/// A socket for a worker to accept from.
pub(crate) struct Listen {
    /// Bound and listening.
    pub(crate) listener: std::net::TcpListener,
    /// Where.
    pub(crate) address: SocketAddr,
    /// What stands behind it.
    pub(crate) door: Door,
    /// Says when the socket has to go, and when those who came through it may have to.
    pub(crate) standing: watch::Receiver<Standing>,
    /// As many as there are workers, and connections of this listener.
    pub(crate) open: Arc<()>,
}

/// Starts a worker and waits until it can serve.
///
/// # Errors
/// When its thread or runtime cannot be had.
pub(crate) async fn start(index: usize, shared: Shared) -> Result<mpsc::Sender<Listen>> {
    let (give, take) = mpsc::channel(64);
    let (started, starting) = oneshot::channel();
    thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || {
            let mut builder = runtime::Builder::new_current_thread();
            let runtime = match coalesce(builder.enable_all()).build_local(runtime::LocalOptions::default()) {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error.into()))),
            };
            runtime.block_on(work(shared, take, started));
        })
        .context("starting a worker thread")?;
    starting.await.context("a worker ended while it started")??;
    Ok(give)
}

async fn work(shared: Shared, mut listens: mpsc::Receiver<Listen>, started: oneshot::Sender<Result<()>>) {
    let metrics = Arc::clone(shared.telemetry.metrics());
    let (live, telemetry) = (Arc::clone(&shared.live), Arc::clone(&shared.telemetry));
    let (drain, overload) = (Arc::clone(&shared.drain), Arc::clone(&shared.overload));
    let refusals = Rc::new(Refusals::default());
    let http = Rc::new(Http::new(
        live,
        telemetry,
        drain,
        overload,
        (shared.bounds.age, shared.bounds.drain),
        Rc::clone(&refusals),
    ));
    let app_address = shared.app_address;
    let reception = Reception {
        live: Arc::clone(&shared.live),
        metrics,
        telemetry: Arc::clone(&shared.telemetry),
        app_address,
        own_ports: shared.own_ports,
        refusals: Rc::clone(&refusals),
        balancers: Arc::clone(&shared.balancers),
        old_clients: Cell::new(false),
    };
    let desk = Rc::new(Desk { reception, http: Rc::clone(&http), shared });
    drop(started.send(Ok(())));
    let giving = Rc::clone(&http);
    spawn_local(async move { giving.give_back().await });
    spawn_local(export(Rc::clone(&http)));
    let mut sweep = interval(SWEEP);
    loop {
        tokio::select! {
            listen = listens.recv() => match listen {
                Some(listen) => drop(spawn_local(accept(Rc::clone(&desk), listen))),
                None => return,
            },
            _ = sweep.tick() => {
                refusals.sweep();
                http.sweep().await;
            }
        }
    }
}

/// What a worker needs for each of its connections.
struct Desk {
    reception: Reception,
    http: Rc<Http>,
    shared: Shared,
}

async fn accept(desk: Rc<Desk>, listen: Listen) {
    let Listen { listener, address, door, standing, open } = listen;
    let stands = standing.clone();
    let _hold = desk.shared.drain.hold_listener(door.is_for_others());
    accept_until((listener, address), standing, |tcp, remote| {
        if desk.takes(&open, remote, address) {
            // Here and not when its task first runs: the process may end in between.
            let hold = desk.shared.drain.hold(door.is_for_others());
            let entrance = Entrance { door, standing: stands.clone(), _open: Arc::clone(&open), _hold: hold };
            spawn_local(connection(Rc::clone(&desk), tcp, remote, entrance));
        }
    })
    .await;
}

impl Desk {
    /// Whether another connection can be served; one that cannot is closed, counted, and told of.
    fn takes(&self, open: &Arc<()>, remote: SocketAddr, listener: SocketAddr) -> bool {
        let Bounds { connections, listener_connections, .. } = self.shared.bounds;
        let shed = match self.shared.overload.sheds_connections() {
            true => Some("memory"),
            // Each worker's part of the listener is one, too.
            false if Arc::strong_count(open) >= listener_connections + self.shared.workers => {
                Some("listener_connections")
            }
            false if self.shared.drain.connections() >= connections => Some("connections"),
            false => None,
        };
        if let Some(limit) = shed {
            self.shared.telemetry.metrics().shed(limit);
            let (reason, why) = match limit {
                "memory" => ("MemoryLimit", "memory is short (--memory-limit)"),
                "connections" => ("ConnectionLimit", "the process has as many as it may (--connections)"),
                _ => ("ListenerConnectionLimit", "the listener has as many as it may (--listener-connections)"),
            };
            self.http.refusals.tell(reason, remote, listener, format_args!("connection closed unserved: {why}"));
        }
        shed.is_none()
    }
}

/// What a connection keeps of the socket that it came through.
struct Entrance {
    door: Door,
    standing: watch::Receiver<Standing>,
    /// Counts it.
    _open: Arc<()>,
    /// The end of the process waits for it.
    _hold: Hold,
}

async fn connection(desk: Rc<Desk>, tcp: TcpStream, remote: SocketAddr, entrance: Entrance) {
    let Entrance { door, standing, _open, _hold } = entrance;
    let _counted = desk.shared.telemetry.metrics().connection();
    // Boxed apart, so that the handshake's memory is free while the connection lives.
    let Some(received) = Box::pin(desk.reception.receive(tcp, remote, door)).await else { return };
    match received {
        Received::Http(connection) => serve(&desk.http, connection, standing).await,
        Received::Opaque(connection, course) => {
            let (live, facts) = (Arc::clone(&desk.shared.live), Rc::clone(&connection.facts));
            // Apart, so that bytes on their way wake nobody who waits for something else.
            let mut cut = spawn_local(overdue(live, Rc::clone(&facts), standing, desk.http.drain_time()));
            let outlived = opaque::serve(&desk.http, connection.unboxed(), course, &mut cut).await;
            if let Some(outlived) = outlived {
                info!(remote = %facts.remote, listener = %facts.local, "connection cut: {}", outlived.why());
            }
            cut.abort();
        }
    }
}
