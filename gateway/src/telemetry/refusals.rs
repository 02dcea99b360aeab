//! One line in the log for each client that is turned away: who, by which listener, and why. Scanners and floods bring
//! thousands of them, so of each reason a few lines are written, and how many more there were.

use std::{
    cell::{Cell, RefCell},
    fmt::Display,
    net::SocketAddr,
    time::Duration,
};

use pingora_limits::rate::Rate;
use tokio::time::Instant;
use tracing::info;

/// Lines per reason, worker and [`WINDOW`].
const LINES: isize = 5;
/// See [`LINES`].
const WINDOW: Duration = Duration::from_secs(10);

/// One per worker.
pub(crate) struct Refusals {
    lately: Rate,
    /// Lines that were not written, by reason.
    held_back: RefCell<Vec<(&'static str, u64)>>,
    /// When they were last told of.
    told: Cell<Instant>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            lately: Rate::new_with_estimator_config(WINDOW, 2, 64),
            held_back: RefCell::default(),
            told: Cell::new(Instant::now()),
        }
    }
}

impl Refusals {
    /// Tells of a client that was turned away; `false`: there were too many of them. `reason` is a word to search for; `why` is
    /// a sentence.
    pub(crate) fn tell(
        &self,
        reason: &'static str,
        remote: SocketAddr,
        listener: SocketAddr,
        why: impl Display,
    ) -> bool {
        if self.lately.observe(&reason, 1) <= LINES {
            info!(%remote, %listener, reason, "{why}");
            return true;
        }
        let mut held_back = self.held_back.borrow_mut();
        match held_back.iter_mut().find(|(held, _)| *held == reason) {
            Some((_, count)) => *count += 1,
            None => held_back.push((reason, 1)),
        }
        false
    }

    /// Tells once in a while how many lines were not written. Called every second or so.
    pub(crate) fn sweep(&self) {
        for (reason, held_back) in self.due() {
            info!(reason, held_back, "more clients were turned away than are told of one by one");
        }
    }

    fn due(&self) -> Vec<(&'static str, u64)> {
        if self.told.get().elapsed() < WINDOW {
            return Vec::new();
        }
        self.told.set(Instant::now());
        self.held_back.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_held_back_is_counted_by_reason_and_told_once() {
        let refusals = Refusals::default();
        let somebody = SocketAddr::from(([127, 0, 0, 1], 1));
        for _ in 0..12 {
            refusals.tell("Timeout", somebody, somebody, "too slow");
        }
        for _ in 0..6 {
            refusals.tell("UnknownCa", somebody, somebody, "not ours");
        }
        refusals.tell("Io", somebody, somebody, "broken");

        assert!(refusals.due().is_empty(), "not yet");
        tokio::time::advance(WINDOW).await;
        assert_eq!(refusals.due(), [("Timeout", 7), ("UnknownCa", 1)]);
        tokio::time::advance(WINDOW).await;
        assert!(refusals.due().is_empty());
    }
}
