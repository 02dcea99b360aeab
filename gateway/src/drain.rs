//! Ending in order: no new connections, no new requests on old ones, and a bound on how long the last may take.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// The state of a drain, and who is still busy.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    draining: AtomicBool,
    connections: AtomicUsize,
    ended: Notify,
}

/// One connection; the drain waits until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold(Arc<Drain>);

impl Drop for Hold {
    fn drop(&mut self) {
        if self.0.connections.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}

impl Drain {
    /// Counts a connection.
    pub(crate) fn hold(self: &Arc<Self>) -> Hold {
        self.connections.fetch_add(1, Ordering::AcqRel);
        Hold(Arc::clone(self))
    }

    /// Connections right now.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// From here on responses end their connections.
    pub(crate) fn begin(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// True after [`Self::begin`].
    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Waits until no connection is left, at most `limit`. Returns how many are left.
    pub(crate) async fn finished(&self, limit: Duration) -> usize {
        let until = Instant::now() + limit;
        loop {
            let ended = self.ended.notified();
            if self.connections() == 0 || timeout_at(until, ended).await.is_err() {
                return self.connections();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_the_last_connection_but_not_for_ever() {
        let drain = Arc::new(Drain::default());
        let hold = drain.hold();
        assert_eq!(drain.finished(Duration::from_secs(1)).await, 1);
        let waiting = tokio::spawn({
            let drain = Arc::clone(&drain);
            async move { drain.finished(Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        drop(hold);
        assert_eq!(waiting.await.unwrap(), 0);
    }
}
