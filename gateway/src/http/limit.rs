//! Rate limits: a request that keeps within all that are about it goes on, any other is told when to come again.

mod protocol;
mod service;

use std::{sync::Arc, time::Duration};

pub(crate) use service::ask_and_go;

use routing::{
    guard::Guard,
    limits::{Asked, Limit, Limits, Place, Rate, Refused},
    request::RequestView,
};

use super::{
    admit::view,
    buckets::{Taken, Verdict},
    exchange::Exchange,
    failure::Failure,
    guard,
    head::Head,
};
use crate::{live::Installed, net::facts::Arrival};

/// How a client stands with its limit, for the header fields of the answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Allowance {
    /// Name of the limit.
    pub(crate) name: Arc<str>,
    /// Requests in a window.
    pub(crate) quota: u64,
    /// Its length.
    pub(crate) window: Duration,
    /// How many are left.
    pub(crate) left: u64,
    /// When all are there again; of one that was turned away, when the next one is.
    pub(crate) reset: Duration,
}

/// What the answer says of limits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// How the client stands, where it is to know.
    pub(crate) allowance: Option<Allowance>,
    /// It was turned away, and may come again after this time.
    pub(crate) wait: Option<Duration>,
    /// It was turned away.
    pub(crate) refused: bool,
    /// What a service that counts wants the client to see.
    pub(crate) more: Vec<(String, String)>,
}

/// The limits that may be about a request.
pub(super) fn limits(exchange: &Exchange) -> Option<&Limits> {
    guard::before(exchange).and_then(|guard: &Guard| guard.limits.as_ref())
}

/// What limits look at.
pub(super) fn asked<'a>(exchange: &'a Exchange, request: &'a Head) -> Asked<'a> {
    let (port, inbound) = match exchange.arrival() {
        Arrival::Gateway { port, .. } => (port, None),
        Arrival::Inbound { port, .. } => (port, Some(port)),
        _ => (0, None),
    };
    let view = view(request, exchange.scheme(), port);
    Asked {
        request: RequestView { token: exchange.token.as_deref(), ..view },
        client: guard::remote(exchange, request),
        peer: exchange.facts.peer(),
        route: exchange.rule.as_deref(),
        inbound,
    }
}

/// Whether a service may have to be asked about a request.
pub(crate) fn asks(exchange: &Exchange) -> bool {
    limits(exchange).is_some_and(Limits::asks)
}

/// Takes a request from all limits that this proxy counts, or from none. Its route is known, where it has one.
///
/// # Errors
/// [`Failure::RateLimited`].
pub(crate) fn take(exchange: &mut Exchange, request: &Head) -> Result<(), Failure> {
    let Some(limits) = limits(exchange) else { return Ok(()) };
    let mut round =
        Round { exchange, asked: asked(exchange, request), now: None, taken: Puts::default(), tightest: None };
    let result = limits.each(&round.asked.clone(), |number, limit| match &limit.place {
        Place::Local(rate) => round.take(number, limit, rate),
        Place::Global(_) => Ok(()),
    });
    match result {
        Ok(()) => {
            let (taken, tightest) = (round.taken, round.tightest);
            // What a service refuses later is put back.
            if limits.asks() {
                exchange.taken = Some(Box::new(taken));
            }
            if let Some(allowance) = tightest {
                exchange.told.get_or_insert_default().allowance = Some(allowance);
            }
            Ok(())
        }
        Err(refused) => {
            let (failure, told) = *refused;
            round.taken.give_back(&round.exchange.installed, limits);
            exchange.told = Some(Box::new(told));
            Err(failure)
        }
    }
}

/// One request and the limits that it is taken from.
struct Round<'a> {
    exchange: &'a Exchange,
    asked: Asked<'a>,
    now: Option<u64>,
    /// To be put back when another limit refuses.
    taken: Puts,
    tightest: Option<Allowance>,
}

impl Round<'_> {
    fn take(&mut self, number: usize, limit: &Limit, rate: &Rate) -> Result<(), Box<(Failure, Told)>> {
        let (buckets, held) = (&self.exchange.installed.buckets, &self.exchange.installed.limits[number]);
        let Some(mut taken) = buckets.client(held, limit, &self.asked) else { return Ok(()) };
        let now = *self.now.get_or_insert_with(|| buckets.now());
        match buckets.take(held, rate, &mut taken, now) {
            Ok(full) => {
                held.count(Verdict::Passed);
                self.taken.push(number, taken);
                if limit.tells_passed {
                    let (left, reset) = (rate.left(full, now), Rate::fills_in(full, now));
                    self.note(allowance(limit, rate, left, reset));
                }
                Ok(())
            }
            Err(_) if limit.dry_run => {
                held.count(Verdict::DryRun);
                if held.may_tell(now) {
                    tracing::info!(limit = %limit.name, "requests are above this limit and pass, as it is a dry run");
                }
                Ok(())
            }
            Err(Refused(wait)) => {
                held.count(Verdict::Refused);
                let allowance = limit.tells_refused.then(|| allowance(limit, rate, 0, wait));
                let failure =
                    Failure::RateLimited { limit: Arc::clone(&limit.name), status: limit.status, global: false };
                Err(Box::new((failure, Told { allowance, wait: Some(wait), refused: true, more: Vec::new() })))
            }
        }
    }

    /// Of several, the one with the least left counts.
    fn note(&mut self, allowance: Allowance) {
        if self.tightest.as_ref().is_none_or(|other| allowance.left < other.left) {
            self.tightest = Some(allowance);
        }
    }
}

/// Puts back all that a request was taken from, as it does not go on.
fn give_back(exchange: &mut Exchange) {
    let taken = exchange.taken.take();
    if let (Some(taken), Some(limits)) = (taken, limits(exchange)) {
        taken.give_back(&exchange.installed, limits);
    }
}

/// What was taken. Few requests have many limits: of those no more than this is kept without taking memory.
#[derive(Default)]
pub(crate) struct Puts {
    near: [Option<(usize, Taken)>; 4],
    far: Vec<(usize, Taken)>,
}

impl Puts {
    fn push(&mut self, number: usize, taken: Taken) {
        match self.near.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some((number, taken)),
            None => self.far.push((number, taken)),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &(usize, Taken)> {
        self.near.iter().flatten().chain(&self.far)
    }

    fn give_back(&self, installed: &Installed, limits: &Limits) {
        for (number, taken) in self.iter() {
            if let Place::Local(rate) = &limits.all()[*number].place {
                installed.buckets.give_back(&installed.limits[*number], rate, *taken);
            }
        }
    }
}

fn allowance(limit: &Limit, rate: &Rate, left: u64, reset: Duration) -> Allowance {
    let quota = u64::from(rate.requests);
    Allowance { name: Arc::clone(&limit.short), quota, window: rate.period, left, reset }
}

/// How an answer says how much is left, in the form that many APIs use: limit, rest, and seconds until all is there again.
const SINGLE: [&[u8]; 3] = [b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset"];

/// How much is left by the word of whoever answered.
fn theirs(head: &Head) -> Option<u64> {
    let mut values = head.fields().filter(|(_, name, _)| name.eq_ignore_ascii_case(SINGLE[1])).map(|(.., value)| value);
    std::str::from_utf8(values.next()?).ok()?.trim().parse().ok()
}

/// Whole seconds, of which a client waits rather one too many.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl Told {
    /// Adds it to the head of an answer: by the standard's draft (draft-ietf-httpapi-ratelimit-headers), and in the form that
    /// Envoy and many APIs use.
    pub(crate) fn tell(&self, head: &mut Head) {
        if self.refused {
            head.push(b"x-envoy-ratelimited", b"true");
        }
        if let Some(wait) = self.wait {
            head.push(b"retry-after", seconds(wait).max(1).to_string().as_bytes());
        }
        for (name, value) in &self.more {
            head.push(name.as_bytes(), value.as_bytes());
        }
        let Some(Allowance { name, quota, window, left, reset }) = &self.allowance else { return };
        let (window, reset) = (seconds(*window), seconds(*reset));
        let mut push = |field: &[u8], value: String| head.push(field, value.as_bytes());
        push(b"ratelimit-policy", format!("\"{name}\";q={quota};w={window}"));
        push(b"ratelimit", format!("\"{name}\";r={left};t={reset}"));
        // The fields of the draft are lists, in which every limit on the way has its place. These are single numbers: of two
        // limits the client is told the one that is nearer.
        if theirs(head).is_some_and(|theirs| theirs <= *left) {
            return;
        }
        head.remove_if(|_, field| SINGLE.iter().any(|single| field.eq_ignore_ascii_case(single)));
        let values = [format!("{quota}, {quota};w={window};name=\"{name}\""), left.to_string(), reset.to_string()];
        SINGLE.iter().zip(values).for_each(|(field, value)| head.push(field, value.as_bytes()));
    }
}
