//! Whether a connection may go on at all, as far as that can be told without a look at its bytes.

use routing::authorization::Access;

use super::{ending::Ending, passage::Passage};
use crate::{
    http::{desk::Desk, external::ask_of_bytes},
    net::facts::Arrival,
    telemetry::verdicts,
};

/// Policies of the workload that the connection came to. What a sidecar's own application sends is its destination's business.
///
/// # Errors
/// [`Ending::Forbidden`], [`Ending::Denied`].
pub(super) async fn judge(desk: &Desk, passage: &Passage) -> Result<(), Ending> {
    let (facts, snapshot) = (&passage.facts, &passage.installed.snapshot);
    if !matches!(facts.arrival, Arrival::Gateway { .. } | Arrival::Inbound { .. }) {
        return Ok(());
    }
    let Some(authorization) = snapshot.guard.as_ref().and_then(|guard| guard.authorization.as_ref()) else {
        return Ok(());
    };
    let access = Access {
        peer: facts.peer(),
        source: facts.source(),
        remote: facts.remote.ip().to_canonical(),
        local: facts.destination(),
        sni: facts.sni(),
        request: None,
    };
    if let Some(provider) = authorization.asks(&access) {
        let asked = Box::pin(ask_of_bytes(desk, &passage.installed, facts, provider));
        asked.await.map_err(Ending::Denied)?;
    }
    let judgement = authorization.judge(&access);
    verdicts::tell(desk.metrics(), &judgement, (facts.remote, facts.local), "a connection");
    match judgement.denied {
        None => Ok(()),
        Some(rule) => Err(Ending::Forbidden(format!("rbac_access_denied_matched_policy[{rule}]").into())),
    }
}
