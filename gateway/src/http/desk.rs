//! What the requests of one worker share.

use std::{rc::Rc, sync::Arc, time::Duration};

use tokio::{sync::Notify, time::Instant};

use super::{h1::client::Client, h2, handover::Hands};
use crate::{
    drain::Drain,
    live::Live,
    overload::Overload,
    telemetry::{Telemetry, metrics::Metrics, refusals::Refusals},
    upstream::{
        dial::Dial,
        gate::{Next, Worker},
        pool::{Place, Pool, Shared},
    },
};

/// See the module.
pub(crate) struct Desk {
    pub(crate) live: Arc<Live>,
    pub(crate) telemetry: Arc<Telemetry>,
    drain: Arc<Drain>,
    overload: Arc<Overload>,
    age: Option<Duration>,
    drain_time: Option<Duration>,
    /// Who was turned away.
    pub(crate) refusals: Rc<Refusals>,
    /// HTTP/1.1 connections to endpoints that wait for their next request.
    pub(crate) idle: Pool<Box<Client>>,
    /// HTTP/2 connections to endpoints.
    pub(crate) shared: Shared<h2::client::Connection>,
    /// This worker, as clusters with limits know it.
    pub(super) worker: Arc<Worker>,
    /// Connections on their way to requests that wait for one.
    pub(super) hands: Hands,
    /// A stream of a connection that is counted has ended.
    pub(super) freed: Rc<Notify>,
    /// The connections of copies, which requests never use.
    pub(crate) mirrors: Kept,
    /// The connections of questions that are asked about requests.
    pub(crate) calls: Kept,
}

/// Connections of one purpose.
#[derive(Default)]
pub(crate) struct Kept {
    /// As [`Desk::idle`].
    pub(crate) idle: Pool<Box<Client>>,
    /// As [`Desk::shared`].
    pub(crate) shared: Rc<Shared<h2::client::Connection>>,
}

impl Desk {
    /// One per worker. The times: how old connections from clients get, and a drain's.
    #[expect(clippy::too_many_arguments, reason = "what the worker shares with it, each thing once")]
    pub(crate) fn new(
        live: Arc<Live>,
        telemetry: Arc<Telemetry>,
        drain: Arc<Drain>,
        overload: Arc<Overload>,
        (age, drain_time): (Option<Duration>, Option<Duration>),
        refusals: Rc<Refusals>,
    ) -> Self {
        Self {
            live,
            telemetry,
            drain,
            overload,
            age,
            drain_time,
            refusals,
            idle: Pool::default(),
            shared: Shared::default(),
            worker: Arc::default(),
            hands: Hands::default(),
            freed: Rc::default(),
            mirrors: Kept::default(),
            calls: Kept::default(),
        }
    }

    /// When a connection that begins now is to end; a tenth earlier or later, so that those which began together do not end
    /// together.
    pub(crate) fn age(&self) -> Option<Instant> {
        self.age.map(|age| Instant::now() + age.mul_f64(0.9 + 0.2 * fastrand::f64()))
    }

    /// How long what has no end of its own may go on when its connection has to end.
    pub(crate) fn drain_time(&self) -> Duration {
        self.live.drain_time(self.drain_time)
    }

    /// The counters.
    pub(crate) fn metrics(&self) -> &Metrics {
        self.telemetry.metrics()
    }

    /// Whether memory is short, and requests are to be answered with 503.
    pub(crate) fn sheds_requests(&self) -> bool {
        self.overload.sheds_requests()
    }

    /// Whether answers are the last ones of their connections.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain.draining()
    }

    /// Keeps an endpoint's connection for the next request, or hands it to one that waits.
    pub(super) fn keep(&self, place: Place, dial: &Arc<Dial>, client: Box<Client>, now: Instant) {
        let next = client.terms.as_ref().map_or(Next::Rest, |terms| terms.served(&self.worker, &place));
        match next {
            Next::Rest => self.idle.put(place, dial, client, now),
            Next::Hand(number, told) => {
                self.hands.give(number, client);
                told.tell();
            }
            Next::Close => {}
        }
    }

    /// Closes connections that wait for requests and that others need, as they are called back. Never ends.
    pub(crate) async fn give_back(&self) {
        loop {
            for call in self.worker.called().await {
                let resting = || self.shared.close_one(&call.place, h2::client::Connection::is_busy);
                if !self.idle.close_one(&call.place) && !resting() {
                    call.gate.missed();
                }
            }
        }
    }

    /// Closes connections to endpoints that nobody wants any more.
    pub(crate) async fn sweep(&self) {
        // All of them are looked at, however many reads that takes.
        tokio::task::unconstrained(async { self.sweep_all() }).await;
    }

    fn sweep_all(&self) {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let own = (&self.idle, &self.shared);
        let [mirrors, calls] = [&self.mirrors, &self.calls].map(|kept| (&kept.idle, &*kept.shared));
        for (idle, shared) in [own, mirrors, calls] {
            idle.sweep(|client| client.is_quiet(&mut cx));
            shared.sweep(h2::client::Connection::is_dead, h2::client::Connection::is_busy);
        }
    }
}
