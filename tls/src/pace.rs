//! How long records are: a receiver can look at nothing of one before all of it has come. What begins to flow goes in records
//! that a first flight of packets carries whole (RFC 6928: about 14 KiB), what flows in the longest there are.

use std::time::{Duration, Instant};

/// A record while a flow begins, bytes.
const SHORT: usize = 4 * 1024;
/// So many bytes go in short ones: more than a first flight.
const BEGINNING: usize = 16 * 1024;
/// After a pause as long as this the path is taken for unknown again.
const PAUSE: Duration = Duration::from_secs(1);

/// The pace of one connection.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    sent: usize,
    last: Option<Instant>,
}

impl Pace {
    /// How many of the bytes that wait go next.
    pub(crate) fn next(&mut self, waiting: usize, now: impl FnOnce() -> Instant) -> usize {
        if waiting <= SHORT {
            self.sent = self.sent.saturating_add(waiting).min(BEGINNING);
            return waiting;
        }
        let now = now();
        if self.last.is_none_or(|last| now - last > PAUSE) {
            self.sent = 0;
        }
        self.last = Some(now);
        let count = if self.sent < BEGINNING { SHORT } else { waiting };
        self.sent = self.sent.saturating_add(count).min(BEGINNING);
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_begins_with_short_records_and_begins_anew_after_a_pause() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        assert_eq!(pace.next(100, || now), 100);
        for _ in 0..2 {
            let first: Vec<usize> = (0..6).map(|_| pace.next(60_000, || now)).collect();
            assert_eq!(first, [SHORT, SHORT, SHORT, SHORT, 60_000, 60_000]);
            now += Duration::from_millis(900);
            assert_eq!(pace.next(60_000, || now), 60_000);
            now += Duration::from_millis(1100);
        }
    }
}
