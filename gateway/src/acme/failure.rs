//! Why a certificate could not be ordered, and what follows from it.

use std::time::Duration;

use super::schedule::Failed;
use crate::stored::VaultError;

/// See the module.
#[derive(Debug)]
pub(crate) struct Failure {
    /// A sentence, with the CA's own words.
    pub(crate) text: String,
    /// What kind it is.
    pub(crate) failed: Failed,
    /// The CA asked to be left alone for so long.
    pub(crate) retry_after: Option<Duration>,
    /// What is left of the order.
    pub(crate) order: Left,
    /// Somebody else has written the same Secret at the same time.
    pub(crate) conflict: bool,
}

/// What a failure leaves behind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Left {
    /// The order is as it was: the next try goes on with it.
    Kept,
    /// The order is of no use any more: the next try begins a new one.
    Lost,
    /// So is the order, since the CA does not know the account.
    NoAccount,
    /// A check by the CA failed: the next try begins a new order, with the next challenge where there is one.
    Unproven,
}

impl Failure {
    /// Somebody refused; the order is of no use any more.
    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self { text: text.into(), failed: Failed::Refused, retry_after: None, order: Left::Lost, conflict: false }
    }

    /// Something that may be better soon; the order stays.
    pub(crate) fn transient(text: impl Into<String>) -> Self {
        Self { text: text.into(), failed: Failed::Transient, retry_after: None, order: Left::Kept, conflict: false }
    }
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        Self { conflict: matches!(error, VaultError::Conflict(_)), ..Self::transient(error.to_string()) }
    }
}

impl From<tls::Error> for Failure {
    fn from(error: tls::Error) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<tls::acme::Error> for Failure {
    fn from(error: tls::acme::Error) -> Self {
        let kind = error.problem().map(|problem| problem.kind.as_str()).unwrap_or_default();
        let (failed, order) = match kind {
            _ if error.is_transient() => (Failed::Transient, Left::Kept),
            "rateLimited" => (Failed::RateLimited, Left::Kept),
            "accountDoesNotExist" => (Failed::Transient, Left::NoAccount),
            // What an odd answer in between, or a wrong setting, makes of an order shows the next try.
            _ => (Failed::Refused, Left::Kept),
        };
        Self { text: error.to_string(), failed, retry_after: error.retry_after(), order, conflict: false }
    }
}
