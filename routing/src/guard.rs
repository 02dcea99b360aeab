//! What stands between a well-formed request, or a connection, and its route.

use std::sync::Arc;

use crate::{authorization::Authorization, external::External, limits::Limits, tokens::Tokens};

/// What one proxy asks of whoever comes to its workload. Where nothing is asked, a snapshot has none of these.
#[derive(Debug, Default)]
pub struct Guard {
    /// Istio `AuthorizationPolicy`.
    pub authorization: Option<Arc<Authorization>>,
    /// Who is asked by policies of the action CUSTOM.
    pub external: Option<External>,
    /// Our `RateLimit`.
    pub limits: Option<Limits>,
    /// Istio `RequestAuthentication`.
    pub tokens: Option<Tokens>,
}

impl Guard {
    /// Whether it asks for nothing.
    pub fn is_open(&self) -> bool {
        self.authorization.is_none() && self.tokens.is_none() && self.limits.is_none()
    }

    /// Whether there is something to wait for before a verdict: somebody else's word, or keys that are not here yet.
    pub fn waits(&self) -> bool {
        self.external.is_some()
    }
}
