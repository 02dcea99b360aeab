//! The life of one HTTP connection: request after request on HTTP/1.1, stream beside stream on HTTP/2.

use std::{future::poll_fn, pin::pin, rc::Rc, sync::Arc, task::Poll};

use routing::guard::Guard;
use tokio::{sync::watch, time::Instant};

use super::{
    admit::{self, Admitted},
    desk::Desk,
    exchange::Exchange,
    failure::{Answer, Failure},
    forward::forward,
    guard,
    h1::server::{NoHead, Server},
    h2,
    head::Head,
    intercept::intercept,
    lent::{LentExchange, LentHeads},
    limit::ask_and_go,
    limits::{FIRST_REQUEST, IDLE},
    mirror, record, reply,
    side::Down,
    spans, tokens, trace,
};
use crate::net::{connection::Connection, facts::Facts, listen::Standing, standing::holds};

/// Serves a connection until it ends, or until it has to and its last request is answered.
pub(crate) async fn serve(desk: &Rc<Desk>, connection: Box<Connection>, standing: watch::Receiver<Standing>) {
    if connection.h2 {
        let (desk, refusals) = (Rc::clone(desk), Rc::clone(&desk.refusals));
        let (facts, live) = (Rc::clone(&connection.facts), Arc::clone(&desk.live));
        let terms = h2::server::Terms { live: &live, age: desk.age(), drain: desk.drain_time() };
        let start = move |mut stream: h2::server::Stream, heads, refused| {
            let desk = Rc::clone(&desk);
            tokio::task::spawn_local(async move {
                request(&desk, &mut Down::H2(&mut stream), heads, false, refused).await;
            });
        };
        let ended = Box::pin(h2::server::serve(connection, standing, terms, start)).await;
        if let Some(h2::server::Ended { reason, why }) = ended {
            refusals.tell(reason, facts.remote, facts.local, format_args!("HTTP/2 connection ended: {why}"));
        }
    } else {
        http1(desk, connection, standing).await;
    }
}

async fn http1(desk: &Rc<Desk>, connection: Box<Connection>, standing: watch::Receiver<Standing>) {
    let mut watched = standing.clone();
    let mut server = Server::new(connection, standing);
    let age = desk.age();
    let facts = Rc::clone(&server.facts);
    let holds = || holds(&desk.live.pin(), &facts);
    // Registered once, not once a request.
    let mut stopped = pin!(watched.wait_for(|standing| standing.closing || !holds()));
    let (mut served, mut leaving) = (false, false);
    loop {
        server.deadline.arm(if leaving { FIRST_REQUEST } else { IDLE });
        let readable = poll_fn(|cx| {
            if let Poll::Ready(readable) = server.poll_request(cx) {
                return Poll::Ready(readable);
            }
            if !leaving && stopped.as_mut().poll(cx).is_ready() {
                leaving = true;
                // The first request may be on its way. Under a rule that is no more it is answered, and not served: an end
                // without a word would look like one that came too late for it.
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
        let mut heads = LentHeads::new();
        let read = server.read_head(&mut heads.request).await;
        served = true;
        let keep = match read {
            Ok(()) => {
                let aged = age.is_some_and(|age| age <= Instant::now());
                let close = leaving || aged || heads.request.close || desk.is_draining() || server.is_closing();
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
async fn request(
    desk: &Rc<Desk>,
    down: &mut Down<'_>,
    mut heads: LentHeads,
    close: bool,
    refused: Option<Failure>,
) -> bool {
    let mut exchange = LentExchange::new(desk.live.pin(), Rc::clone(down.facts()));
    let (exchange_, heads_) = (&mut *exchange, &mut *heads);
    trace::begin(exchange_, &heads_.request);
    let admitted = match refused {
        Some(failure) => Err(failure),
        None if desk.sheds_requests() => {
            desk.metrics().shed("memory");
            Err(Failure::Overloaded)
        }
        // Apart, as what follows.
        None if guard::before(exchange_).is_some_and(Guard::waits) => {
            Box::pin(admit_waiting(desk, exchange_, &mut heads_.request, down)).await
        }
        None => admit(desk, exchange_, &mut heads_.request, down.is_h2()),
    };
    let admitted = match admitted {
        // Apart: what few requests need takes no room in every request's future.
        Ok(Admitted::Intercept(rule)) => Box::pin(intercept(exchange_, &heads_.request, down, &rule)).await,
        Ok(Admitted::Ask(rule)) => Box::pin(ask_and_go(desk, exchange_, &heads_.request, down, rule)).await,
        admitted => admitted,
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
        (Ok(Admitted::Preflight(rule, allowed)), _) => {
            reply::preflight(exchange_, heads_, down, rule.cors.as_deref().filter(|_| allowed), close).await
        }
        (Err(failure), _) | (Ok(Admitted::Forward | Admitted::Intercept(_) | Admitted::Ask(_)), Err(failure)) => {
            turned_away(desk, &exchange_.facts, &heads_.request, &failure);
            reply::failure(exchange_, heads_, down, failure, close).await
        }
        (Ok(Admitted::Forward | Admitted::Intercept(_) | Admitted::Ask(_)), Ok(None)) => Ok(false),
    };
    mirror::abandon(&mut exchange);
    if let Some(moved) = &mut exchange.moved {
        moved.down = down.wire();
    }
    record::finish(&desk.telemetry, &mut exchange, &heads);
    spans::finish(&desk.telemetry, &exchange, &heads);
    replied.unwrap_or(false) && !close && down.is_read()
}

/// From a head to what becomes of it: whether it is well-formed, whether it may go on, where it goes.
fn admit(desk: &Desk, exchange: &mut Exchange, request: &mut Head, h2: bool) -> Result<Admitted, Failure> {
    if let Some(answer) = admit::receive(exchange, request, &desk.live.challenges)? {
        return Ok(Admitted::Challenge(answer));
    }
    pass(desk, exchange, request, h2)
}

/// As [`admit`], where somebody has to be asked.
async fn admit_waiting(
    desk: &Rc<Desk>,
    exchange: &mut Exchange,
    request: &mut Head,
    down: &mut Down<'_>,
) -> Result<Admitted, Failure> {
    if let Some(answer) = admit::receive(exchange, request, &desk.live.challenges)? {
        return Ok(Admitted::Challenge(answer));
    }
    guard::wait(desk, exchange, request, down).await?;
    pass(desk, exchange, request, down.is_h2())
}

/// Nobody has to be waited for any more: tokens, policies, the route.
fn pass(desk: &Desk, exchange: &mut Exchange, request: &mut Head, h2: bool) -> Result<Admitted, Failure> {
    tokens::pass(exchange, request)?;
    guard::judge(desk, exchange, request)?;
    admit::route(exchange, request, h2)
}

/// One line in the log for whoever is refused because of what he sent, or of where.
fn turned_away(desk: &Desk, facts: &Facts, request: &Head, failure: &Failure) {
    let Some(reason) = failure.refusal() else { return };
    let Answer { status, body, .. } = failure.answer();
    let of = match failure {
        Failure::Misdirected | Failure::Outdated => format!(" for {}", request.authority()),
        Failure::Forbidden(rule) => format!(" for {} by {rule}", request.authority()),
        _ => String::new(),
    };
    desk.refusals.tell(reason, facts.remote, facts.local, format_args!("request{of} refused with {status}: {body}"));
}
