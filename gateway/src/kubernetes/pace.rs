//! How fast something may be done: so many per second, and some more after a rest.

use std::time::Duration;

use tokio::time::Instant;

/// A bucket of tokens, one for each time.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
}

impl Pace {
    /// With a full bucket of `burst` tokens, which `per_second` more refill.
    pub(super) fn new(per_second: f64, burst: f64) -> Self {
        Self { per_second, burst, tokens: burst, filled: Instant::now() }
    }

    /// Takes a token. Gives when it may be used: now, or when there would have been one.
    pub(super) fn next(&mut self) -> Instant {
        let now = Instant::now();
        let refill = now.saturating_duration_since(self.filled).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + refill).min(self.burst) - 1.0;
        self.filled = now;
        now + Duration::from_secs_f64((-self.tokens / self.per_second).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_followed_by_a_steady_pace() {
        let mut pace = Pace::new(10.0, 3.0);
        let start = Instant::now();
        let waits: Vec<u128> = (0..5).map(|_| (pace.next() - start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200]);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!((0..3).all(|_| pace.next() == Instant::now()));
        assert!(pace.next() > Instant::now());
    }
}
