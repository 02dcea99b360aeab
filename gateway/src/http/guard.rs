//! Whether a request may go on at all: what the workload asks of whoever comes to it, before any route is looked for.

use std::{net::IpAddr, rc::Rc, sync::Arc};

use routing::{authorization::Access, forwarded, guard::Guard, request::RequestView};

use super::{
    admit::view, desk::Desk, exchange::Exchange, external, failure::Failure, head::Head, name::Name, side::Down,
};
use crate::{net::facts::Arrival, telemetry::verdicts};

/// What stands before this request; `None` = nothing. What a sidecar's own application sends is its destination's business.
pub(crate) fn before(exchange: &Exchange) -> Option<&Guard> {
    let guard = exchange.installed.snapshot.guard.as_deref()?;
    matches!(exchange.arrival(), Arrival::Gateway { .. } | Arrival::Inbound { .. }).then_some(guard)
}

/// Everything that somebody else has to be waited for. What has been changed meanwhile holds for whoever was waiting: somebody
/// who is to be asked since then is asked, too.
///
/// # Errors
/// [`Failure`].
pub(crate) async fn wait(
    desk: &Rc<Desk>,
    exchange: &mut Exchange,
    request: &mut Head,
    down: &mut Down<'_>,
) -> Result<(), Failure> {
    let mut asked: Option<Arc<str>> = None;
    loop {
        let installed = Arc::clone(&exchange.installed);
        let policies = installed.snapshot.guard.as_deref().and_then(|guard| guard.authorization.as_ref());
        let provider = policies.and_then(|policies| policies.asks(&access(exchange, request)));
        let Some(provider) = provider.filter(|provider| asked.as_ref() != Some(provider)) else { return Ok(()) };
        external::ask(desk, exchange, request, down, provider).await?;
        asked = Some(Arc::clone(provider));
        exchange.installed = desk.live.pin();
    }
}

/// Policies, which have all they need by now.
///
/// # Errors
/// [`Failure::Forbidden`].
pub(crate) fn judge(desk: &Desk, exchange: &mut Exchange, request: &Head) -> Result<(), Failure> {
    let guard = before(exchange);
    let Some(authorization) = guard.and_then(|guard| guard.authorization.as_ref()) else { return Ok(()) };
    let judgement = authorization.judge(&access(exchange, request));
    verdicts::tell(desk.metrics(), &judgement, (exchange.facts.remote, exchange.facts.local), request.authority());
    let denied = judgement.denied.clone();
    if judgement.tries() {
        exchange.tried = Some(Box::new(judgement));
    }
    match denied {
        None => Ok(()),
        Some(rule) => Err(Failure::Forbidden(rule)),
    }
}

/// What policies see of a request.
pub(crate) fn access<'a>(exchange: &'a Exchange, request: &'a Head) -> Access<'a> {
    let facts = &exchange.facts;
    let local = facts.destination();
    let view = view(request, exchange.scheme(), local.port());
    Access {
        peer: facts.peer(),
        source: facts.source(),
        remote: remote(exchange, request),
        local,
        sni: facts.sni(),
        request: Some(RequestView { token: exchange.token.as_deref(), ..view }),
    }
}

/// Who the client is. In front of a sidecar stands the gateway that took the request, or a sidecar that says nothing of it: what
/// stands last in `x-forwarded-for` is the former's word, as with Istio.
pub(super) fn remote(exchange: &Exchange, request: &Head) -> IpAddr {
    let said = match exchange.arrival() {
        Arrival::Inbound { .. } => forwarded::client(request.values(Name::XForwardedFor), 1),
        _ => None,
    };
    said.unwrap_or_else(|| exchange.remote().ip()).to_canonical()
}
