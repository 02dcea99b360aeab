//! External authorization: a service outside is asked whether a request, or a connection, may go on (Istio's CUSTOM).

mod answer;
mod held;
mod messages;
mod open;
mod query;
mod question;
pub(crate) mod verdict;

use std::{rc::Rc, sync::Arc};

use routing::external::{FORBIDDEN, Form, HttpForm, Provider};
use tokio::time::Instant;

use self::{
    answer::Unusable,
    messages::{CHECK, CheckRequest, CheckResponse},
    question::Shown,
    verdict::{Grant, Verdict},
};
use super::{
    admit::speaks_h2,
    call::{Call, Heard, Way, call},
    desk::Desk,
    edit,
    exchange::Exchange,
    failure::Failure,
    forward::unless_gone,
    grpc::{Method, authority_of, unary},
    head::Head,
    limits::ANSWER,
    side::Down,
};
use crate::{live::Installed, net::facts::Facts, telemetry::outcomes::Asked, upstream::endpoints::Upstream};

pub(crate) use held::Held as HeldBody;

/// What the access log says of a no.
pub(crate) const DENIED: &str = "ext_authz_denied";
/// What the access log says where nobody could be asked.
pub(crate) const ERROR: &str = "ext_authz_error";

/// Asks the provider of this name whether the request may go on, and changes it as the provider says.
///
/// # Errors
/// [`Failure`], answered by the proxy.
pub(crate) async fn ask(
    desk: &Rc<Desk>,
    exchange: &mut Exchange,
    request: &mut Head,
    down: &mut Down<'_>,
    name: &Arc<str>,
) -> Result<(), Failure> {
    let installed = Arc::clone(&exchange.installed);
    let Some(provider) = provider(&installed, name) else {
        nobody(desk, &exchange.facts, name);
        return Err(Failure::Unasked(FORBIDDEN));
    };
    if let Some(terms) = provider.body {
        exchange.held = held::hold(desk, exchange, request, down, terms).await?.map(Box::new);
    }
    let started = Instant::now();
    let asked = unless_gone(down, inquire(desk, exchange, request, provider)).await;
    if let Some(held) = &mut exchange.held {
        held.was_shown();
    }
    let counted = |result| desk.metrics().asked(name, result, started.elapsed());
    match asked {
        Err(gone) => {
            counted(Asked::Gone);
            Err(gone)
        }
        Ok(Ok(Verdict::Allow(grant))) => {
            counted(Asked::Allowed);
            follow(exchange, request, grant, provider.reroutes);
            Ok(())
        }
        Ok(Ok(Verdict::Deny(denial))) => {
            counted(Asked::Denied);
            Err(Failure::Denied(denial))
        }
        Ok(Err(Unusable { why, meant })) => {
            counted(if provider.fail_open { Asked::Open } else { Asked::Failed });
            failed(desk, &exchange.facts, provider, (&why, provider.fail_open));
            if !provider.fail_open {
                return Err(Failure::Unasked(provider.status_on_error));
            }
            let grant = open::grant(provider, request, meant);
            change(exchange, request, &grant, provider.reroutes);
            Ok(())
        }
    }
}

/// As [`ask`], of a connection whose bytes nobody looks at; it can be asked by gRPC alone.
///
/// # Errors
/// What the access log says.
pub(crate) async fn ask_of_bytes(
    desk: &Desk,
    installed: &Installed,
    facts: &Rc<Facts>,
    name: &Arc<str>,
) -> Result<(), &'static str> {
    let Some(provider) = provider(installed, name) else {
        nobody(desk, facts, name);
        return Err(ERROR);
    };
    if provider.form != Form::Grpc {
        desk.metrics().asked(name, Asked::Failed, std::time::Duration::ZERO);
        failed(desk, facts, provider, ("a connection can be asked about by gRPC alone", false));
        return Err(ERROR);
    }
    let started = Instant::now();
    let upstream = installed.upstream(provider.cluster);
    let asked = by_grpc(desk, provider, (upstream, facts), question::of_connection(facts)).await;
    let counted = |result| desk.metrics().asked(name, result, started.elapsed());
    match asked {
        Ok(Verdict::Allow(_)) => {
            counted(Asked::Allowed);
            Ok(())
        }
        Ok(Verdict::Deny(_)) => {
            counted(Asked::Denied);
            Err(DENIED)
        }
        Err(Unusable { why, .. }) => {
            counted(if provider.fail_open { Asked::Open } else { Asked::Failed });
            failed(desk, facts, provider, (&why, provider.fail_open));
            if provider.fail_open { Ok(()) } else { Err(ERROR) }
        }
    }
}

fn provider<'a>(installed: &'a Installed, name: &str) -> Option<&'a Provider> {
    installed.snapshot.guard.as_ref()?.external.as_ref()?.provider(name)
}

/// The mesh configuration does not have the provider, or not the service of it: `check` and the log tell which.
fn nobody(desk: &Desk, facts: &Facts, name: &str) {
    desk.metrics().asked(name, Asked::Failed, std::time::Duration::ZERO);
    tell(
        desk,
        facts,
        format_args!("there is no provider `{name}` that could be asked: what was to be asked of it is denied"),
    );
}

fn failed(desk: &Desk, facts: &Facts, provider: &Provider, (why, open): (&str, bool)) {
    let then = if open { "what was asked about goes on (failOpen)" } else { "what was asked about is denied" };
    tell(desk, facts, format_args!("provider `{}` gives no verdict: {why}; {then}", provider.name));
}

fn tell(desk: &Desk, facts: &Facts, message: std::fmt::Arguments<'_>) {
    desk.refusals.tell("ExternalAuthorization", facts.remote, facts.local, message);
}

/// The request goes on as the provider wants it to. Unless the provider reroutes, routes are chosen by what was sent.
fn follow(exchange: &mut Exchange, request: &mut Head, grant: Box<Grant>, reroutes: bool) {
    if grant.is_empty() {
        return;
    }
    change(exchange, request, &grant, reroutes);
    match &mut exchange.granted {
        Some(before) => before.extend(*grant),
        none => *none = Some(grant),
    }
}

fn change(exchange: &mut Exchange, request: &mut Head, grant: &Grant, reroutes: bool) {
    if grant.changes_nothing_of_the_request() {
        return;
    }
    match (reroutes, &exchange.routed) {
        (true, _) => exchange.routed = None,
        (false, None) => exchange.routed = Some(Box::new(request.clone())),
        (false, Some(_)) => {}
    }
    grant.apply(request);
}

/// Asks; `Err`: why there is no verdict.
async fn inquire(
    desk: &Desk,
    exchange: &mut Exchange,
    request: &Head,
    provider: &Provider,
) -> Result<Verdict, Unusable> {
    // The question tells of the id that the request goes on with.
    exchange.id.get_or_insert_with(edit::random_id);
    let exchange = &*exchange;
    let upstream = exchange.installed.upstream(provider.cluster);
    let mut seen = request.clone();
    edit::request(exchange, &mut seen);
    let shown = provider.body.zip(exchange.held.as_deref()).map(|(terms, held)| Shown {
        bytes: held.shown(terms.most),
        partial: held.is_partial(terms.most, exchange.request.done),
        terms,
    });
    match &provider.form {
        Form::Grpc => {
            let question = question::of_request(exchange, &seen, shown);
            by_grpc(desk, provider, (upstream, &exchange.facts), question).await
        }
        Form::Http(form) => {
            let head = question::over_http(form, &seen, shown);
            let body = shown.map_or(&[][..], |shown| shown.bytes);
            by_http(desk, (provider, form), (upstream, &exchange.facts), (&head, body)).await
        }
    }
}

async fn by_grpc(
    desk: &Desk,
    provider: &Provider,
    (upstream, client): (&Arc<Upstream>, &Rc<Facts>),
    question: CheckRequest,
) -> Result<Verdict, Unusable> {
    let authority = authority_of(&upstream.cluster.name);
    let method = Method { path: CHECK, authority: &authority, limit: provider.timeout, headers: &[] };
    let way = Way::of_question(desk, upstream, true, client);
    let message: CheckResponse = unary(desk, way, method, question).await.map_err(|why| why.to_string())?;
    answer::of_message(message)
}

async fn by_http(
    desk: &Desk,
    (provider, form): (&Provider, &HttpForm),
    (upstream, client): (&Arc<Upstream>, &Rc<Facts>),
    (head, body): (&Head, &[u8]),
) -> Result<Verdict, Unusable> {
    let h2 = speaks_h2(upstream.cluster.protocol, false);
    let way = Way::of_question(desk, upstream, h2, client);
    let question = Call { head, body, trailers: None, grpc: false, again: true };
    let mut heard = Heard::all(ANSWER);
    call(desk, way, question, provider.timeout, &mut heard).await.map_err(|why| why.why().to_owned())?;
    answer::of_http(form, heard)
}
