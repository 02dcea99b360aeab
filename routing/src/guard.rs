//! What stands between a well-formed request, or a connection, and its route.

use crate::authorization::Authorization;

/// What one proxy asks of whoever comes to its workload. Where nothing is asked, a snapshot has none of these.
#[derive(Debug, Default)]
pub struct Guard {
    /// Istio `AuthorizationPolicy`.
    pub authorization: Option<Authorization>,
}

impl Guard {
    /// Whether it asks for nothing.
    pub fn is_open(&self) -> bool {
        self.authorization.is_none()
    }

    /// Whether there is something to wait for before a verdict: somebody else's word, or keys that are not here yet.
    pub fn waits(&self) -> bool {
        false
    }
}
