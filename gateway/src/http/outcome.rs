//! What comes of a try: the head of an answer, another try, or the end.

use tokio::time::Instant;

use super::{
    attempt::{self, Connected},
    desk::Desk,
    exchange::{Exchange, Heads},
    failure::Failure,
    flow::Broken,
    record::grpc_status,
    retry::{self, Tried},
    side::Up,
    spans,
};

/// Why a try ended without an answer.
pub(super) enum Stop {
    /// The client is the reason.
    Client(Failure),
    /// The endpoint is.
    Endpoint(Broken),
    /// It took too long.
    Late(Failure),
}

impl Stop {
    pub(super) fn explain(self) -> (Broken, Failure) {
        match self {
            Self::Client(failure) | Self::Late(failure) => (Broken::Stalled, failure),
            Self::Endpoint(broken) => {
                let failure = match &broken {
                    Broken::Closed { .. } => Failure::UpstreamClosed,
                    Broken::Reset { .. } => Failure::UpstreamReset,
                    Broken::Malformed(why) => Failure::UpstreamProtocol((*why).to_owned()),
                    Broken::Stalled => Failure::RouteTimeout,
                };
                (broken, failure)
            }
        }
    }
}

/// The head of an answer is there. `true`: another try follows it.
pub(super) fn answered(
    desk: &Desk,
    exchange: &mut Exchange,
    heads: &Heads,
    (connected, whole): (&Connected, bool),
) -> bool {
    let now = Instant::now();
    exchange.answered = Some(now);
    exchange.service_time = exchange.sent.map(|sent| now - sent);
    exchange.grpc_status = grpc_status(&heads.response);
    attempt::record_head(desk, exchange, heads.response.status);
    if !retry::after_answer(exchange, &heads.response, (connected.aged(), whole), desk.metrics()) {
        return false;
    }
    exchange.has_moved(&connected.up);
    spans::tried(&desk.telemetry, exchange, heads, None);
    true
}

/// There is no answer. `None`: another try follows.
pub(super) fn broke(
    desk: &Desk,
    exchange: &mut Exchange,
    heads: &Heads,
    (connected, whole): (&Connected, bool),
    stop: Stop,
) -> Result<Option<Connected>, Failure> {
    exchange.has_moved(&connected.up);
    if let Stop::Client(failure) = stop {
        return Err(failure);
    }
    let tried =
        Tried { reused: connected.reused, idempotent: retry::is_idempotent(heads.request.method()), replayable: whole };
    let (broken, mut failure) = stop.explain();
    let silent = silent_end(&broken) && !connected.reused;
    if silent {
        failure = of_silence(&connected.up).unwrap_or(failure);
    }
    // A kept connection that had ended meanwhile says nothing of its endpoint.
    if !(tried.reused && silent_end(&broken)) {
        attempt::record_failure(desk, exchange, &failure);
    }
    if !retry::after_break(exchange, &tried, &broken, &failure, desk.metrics()) {
        return Err(failure);
    }
    spans::tried(&desk.telemetry, exchange, heads, Some(&failure));
    Ok(None)
}

/// What it means when a new connection ends without an answer.
fn of_silence(up: &Up) -> Option<Failure> {
    match up.alert() {
        Some(why) => Some(Failure::UpstreamRefused(format!("TLS: {why}"))),
        None => up.facts().tls.is_none().then_some(Failure::UpstreamSilent),
    }
}

fn silent_end(broken: &Broken) -> bool {
    *broken == Broken::Closed { untouched: true }
}
