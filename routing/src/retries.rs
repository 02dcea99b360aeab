//! When a request is tried again, and how long before: by what its route says and what came of a try.

use std::{fmt, time::Duration};

#[cfg(test)]
mod tests;

/// Istio `HTTPRetry`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Retries {
    /// Retries after the first try.
    pub attempts: u32,
    /// `perTryTimeout`.
    pub per_try_timeout: Option<Duration>,
    /// `retryOn` without its numbers.
    pub on: Conditions,
    /// Numbers in `retryOn`.
    pub statuses: Vec<u16>,
    /// `backoff`: what the wait before a retry grows from.
    pub backoff: Duration,
    /// `retryRemoteLocalities`: priorities that were tried twice are left out while there are others.
    pub remote_localities: bool,
    /// `retryIgnorePreviousHosts`: endpoints that were tried are left out while there are others.
    pub avoids_tried: bool,
}

impl Retries {
    /// `None` for Istio's default, which takes no room.
    pub fn boxed(self) -> Option<Box<Self>> {
        (self != Self::DEFAULT).then(|| Box::new(self))
    }

    /// Envoy's base interval between tries.
    pub const BACKOFF: Duration = Duration::from_millis(25);
    /// The wait grows to so many base intervals.
    const LONGEST: u32 = 10;

    /// Istio's `defaultHttpRetryPolicy`.
    pub const DEFAULT: Self = Self {
        attempts: 2,
        per_try_timeout: None,
        on: Conditions::CONNECT_FAILURE
            .and(Conditions::REFUSED_STREAM)
            .and(Conditions::UNAVAILABLE)
            .and(Conditions::CANCELLED),
        statuses: Vec::new(),
        backoff: Self::BACKOFF,
        remote_localities: false,
        avoids_tried: true,
    };

    /// Istio's `defaultInboundHttpRetryPolicy`, which holds where there is no route, too.
    pub fn inbound() -> &'static Self {
        static INBOUND: Retries = Retries {
            attempts: 2,
            per_try_timeout: None,
            on: Conditions::RESET_BEFORE_REQUEST,
            statuses: Vec::new(),
            backoff: Retries::BACKOFF,
            remote_localities: false,
            avoids_tried: true,
        };
        &INBOUND
    }

    /// Whether a try that got no answer is to be followed by another one.
    pub fn want_after(&self, fault: Fault) -> bool {
        // Envoy: no answer becomes a 503, so it is one already.
        let any = Conditions::SERVER_ERROR.and(Conditions::GATEWAY_ERROR).and(Conditions::RESET);
        let wanted = match fault {
            Fault::NoConnection => any.and(Conditions::CONNECT_FAILURE).and(Conditions::RESET_BEFORE_REQUEST),
            Fault::Refused => any.and(Conditions::REFUSED_STREAM).and(Conditions::RESET_BEFORE_REQUEST),
            Fault::Reset | Fault::PerTryTimeout => any,
        };
        self.on.any(wanted)
    }

    /// Whether an answer is to be followed by another try. `grpc_status`: of its head; `ratelimited`: whether it has
    /// `x-envoy-ratelimited`, which overrules everything else.
    pub fn want_other_than(&self, status: u16, grpc_status: Option<u16>, ratelimited: impl FnOnce() -> bool) -> bool {
        let on = self.on;
        let named = match status {
            502..=504 => on.any(Conditions::SERVER_ERROR.and(Conditions::GATEWAY_ERROR)),
            500.. => on.any(Conditions::SERVER_ERROR),
            409 => on.any(Conditions::RETRIABLE_4XX),
            _ => false,
        } || (!self.statuses.is_empty() && self.statuses.contains(&status))
            || grpc_status.is_some_and(|status| on.any(Conditions::of_grpc(status)));
        let limits = on.any(Conditions::ENVOY_RATELIMITED);
        if !named && !limits {
            return false;
        }
        if ratelimited() { limits } else { named }
    }

    /// The wait before retry `number`, counted from 1: uniformly in `[0, min(B*2^(number-1), 10*B))`. `random` is in `[0, 1)`.
    pub fn wait(&self, number: u32, random: f64) -> Duration {
        let factor = 1_u32.checked_shl(number.saturating_sub(1)).unwrap_or(Self::LONGEST).min(Self::LONGEST);
        self.backoff.saturating_mul(factor).mul_f64(random)
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why a try got no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// There was no connection: nothing was sent.
    NoConnection,
    /// The endpoint said that it has not looked at the request (HTTP/2: REFUSED_STREAM, GOAWAY for earlier streams).
    Refused,
    /// The connection or stream ended before an answer.
    Reset,
    /// `perTryTimeout` passed.
    PerTryTimeout,
}

/// Conditions of `retryOn`.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub struct Conditions(u16);

impl Conditions {
    /// `5xx`: also no answer at all.
    pub const SERVER_ERROR: Self = Self(1);
    /// `gateway-error`: 502, 503, 504, and no answer at all.
    pub const GATEWAY_ERROR: Self = Self(1 << 1);
    /// `reset`: no answer at all.
    pub const RESET: Self = Self(1 << 2);
    /// `reset-before-request`: nothing of the request can have been looked at.
    pub const RESET_BEFORE_REQUEST: Self = Self(1 << 3);
    /// `connect-failure`.
    pub const CONNECT_FAILURE: Self = Self(1 << 4);
    /// `refused-stream`.
    pub const REFUSED_STREAM: Self = Self(1 << 5);
    /// `envoy-ratelimited`: the answer has `x-envoy-ratelimited`.
    pub const ENVOY_RATELIMITED: Self = Self(1 << 6);
    /// `retriable-4xx`: 409.
    pub const RETRIABLE_4XX: Self = Self(1 << 7);
    /// `cancelled`, gRPC status 1.
    pub const CANCELLED: Self = Self(1 << 8);
    /// `deadline-exceeded`, gRPC status 4.
    pub const DEADLINE_EXCEEDED: Self = Self(1 << 9);
    /// `resource-exhausted`, gRPC status 8.
    pub const RESOURCE_EXHAUSTED: Self = Self(1 << 10);
    /// `internal`, gRPC status 13.
    pub const INTERNAL: Self = Self(1 << 11);
    /// `unavailable`, gRPC status 14.
    pub const UNAVAILABLE: Self = Self(1 << 12);

    const NAMES: [(&str, Self); 13] = [
        ("5xx", Self::SERVER_ERROR),
        ("gateway-error", Self::GATEWAY_ERROR),
        ("reset", Self::RESET),
        ("reset-before-request", Self::RESET_BEFORE_REQUEST),
        ("connect-failure", Self::CONNECT_FAILURE),
        ("refused-stream", Self::REFUSED_STREAM),
        ("envoy-ratelimited", Self::ENVOY_RATELIMITED),
        ("retriable-4xx", Self::RETRIABLE_4XX),
        ("cancelled", Self::CANCELLED),
        ("deadline-exceeded", Self::DEADLINE_EXCEEDED),
        ("resource-exhausted", Self::RESOURCE_EXHAUSTED),
        ("internal", Self::INTERNAL),
        ("unavailable", Self::UNAVAILABLE),
    ];

    /// The condition of this name; `None`: it is a number, or one that never holds here.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, condition)| *condition)
    }

    /// These and others.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether one of these is among the others.
    pub const fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    const fn of_grpc(status: u16) -> Self {
        match status {
            1 => Self::CANCELLED,
            4 => Self::DEADLINE_EXCEEDED,
            8 => Self::RESOURCE_EXHAUSTED,
            13 => Self::INTERNAL,
            14 => Self::UNAVAILABLE,
            _ => Self(0),
        }
    }
}

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::NAMES.iter().filter(|(_, one)| self.any(*one)).map(|(name, _)| *name);
        f.write_str(&named.collect::<Vec<_>>().join(","))
    }
}
