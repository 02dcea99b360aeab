//! Whether a request may go on at all: what the workload asks of whoever comes to it, before any route is looked for.

use routing::{authorization::Access, guard::Guard, request::RequestView};

use super::{admit::view, exchange::Exchange, failure::Failure, head::Head};
use crate::net::facts::Arrival;

/// What stands before this request; `None` = nothing. What a sidecar's own application sends is its destination's business.
pub(crate) fn before(exchange: &Exchange) -> Option<&Guard> {
    let guard = exchange.installed.snapshot.guard.as_deref()?;
    matches!(exchange.arrival(), Arrival::Gateway { .. } | Arrival::Inbound { .. }).then_some(guard)
}

/// Policies, which have all they need by now.
///
/// # Errors
/// [`Failure::Forbidden`].
pub(crate) fn judge(guard: &Guard, exchange: &Exchange, request: &Head) -> Result<(), Failure> {
    let Some(authorization) = &guard.authorization else { return Ok(()) };
    let facts = &exchange.facts;
    let port = match facts.arrival {
        Arrival::Inbound { port, .. } => port,
        _ => facts.local.port(),
    };
    let view = view(request, exchange.scheme(), port);
    let access = Access {
        peer: facts.peer(),
        source: facts.remote.ip().to_canonical(),
        remote: exchange.remote().ip().to_canonical(),
        local: std::net::SocketAddr::new(facts.local.ip().to_canonical(), port),
        sni: facts.sni(),
        request: Some(RequestView { token: exchange.token.as_deref(), ..view }),
    };
    match authorization.judge(&access).denied {
        None => Ok(()),
        Some(rule) => Err(Failure::Forbidden(rule)),
    }
}
