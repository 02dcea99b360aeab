//! A bucket that is filled evenly, told by one number: the time at which it is full again (the generic cell rate algorithm). Times
//! are nanoseconds since any fixed beginning; a full bucket's number lies in the past, so 0 is a bucket that nobody has used.

use std::time::Duration;

use crate::api::rate_limit::Amount;

/// The longest time in which a bucket may fill: ten years.
const LONGEST: u64 = 10 * 366 * 86_400 * 1_000_000_000;

/// How a bucket is filled, and what it holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Time between two requests at an even pace.
    step: u64,
    /// Time in which an empty bucket fills.
    depth: u64,
    /// What users wrote: so many requests...
    pub requests: u32,
    /// ... in this time...
    pub period: Duration,
    /// ... and so many at once.
    pub burst: u32,
}

/// A request that there is no room for: one would pass after this time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused(pub Duration);

impl Rate {
    /// `None`: it is nothing, or more than can be counted.
    pub fn new(amount: &Amount) -> Option<Self> {
        let period = amount.per.unwrap_or_default().get();
        let burst = amount.burst.unwrap_or(amount.requests);
        let (nanos, requests) = (u64::try_from(period.as_nanos()).ok()?, u64::from(amount.requests));
        if requests == 0 || burst == 0 || nanos < requests {
            return None;
        }
        // Rounded up: rather a nanosecond too slow than a request too many.
        let step = nanos.div_ceil(requests);
        let depth = step.checked_mul(u64::from(burst)).filter(|depth| *depth <= LONGEST)?;
        Some(Self { step, depth, requests: amount.requests, period, burst })
    }

    /// Takes one out of a bucket that is full at `full`: when it is full then.
    ///
    /// # Errors
    /// [`Refused`] when nothing is in it.
    pub fn take(&self, full: u64, now: u64) -> Result<u64, Refused> {
        let next = full.max(now).saturating_add(self.step);
        match next.saturating_sub(now).checked_sub(self.depth) {
            None | Some(0) => Ok(next),
            Some(wait) => Err(Refused(Duration::from_nanos(wait))),
        }
    }

    /// Puts one back.
    pub fn give_back(&self, full: u64) -> u64 {
        full.saturating_sub(self.step)
    }

    /// How many are in a bucket that is full at `full`.
    pub fn left(&self, full: u64, now: u64) -> u64 {
        self.depth.saturating_sub(full.saturating_sub(now)) / self.step
    }

    /// How long it is until a bucket is full.
    pub fn fills_in(full: u64, now: u64) -> Duration {
        Duration::from_nanos(full.saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(requests: u32, per: &str, burst: u32) -> Rate {
        Rate::new(&Amount { requests, per: Some(per.parse().unwrap()), burst: Some(burst) }).unwrap()
    }

    #[test]
    fn a_burst_passes_and_then_one_at_a_time() {
        let rate = rate(10, "second", 3);
        let mut full = 0;
        for _ in 0..3 {
            full = rate.take(full, 1000).unwrap();
        }
        assert_eq!(rate.left(full, 1000), 0);
        assert_eq!(rate.take(full, 1000), Err(Refused(Duration::from_millis(100))));
        assert_eq!(rate.take(full, 50_000_000 + 1000), Err(Refused(Duration::from_millis(50))));
        full = rate.take(full, 100_000_000 + 1000).unwrap();
        assert_eq!(rate.left(full, 300_000_000 + 1000), 2);
        assert_eq!(Rate::fills_in(full, 300_000_000 + 1000), Duration::from_millis(100));
        assert_eq!(rate.take(rate.give_back(full), 100_000_000 + 1000), Ok(full));
    }

    #[test]
    fn what_cannot_be_counted_is_no_rate() {
        let given = |requests, per: &str, burst| Rate::new(&Amount { requests, per: per.parse().ok(), burst });
        assert_eq!(given(0, "second", None), None);
        assert_eq!(given(1, "second", Some(0)), None);
        assert_eq!(given(4_000_000_000, "second", None), None, "less than a nanosecond each");
        assert_eq!(given(1, "day", Some(4_000_000_000)), None, "ten million years");
        assert_eq!(given(1_000_000_000, "second", None).map(|rate| rate.burst), Some(1_000_000_000));
        assert_eq!(given(3, "HOUR", None).map(|rate| rate.period.as_secs()), Some(3600));
        assert_eq!(given(5, "1.5s", None).map(|rate| rate.period.as_millis()), Some(1500));
    }

    proptest! {
        /// Against a bucket as people draw it: tokens that drip in, one to be taken by each request.
        #[test]
        fn it_is_a_bucket_of_tokens(
            requests in 1_u32..5000, per in prop::sample::select(vec!["second", "minute", "hour", "day", "7ms"]),
            burst in 1_u32..50, pauses in prop::collection::vec(0_u64..3, 1..200), scale in 1_u64..2_000_000_000
        ) {
            prop_assume!(u128::from(requests) <= per.parse::<crate::api::rate_limit::Period>().unwrap().get().as_nanos());
            let rate = rate(requests, per, burst);
            let (mut now, mut full, mut inside) = (1_u64, 0, u128::from(rate.depth));
            let mut passed: Vec<u64> = Vec::new();
            for pause in pauses {
                now += pause * scale;
                inside = u128::from(rate.depth).min(inside + u128::from(pause * scale));
                prop_assert_eq!(u128::from(rate.left(full, now)), inside / u128::from(rate.step));
                let fits = inside >= u128::from(rate.step);
                match rate.take(full, now) {
                    Ok(next) => {
                        prop_assert!(fits);
                        (full, inside) = (next, inside - u128::from(rate.step));
                        passed.push(now);
                    }
                    Err(Refused(wait)) => {
                        prop_assert!(!fits);
                        let wait = wait.as_nanos() as u64;
                        prop_assert!(rate.take(full, now + wait).is_ok() && rate.take(full, now + wait - 1).is_err());
                    }
                }
            }
            // Within no stretch of time more than the burst and what drips in meanwhile.
            for (first, begin) in passed.iter().enumerate() {
                for (count, end) in passed[first..].iter().enumerate() {
                    let most = u128::from(burst) + u128::from(end - begin) * u128::from(requests) / rate.period.as_nanos();
                    prop_assert!((count + 1) as u128 <= most);
                }
            }
        }
    }
}
