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
    connections: Tally,
    /// Sockets that may still hand over a connection.
    listeners: Tally,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Tally {
    all: AtomicUsize,
    /// Of these, those for others than a sidecar's application.
    others: AtomicUsize,
}

impl Tally {
    fn add(&self, others: bool) {
        self.all.fetch_add(1, Ordering::AcqRel);
        if others {
            self.others.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// `true`: some count is at zero now.
    fn take(&self, others: bool) -> bool {
        let last = others && self.others.fetch_sub(1, Ordering::AcqRel) == 1;
        self.all.fetch_sub(1, Ordering::AcqRel) == 1 || last
    }

    fn count(&self, whose: Whose) -> usize {
        match whose {
            Whose::All => self.all.load(Ordering::Acquire),
            Whose::Others => self.others.load(Ordering::Acquire),
        }
    }
}

/// One connection, or one listening socket; the drain waits until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    drain: Arc<Drain>,
    listener: bool,
    others: bool,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let tally = if self.listener { &self.drain.listeners } else { &self.drain.connections };
        if tally.take(self.others) {
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
        self.connections.add(others);
        Hold { drain: Arc::clone(self), listener: false, others }
    }

    /// Counts a listening socket, until it has handed over its last connection.
    pub(crate) fn hold_listener(self: &Arc<Self>, others: bool) -> Hold {
        self.listeners.add(others);
        Hold { drain: Arc::clone(self), listener: true, others }
    }

    /// Connections right now.
    pub(crate) fn connections(&self) -> usize {
        self.connections.count(Whose::All)
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
    ///
    /// Their listeners are waited for, too: one that was told to close may have a last connection to hand over. A sidecar's
    /// outbound ones stand as long as its application may take, so without `limit` they are not.
    pub(crate) async fn finished(&self, whose: Whose, limit: Option<Instant>) -> usize {
        let closing = whose == Whose::Others || limit.is_some();
        loop {
            let ended = self.ended.notified();
            // In this order: a connection is counted before its listener goes.
            let listening = closing && self.listeners.count(whose) > 0;
            if !listening && self.connections.count(whose) == 0 {
                return 0;
            }
            match limit {
                None => ended.await,
                Some(limit) => {
                    if timeout_at(limit, ended).await.is_err() {
                        return self.connections.count(whose);
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

    #[tokio::test(start_paused = true)]
    async fn a_listener_may_hand_over_a_last_connection() {
        let drain = Arc::new(Drain::default());
        let (inward, outward) = (drain.hold_listener(true), drain.hold_listener(false));
        assert_eq!(drain.connections(), 0, "nothing but connections counts as such");
        let waiting = tokio::spawn({
            let drain = Arc::clone(&drain);
            async move { drain.finished(Whose::Others, None).await }
        });
        tokio::task::yield_now().await;
        let last = drain.hold(true);
        drop(inward);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(last);
        assert_eq!(waiting.await.unwrap(), 0);
        // The application may take its time, and open more.
        assert_eq!(drain.finished(Whose::All, None).await, 0);
        drop(outward);
    }
}
