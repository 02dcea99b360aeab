//! What waits for collectors. Requests put it there and go on; tasks of the workers take it in batches. Each destination has a
//! queue of its own with its share of the room and its own batches on their way, so one that is away costs nobody else
//! anything. What finds no room is counted and gone.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::{Destination, Item};
use crate::telemetry::metrics::exports::Result;

/// Room for all of it, in bytes: each destination that something waits for has its part.
const ROOM: usize = 8 << 20;
/// Items of a batch, and bytes.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 512 << 10;
/// Batches of one destination that are on their way at once.
const AT_ONCE: usize = 4;

/// See the module.
#[derive(Default)]
pub(crate) struct Exports {
    queues: Mutex<Queues>,
    /// There is something to take.
    pub(crate) some: Notify,
    /// There is a batch to take, or what is there should not wait for company.
    pub(crate) much: Notify,
    /// Nothing waits, and nothing is on its way.
    settled: Notify,
}

impl fmt::Debug for Exports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exports")
    }
}

#[derive(Default)]
struct Queues {
    /// Those that something waits for or is on its way to. The first one that has a batch is next.
    all: VecDeque<Queue>,
    /// The process ends: nothing waits for company.
    ending: bool,
}

struct Queue {
    to: Arc<Destination>,
    items: VecDeque<Item>,
    bytes: usize,
    /// How many items each batch has that is on its way.
    under_way: Vec<usize>,
}

/// Items for the same, on their way.
pub(crate) struct Batch {
    pub(crate) to: Arc<Destination>,
    pub(crate) items: Vec<Item>,
}

impl Queue {
    fn new(to: Arc<Destination>) -> Self {
        Self { to, items: VecDeque::new(), bytes: 0, under_way: Vec::new() }
    }

    /// Whether a batch may be taken from it.
    fn is_ready(&self) -> bool {
        !self.items.is_empty() && self.under_way.len() < AT_ONCE
    }

    fn has_batch(&self) -> bool {
        self.items.len() >= BATCH || self.bytes >= BATCH_BYTES
    }

    fn take(&mut self) -> Vec<Item> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.items.front() {
            if batch.len() == BATCH || (bytes + next.bytes > BATCH_BYTES && !batch.is_empty()) {
                break;
            }
            bytes += next.bytes;
            batch.extend(self.items.pop_front());
        }
        self.bytes -= bytes;
        self.under_way.push(batch.len());
        batch
    }
}

impl Queues {
    fn of(&mut self, to: &Arc<Destination>) -> &mut Queue {
        let same = |queue: &Queue| Arc::ptr_eq(&queue.to, to) || queue.to.is_as(to);
        let at = self.all.iter().position(same).unwrap_or_else(|| {
            self.all.push_back(Queue::new(Arc::clone(to)));
            self.all.len() - 1
        });
        let queue = &mut self.all[at];
        if queue.to.generation < to.generation {
            // What waits goes where its provider is now.
            queue.to = Arc::clone(to);
        }
        queue
    }
}

impl Exports {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something there, if there is room. Never waits for whoever takes it.
    pub(crate) fn push(&self, item: Item) {
        let mut queues = self.lock();
        let ending = queues.ending;
        queues.of(&item.to);
        // A share shrinks when another destination comes; what waits already may stay.
        let share = ROOM / queues.all.len();
        let queue = queues.of(&item.to);
        if queue.bytes + item.bytes > share {
            drop(queues);
            item.to.counted.add(Result::NoRoom, 1);
            return;
        }
        queue.bytes += item.bytes;
        queue.items.push_back(item);
        let ready = queue.is_ready();
        let (first, much) = (ready && queue.items.len() == 1, ready && (ending || queue.has_batch()));
        drop(queues);
        self.wake(first, much);
    }

    fn wake(&self, some: bool, much: bool) {
        if some {
            self.some.notify_one();
        }
        if much {
            self.much.notify_one();
        }
    }

    /// The oldest ones of a destination that takes another batch; destinations have turns. `None`: there is nothing to take.
    /// Each is followed by [`Self::done`].
    pub(crate) fn batch(&self) -> Option<Batch> {
        let mut queues = self.lock();
        let at = queues.all.iter().position(Queue::is_ready)?;
        let mut queue = queues.all.remove(at)?;
        let batch = Batch { to: Arc::clone(&queue.to), items: queue.take() };
        queues.all.push_back(queue);
        Some(batch)
    }

    /// A batch is not on its way any more: it has arrived, or it never will.
    pub(crate) fn done(&self, to: &Arc<Destination>, count: usize) {
        let mut queues = self.lock();
        let ending = queues.ending;
        let queue = queues.of(to);
        if let Some(at) = queue.under_way.iter().position(|items| *items == count) {
            queue.under_way.swap_remove(at);
        }
        let ready = queue.is_ready();
        let much = ready && (ending || queue.has_batch());
        queues.all.retain(|queue| !queue.items.is_empty() || !queue.under_way.is_empty());
        let settled = queues.all.is_empty();
        drop(queues);
        self.wake(ready, much);
        if settled {
            self.settled.notify_one();
        }
    }

    /// Whether there is something to take.
    pub(crate) fn is_ready(&self) -> bool {
        self.lock().all.iter().any(Queue::is_ready)
    }

    /// Waits until everything has arrived, `limit` at most, and counts the rest as lost. How many that are.
    pub(crate) async fn finish(&self, limit: Duration) -> usize {
        self.lock().ending = true;
        let arrived = async {
            while !self.lock().all.is_empty() {
                self.much.notify_one();
                self.settled.notified().await;
            }
        };
        // What has not arrived by then is what is left.
        let _ = timeout(limit, arrived).await;
        let left = std::mem::take(&mut self.lock().all);
        let count = |queue: &Queue| queue.items.len() + queue.under_way.iter().sum::<usize>();
        left.iter().map(|queue| (queue, count(queue))).fold(0, |all, (queue, lost)| {
            queue.to.counted.add(Result::Unreachable, lost);
            all + lost
        })
    }
}

#[cfg(test)]
mod tests;
