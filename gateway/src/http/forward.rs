//! From an admitted request to its answer: pick, connect, send, stream both directions at once.

use std::{
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::time::Instant;

use super::{
    attempt::{self, Connected},
    desk::Desk,
    edit,
    exchange::{Exchange, Heads},
    failure::Failure,
    flow::{Broken, Fault, Piece, Sink as _, Source as _, Waits},
    head::{Head, Length},
    limits::{BODY, INTERIM, REPLAY_FREE, STREAM_IDLE, WRITE},
    mirror,
    outcome::{Stop, answered, broke},
    overdue::Overdue,
    record::{self, grpc_status},
    replay::Replay,
    reply, retry,
    side::{Down, Up},
    spans, trace,
};

/// Forwards a request. `true`: the client's connection can go on.
///
/// # Errors
/// Why there is no answer; the client has not been told.
pub(crate) async fn forward(
    desk: &Rc<Desk>,
    exchange: &mut Exchange,
    heads: &mut Heads,
    down: &mut Down<'_>,
    close: bool,
) -> Result<bool, Failure> {
    let held = exchange.held.take().map(|held| held.release());
    // What was held has room of its own, and keeps it.
    let room = if held.is_some() { &desk.live.held } else { &desk.live.replayed };
    let mut replay = Replay::after(held, &heads.request, room);
    let connected = loop {
        unless_gone(down, attempt::back_off(exchange)).await?;
        if let Some(connected) = one_try(desk, exchange, heads, down, &mut replay).await? {
            break connected;
        }
    };
    drop(replay);
    edit::response(exchange, heads);
    exchange.status = heads.response.status;
    Ok(stream(desk, exchange, heads, down, connected, close).await)
}

/// One try, as far as the head of an answer. `None`: another one is to follow.
async fn one_try(
    desk: &Rc<Desk>,
    exchange: &mut Exchange,
    heads: &mut Heads,
    down: &mut Down<'_>,
    replay: &mut Replay<'_>,
) -> Result<Option<Connected>, Failure> {
    let h2 = down.is_h2();
    // What an earlier one was connected to says nothing of this one.
    exchange.upstream = None;
    trace::begin_try(exchange);
    let mut connected = match unless_gone(down, attempt::next(desk, exchange, &heads.request, h2)).await? {
        Ok(connected) => connected,
        Err(mut failure) => {
            attempt::record_no_connection(desk, exchange, &failure);
            if !retry::after_no_connection(exchange, &mut failure, desk.metrics()) {
                return Err(failure);
            }
            spans::tried(&desk.telemetry, exchange, heads, Some(&failure));
            return Ok(None);
        }
    };
    // A kept connection takes no time worth a look at the clock.
    exchange.sent = Some(if connected.reused && exchange.tries.count == 1 { exchange.started } else { Instant::now() });
    exchange.goes_over(connected.up.facts(), connected.dial.h2);
    heads.sent.copy(&heads.request);
    edit::request(exchange, &mut heads.sent);
    if exchange.mirror.is_none() {
        exchange.mirror = mirror::begin(desk, exchange, &heads.sent, h2);
        replay.copy_held(exchange, down);
    }
    if matches!(connected.up, Up::H1(_)) {
        heads.complete_key();
    }
    replay.rewind();
    let last = is_last(&connected);
    let mut asked = connected.up.send_head(&heads.sent, last).map_err(Stop::Endpoint);
    if asked.is_ok() {
        asked = answer(exchange, &mut heads.response, down, &mut connected.up, replay).await;
    }
    match asked {
        Ok(()) if answered(desk, exchange, heads, (&connected, replay.is_whole())) => {
            // Apart, as dialling: what few requests need takes no room in every request's future.
            Box::pin(discard(desk, connected)).await;
            Ok(None)
        }
        Ok(()) => Ok(Some(connected)),
        Err(stop) => broke(desk, exchange, heads, (&connected, replay.is_whole()), stop),
    }
}

/// Keeps the connection of an answer that nobody wants, when all of the answer is there.
async fn discard(desk: &Desk, mut connected: Connected) {
    let over = poll_fn(|cx| {
        while let Poll::Ready(Ok(piece)) = connected.up.poll_data(cx) {
            match piece {
                Piece::End => return Poll::Ready(true),
                Piece::Data(count) if connected.up.give(count, |_| Ok(())).is_ok() => {}
                Piece::Data(_) => break,
            }
        }
        Poll::Ready(false)
    });
    if over.await {
        keep(desk, connected, Instant::now());
    }
}

/// Waits for something that serves the client alone, as long as it is there.
pub(super) async fn unless_gone<T>(down: &mut Down<'_>, work: impl Future<Output = T>) -> Result<T, Failure> {
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => down.poll_gone(cx).map(|()| Err(Failure::DownstreamClosed)),
    })
    .await
}

/// Istio `maxRequestsPerConnection`: whether this is the last request of an HTTP/1.1 connection.
fn is_last(connected: &Connected) -> bool {
    match (&connected.up, connected.dial.requests) {
        (Up::H1(client), Some(limit)) => client.requests + 1 >= limit,
        _ => false,
    }
}

/// A client that broke: gone, or against the rules.
pub(super) fn client(broken: &Broken) -> Failure {
    match broken {
        Broken::Malformed(why) => Failure::BadRequest(why),
        Broken::Closed { .. } | Broken::Reset { .. } | Broken::Stalled => Failure::DownstreamClosed,
    }
}

/// Sends the request and waits for the head of its answer; interim answers are passed on meanwhile.
async fn answer(
    exchange: &mut Exchange,
    response: &mut Head,
    down: &mut Down<'_>,
    up: &mut Up,
    replay: &mut Replay<'_>,
) -> Result<(), Stop> {
    let now = exchange.sent.unwrap_or(exchange.started);
    let mut wait =
        Wait { progress: Progress { moved: 0, last: now }, per_try: None, timed: false, deaf: false, interim: 0 };
    poll_fn(|cx| wait.poll(exchange, response, down, up, replay, cx)).await
}

/// The wait for an answer.
struct Wait {
    progress: Progress,
    per_try: Option<Instant>,
    /// The route's timeouts run.
    timed: bool,
    /// The endpoint takes no more of the request; it may have answered all the same.
    deaf: bool,
    /// Interim answers so far.
    interim: u32,
}

impl Wait {
    #[expect(clippy::too_many_arguments, reason = "the two sides, what moves between them, and who waits")]
    fn poll(
        &mut self,
        exchange: &mut Exchange,
        response: &mut Head,
        down: &mut Down<'_>,
        up: &mut Up,
        replay: &mut Replay<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Stop>> {
        let mut waits = Waits::Done;
        if !self.deaf {
            match replay.pump(exchange, down, up, cx) {
                Ok(now) => waits = now,
                Err(Fault::Source(broken)) => return Poll::Ready(Err(Stop::Client(client(&broken)))),
                Err(Fault::Sink(_)) => self.deaf = true,
            }
        }
        loop {
            match up.poll_head(cx, response) {
                Poll::Ready(Ok(())) if response.status < 200 && response.status != 101 => {
                    self.interim += 1;
                    if self.interim > INTERIM {
                        let broken = Broken::Malformed("it sends interim answers without end");
                        return Poll::Ready(Err(Stop::Endpoint(broken)));
                    }
                    down.send_interim(response);
                }
                Poll::Ready(answered) => return Poll::Ready(answered.map_err(Stop::Endpoint)),
                Poll::Pending => break,
            }
        }
        // What is wrong with a socket shows when it is read.
        let _ = up.poll_flush(cx);
        let _ = down.poll_flush(cx);
        if exchange.request.done {
            self.start_timeouts(exchange, replay.upgrade);
        }
        // HTTP/1.1 tells only once all of the request has come.
        if (exchange.request.done || down.is_h2()) && down.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Stop::Client(Failure::DownstreamClosed)));
        }
        self.progress.note(exchange.request.bytes);
        self.limit(exchange, down, waits, cx)
    }

    /// Envoy starts the route's timeouts with the end of the request.
    fn start_timeouts(&mut self, exchange: &mut Exchange, upgrade: bool) {
        if self.timed || upgrade {
            return;
        }
        self.timed = true;
        let Some(rule) = &exchange.rule else { return };
        if rule.timeout.is_none() && rule.retries().per_try_timeout.is_none() {
            return;
        }
        let now = Instant::now();
        if exchange.deadline.is_none() {
            exchange.deadline = rule.timeout.map(|timeout| now + timeout);
        }
        self.per_try = rule.retries().per_try_timeout.map(|timeout| now + timeout);
    }

    fn limit(
        &self,
        exchange: &Exchange,
        down: &mut Down<'_>,
        waits: Waits,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Stop>> {
        let h2 = down.is_h2();
        let (at, failure) = match (exchange.deadline, self.per_try, waits) {
            (deadline, Some(per_try), _) if deadline.is_none_or(|deadline| per_try < deadline) => {
                (Some(per_try), Failure::PerTryTimeout)
            }
            (Some(deadline), ..) => (Some(deadline), Failure::RouteTimeout),
            (None, _, Waits::Source) if !exchange.request.done => {
                // On HTTP/2 a stream may be a conversation, in which the client waits for its turn.
                let limit = if h2 { STREAM_IDLE } else { BODY };
                (Some(self.progress.last + limit), Failure::BodyTimeout)
            }
            (None, _, Waits::Sink) => (Some(self.progress.last + WRITE), Failure::RouteTimeout),
            (None, ..) => (None, Failure::RouteTimeout),
        };
        down.deadline().set(at);
        let late = down.deadline().poll(cx);
        late.map(|()| Err(if failure == Failure::BodyTimeout { Stop::Client(failure) } else { Stop::Late(failure) }))
    }
}

/// When something last moved.
struct Progress {
    moved: u64,
    last: Instant,
}

impl Progress {
    fn note(&mut self, moved: u64) {
        if self.moved != moved {
            *self = Self { moved, last: Instant::now() };
        }
    }
}

/// Streams the answer and what is left of the request. `true`: the client's connection can go on.
#[expect(clippy::too_many_arguments, reason = "the last step of `forward`, with the connection it has found")]
async fn stream(
    desk: &Desk,
    exchange: &mut Exchange,
    heads: &mut Heads,
    down: &mut Down<'_>,
    mut connected: Connected,
    close: bool,
) -> bool {
    exchange.on_its_way = None;
    let empty = matches!(heads.response.length, Length::Empty | Length::Exact(0));
    let tunnel = heads.response.upgrade.is_some();
    // What follows a request for a tunnel that was refused may be the tunnel's: it is not taken for a request.
    let refused = heads.request.upgrade.is_some() && !tunnel;
    let close = close || desk.is_draining() || down.is_last(&desk.live) || refused || (!tunnel && !down.is_read());
    if tunnel {
        // What the client sends from here on belongs to the tunnel.
        exchange.request.done = false;
        heads.complete_upgrade(down.is_h2());
    }
    let mut ended = match reply::head_room(down).await {
        Ok(()) => down.send_head(&heads.response, close, empty).map_err(|_| Failure::DownstreamClosed),
        Err(_) => Err(Failure::DownstreamClosed),
    };
    if ended.is_ok() {
        let now = exchange.answered.unwrap_or(exchange.started);
        let mut relay = Relay { progress: Progress { moved: u64::MAX, last: now }, tunnel, deaf: false };
        let mut timer = pin!(record::timer(exchange, now));
        let mut overdue = Overdue::watch(desk, down, tunnel);
        ended = poll_fn(|cx| match overdue.poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(Failure::Outdated)),
            Poll::Pending => {
                let polled = relay.poll(exchange, down, &mut connected.up, cx);
                if polled.is_pending() {
                    record::progress(&desk.telemetry, exchange, heads, timer.as_mut(), cx);
                }
                polled
            }
        })
        .await;
    }
    exchange.has_moved(&connected.up);
    if let Some(trailers) = connected.up.trailers() {
        exchange.grpc_status = grpc_status(trailers).or(exchange.grpc_status);
        exchange.trailers = exchange.installed.demands.trailers.then(|| Box::new(trailers.clone()));
        attempt::record_trailers(desk, exchange);
    }
    if let Some(outcome) = ended.as_ref().err().and_then(attempt::outcome) {
        attempt::record(desk, exchange, outcome);
    }
    match ended {
        Ok(()) => {
            let small = exchange.response.bytes < REPLAY_FREE as u64 && exchange.request.bytes < REPLAY_FREE as u64;
            let now = exchange.answered.filter(|_| small).unwrap_or_else(Instant::now);
            keep(desk, connected, now);
            !tunnel && !close && down.is_read()
        }
        Err(failure) => {
            down.abort(matches!(failure, Failure::BadRequest(_)));
            exchange.failure = Some(failure);
            false
        }
    }
}

/// Keeps the endpoint's connection for the next request, when it can take one.
fn keep(desk: &Desk, connected: Connected, now: Instant) {
    let Connected { up, dial, place, .. } = connected;
    if let Up::H1(client) = up
        && client.is_reusable()
        && dial.requests.is_none_or(|limit| client.requests < limit)
    {
        desk.keep(place, &dial, client, now);
    }
}

/// Both directions of an answer that has begun.
struct Relay {
    progress: Progress,
    tunnel: bool,
    deaf: bool,
}

impl Relay {
    fn poll(
        &mut self,
        exchange: &mut Exchange,
        down: &mut Down<'_>,
        up: &mut Up,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        let mut uploads = Waits::Done;
        if !self.deaf {
            match exchange.pump_request(down, up, cx, |_| ()) {
                Ok(now) => uploads = now,
                Err(Fault::Source(broken)) => return Poll::Ready(Err(client(&broken))),
                // The answer goes on without it.
                Err(Fault::Sink(_)) => self.deaf = true,
            }
        }
        let waits = match exchange.response.pump(up, down, cx, |_| ()) {
            Ok(waits) => waits,
            Err(Fault::Source(broken)) => {
                let _ = down.poll_flush(cx);
                return Poll::Ready(Err(Stop::Endpoint(broken).explain().1));
            }
            Err(Fault::Sink(_)) => return Poll::Ready(Err(Failure::DownstreamClosed)),
        };
        let sent = up.poll_flush(cx);
        let written = match down.poll_flush(cx) {
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::DownstreamClosed)),
            written => written.is_ready(),
        };
        let uploaded = exchange.request.done && sent.is_ready();
        if waits == Waits::Done && written && (!self.tunnel || uploaded || self.deaf) {
            return Poll::Ready(Ok(()));
        }
        let tells = down.is_h2() || (!self.tunnel && exchange.request.done);
        if tells && down.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Failure::DownstreamClosed));
        }
        let moved = exchange.response.bytes.wrapping_sub(down.unsent() as u64);
        // Only who is waited for has to move.
        let half_closed = self.tunnel && (exchange.request.done != exchange.response.done);
        let stalled = (!written || waits == Waits::Sink || uploads == Waits::Sink || half_closed).then(|| {
            self.progress.note(moved.wrapping_add(exchange.request.bytes));
            self.progress.last + if half_closed { STREAM_IDLE } else { WRITE }
        });
        let route = exchange.deadline.filter(|_| !self.tunnel);
        let at = [stalled, route].into_iter().flatten().min();
        down.deadline().set(at);
        down.deadline().poll(cx).map(|()| {
            Err(if route.is_some() && route == at { Failure::RouteTimeout } else { Failure::DownstreamClosed })
        })
    }
}
