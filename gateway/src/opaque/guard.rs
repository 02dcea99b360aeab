//! Whether a connection may go on at all, as far as that can be told without a look at its bytes.

use std::sync::Arc;

use routing::authorization::Access;

use super::{ending::Ending, passage::Passage};
use crate::{
    http::{desk::Desk, external::ask_of_bytes},
    net::facts::Arrival,
    telemetry::verdicts,
};

/// Policies of the workload that the connection came to. What a sidecar's own application sends is its destination's business.
/// They are those in force now, and not when the connection was received: it may have taken its time until here.
///
/// # Errors
/// [`Ending::Forbidden`], [`Ending::Denied`].
pub(super) async fn judge(desk: &Desk, passage: &Passage) -> Result<(), Ending> {
    let facts = &passage.facts;
    if !matches!(facts.arrival, Arrival::Gateway { .. } | Arrival::Inbound { .. }) {
        return Ok(());
    }
    let access = Access {
        peer: facts.peer(),
        source: facts.source(),
        remote: facts.remote.ip().to_canonical(),
        local: facts.destination(),
        sni: facts.sni(),
        request: None,
    };
    let mut asked: Option<Arc<str>> = None;
    // Once more after an answer was waited for, in which time policies may have changed.
    loop {
        let installed = desk.live.pin();
        let guard = installed.snapshot.guard.as_ref();
        let Some(authorization) = guard.and_then(|guard| guard.authorization.as_ref()) else { return Ok(()) };
        if let Some(provider) = authorization.asks(&access).filter(|provider| asked.as_ref() != Some(provider)) {
            Box::pin(ask_of_bytes(desk, &installed, facts, provider)).await.map_err(Ending::Denied)?;
            asked = Some(Arc::clone(provider));
            continue;
        }
        let judgement = authorization.judge(&access);
        verdicts::tell(desk.metrics(), &judgement, (facts.remote, facts.local), "a connection");
        return match judgement.denied {
            None => Ok(()),
            Some(rule) => Err(Ending::Forbidden(format!("rbac_access_denied_matched_policy[{rule}]").into())),
        };
    }
}
