//! Connecting to a cluster with circuit breakers: as [`super::attempt::next`], with what has to be counted and waited for.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
};

use tokio::time::{Instant, timeout_at};

use super::{
    attempt::{Connected, FEW, no_connection},
    desk::Desk,
    exchange::Exchange,
    failure::Failure,
    h1,
    h2::client::{Connection, Known, Opening, Stream},
    side::Up,
};
use crate::{
    net::facts::Facts,
    upstream::{
        breaker::Breaker,
        connect::{To, connect},
        dial::Dial,
        endpoints::Upstream,
        gate::{Answer, Gate, Permit},
        pool::Place,
        terms::Terms,
    },
};

/// Where a try goes.
pub(super) struct Way<'a> {
    pub(super) upstream: Arc<Upstream>,
    pub(super) dial: Arc<Dial>,
    pub(super) place: Place,
    pub(super) address: SocketAddr,
    pub(super) host: &'a str,
}

/// A connection with room for a request, kept or made within the limits.
///
/// # Errors
/// [`Failure::Overflow`] when a limit is reached, else as without limits.
pub(super) async fn next(desk: &Desk, exchange: &Exchange, way: Way<'_>) -> Result<Connected, Failure> {
    let Some(breaker) = &way.upstream.breaker else { return Err(Failure::Internal("no limits")) };
    let seeker = Seeker { desk, breaker, way: &way, client: &exchange.facts, deadline: deadline(exchange) };
    let kept = if exchange.tries.refreshed && !way.dial.h2 { None } else { seeker.kept() };
    let (up, reused) = match kept {
        Some(up) => (up, true),
        None => {
            let _pending = breaker.wait().map_err(|_| Failure::Overflow)?;
            if way.dial.h2 { seeker.stream().await? } else { seeker.client().await? }
        }
    };
    let counted = breaker.request();
    let connected = Connected { up, dial: way.dial, place: way.place, reused, _counted: None };
    match counted {
        Ok(counted) => Ok(Connected { _counted: counted, ..connected }),
        Err(_) => {
            if let Up::H1(client) = connected.up {
                desk.keep(connected.place, &connected.dial, client, Instant::now());
            }
            Err(Failure::Overflow)
        }
    }
}

/// The same, over HTTP/1.1, for a question that the proxy asks on a client's behalf: its connections are those of requests, so
/// that they are counted with them and go around among them. It counts itself as a request, and its time is its caller's.
///
/// # Errors
/// As [`next`].
pub(super) async fn among_requests(
    desk: &Desk,
    client: &Rc<Facts>,
    way: Way<'_>,
    kept: bool,
) -> Result<Connected, Failure> {
    let Some(breaker) = &way.upstream.breaker else { return Err(Failure::Internal("no limits")) };
    let seeker = Seeker { desk, breaker, way: &way, client, deadline: None };
    let kept = if kept { seeker.kept() } else { None };
    let (up, reused) = match kept {
        Some(up) => (up, true),
        None => {
            let _pending = breaker.wait().map_err(|_| Failure::Overflow)?;
            seeker.client().await?
        }
    };
    Ok(Connected { up, dial: way.dial, place: way.place, reused, _counted: None })
}

/// When waiting for a connection ends. The route's timeout runs from the end of the request. Of one that is still sent nothing
/// is read meanwhile: the wait is counted from where forwarding begins, and that of a retry from its own beginning.
fn deadline(exchange: &Exchange) -> Option<Instant> {
    if exchange.deadline.is_some() {
        return exchange.deadline;
    }
    let timeout = exchange.rule.as_ref().and_then(|rule| rule.timeout)?;
    let from = if exchange.sent.is_some() { Instant::now() } else { exchange.delayed.unwrap_or(exchange.started) };
    Some(from + timeout)
}

struct Seeker<'a> {
    desk: &'a Desk,
    breaker: &'a Breaker,
    way: &'a Way<'a>,
    client: &'a Rc<Facts>,
    deadline: Option<Instant>,
}

impl Seeker<'_> {
    fn kept(&self) -> Option<Up> {
        let (desk, place) = (self.desk, &self.way.place);
        if self.way.dial.h2 {
            return self.shared().map(|stream| Up::H2(Box::new(stream)));
        }
        let mut cx = Context::from_waker(Waker::noop());
        let mut kept =
            desk.idle.take(place, Instant::now(), |client: &mut Box<h1::client::Client>| client.is_quiet(&mut cx))?;
        kept.resume();
        Some(Up::H1(kept))
    }

    fn shared(&self) -> Option<Stream> {
        self.desk.shared.find(&self.way.place, Connection::stream)
    }

    /// HTTP/1.1: a connection that was handed over, or a new one.
    async fn client(&self) -> Result<(Up, bool), Failure> {
        let permit = match self.breaker.gate() {
            None => None,
            Some(gate) => match self.turn(gate).await? {
                Turn::Dial(permit) => Some(permit),
                Turn::Handed(client) => return Ok((Up::H1(client), true)),
            },
        };
        let connection = self.connect().await?;
        let mut client = h1::client::Client::new(connection);
        client.terms = Terms::of(&self.way.dial, permit, self.client);
        Ok((Up::H1(Box::new(client)), false))
    }

    /// Waits until a connection may be made, or one is handed over.
    async fn turn(&self, gate: &Arc<Gate>) -> Result<Turn, Failure> {
        loop {
            let mut waiting = match gate.enter(&self.desk.worker, &self.way.place) {
                Ok(permit) => return Ok(Turn::Dial(permit)),
                Err(waiting) => waiting,
            };
            let hand = self.desk.hands.open(waiting.number);
            match self.in_time(waiting.answer()).await? {
                Answer::Dial(permit) => return Ok(Turn::Dial(permit)),
                Answer::Handed => {
                    let mut cx = Context::from_waker(Waker::noop());
                    if let Some(mut client) = hand.take() {
                        if client.is_quiet(&mut cx) {
                            return Ok(Turn::Handed(client));
                        }
                        // One that has ended meanwhile leaves its place to whoever it was meant for.
                        if let Some(permit) = client.terms.as_mut().and_then(|terms| terms.permit.take()) {
                            return Ok(Turn::Dial(permit));
                        }
                    }
                }
            }
        }
    }

    /// HTTP/2: a stream of a connection that has room, or of a new one. Each worker may have one connection to each
    /// endpoint, whatever the limit: streams on the connection of another worker are out of its reach.
    async fn stream(&self) -> Result<(Up, bool), Failure> {
        let (desk, way) = (self.desk, self.way);
        let dialling = desk.shared.dialling(&way.place);
        // Beyond a limit on connections one is forced at most, so one is made at a time.
        let few = self.breaker.gate().is_none() && way.dial.requests.is_some_and(|limit| limit < FEW);
        let _only_one = if few { None } else { Some(self.in_time(dialling.lock()).await?) };
        let permit = loop {
            if let Some(stream) = self.shared() {
                return Ok((Up::H2(Box::new(stream)), true));
            }
            let Some(gate) = self.breaker.gate() else { break None };
            // What has served all that it may gives its permit back now.
            desk.shared.shed(&way.place, Connection::is_dead);
            // One that is too old and cannot end takes no place: streams without end would keep all others waiting.
            let serves = |connection: &Connection| !connection.is_dead() && !connection.has_expired();
            if !desk.shared.has(&way.place, serves) {
                break Some(gate.permit().unwrap_or_else(|| gate.force()));
            }
            let mut waiting = match gate.enter(&desk.worker, &way.place) {
                Ok(permit) => break Some(permit),
                Err(waiting) => waiting,
            };
            let freed = desk.freed.notified();
            let either = async {
                tokio::select! {
                    answer = waiting.answer() => Some(answer),
                    () = freed => None,
                }
            };
            if let Some(Answer::Dial(permit)) = self.in_time(either).await? {
                break Some(permit);
            }
        };
        let connection = self.connect().await?;
        let terms = Terms::of(&way.dial, permit, self.client);
        let counted = terms.as_ref().is_some_and(|terms| terms.permit.is_some());
        let known = || {
            Rc::new(Known { freed: Rc::clone(&desk.freed), worker: Arc::clone(&desk.worker), place: way.place.clone() })
        };
        let opening = Opening { known: counted.then(known), terms, ..Opening::of(&way.dial) };
        let opened = Connection::open(connection, opening);
        let limit = Instant::now() + way.dial.connect_timeout;
        let opened = timeout_at(limit, opened).await.map_err(|_| Failure::ConnectTimeout)?;
        let mut open = opened.map_err(|why| Failure::Connect(format!("HTTP/2: {why}")))?;
        let stream = open.stream().ok_or(Failure::Connect("HTTP/2: a new connection takes no stream".into()))?;
        desk.shared.put(&way.place, &way.dial, open);
        Ok((Up::H2(Box::new(stream)), false))
    }

    async fn connect(&self) -> Result<crate::net::connection::Connection, Failure> {
        let to = To { address: self.way.address, host: self.way.host, client: self.client };
        connect(&self.way.dial, &to, self.deadline, self.desk.metrics()).await.map_err(no_connection)
    }

    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        match self.deadline {
            None => Ok(work.await),
            Some(deadline) => timeout_at(deadline, work).await.map_err(|_| Failure::RouteTimeout),
        }
    }
}

enum Turn {
    Dial(Permit),
    Handed(Box<h1::client::Client>),
}
