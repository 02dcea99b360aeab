//! One request to a cluster that is not a client's own, from its head to the end of its answer: a copy for a mirror, or a
//! question to a service that is asked about a request.

use std::{
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use routing::outlier::Outcome;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    attempt::{Connected, FEW, no_connection, outcome, outcome_of_head, shared},
    desk::{Desk, Kept},
    failure::Failure,
    flow::{Broken, Piece, Sink as _, Source as _},
    h1, h2,
    head::Head,
    limited,
    limits::INTERIM,
    record::grpc_status,
    side::Up,
};
use crate::{
    net::facts::Facts,
    upstream::{
        breaker::Breaker,
        connect::{To, connect},
        dial::Dial,
        endpoints::{Picked, Upstream},
        pool::Place,
        terms::Terms,
    },
};

/// What is sent.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    /// With its authority.
    pub(crate) head: &'a Head,
    pub(crate) body: &'a [u8],
    pub(crate) trailers: Option<&'a Head>,
    /// It is one of gRPC, whose answers say in trailers what they mean.
    pub(crate) grpc: bool,
    /// It may be sent again where a kept connection turns out to have ended.
    pub(crate) again: bool,
}

/// Where it goes.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) upstream: &'a Arc<Upstream>,
    pub(crate) h2: bool,
    /// Whom TLS asks for, and takes the answer from, where the configuration does not name anybody.
    pub(crate) host: &'a str,
    /// Connections of this purpose, which serve no other.
    pub(crate) pools: &'a Kept,
    /// Where connections are limited, it waits for one in turn with requests; else it is not sent.
    pub(crate) waits: bool,
    /// On whose behalf.
    pub(crate) client: &'a Rc<Facts>,
}

impl<'a> Way<'a> {
    /// Of a question about a client's request. Whoever answers proves to be the service: what the client asked for, which may
    /// be the question's authority, is not the client's choice of whom to believe.
    pub(crate) fn of_question(desk: &'a Desk, upstream: &'a Arc<Upstream>, h2: bool, client: &'a Rc<Facts>) -> Self {
        Self { upstream, h2, host: &upstream.cluster.host, pools: &desk.calls, waits: true, client }
    }
}

/// What is heard of the answer.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<Head>,
    /// So long may the body be; `None` = nobody reads it.
    bound: Option<usize>,
    /// There was a connection, so that the endpoint could be asked.
    asked: bool,
    /// The head was complete, and the endpoint was judged by it.
    begun: bool,
}

impl Heard {
    /// All of it, with a body up to this bound.
    pub(crate) fn all(bound: usize) -> Self {
        Self { bound: Some(bound), ..Self::default() }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), NoAnswer> {
        match self.bound {
            Some(bound) if self.body.len() + bytes.len() > bound => Err(NoAnswer::TooLarge),
            Some(_) => {
                self.body.extend_from_slice(bytes);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum NoAnswer {
    /// The cluster has no endpoint, or no connection left; nothing was sent.
    Unsent,
    /// The endpoint gives none; why, in words.
    Lost(String),
    /// It took too long.
    TimedOut,
    /// Its body is longer than anybody wants.
    TooLarge,
}

impl NoAnswer {
    /// In words.
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::Unsent => "there is no endpoint, or none that takes more",
            Self::Lost(why) => why,
            Self::TimedOut => "it took too long",
            Self::TooLarge => "its answer is too long",
        }
    }
}

impl From<Broken> for NoAnswer {
    fn from(broken: Broken) -> Self {
        Self::Lost(match broken {
            Broken::Closed { .. } => "the connection ended before the answer did".to_owned(),
            Broken::Reset { .. } => "the endpoint reset the stream".to_owned(),
            Broken::Malformed(why) => why.to_owned(),
            Broken::Stalled => "the endpoint takes nothing".to_owned(),
        })
    }
}

impl From<Failure> for NoAnswer {
    fn from(failure: Failure) -> Self {
        if matches!(failure, Failure::Overflow) {
            return Self::Unsent;
        }
        Self::Lost(match failure {
            Failure::Connect(why) => why,
            Failure::ConnectTimeout => "the endpoint did not accept in time".to_owned(),
            failure => failure.answer().body.into_owned(),
        })
    }
}

/// Sends it to an endpoint, which is judged by its answer as by any other, and hears the answer to its end, so that the
/// connection can serve the next one.
///
/// # Errors
/// [`NoAnswer`].
pub(crate) async fn call(
    desk: &Desk,
    way: Way<'_>,
    call: Call<'_>,
    limit: Duration,
    heard: &mut Heard,
) -> Result<(), NoAnswer> {
    let picked = way.upstream.pick_by(None, &[], || fastrand::u32(..)).map_err(|_| NoAnswer::Unsent)?;
    let _counted = match way.upstream.breaker.as_deref().map(Breaker::request) {
        Some(Err(_)) => return Err(NoAnswer::Unsent),
        Some(Ok(counted)) => counted,
        None => None,
    };
    let talk = Talk { desk, way, call, picked: &picked };
    let (outcome, result) = match timeout(limit, talk.hold(heard)).await {
        Ok(Ok(())) => (None, Ok(())),
        Ok(Err(lost @ NoAnswer::Lost(_))) => (Some(Outcome::Failed), Err(lost)),
        Ok(Err(other)) => (None, Err(other)),
        // An answer that has begun may be as long as it likes: that it is not heard to its end is not its endpoint's fault. Nor is
        // a time that is too short to connect in, or to get a connection: what becomes of the connection tells.
        Err(_) => ((heard.asked && !heard.begun).then_some(Outcome::TimedOut), Err(NoAnswer::TimedOut)),
    };
    talk.record(outcome);
    result
}

/// One call to one endpoint.
struct Talk<'a> {
    desk: &'a Desk,
    way: Way<'a>,
    call: Call<'a>,
    picked: &'a Picked,
}

/// A connection with room for it.
struct Open {
    up: Up,
    dial: Arc<Dial>,
    place: Place,
    /// It has carried others before.
    reused: bool,
}

impl Talk<'_> {
    fn record(&self, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome {
            self.way.upstream.record(self.picked.endpoint, outcome, self.desk.metrics());
        }
    }

    async fn hold(&self, heard: &mut Heard) -> Result<(), NoAnswer> {
        let open = self.open(true).await?;
        let reused = open.reused;
        match self.exchange(open, heard).await {
            Err(Silence::Unseen) if reused && self.call.again => {
                let open = self.open(false).await?;
                self.exchange(open, heard).await.map_err(Silence::explain)
            }
            result => result.map_err(Silence::explain),
        }
    }

    async fn exchange(&self, open: Open, heard: &mut Heard) -> Result<(), Silence> {
        let Open { mut up, dial, place, .. } = open;
        heard.asked = true;
        let call = self.call;
        let last = matches!((&up, dial.requests), (Up::H1(client), Some(limit)) if client.requests + 1 >= limit);
        up.send_head(call.head, last)?;
        let mut delivery = Delivery::default();
        poll_fn(|cx| delivery.poll_head(call, &mut up, &mut heard.head, cx)).await?;
        heard.begun = true;
        self.record(outcome_of_head(call.grpc, heard.head.status, grpc_status(&heard.head)));
        poll_fn(|cx| delivery.poll_end(call, &mut up, heard, cx)).await?;
        heard.trailers = up.trailers().filter(|_| call.grpc).cloned();
        if let Some(trailers) = heard.trailers.as_ref().filter(|_| heard.head.status == 200) {
            self.record(grpc_status(trailers).map(Outcome::Grpc));
        }
        if let Up::H1(client) = up
            && client.is_reusable()
            && dial.requests.is_none_or(|limit| client.requests < limit)
            && client.terms.as_ref().is_none_or(|terms| !terms.are_over())
        {
            self.keep(place, &dial, client);
        }
        Ok(())
    }

    /// One that is counted is not kept from requests that wait for it: it is among theirs, or nobody's.
    fn keep(&self, place: Place, dial: &Arc<Dial>, client: Box<h1::client::Client>) {
        let counted = client.terms.as_ref().is_some_and(|terms| terms.permit.is_some());
        match (counted, self.way.waits) {
            (false, _) => self.way.pools.idle.put(place, dial, client, Instant::now()),
            (true, true) => self.desk.keep(place, dial, client, Instant::now()),
            (true, false) => {}
        }
    }

    /// A connection to the endpoint; `kept`: one that was kept will do.
    async fn open(&self, kept: bool) -> Result<Open, NoAnswer> {
        let Way { upstream, h2, host, pools, waits, client } = self.way;
        let endpoint = upstream.cluster.endpoints.get(self.picked.endpoint).ok_or(NoAnswer::Unsent)?;
        let dial = Arc::clone(upstream.dial(endpoint.tls, h2).ok_or(NoAnswer::Unsent)?);
        let place = Place::new(&dial, endpoint.address, host, client);
        let way = To { address: endpoint.address, host, client };
        if dial.h2 {
            if let Some(stream) = pools.shared.find(&place, h2::client::Connection::stream) {
                return Ok(Open { up: Up::H2(Box::new(stream)), dial, place, reused: true });
            }
            let made = Box::pin(self.dialled(dial, way, place)).await?;
            return Ok(Open { up: made.up, dial: made.dial, place: made.place, reused: made.reused });
        }
        let gate = upstream.breaker.as_deref().and_then(Breaker::gate);
        if gate.is_some() && waits {
            let way = limited::Way { upstream: Arc::clone(upstream), dial, place, address: way.address, host };
            let made = Box::pin(limited::among_requests(self.desk, client, way, kept)).await?;
            return Ok(Open { up: made.up, dial: made.dial, place: made.place, reused: made.reused });
        }
        let mut cx = Context::from_waker(Waker::noop());
        let quiet = |client: &mut Box<h1::client::Client>| client.is_quiet(&mut cx);
        if kept && let Some(kept) = pools.idle.take(&place, Instant::now(), quiet) {
            return Ok(Open { up: Up::H1(kept), dial, place, reused: true });
        }
        let permit = match gate {
            Some(gate) => Some(gate.permit().ok_or(NoAnswer::Unsent)?),
            None => None,
        };
        let connected = Box::pin(connect(&dial, &way, None, self.desk.metrics())).await.map_err(no_connection)?;
        let mut fresh = h1::client::Client::new(connected);
        fresh.terms = Terms::of(&dial, permit, client);
        Ok(Open { up: Up::H1(Box::new(fresh)), dial, place, reused: false })
    }

    /// A stream of a new connection. It is made beside this call: where time is too short to connect in, the next call finds it.
    async fn dialled(&self, dial: Arc<Dial>, to: To<'_>, place: Place) -> Result<Connected, Failure> {
        let pool = &self.way.pools.shared;
        if dial.requests.is_some_and(|limit| limit < FEW) {
            // Nobody shares those: each call makes its own.
            return shared(pool, self.desk.metrics(), dial, to, place, None).await;
        }
        let dialling = pool.dialling(&place);
        if dialling.try_lock().is_err() {
            // However many calls there are, one of them dials.
            drop(dialling.lock().await);
            if let Some(stream) = pool.find(&place, h2::client::Connection::stream) {
                return Ok(Connected::of(stream, dial, place));
            }
        }
        let (tell, told) = oneshot::channel();
        let (pool, telemetry) = (Rc::clone(pool), Arc::clone(&self.desk.telemetry));
        let (upstream, endpoint) = (Arc::clone(self.way.upstream), self.picked.endpoint);
        let (address, host, client) = (to.address, to.host.to_owned(), Rc::clone(to.client));
        tokio::task::spawn_local(async move {
            let to = To { address, host: &host, client: &client };
            let made = shared(&pool, telemetry.metrics(), dial, to, place, None).await;
            // Whoever still waits judges the endpoint by it.
            if let Err(Err(failure)) = tell.send(made)
                && let Some(outcome) = outcome(&failure)
            {
                upstream.record(endpoint, outcome, telemetry.metrics());
            }
        });
        told.await.unwrap_or(Err(Failure::Internal("a connection that is made ends without a word")))
    }
}

/// Why a connection brought no answer.
enum Silence {
    /// The endpoint has looked at nothing.
    Unseen,
    Other(NoAnswer),
}

impl Silence {
    fn explain(self) -> NoAnswer {
        match self {
            Self::Unseen => NoAnswer::Lost("the connection ended before the answer".to_owned()),
            Self::Other(why) => why,
        }
    }
}

impl From<Broken> for Silence {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Closed { untouched: true } | Broken::Reset { unseen: true } => Self::Unseen,
            other => Self::Other(other.into()),
        }
    }
}

/// How far a call and its answer have come.
#[derive(Default)]
struct Delivery {
    sent: usize,
    ended: bool,
    /// The endpoint takes no more of it; it may have answered all the same.
    deaf: bool,
    answered: bool,
    interim: u32,
}

impl Delivery {
    fn poll_head(
        &mut self,
        call: Call<'_>,
        up: &mut Up,
        answer: &mut Head,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        self.write(call, up, cx);
        while !self.answered {
            match up.poll_head(cx, answer)? {
                Poll::Ready(()) => {
                    self.answered = answer.status >= 200;
                    self.interim += 1;
                    if self.interim > INTERIM {
                        return Poll::Ready(Err(Broken::Malformed("it sends interim answers without end")));
                    }
                }
                Poll::Pending => break,
            }
        }
        // What is wrong with a socket shows when it is read.
        let _ = up.poll_flush(cx);
        if self.answered { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_end(
        &mut self,
        call: Call<'_>,
        up: &mut Up,
        heard: &mut Heard,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Silence>> {
        // Whoever has answered need not take the rest.
        self.write(call, up, cx);
        let _ = up.poll_flush(cx);
        while let Poll::Ready(piece) = up.poll_data(cx)? {
            match piece {
                Piece::Data(count) => {
                    let mut taken = Ok(());
                    up.give(count, |bytes| {
                        taken = heard.take(bytes);
                        Ok(())
                    })?;
                    taken.map_err(Silence::Other)?;
                }
                Piece::End => return Poll::Ready(Ok(())),
            }
        }
        Poll::Pending
    }

    fn write(&mut self, call: Call<'_>, up: &mut Up, cx: &mut Context<'_>) {
        self.deaf = self.deaf || self.try_write(call, up, cx).is_err();
    }

    fn try_write(&mut self, call: Call<'_>, up: &mut Up, cx: &mut Context<'_>) -> Result<(), Broken> {
        while self.sent < call.body.len() {
            let left = call.body.len() - self.sent;
            let Poll::Ready(room) = up.poll_room(cx, left) else { return Ok(()) };
            let count = room?.min(left);
            up.send(&call.body[self.sent..self.sent + count])?;
            self.sent += count;
        }
        if !std::mem::replace(&mut self.ended, true) {
            up.end(call.trailers)?;
        }
        Ok(())
    }
}
