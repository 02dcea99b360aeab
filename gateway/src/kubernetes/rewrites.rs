//! When something is written again that somebody else has changed: at once the first time, and later and later while that goes
//! on. Two that each answer the other at once would fight for ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

/// The pause before the second time; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(1);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// Who has changed nothing for so long has stopped.
const QUIET: Duration = Duration::from_secs(10 * 60);
/// Writers of whom it is remembered that they were told of.
const MOST_TOLD: usize = 100;

/// What others have changed, by place.
#[derive(Debug, Default)]
pub(super) struct Rewrites {
    changed: BTreeMap<String, Changed>,
    told: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug)]
struct Changed {
    times: u32,
    last: Instant,
}

impl Rewrites {
    /// Somebody else has changed what is here.
    pub(super) fn changed(&mut self, place: &str, now: Instant) {
        let changed = self.changed.entry(place.to_owned()).or_insert(Changed { times: 0, last: now });
        if now.duration_since(changed.last) >= QUIET {
            changed.times = 0;
        }
        *changed = Changed { times: changed.times.saturating_add(1), last: now };
    }

    /// When it may be written again.
    pub(super) fn due(&self, place: &str, now: Instant) -> Instant {
        self.changed.get(place).map_or(now, |changed| {
            let pause = match changed.times {
                0 | 1 => Duration::ZERO,
                times => FIRST.saturating_mul(1 << (times - 2).min(20)).min(LONGEST),
            };
            changed.last + pause
        })
    }

    /// The place is gone.
    pub(super) fn forget(&mut self, place: &str) {
        self.changed.remove(place);
    }

    /// Whether it is news that this writer changes something.
    pub(super) fn is_news(&mut self, writer: &str) -> bool {
        self.told.len() < MOST_TOLD && self.told.insert(writer.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_while_it_goes_on_and_are_forgotten_when_it_has_stopped() {
        let mut rewrites = Rewrites::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let now = Instant::now();
            rewrites.changed("shop", now);
            let due = rewrites.due("shop", now);
            pauses.push((due - now).as_secs());
            tokio::time::advance(due - now).await;
        }
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let now = Instant::now();
        assert_eq!(rewrites.due("cart", now), now, "elsewhere nothing has happened");
        tokio::time::advance(QUIET).await;
        let now = Instant::now();
        rewrites.changed("shop", now);
        assert_eq!(rewrites.due("shop", now), now);
        assert!(rewrites.is_news("istiod") && !rewrites.is_news("istiod") && rewrites.is_news("helm"));
    }
}
