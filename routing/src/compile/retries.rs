//! `HTTPRetry` to its compiled form.

use std::time::Duration;

use crate::{
    api::virtual_service::HttpRetry,
    retries::{Conditions, Retries},
};

/// What a `retries` block says. What it leaves out is as in Istio's default, whatever the mesh's is; `attempts: 0` turns retries
/// off.
pub(super) fn retries(given: &HttpRetry) -> Retries {
    let default = Retries::DEFAULT;
    let some = |time: Option<_>| time.map(Duration::from).filter(|time: &Duration| !time.is_zero());
    let (on, statuses) = given.retry_on.as_deref().map_or((default.on, Vec::new()), conditions);
    Retries {
        attempts: u32::try_from(given.attempts).unwrap_or(0),
        per_try_timeout: some(given.per_try_timeout),
        on,
        statuses,
        backoff: some(given.backoff).unwrap_or(default.backoff),
        remote_localities: given.retry_remote_localities.unwrap_or(default.remote_localities),
        avoids_tried: given.retry_ignore_previous_hosts.unwrap_or(default.avoids_tried),
    }
}

/// `retriable-status-codes` only announces the numbers.
fn conditions(tokens: &str) -> (Conditions, Vec<u16>) {
    let (mut on, mut statuses) = (Conditions::default(), Vec::new());
    for token in tokens.split(',').map(str::trim) {
        match Conditions::named(token) {
            Some(condition) => on = on.and(condition),
            None => statuses.extend(token.parse::<u16>().ok().filter(|status| (100..600).contains(status))),
        }
    }
    (on, statuses)
}

/// Why a `retryOn` token never holds; `None`: it can.
pub(super) fn never_holds(token: &str) -> Option<&'static str> {
    match token {
        "retriable-headers" => Some(
            "the retryOn condition retriable-headers never holds, since Istio has no field that names the headers; \
             name statuses instead",
        ),
        "http3-post-connect-failure" => Some(
            "the retryOn condition http3-post-connect-failure never holds, since no endpoint is spoken to by HTTP/3",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(retry_on: Option<&str>) -> HttpRetry {
        HttpRetry { attempts: 3, retry_on: retry_on.map(str::to_owned), ..HttpRetry::default() }
    }

    #[test]
    fn without_conditions_the_default_ones_hold() {
        assert_eq!(retries(&given(None)), Retries { attempts: 3, ..Retries::default() });
    }

    #[test]
    fn given_conditions_replace_the_default_ones() {
        let found = retries(&given(Some("gateway-error, 418,unavailable,retriable-status-codes,999")));
        assert_eq!(found.on, Conditions::GATEWAY_ERROR.and(Conditions::UNAVAILABLE));
        assert_eq!(found.statuses, [418]);
    }
}
