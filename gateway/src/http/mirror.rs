//! Copies of requests for other clusters (Istio `mirror`): made while a request passes, sent once it is whole, each by a task and
//! over connections of its own. Nothing waits for them, and what has become of them is only counted.

use std::{
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use NoAnswer::{Lost, Unsent};
use routing::{mirrors::shadow_host, outlier::Outcome, rule::Rule};
use tokio::time::{Instant, timeout};

use super::{
    admit::speaks_h2,
    attempt::{outcome_of_head, shared},
    desk::Desk,
    exchange::Exchange,
    flow::{Broken, Piece, Sink as _, Source as _},
    h1, h2,
    head::Head,
    limits::{MIRROR, MIRROR_BODY},
    name::Name,
    record::grpc_status,
    side::Up,
};
use crate::{
    net::facts::Facts,
    telemetry::outcomes::Mirroring,
    upstream::{
        breaker::Breaker,
        connect::{To, connect},
        dial::Dial,
        endpoints::{Picked, Upstream},
        pool::Place,
        terms::Terms,
    },
};

/// A request that is being copied.
pub(crate) struct Copying {
    desk: Rc<Desk>,
    to: Vec<Where>,
    message: Message,
    limit: Duration,
    /// Whose request it is.
    client: Rc<Facts>,
    /// Why it is not sent.
    dropped: Option<Mirroring>,
}

/// One cluster that a copy is for.
struct Where {
    upstream: Arc<Upstream>,
    /// Its host is Envoy's shadow of the request's.
    shadow: bool,
    h2: bool,
}

/// What is sent.
struct Message {
    desk: Rc<Desk>,
    head: Head,
    body: Vec<u8>,
    trailers: Option<Head>,
    /// It is one of gRPC.
    grpc: bool,
    /// Room that it takes.
    taken: usize,
}

impl Drop for Message {
    fn drop(&mut self) {
        self.desk.live.mirrored.give_back(self.taken);
    }
}

/// Begins to copy a request whose head goes upstream like this, if its route says so. A request for a tunnel has no end, and is
/// not copied.
pub(crate) fn begin(desk: &Rc<Desk>, exchange: &mut Exchange, sent: &Head, down_h2: bool) -> Option<Box<Copying>> {
    let rule = exchange.rule.as_ref()?;
    let mirrors = rule.mirrors.as_ref()?;
    if sent.upgrade.is_some() || std::mem::replace(&mut exchange.tries.mirrored, true) {
        return None;
    }
    let drawn = mirrors.iter().filter(|mirror| mirror.share.takes(fastrand::u32(..)));
    let to: Vec<Where> = drawn
        .map(|mirror| {
            let upstream = Arc::clone(exchange.installed.upstream(mirror.cluster));
            let h2 = speaks_h2(upstream.cluster.protocol, down_h2);
            Where { upstream, shadow: mirror.shadow, h2 }
        })
        .collect();
    if to.is_empty() {
        return None;
    }
    let mut head = sent.clone();
    head.remove(Name::Expect);
    let grpc = exchange.grpc;
    let message = Message { desk: Rc::clone(desk), head, body: Vec::new(), trailers: None, grpc, taken: 0 };
    Some(Box::new(Copying {
        desk: Rc::clone(desk),
        to,
        message,
        limit: limit(rule),
        client: Rc::clone(&exchange.facts),
        dropped: None,
    }))
}

/// A copy has as long as its request, and never longer than [`MIRROR`].
fn limit(rule: &Rule) -> Duration {
    rule.timeout.map_or(MIRROR, |timeout| timeout.min(MIRROR))
}

impl Copying {
    /// More of the body has come.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        if self.dropped.is_some() {
            return;
        }
        let size = self.message.body.len() + bytes.len();
        let wanted = size.next_power_of_two();
        let more = wanted.saturating_sub(self.message.taken);
        self.dropped = if size > MIRROR_BODY {
            Some(Mirroring::TooLarge)
        } else if more > 0 && !self.desk.live.mirrored.take(more) {
            Some(Mirroring::NoRoom)
        } else {
            self.message.taken += more;
            self.message.body.extend_from_slice(bytes);
            None
        };
        if self.dropped.is_some() {
            self.message.body = Vec::new();
            self.desk.live.mirrored.give_back(std::mem::take(&mut self.message.taken));
        }
    }

    /// The request is whole: its copies go their ways.
    pub(crate) fn send(mut self: Box<Self>, trailers: Option<&Head>) {
        if let Some(why) = self.dropped {
            return self.count(why);
        }
        self.message.trailers = trailers.cloned();
        let Self { desk, to, message, limit, client, .. } = *self;
        let message = Rc::new(message);
        for one in to {
            let Some(guard) = one.upstream.mirror() else {
                desk.metrics().mirror(Mirroring::TooMany);
                continue;
            };
            let (message, client) = (Rc::clone(&message), Rc::clone(&client));
            tokio::task::spawn_local(async move {
                let result = deliver(&message, &one, &client, limit).await;
                message.desk.metrics().mirror(result);
                drop(guard);
            });
        }
    }

    /// The request has ended before it was whole.
    pub(crate) fn give_up(self: Box<Self>) {
        self.count(self.dropped.unwrap_or(Mirroring::Incomplete));
    }

    fn count(&self, why: Mirroring) {
        self.to.iter().for_each(|_| self.desk.metrics().mirror(why));
    }
}

/// Sends a copy to an endpoint, which is judged by its answer as by any other.
async fn deliver(message: &Message, to: &Where, client: &Rc<Facts>, limit: Duration) -> Mirroring {
    let Ok(picked) = to.upstream.pick_by(None, &[], || fastrand::u32(..)) else { return Mirroring::NoEndpoint };
    let _counted = match to.upstream.breaker.as_deref().map(Breaker::request) {
        Some(Err(_)) => return Mirroring::NoEndpoint,
        Some(Ok(counted)) => counted,
        None => None,
    };
    let mut heard = false;
    let (outcome, result) = match timeout(limit, exchange(message, to, &picked, client, &mut heard)).await {
        Ok(Ok(())) => (None, Mirroring::Answered),
        Ok(Err(Unsent)) => return Mirroring::NoEndpoint,
        Ok(Err(Lost)) => (Some(Outcome::Failed), Mirroring::Failed),
        // An answer that has begun may be as long as it likes: that it is not heard to its end is not its endpoint's fault.
        Err(_) => ((!heard).then_some(Outcome::TimedOut), Mirroring::TimedOut),
    };
    record(message, to, &picked, outcome);
    result
}

fn record(message: &Message, to: &Where, picked: &Picked, outcome: Option<Outcome>) {
    if let Some(outcome) = outcome {
        to.upstream.record(picked.endpoint, outcome, message.desk.metrics());
    }
}

/// Why there is no answer to a copy.
enum NoAnswer {
    /// The cluster has no connection left for it.
    Unsent,
    /// The endpoint gives none.
    Lost,
}

/// Sends a copy and reads its answer to the end, so that the connection can serve the next one. `heard`: the answer has begun,
/// and its endpoint was judged by that.
async fn exchange(
    message: &Message,
    to: &Where,
    picked: &Picked,
    client: &Rc<Facts>,
    heard: &mut bool,
) -> Result<(), NoAnswer> {
    let mut head = message.head.clone();
    head.set(Name::XEnvoyDecorator, to.upstream.decorator.as_bytes());
    if to.shadow {
        let host = shadow_host(head.authority());
        head.set_authority(host.as_bytes());
    }
    let Open { mut up, dial, place } = open(&message.desk, to, picked, head.authority(), client).await?;
    let last = matches!((&up, dial.requests), (Up::H1(client), Some(limit)) if client.requests + 1 >= limit);
    up.send_head(&head, last).map_err(|_| Lost)?;
    let mut delivery = Delivery { sent: 0, ended: false, answered: false };
    let mut answer = Head::default();
    poll_fn(|cx| delivery.poll_head(message, &mut up, &mut answer, cx)).await.map_err(|_| Lost)?;
    *heard = true;
    record(message, to, picked, outcome_of_head(message.grpc, answer.status, grpc_status(&answer)));
    poll_fn(|cx| delivery.poll_end(message, &mut up, cx)).await.map_err(|_| Lost)?;
    if let Some(trailers) = up.trailers().filter(|_| message.grpc && answer.status == 200) {
        record(message, to, picked, grpc_status(trailers).map(Outcome::Grpc));
    }
    if let Up::H1(client) = up
        && client.is_reusable()
        && dial.requests.is_none_or(|limit| client.requests < limit)
        // One that is counted is not kept from requests that wait for it.
        && client.terms.as_ref().is_none_or(|terms| terms.permit.is_none() && !terms.are_over())
    {
        message.desk.mirrors.idle.put(place, &dial, client, Instant::now());
    }
    Ok(())
}

struct Open {
    up: Up,
    dial: Arc<Dial>,
    place: Place,
}

/// A connection to the endpoint of a copy. Requests are never given one of these, nor copies one of theirs.
async fn open(desk: &Rc<Desk>, to: &Where, picked: &Picked, host: &str, client: &Rc<Facts>) -> Result<Open, NoAnswer> {
    let endpoint = to.upstream.cluster.endpoints.get(picked.endpoint).ok_or(Unsent)?;
    let dial = Arc::clone(to.upstream.dial(endpoint.tls, to.h2).ok_or(Unsent)?);
    let place = Place::new(&dial, endpoint.address, host, client);
    let pools = &desk.mirrors;
    let way = To { address: endpoint.address, host, client };
    if dial.h2 {
        if let Some(stream) = pools.shared.find(&place, h2::client::Connection::stream) {
            return Ok(Open { up: Up::H2(Box::new(stream)), dial, place });
        }
        let connected = shared(&pools.shared, desk.metrics(), dial, way, place, None).await.map_err(|_| Lost)?;
        return Ok(Open { up: connected.up, dial: connected.dial, place: connected.place });
    }
    let mut cx = Context::from_waker(Waker::noop());
    let quiet = |client: &mut Box<h1::client::Client>| client.is_quiet(&mut cx);
    if let Some(kept) = pools.idle.take(&place, Instant::now(), quiet) {
        return Ok(Open { up: Up::H1(kept), dial, place });
    }
    let permit = match to.upstream.breaker.as_deref().and_then(Breaker::gate) {
        Some(gate) => Some(gate.permit().ok_or(Unsent)?),
        None => None,
    };
    let connection = connect(&dial, &way, None, desk.metrics()).await.map_err(|_| Lost)?;
    let mut fresh = h1::client::Client::new(connection);
    fresh.terms = Terms::of(&dial, permit, client);
    Ok(Open { up: Up::H1(Box::new(fresh)), dial, place })
}

/// How far a copy and its answer have come.
struct Delivery {
    sent: usize,
    ended: bool,
    answered: bool,
}

impl Delivery {
    fn poll_head(
        &mut self,
        message: &Message,
        up: &mut Up,
        answer: &mut Head,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        self.write(message, up, cx)?;
        while !self.answered {
            match up.poll_head(cx, answer)? {
                Poll::Ready(()) => self.answered = answer.status >= 200,
                Poll::Pending => break,
            }
        }
        let _ = up.poll_flush(cx)?;
        if self.answered { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_end(&mut self, message: &Message, up: &mut Up, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.write(message, up, cx)?;
        let _ = up.poll_flush(cx)?;
        while let Poll::Ready(piece) = up.poll_data(cx)? {
            match piece {
                Piece::Data(count) => up.give(count, |_| Ok(()))?,
                Piece::End => return Poll::Ready(Ok(())),
            }
        }
        Poll::Pending
    }

    fn write(&mut self, message: &Message, up: &mut Up, cx: &mut Context<'_>) -> Result<(), Broken> {
        while self.sent < message.body.len() {
            let left = message.body.len() - self.sent;
            let Poll::Ready(room) = up.poll_room(cx, left) else { return Ok(()) };
            let count = room?.min(left);
            up.send(&message.body[self.sent..self.sent + count])?;
            self.sent += count;
        }
        if !std::mem::replace(&mut self.ended, true) {
            up.end(message.trailers.as_ref())?;
        }
        Ok(())
    }
}

/// What becomes of the copy of a request whose end does not come.
pub(crate) fn abandon(exchange: &mut Exchange) {
    if let Some(copy) = exchange.mirror.take() {
        copy.give_up();
    }
}
