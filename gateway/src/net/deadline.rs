//! A deadline that costs next to nothing while it is moved and not reached.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A point in time, or none, and the timer behind it. The timer is only moved when it fires too early, so a deadline that
/// is set for each request and never reached is a store of a number.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Expires `after` from now.
    pub(crate) fn arm(&mut self, after: Duration) {
        self.at = Some(Instant::now() + after);
    }

    /// Expires then; `None` = never.
    pub(crate) fn set(&mut self, at: Option<Instant>) {
        self.at = at;
    }

    /// Ready when the deadline has passed. Call it whenever the guarded operation is pending.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() > at {
            timer.as_mut().reset(at);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_moves_both_ways_and_fires_once_it_passes() {
        let mut deadline = Deadline::default();
        assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx))).await.is_pending());
        deadline.arm(Duration::from_secs(10));
        assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx))).await.is_pending());
        deadline.arm(Duration::from_secs(60));
        let started = Instant::now();
        poll_fn(|cx| deadline.poll(cx)).await;
        assert!(started.elapsed() >= Duration::from_millis(59_990));
        deadline.arm(Duration::from_secs(100));
        assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx))).await.is_pending());
        deadline.arm(Duration::from_secs(1));
        let started = Instant::now();
        poll_fn(|cx| deadline.poll(cx)).await;
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}
