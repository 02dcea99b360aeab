//! Whether a connection may go on at all, as far as that can be told without a look at its bytes.

use std::net::SocketAddr;

use routing::authorization::Access;

use super::{ending::Ending, passage::Passage};
use crate::net::facts::Arrival;

/// Policies of the workload that the connection came to. What a sidecar's own application sends is its destination's business.
///
/// # Errors
/// [`Ending::Forbidden`].
pub(super) fn judge(passage: &Passage) -> Result<(), Ending> {
    let (facts, snapshot) = (&passage.facts, &passage.installed.snapshot);
    let port = match facts.arrival {
        Arrival::Gateway { .. } => facts.local.port(),
        Arrival::Inbound { port, .. } => port,
        Arrival::Outbound { .. } | Arrival::Upstream => return Ok(()),
    };
    let Some(authorization) = snapshot.guard.as_ref().and_then(|guard| guard.authorization.as_ref()) else {
        return Ok(());
    };
    let remote = facts.remote.ip().to_canonical();
    let access = Access {
        peer: facts.peer(),
        source: remote,
        remote,
        local: SocketAddr::new(facts.local.ip().to_canonical(), port),
        sni: facts.sni(),
        request: None,
    };
    match authorization.judge(&access).denied {
        None => Ok(()),
        Some(rule) => Err(Ending::Forbidden(format!("rbac_access_denied_matched_policy[{rule}]").into())),
    }
}
