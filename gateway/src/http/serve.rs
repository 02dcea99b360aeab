//! The life of one HTTP connection: request after request on HTTP/1.1, stream beside stream on HTTP/2.

use std::{cell::Cell, future::poll_fn, pin::pin, rc::Rc, sync::Arc, task::Poll};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    admit::{self, Admitted},
    exchange::{Exchange, Lent},
    failure::Failure,
    forward::forward,
    h1::{
        client::Client,
        server::{NoHead, Server},
    },
    h2::{self, wire::Wire},
    limits::{
        CLOSE, CONNECTION_WINDOW, FIRST_REQUEST, HEAD, HEAD_BYTES, IDLE, MALFORMED, STREAM_SEND, STREAM_WINDOW,
        STREAMS, WRITE,
    },
    record, reply,
    side::Down,
};
use crate::{
    drain::Drain,
    live::Live,
    net::{connection::Connection, deadline::Deadline, facts::Facts},
    telemetry::{Telemetry, metrics::Metrics},
    upstream::pool::{Pool, Shared},
};

/// What the requests of one worker share.
pub(crate) struct Desk {
    live: Arc<Live>,
    telemetry: Arc<Telemetry>,
    drain: Arc<Drain>,
    /// HTTP/1.1 connections to endpoints that wait for their next request.
    pub(crate) idle: Pool<Box<Client>>,
    /// HTTP/2 connections to endpoints.
    pub(crate) shared: Shared<h2::client::Connection>,
}

impl Desk {
    /// One per worker.
    pub(crate) fn new(live: Arc<Live>, telemetry: Arc<Telemetry>, drain: Arc<Drain>) -> Self {
        Self { live, telemetry, drain, idle: Pool::default(), shared: Shared::default() }
    }

    /// The counters.
    pub(crate) fn metrics(&self) -> &Metrics {
        self.telemetry.metrics()
    }

    /// Whether answers are the last ones of their connections.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain.draining()
    }

    /// Closes connections to endpoints that nobody wants any more.
    pub(crate) async fn sweep(&self) {
        // All of them are looked at, however many reads that takes.
        tokio::task::unconstrained(async { self.sweep_all() }).await;
    }

    fn sweep_all(&self) {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        self.idle.sweep(|client| client.is_quiet(&mut cx));
        self.shared.sweep(h2::client::Connection::is_dead, h2::client::Connection::is_busy);
    }
}

/// Serves a connection until it ends, or until `stop` turns true and its last request is answered.
pub(crate) async fn serve(desk: &Rc<Desk>, connection: Connection, stop: watch::Receiver<bool>) {
    if connection.h2 {
        Box::pin(http2(desk, connection, stop)).await;
    } else {
        http1(desk, connection, stop).await;
    }
}

async fn http1(desk: &Rc<Desk>, connection: Connection, stop: watch::Receiver<bool>) {
    let mut server = Server::new(connection);
    let mut watched = stop.clone();
    // Registered once, not once a request.
    let mut stopped = pin!(watched.wait_for(|stop| *stop));
    let (mut served, mut leaving) = (false, false);
    loop {
        server.deadline.arm(if leaving { FIRST_REQUEST } else { IDLE });
        let readable = poll_fn(|cx| {
            if let Poll::Ready(readable) = server.poll_request(cx) {
                return Poll::Ready(readable);
            }
            if !leaving && stopped.as_mut().poll(cx).is_ready() {
                leaving = true;
                if served {
                    return Poll::Ready(false);
                }
                server.deadline.arm(FIRST_REQUEST);
                return server.poll_request(cx);
            }
            Poll::Pending
        });
        if !readable.await {
            break;
        }
        let mut heads = Lent::new();
        let read = server.read_head(&mut heads.request).await;
        served = true;
        let keep = match read {
            Ok(()) => {
                let close = leaving || heads.request.close || desk.is_draining() || *stop.borrow();
                request(desk, &mut Down::H1(&mut server), heads, close, None).await
            }
            Err(NoHead::Gone) => return,
            Err(NoHead::Refused(failure)) => {
                request(desk, &mut Down::H1(&mut server), heads, true, Some(failure)).await
            }
        };
        if !keep {
            break;
        }
    }
    Box::pin(server.close()).await;
}

/// One request from its head to its record. `true`: its connection can go on.
async fn request(desk: &Desk, down: &mut Down<'_>, mut heads: Lent, close: bool, refused: Option<Failure>) -> bool {
    let mut exchange = Exchange::new(desk.live.pin(), Rc::clone(down.facts()));
    let (exchange_, heads_) = (&mut exchange, &mut *heads);
    let admitted = match refused {
        Some(failure) => Err(failure),
        None => admit::admit(exchange_, &mut heads_.request, &desk.live.challenges, down.is_h2()),
    };
    let forwarded = match &admitted {
        Ok(Admitted::Forward) => forward(desk, exchange_, heads_, down, close).await.map(Some),
        _ => Ok(None),
    };
    let replied = match (admitted, forwarded) {
        (_, Ok(Some(keep))) => Ok(keep),
        (Ok(Admitted::Challenge(answer)), _) => reply::challenge(exchange_, heads_, down, &answer, close).await,
        (Ok(Admitted::ToHttps), _) => reply::to_https(exchange_, heads_, down, close).await,
        (Ok(Admitted::Answer(rule)), _) => reply::rule(exchange_, heads_, down, &rule, close).await,
        (Err(failure), _) | (Ok(Admitted::Forward), Err(failure)) => {
            reply::failure(exchange_, heads_, down, failure, close).await
        }
        (Ok(Admitted::Forward), Ok(None)) => Ok(false),
    };
    record::finish(&desk.telemetry, &exchange, &heads);
    replied.unwrap_or(false) && !close && down.is_read()
}

/// An HTTP/2 connection from a client: what its driver knows of it.
struct Http2 {
    desk: Rc<Desk>,
    facts: Rc<Facts>,
    wire: Wire,
    /// Streams that are being served.
    streams: Rc<()>,
    malformed: u32,
    draining: bool,
    /// When something last happened, and how much waited for the client then.
    active: Instant,
    unsent: Cell<usize>,
    deadline: Deadline,
}

async fn http2(desk: &Rc<Desk>, connection: Connection, stop: watch::Receiver<bool>) {
    let wire = Wire::new(connection.stream, true);
    let mut shaking = pin!(builder().handshake::<_, Bytes>(wire.clone()));
    let shaken = poll_fn(|cx| {
        let shaken = shaking.as_mut().poll(cx);
        let _ = wire.poll_flush_all(cx);
        shaken
    });
    let Ok(Ok(mut h2)) = timeout(HEAD, shaken).await else { return };
    let mut driver = Http2 {
        desk: Rc::clone(desk),
        facts: connection.facts,
        wire,
        streams: Rc::new(()),
        malformed: 0,
        draining: false,
        active: Instant::now(),
        unsent: Cell::new(0),
        deadline: Deadline::default(),
    };
    let mut watched = stop.clone();
    let mut stopped = pin!(watched.wait_for(|stop| *stop));
    poll_fn(|cx| {
        if !driver.draining && stopped.as_mut().poll(cx).is_ready() {
            // GOAWAY twice (RFC 9113 section 6.8); streams in flight finish.
            h2.graceful_shutdown();
            driver.draining = true;
        }
        driver.poll(&mut h2, cx)
    })
    .await;
    let flushed = poll_fn(|cx| driver.wire.poll_flush_all(cx));
    let _ = timeout(CLOSE, flushed).await;
}

impl Http2 {
    /// Takes requests, writes what has gathered, and watches the clock. Ready when the connection has to end.
    fn poll(&mut self, h2: &mut ::h2::server::Connection<Wire, Bytes>, cx: &mut std::task::Context<'_>) -> Poll<()> {
        loop {
            match h2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.active = Instant::now();
                    self.start(request, respond);
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        if self.wire.is_flooded() || self.malformed > MALFORMED {
            h2.abrupt_shutdown(::h2::Reason::ENHANCE_YOUR_CALM);
            let _ = h2.poll_accept(cx);
            return Poll::Ready(());
        }
        if let Poll::Ready(Err(_)) = self.wire.poll_flush_all(cx) {
            return Poll::Ready(());
        }
        self.watch_clock(h2, cx)
    }

    fn watch_clock(
        &mut self,
        h2: &mut ::h2::server::Connection<Wire, Bytes>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<()> {
        let (unsent, busy) = (self.wire.unsent(), Rc::strong_count(&self.streams) > 1);
        if unsent != self.unsent.replace(unsent) || (busy && unsent == 0) {
            self.active = Instant::now();
        }
        let limit = match (unsent > 0, busy) {
            (true, _) => WRITE,
            (false, true) => {
                self.deadline.set(None);
                return Poll::Pending;
            }
            (false, false) => IDLE,
        };
        self.deadline.set(Some(self.active + limit));
        if self.deadline.poll(cx).is_pending() {
            return Poll::Pending;
        }
        if unsent > 0 || self.draining {
            return Poll::Ready(());
        }
        h2.graceful_shutdown();
        self.draining = true;
        self.active = Instant::now();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Serves one stream beside the others.
    fn start(&mut self, request: http::Request<::h2::RecvStream>, respond: ::h2::server::SendResponse<Bytes>) {
        let (parts, body) = request.into_parts();
        let mut heads = Lent::new();
        let refused = h2::convert::request(&parts, body.is_end_stream(), &mut heads.request).err();
        drop(parts);
        // Many clients may share a connection behind another proxy: only bad requests in a row are one's own fault.
        self.malformed = if refused.is_some() { self.malformed + 1 } else { 0 };
        let mut stream = h2::server::Stream::new(Rc::clone(&self.facts), body, respond);
        let (desk, alive) = (Rc::clone(&self.desk), Rc::clone(&self.streams));
        tokio::task::spawn_local(async move {
            self::request(&desk, &mut Down::H2(&mut stream), heads, false, refused).await;
            drop(alive);
        });
    }
}

/// Envoy's recommendations for an edge proxy, on top of what the `h2` crate bounds already (resets, CONTINUATION).
fn builder() -> ::h2::server::Builder {
    let mut builder = ::h2::server::Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD_BYTES as u32)
        .max_send_buffer_size(STREAM_SEND)
        .enable_connect_protocol();
    builder
}
