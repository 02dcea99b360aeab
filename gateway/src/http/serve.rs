//! The life of one HTTP connection: request after request on HTTP/1.1, stream beside stream on HTTP/2.

use std::{future::poll_fn, pin::pin, rc::Rc, sync::Arc, task::Poll, time::Duration};

use tokio::{sync::watch, time::Instant};

use super::{
    admit::{self, Admitted},
    exchange::{Exchange, Lent},
    failure::Failure,
    forward::forward,
    h1::{
        client::Client,
        server::{NoHead, Server},
    },
    h2,
    limits::{FIRST_REQUEST, IDLE},
    record, reply,
    side::Down,
};
use crate::{
    drain::Drain,
    live::Live,
    net::connection::Connection,
    overload::Overload,
    telemetry::{Telemetry, metrics::Metrics},
    upstream::pool::{Pool, Shared},
};

/// What the requests of one worker share.
pub(crate) struct Desk {
    live: Arc<Live>,
    telemetry: Arc<Telemetry>,
    drain: Arc<Drain>,
    overload: Arc<Overload>,
    age: Option<Duration>,
    /// HTTP/1.1 connections to endpoints that wait for their next request.
    pub(crate) idle: Pool<Box<Client>>,
    /// HTTP/2 connections to endpoints.
    pub(crate) shared: Shared<h2::client::Connection>,
}

impl Desk {
    /// One per worker.
    pub(crate) fn new(with: &crate::worker::Shared) -> Self {
        Self {
            live: Arc::clone(&with.live),
            telemetry: Arc::clone(&with.telemetry),
            drain: Arc::clone(&with.drain),
            overload: Arc::clone(&with.overload),
            age: with.bounds.age,
            idle: Pool::default(),
            shared: Shared::default(),
        }
    }

    /// When a connection that begins now is to end; a tenth earlier or later, so that those which began together do not end
    /// together.
    pub(crate) fn age(&self) -> Option<Instant> {
        self.age.map(|age| Instant::now() + age.mul_f64(0.9 + 0.2 * fastrand::f64()))
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
        Box::pin(h2::server::serve(desk, connection, stop)).await;
    } else {
        http1(desk, connection, stop).await;
    }
}

async fn http1(desk: &Rc<Desk>, connection: Connection, stop: watch::Receiver<bool>) {
    let mut server = Server::new(connection);
    let age = desk.age();
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
                let aged = age.is_some_and(|age| age <= Instant::now());
                let close = leaving || aged || heads.request.close || desk.is_draining() || *stop.borrow();
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
pub(super) async fn request(
    desk: &Desk,
    down: &mut Down<'_>,
    mut heads: Lent,
    close: bool,
    refused: Option<Failure>,
) -> bool {
    let mut exchange = Exchange::new(desk.live.pin(), Rc::clone(down.facts()));
    let (exchange_, heads_) = (&mut exchange, &mut *heads);
    let admitted = match refused {
        Some(failure) => Err(failure),
        None if desk.overload.sheds_requests() => {
            desk.metrics().shed("memory");
            Err(Failure::Overloaded)
        }
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
