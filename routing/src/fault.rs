//! Faults on purpose (Istio `HTTPFaultInjection`): what is injected, and into which requests.

use std::time::Duration;

/// Compiled `HTTPFaultInjection`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fault {
    /// Comes first.
    pub delay: Option<Delay>,
    /// Instead of an answer of the service.
    pub abort: Option<Abort>,
}

/// Wait before anything else is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delay {
    /// `fixedDelay`.
    pub time: Duration,
    /// How many requests wait.
    pub share: Share,
}

/// Answer with an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Abort {
    /// The error.
    pub error: AbortError,
    /// How many requests get it.
    pub share: Share,
}

/// The error of an abort.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AbortError {
    /// `httpStatus`.
    Http(u16),
    /// `grpcStatus`, by its number.
    Grpc(u8),
}

/// Names of the gRPC status codes, by their numbers.
pub const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// What one request meets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Injected {
    /// It waits so long first.
    pub delay: Option<Duration>,
    /// It gets this error.
    pub abort: Option<AbortError>,
}

impl Fault {
    /// What a request meets. Delay and abort are diced for separately; each call of `random` gives any uniformly distributed
    /// number.
    pub fn inject(&self, mut random: impl FnMut() -> u32) -> Injected {
        let delay = self.delay.filter(|delay| delay.share.takes(random()));
        let abort = self.abort.filter(|abort| abort.share.takes(random()));
        Injected { delay: delay.map(|delay| delay.time), abort: abort.map(|abort| abort.error) }
    }
}

/// A share of requests, in millionths: Istio's percentages reach down to 0.0001.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Share(u32);

const ALL: u32 = 1_000_000;

impl Share {
    /// Every request.
    pub const ALL: Self = Self(ALL);

    /// A percentage, rounded to the nearest millionth.
    pub fn of_percent(percent: f64) -> Self {
        // A float out of range becomes the nearest number in it.
        Self(((percent * 10_000.0).round() as u32).min(ALL))
    }

    /// Whether it takes no request at all.
    pub const fn is_nothing(self) -> bool {
        self.0 == 0
    }

    /// As a percentage.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// Whether a request is among them; `random` is any uniformly distributed number.
    pub fn takes(self, random: u32) -> bool {
        // The upper half of the product is uniform below a million, but for one part in four thousand millions.
        (u64::from(random) * u64::from(ALL)) >> u32::BITS < u64::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    fn both(delay: f64, abort: f64) -> Fault {
        Fault {
            delay: Some(Delay { time: WAIT, share: Share::of_percent(delay) }),
            abort: Some(Abort { error: AbortError::Http(503), share: Share::of_percent(abort) }),
        }
    }

    #[test]
    fn a_share_reaches_from_nothing_over_a_millionth_to_all() {
        assert!(Share::of_percent(0.0).is_nothing() && !Share::of_percent(0.0001).is_nothing());
        assert!(!Share::of_percent(0.0).takes(0));
        assert!(Share::of_percent(0.0001).takes(0) && !Share::of_percent(0.0001).takes(4295));
        assert!(Share::of_percent(100.0).takes(u32::MAX) && Share::ALL == Share::of_percent(100.0));
        assert_eq!(Share::of_percent(0.29).percent(), 0.29, "rounded, not cut");
        assert_eq!([Share::of_percent(-1.0), Share::of_percent(f64::NAN)], [Share(0); 2]);
        assert_eq!(Share::of_percent(1e300), Share::ALL);
    }

    #[test]
    fn delay_and_abort_are_diced_for_separately() {
        let met = |first: u32, second: u32| {
            let mut dice = [first, second].into_iter();
            let injected = both(50.0, 50.0).inject(|| dice.next().unwrap());
            (injected.delay.is_some(), injected.abort.is_some())
        };
        let (low, high) = (0, u32::MAX);
        assert_eq!([met(low, low), met(low, high)], [(true, true), (true, false)]);
        assert_eq!([met(high, low), met(high, high)], [(false, true), (false, false)]);
    }

    #[test]
    fn what_is_not_configured_is_not_diced_for() {
        let only = Fault { delay: None, ..both(0.0, 100.0) };
        let mut dice = [u32::MAX].into_iter();
        assert_eq!(only.inject(|| dice.next().unwrap()).abort, Some(AbortError::Http(503)));
    }

    proptest! {
        #[test]
        fn a_share_takes_as_many_as_it_says(millionths in 0..=ALL, random in any::<u32>()) {
            let share = Share::of_percent(f64::from(millionths) / 10_000.0);
            prop_assert_eq!(share, Share(millionths));
            let below = f64::from(random) / 4_294_967_296.0 * 1e6;
            // Next to the border the two roundings may differ.
            if (below - f64::from(millionths)).abs() > 1e-3 {
                prop_assert_eq!(share.takes(random), below < f64::from(millionths));
            }
        }
    }
}
