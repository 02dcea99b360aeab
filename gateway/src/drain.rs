//! Ending in order: no new connections, no new requests on old ones, and a bound on how long the last may take.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
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
    /// Of these, those that others than a sidecar's application have opened.
    others: AtomicUsize,
    ended: Notify,
}

/// One connection; the drain waits until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    drain: Arc<Drain>,
    others: bool,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let last = self.others && self.drain.others.fetch_sub(1, Ordering::AcqRel) == 1;
        if self.drain.connections.fetch_sub(1, Ordering::AcqRel) == 1 || last {
            self.drain.ended.notify_waiters();
        }
    }
}

/// Whose connections a drain waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Whose {
    /// All.
    All,
    /// All but those of a sidecar's own application.
    Others,
}

impl Drain {
    /// Counts a connection; `others`: a sidecar's application has not opened it.
    pub(crate) fn hold(self: &Arc<Self>, others: bool) -> Hold {
        self.connections.fetch_add(1, Ordering::AcqRel);
        if others {
            self.others.fetch_add(1, Ordering::AcqRel);
        }
        Hold { drain: Arc::clone(self), others }
    }

    fn count(&self, whose: Whose) -> usize {
        match whose {
            Whose::All => self.connections(),
            Whose::Others => self.others.load(Ordering::Acquire),
        }
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

    /// Waits until none of these connections is left, at most until `limit`. Returns how many are left.
    pub(crate) async fn finished(&self, whose: Whose, limit: Option<Instant>) -> usize {
        loop {
            let ended = self.ended.notified();
            if self.count(whose) == 0 {
                return 0;
            }
            match limit {
                None => ended.await,
                Some(limit) => {
                    if timeout_at(limit, ended).await.is_err() {
                        return self.count(whose);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_the_last_connection_but_not_for_ever() {
        let drain = Arc::new(Drain::default());
        let (hold, own) = (drain.hold(true), drain.hold(false));
        let in_a_second = || Some(Instant::now() + Duration::from_secs(1));
        assert_eq!(drain.finished(Whose::All, in_a_second()).await, 2);
        assert_eq!(drain.finished(Whose::Others, in_a_second()).await, 1);
        let waiting = tokio::spawn({
            let drain = Arc::clone(&drain);
            async move { drain.finished(Whose::Others, None).await }
        });
        tokio::task::yield_now().await;
        drop(hold);
        assert_eq!(waiting.await.unwrap(), 0);
        assert_eq!(drain.connections(), 1, "the application's own is there still");
        drop(own);
        assert_eq!(drain.finished(Whose::All, None).await, 0);
    }
}
