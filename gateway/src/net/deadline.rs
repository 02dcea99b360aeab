//! A deadline that whoever holds a connection can move, and that the connection's own reads obey.

use std::{
    pin::Pin,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// Milliseconds since the process began; 0 = none.
#[derive(Debug, Default)]
pub(crate) struct Deadline(AtomicU64);

impl Deadline {
    /// Expires `after` from now.
    pub(crate) fn arm(&self, after: Duration) {
        self.arm_at(Instant::now() + after);
    }

    /// Expires at `at`.
    pub(crate) fn arm_at(&self, at: Instant) {
        let at = at.saturating_duration_since(epoch()).as_millis() as u64;
        self.0.store(at.max(1), Ordering::Relaxed);
    }

    /// Never expires.
    pub(crate) fn disarm(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// When it expires.
    pub(crate) fn get(&self) -> Option<Instant> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            at => Some(epoch() + Duration::from_millis(at)),
        }
    }
}

/// The timer behind a [`Deadline`]. It is only moved when it fires too early, so a deadline that is set for each
/// request and never reached costs next to nothing.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready when the deadline has passed. Call it whenever the guarded operation is pending.
    pub(crate) fn poll(&mut self, deadline: &Deadline, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = deadline.get() else { return Poll::Pending };
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_moves_both_ways_and_fires_once_it_passes() {
        let (deadline, mut timer) = (Deadline::default(), Timer::default());
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(&deadline, cx))).await.is_pending());
        deadline.arm(Duration::from_secs(10));
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(&deadline, cx))).await.is_pending());
        deadline.arm(Duration::from_secs(60));
        let started = Instant::now();
        poll_fn(|cx| timer.poll(&deadline, cx)).await;
        assert!(started.elapsed() >= Duration::from_millis(59_990));
        deadline.arm(Duration::from_secs(100));
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(&deadline, cx))).await.is_pending());
        deadline.arm(Duration::from_secs(1));
        let started = Instant::now();
        poll_fn(|cx| timer.poll(&deadline, cx)).await;
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}
