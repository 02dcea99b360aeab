//! Events of busy HTTP/2 connections are taken together, as network cards do with interrupts.
//!
//! Where many streams share few connections, a worker that is faster than its peers wakes up for each frame by itself, and sends
//! each answer by itself: more records, packets and system calls for us and for both peers, who are the slower for it. A worker
//! that is woken up often and for little lets events gather for a moment instead. One that has much to do each time finds
//! gathered events anyway, and one that waits for long has nobody who would gain: neither rests, nor does anybody whose streams
//! are few.

use std::{cell::Cell, num::NonZeroU64, thread::sleep, time::Duration};

use tokio::{runtime::Builder, time::Instant};

/// Streams that share a connection of HTTP/2 from which on its events may gather.
const STREAMS: usize = 16;
/// How long they may, for each request that is on its way: a small part of what so many take together, as each waits for all.
const REST: Duration = Duration::from_micros(2);
/// How long at most.
const LONGEST: Duration = Duration::from_micros(500);
/// A worker that waited for longer than this for the last event is not woken up often.
const OFTEN: Duration = Duration::from_micros(100);
/// One that has worked for longer than this has had much to do.
const MUCH: Duration = Duration::from_micros(500);
/// How much later than asked for the system may end a rest, in nanoseconds.
const SLACK: NonZeroU64 = NonZeroU64::new(5_000).expect("it is not zero");

thread_local! {
    static WORKER: Worker = const { Worker::new() };
}

/// What is known of this thread's.
struct Worker {
    /// A connection that many streams share has moved since it last waited for events.
    crowded: Cell<bool>,
    /// Requests whose answers have not begun.
    requests: Cell<u32>,
    /// When it began to wait for them.
    waits: Cell<Option<Instant>>,
    /// When it began to work, if the wait before was short.
    works: Cell<Option<Instant>>,
}

/// A connection of HTTP/2 with so many streams sends something.
pub(crate) fn moved(streams: usize) {
    if streams >= STREAMS {
        WORKER.with(|worker| worker.crowded.set(true));
    }
}

/// One request of this thread's that waits for its answer.
pub(crate) struct OnItsWay(());

impl OnItsWay {
    /// It begins.
    pub(crate) fn begin() -> Self {
        WORKER.with(|worker| worker.requests.set(worker.requests.get() + 1));
        Self(())
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        // A thread that ends counts nothing.
        let _ = WORKER.try_with(|worker| worker.requests.set(worker.requests.get() - 1));
    }
}

/// Lets the runtime of a worker rest before it waits for events. To be called on the worker's thread.
pub(crate) fn coalesce(builder: &mut Builder) -> &mut Builder {
    // The system's own is 50 us, as much as many a rest; nothing else on this thread sleeps.
    let _ = rustix::thread::set_current_timer_slack(Some(SLACK));
    builder.on_thread_park(|| WORKER.with(Worker::park)).on_thread_unpark(|| WORKER.with(Worker::unpark))
}

impl Worker {
    const fn new() -> Self {
        Self { crowded: Cell::new(false), requests: Cell::new(0), waits: Cell::new(None), works: Cell::new(None) }
    }

    fn park(&self) {
        let works = self.works.take();
        if !self.crowded.take() {
            return;
        }
        let now = Instant::now();
        self.waits.set(Some(now));
        if rests(works, now) {
            sleep(rest(self.requests.get()));
            self.waits.set(Some(Instant::now()));
        }
    }

    fn unpark(&self) {
        let Some(since) = self.waits.take() else { return };
        let now = Instant::now();
        self.works.set(works(since, now));
    }
}

/// When work begins behind a wait, if that was a short one.
fn works(waits: Instant, now: Instant) -> Option<Instant> {
    (now - waits < OFTEN).then_some(now)
}

/// Whether events may gather behind work that has begun then.
fn rests(works: Option<Instant>, now: Instant) -> bool {
    works.is_some_and(|since| now - since < MUCH)
}

/// How long they may, with so many requests on their way.
fn rest(requests: u32) -> Duration {
    REST.saturating_mul(requests).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_follows_a_short_wait_and_little_work() {
        let begin = Instant::now();
        let short = works(begin, begin + OFTEN / 2).expect("it was short");
        assert!(rests(Some(short), short + MUCH / 2));
        assert!(!rests(Some(short), short + MUCH), "much was done");
        assert_eq!(works(begin, begin + OFTEN), None, "it has waited for long");
        assert!(!rests(None, begin));
    }

    #[test]
    fn a_rest_is_as_long_as_the_crowd_bears() {
        let on_their_way = || WORKER.with(|worker| worker.requests.get());
        assert_eq!(rest(on_their_way()), Duration::ZERO);
        let some: Vec<OnItsWay> = (0..20).map(|_| OnItsWay::begin()).collect();
        assert_eq!(rest(on_their_way()), REST * 20);
        let many: Vec<OnItsWay> = (0..1000).map(|_| OnItsWay::begin()).collect();
        assert_eq!(rest(on_their_way()), LONGEST);
        drop((some, many));
        assert_eq!(on_their_way(), 0);
    }

    #[test]
    fn a_worker_whose_connections_are_not_crowded_does_not_look_at_the_clock() {
        let worker = Worker::new();
        worker.park();
        worker.unpark();
        assert!(worker.waits.get().is_none() && worker.works.get().is_none());
        moved(STREAMS - 1);
        assert!(!WORKER.with(|worker| worker.crowded.get()));
        moved(STREAMS);
        WORKER.with(|worker| {
            worker.park();
            assert!(worker.waits.get().is_some() && !worker.crowded.get());
            worker.unpark();
            assert!(worker.waits.get().is_none());
            // Nothing has moved since.
            worker.park();
            assert!(worker.waits.get().is_none() && worker.works.get().is_none());
        });
    }
}
