//! A deadline that costs next to nothing while it is moved and not reached.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, sleep_until},
};

use super::shelf::Shelf;

thread_local! {
    /// They stay where they are in the wheel of the thread's runtime, as to take one out and another in costs more than the rest
    /// of a deadline. A thread has one runtime for all its deadlines.
    static TIMERS: Shelf<Pin<Box<Sleep>>> = const { Shelf::new() };
}

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
        let timer = self.timer.get_or_insert_with(|| lent(at));
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

/// A timer, which may fire earlier than that.
fn lent(at: Instant) -> Pin<Box<Sleep>> {
    TIMERS.with(Shelf::take).unwrap_or_else(|| Box::pin(sleep_until(at)))
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let Some(mut timer) = self.timer.take() else { return };
        // A runtime that ends has no use for it.
        if Handle::try_current().is_err() {
            return;
        }
        // What would wake a task holds its memory: nobody waits any more.
        let _ = timer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        // A thread that ends keeps nothing.
        let _ = TIMERS.try_with(|timers| timers.keep(timer));
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

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_another_deadline_had_fires_neither_early_nor_late() {
        for (first, second) in [(10, 60), (60, 10), (1, 1)] {
            let mut deadline = Deadline::default();
            deadline.arm(Duration::from_secs(first));
            assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx))).await.is_pending());
            drop(deadline);
            let (mut deadline, started) = (Deadline::default(), Instant::now());
            deadline.arm(Duration::from_secs(second));
            poll_fn(|cx| deadline.poll(cx)).await;
            let late = started.elapsed().saturating_sub(Duration::from_secs(second));
            assert!(late < Duration::from_millis(10) && started.elapsed() >= Duration::from_secs(second));
            // One that has fired is as good as any other.
            drop(deadline);
            let (mut deadline, started) = (Deadline::default(), Instant::now());
            deadline.arm(Duration::from_secs(5));
            poll_fn(|cx| deadline.poll(cx)).await;
            assert!(started.elapsed() >= Duration::from_secs(5));
        }
    }
}
