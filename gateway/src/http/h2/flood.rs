//! Frames that cost the sender nothing and bring nothing on, counted.

use std::time::Duration;

use tokio::time::Instant;

/// Frames of control in a row, with nothing between them that brings a request or an answer on.
const FRUITLESS: u32 = 1000;
/// They are a flood when they come within this time.
const WINDOW: Duration = Duration::from_secs(10);
/// Streams that a client may reset before it is asked whether that is all it does.
const RESETS: u32 = 200;

/// Counts frames of one connection.
#[derive(Debug)]
pub(super) struct Watch {
    fruitless: u32,
    /// When counting them began.
    since: Instant,
    /// Streams that the client has opened, and those of them that it has reset.
    streams: u32,
    resets: u32,
    /// When counting those began.
    resets_since: Instant,
    /// Too much of it: of what.
    pub(super) flooded: Option<&'static str>,
}

impl Default for Watch {
    fn default() -> Self {
        let now = Instant::now();
        Self { fruitless: 0, since: now, streams: 0, resets: 0, resets_since: now, flooded: None }
    }
}

impl Watch {
    /// A frame brought something on, ours or theirs. A client that downloads sends nothing but WINDOW_UPDATE: what it is
    /// sent shows that it brings something on. What answers its own frames of control does not.
    pub(super) fn fruit(&mut self) {
        self.fruitless = 0;
    }

    /// A frame brought nothing on.
    pub(super) fn fruitless(&mut self) {
        self.fruitless += 1;
        if self.fruitless > FRUITLESS {
            let now = Instant::now();
            // A quiet stream that is kept alive gets there, too, in hours.
            if now - self.since < WINDOW {
                self.flooded = Some("a flood of frames that bring nothing on");
            }
            (self.since, self.fruitless) = (now, 0);
        }
    }

    /// A client opened a stream.
    pub(super) fn opened(&mut self) {
        self.streams += 1;
    }

    /// A client reset a stream that nobody had answered yet, or made us reset one: when most end so within a short time, none
    /// is meant (CVE-2023-44487).
    pub(super) fn reset(&mut self) {
        self.resets += 1;
        if self.resets > RESETS {
            let now = Instant::now();
            let fast = now - self.resets_since < WINDOW;
            if fast && self.resets > self.streams / 2 {
                self.flooded = Some("a flood of streams that are reset");
            }
            (self.resets_since, self.streams, self.resets) = (now, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_fast() {
        let mut watch = Watch::default();
        (0..=FRUITLESS).for_each(|_| watch.fruitless());
        assert!(watch.flooded.is_some());
        let mut watch = Watch::default();
        for _ in 0..=FRUITLESS {
            tokio::time::advance(Duration::from_millis(100)).await;
            watch.fruitless();
        }
        assert!(watch.flooded.is_none(), "kept alive and nothing else");
        for _ in 0..10 * FRUITLESS {
            watch.fruitless();
            watch.fruit();
        }
        assert!(watch.flooded.is_none(), "a download");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_resets_most_streams_at_once_means_none() {
        let mut watch = Watch::default();
        for number in 0..1000 {
            watch.opened();
            if number % 3 == 0 {
                watch.reset();
            }
        }
        assert!(watch.flooded.is_none(), "a third");
        let mut watch = Watch::default();
        for _ in 0..10 * RESETS {
            tokio::time::advance(Duration::from_millis(100)).await;
            watch.opened();
            watch.reset();
        }
        assert!(watch.flooded.is_none(), "a front proxy whose users leave");
        let mut watch = Watch::default();
        (0..=RESETS).for_each(|_| {
            watch.opened();
            watch.reset();
        });
        assert!(watch.flooded.is_some());
    }
}
