//! `HTTPRetry` to its compiled form.

use std::time::Duration;

use crate::{api::virtual_service::HttpRetry, rule::Retries};

/// What a `retries` block says. Without `retryOn` Istio's default conditions hold; `attempts: 0` turns retries off.
pub(super) fn retries(given: &HttpRetry) -> Retries {
    let per_try_timeout = given.per_try_timeout.map(Duration::from).filter(|timeout| !timeout.is_zero());
    let attempts = u32::try_from(given.attempts).unwrap_or(0);
    let Some(conditions) = &given.retry_on else {
        return Retries { attempts, per_try_timeout, ..Retries::default() };
    };
    let mut retries = Retries {
        attempts,
        per_try_timeout,
        connect_failure: false,
        refused_stream: false,
        reset: false,
        server_errors: false,
        gateway_errors: false,
        statuses: Vec::new(),
        grpc_statuses: Vec::new(),
    };
    for token in conditions.split(',').map(str::trim) {
        add(&mut retries, token);
    }
    retries
}

fn add(retries: &mut Retries, token: &str) {
    match token {
        // Envoy: no response at all counts as a 5xx too.
        "5xx" => {
            retries.server_errors = true;
            retries.connect_failure = true;
            retries.refused_stream = true;
            retries.reset = true;
        }
        "gateway-error" => retries.gateway_errors = true,
        "reset" => retries.reset = true,
        // Of a request whose head has not gone out, nothing was read.
        "reset-before-request" => {
            retries.connect_failure = true;
            retries.refused_stream = true;
        }
        "connect-failure" => retries.connect_failure = true,
        "refused-stream" => retries.refused_stream = true,
        "retriable-4xx" => retries.statuses.push(409),
        "cancelled" => retries.grpc_statuses.push(1),
        "deadline-exceeded" => retries.grpc_statuses.push(4),
        "resource-exhausted" => retries.grpc_statuses.push(8),
        "internal" => retries.grpc_statuses.push(13),
        "unavailable" => retries.grpc_statuses.push(14),
        other => retries.statuses.extend(other.parse::<u16>().ok().filter(|status| (100..600).contains(status))),
    }
}

/// Whether a `retryOn` token means something here; `retriable-status-codes` only announces the numbers.
pub(super) fn is_supported(token: &str) -> bool {
    !matches!(token, "envoy-ratelimited" | "retriable-headers" | "http3-post-connect-failure")
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
        assert!(found.gateway_errors && !found.connect_failure && !found.server_errors);
        assert_eq!((found.statuses.as_slice(), found.grpc_statuses.as_slice()), ([418].as_slice(), [14].as_slice()));
    }
}
