//! Tells collectors what waits for them. A collector is reached as any destination of the mesh: by its DestinationRule, in mutual
//! TLS where that is spoken, and with the worker's own connections.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use routing::telemetry::tracing::Form;
use tokio::{
    task::spawn_local,
    time::{sleep, timeout},
};

use super::{
    admit::speaks_h2,
    call::{Call, Heard, NoAnswer, Way, call},
    desk::Desk,
    grpc::{Method, NoMessage, authority_of, unary},
    head::{Head, Length},
    limits::ANSWER,
    name::Name,
};
use crate::{
    net::facts::{Arrival, Facts},
    telemetry::{
        exports::{Batch, Destination, Item},
        metrics::exports::Result as Outcome,
        otlp::{self, ExportResponse, LOGS, TRACES},
        zipkin,
    },
};

/// So long the first of a batch waits for company.
const GATHER: Duration = Duration::from_secs(1);
/// Tries of a batch, and the pause behind the first, which doubles.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);

/// Sends what waits, as long as the worker lives.
pub(crate) async fn export(desk: Rc<Desk>) {
    let nobody = Rc::new(Facts::new(
        SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::from(([0, 0, 0, 0], 0)),
        Arrival::Upstream,
    ));
    let exports = &desk.telemetry.exports;
    loop {
        if !exports.is_ready() {
            exports.some.notified().await;
        }
        // Nothing is lost by it: what is there now goes with the next.
        let _ = timeout(GATHER, exports.much.notified()).await;
        while let Some(batch) = exports.batch() {
            let (desk, nobody) = (Rc::clone(&desk), Rc::clone(&nobody));
            spawn_local(async move {
                send(&desk, &nobody, &batch).await;
                desk.telemetry.exports.done(&batch.to, batch.items.len());
            });
        }
    }
}

/// Why a batch was not taken.
enum NotTaken {
    /// It may be taken later.
    Later(String),
    /// It never will.
    Never(String),
}

/// Sends one batch, again and again if need be.
async fn send(desk: &Desk, nobody: &Rc<Facts>, Batch { to, items: batch }: &Batch) {
    let mut pause = PAUSE;
    for attempt in 1..=TRIES {
        match once(desk, nobody, to, batch).await {
            Ok(rejected) => {
                to.counted.add(Outcome::Sent, batch.len() - rejected);
                to.counted.add(Outcome::Refused, rejected);
                return;
            }
            Err(NotTaken::Never(why)) => {
                tell(desk, to, &why);
                return to.counted.add(Outcome::Refused, batch.len());
            }
            Err(NotTaken::Later(why)) if attempt == TRIES => {
                tell(desk, to, &why);
                return to.counted.add(Outcome::Unreachable, batch.len());
            }
            Err(NotTaken::Later(_)) => {
                sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                pause *= 2;
            }
        }
    }
}

/// One line of a flood says enough.
fn tell(desk: &Desk, to: &Destination, why: &str) {
    let place = SocketAddr::from(([0, 0, 0, 0], 0));
    let message = format_args!("provider `{}` takes nothing: {why}; it is lost", to.collector.provider);
    desk.refusals.tell("Export", place, place, message);
}

/// `Ok`: how many of them the collector has not taken.
async fn once(desk: &Desk, nobody: &Rc<Facts>, to: &Destination, batch: &[Item]) -> Result<usize, NotTaken> {
    match &to.collector.form {
        Form::Grpc => by_grpc(desk, nobody, to, batch).await,
        Form::Http(path) => {
            let body = prost::Message::encode_to_vec(&otlp::traces(to, batch));
            let answer = by_http(desk, nobody, to, (path, "application/x-protobuf", &body)).await?;
            let answer: ExportResponse = prost::Message::decode(&*answer).unwrap_or_default();
            Ok(rejected(&answer, batch.len()))
        }
        Form::Zipkin(path) => {
            let body = zipkin::body(to, batch);
            by_http(desk, nobody, to, (path, "application/json", &body)).await.map(|_| 0)
        }
    }
}

fn rejected(answer: &ExportResponse, all: usize) -> usize {
    let rejected = answer.partial.as_ref().map_or(0, |partial| partial.rejected);
    usize::try_from(rejected).unwrap_or(0).min(all)
}

async fn by_grpc(desk: &Desk, nobody: &Rc<Facts>, to: &Destination, batch: &[Item]) -> Result<usize, NotTaken> {
    let way = Way::of_question(desk, &to.upstream, true, nobody);
    let authority = authority_of(&to.upstream.cluster.name);
    let limit = to.collector.timeout;
    let asked = if to.log.is_empty() {
        let method = Method { path: TRACES, authority: &authority, limit, headers: &to.headers };
        unary::<ExportResponse>(desk, way, method, otlp::traces(to, batch)).await
    } else {
        let method = Method { path: LOGS, authority: &authority, limit, headers: &to.headers };
        unary::<ExportResponse>(desk, way, method, otlp::logs(to, batch)).await
    };
    match asked {
        Ok(answer) => Ok(rejected(&answer, batch.len())),
        // OTLP's list of what may be tried again.
        Err(NoMessage::Status(status, words)) if !matches!(status, 1 | 4 | 8 | 10 | 11 | 14 | 15) => {
            Err(NotTaken::Never(format!("gRPC status {status}: {words}")))
        }
        Err(why) if is_answer(&why) => Err(NotTaken::Never(why.to_string())),
        Err(why) => Err(NotTaken::Later(why.to_string())),
    }
}

/// Whether somebody has answered who would say the same again: he may have taken it, or has no such service.
fn is_answer(why: &NoMessage) -> bool {
    match why {
        NoMessage::Malformed(_) => true,
        NoMessage::NotGrpc(status) => !may_come_later(*status),
        NoMessage::Unanswered(why) => matches!(why, NoAnswer::TooLarge),
        NoMessage::Status(..) => false,
    }
}

/// What OTLP says of answers in HTTP.
fn may_come_later(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

async fn by_http(
    desk: &Desk,
    nobody: &Rc<Facts>,
    to: &Destination,
    (path, kind, body): (&str, &str, &[u8]),
) -> Result<Vec<u8>, NotTaken> {
    let cluster = &to.upstream.cluster;
    let mut head = Head::default();
    head.set_method(b"POST");
    head.set_target(path.as_bytes());
    head.set_authority(cluster.host.as_bytes());
    head.length = Length::Exact(body.len() as u64);
    head.append(Name::ContentType, kind.as_bytes());
    for (name, value) in &to.headers {
        head.push(name.as_bytes(), value.as_bytes());
    }
    let way = Way::of_question(desk, &to.upstream, speaks_h2(cluster.protocol, false), nobody);
    let question = Call { head: &head, body, trailers: None, grpc: false, again: true };
    let mut heard = Heard::all(ANSWER);
    let answered = call(desk, way, question, to.collector.timeout, &mut heard).await;
    answered.map_err(|why| match why {
        NoAnswer::TooLarge => NotTaken::Never(why.why().to_owned()),
        why => NotTaken::Later(why.why().to_owned()),
    })?;
    match heard.head.status {
        200..=299 => Ok(heard.body),
        status if may_come_later(status) => Err(NotTaken::Later(format!("it answers with {status}"))),
        status => Err(NotTaken::Never(format!("it answers with {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_answered_is_not_sent_again_unless_the_answer_asks_for_it() {
        for status in [200, 400, 401, 404, 500] {
            assert!(is_answer(&NoMessage::NotGrpc(status)), "{status}");
        }
        for status in [429, 502, 503, 504] {
            assert!(!is_answer(&NoMessage::NotGrpc(status)), "{status}");
        }
        assert!(is_answer(&NoMessage::Malformed("an answer of gRPC without a message")));
        assert!(is_answer(&NoMessage::Unanswered(NoAnswer::TooLarge)));
        for why in [NoAnswer::TimedOut, NoAnswer::Unsent, NoAnswer::Lost("it is gone".to_owned())] {
            assert!(!is_answer(&NoMessage::Unanswered(why)));
        }
    }
}
