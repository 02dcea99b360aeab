//! Answers with all metrics: large, and held until they are read. There are few at a time, whoever asks, and whoever reads
//! slowly makes room for whoever waits.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
};

use super::answers::{Reply, text};

/// Answers at a time.
const MOST: usize = 2;
/// Others wait for so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// So long an answer may be read while others wait.
const TURN: Duration = Duration::from_secs(3);
/// So long whoever is told to leave may take.
const LEAVING: Duration = Duration::from_secs(1);

/// Places for such answers, of all servers together.
#[derive(Clone, Debug)]
pub(super) struct Scrapes {
    places: Arc<Semaphore>,
    held: Arc<Mutex<Vec<Held>>>,
}

/// An answer that is being read.
#[derive(Clone, Debug)]
struct Held {
    since: Instant,
    leave: Leave,
}

/// Says to a connection that its turn is over: others wait.
#[derive(Clone, Debug)]
pub(super) struct Leave(Arc<Notify>);

impl Leave {
    /// Ends when it is.
    pub(super) async fn wait(&self) {
        self.0.notified().await;
    }
}

impl Default for Scrapes {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MOST)), held: Arc::default() }
    }
}

/// An answer in its place.
struct Placed {
    bytes: Bytes,
    leave: Leave,
    held: Arc<Mutex<Vec<Held>>>,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        lock(&self.held).retain(|held| !Arc::ptr_eq(&held.leave.0, &self.leave.0));
    }
}

fn lock(held: &Mutex<Vec<Held>>) -> MutexGuard<'_, Vec<Held>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scrapes {
    /// Whether a page has all metrics.
    pub(super) fn is_one(path: &str) -> bool {
        matches!(path, "/stats/prometheus" | "/metrics" | "/stats" | "/overview")
    }

    /// Has the answer made on a thread of its own, so that probes are answered meanwhile. Its place is free when it was read, or
    /// when [`Leave`], which is among its extensions, has ended its connection.
    pub(super) async fn answer(&self, make: impl FnOnce() -> Reply + Send + 'static) -> Reply {
        let Ok(Some(place)) = timeout(PATIENCE, self.place()).await else {
            let busy = format!("{MOST} others are reading the metrics; try again\n");
            let mut reply = text(StatusCode::SERVICE_UNAVAILABLE, busy);
            reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            return reply;
        };
        let Ok(reply) = spawn_blocking(make).await else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n");
        };
        let (mut head, body) = reply.into_parts();
        let Ok(body) = body.collect().await;
        let leave = Leave(Arc::default());
        lock(&self.held).push(Held { since: Instant::now(), leave: leave.clone() });
        head.extensions.insert(leave.clone());
        let placed = Placed { bytes: body.to_bytes(), leave, held: Arc::clone(&self.held), _place: place };
        Reply::from_parts(head, Full::new(Bytes::from_owner(placed)))
    }

    /// Waits for a place, and ends the turns that are over meanwhile.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let mut place = pin!(Arc::clone(&self.places).acquire_owned());
        let mut earliest = Instant::now();
        loop {
            let over = lock(&self.held).iter().map(|held| held.since + TURN).min();
            let next = over.unwrap_or_else(|| Instant::now() + TURN).max(earliest);
            tokio::select! {
                biased;
                place = &mut place => return place.ok(),
                () = sleep_until(next) => {
                    self.end_turn();
                    // A connection takes a moment to end: one is enough.
                    earliest = Instant::now() + LEAVING;
                }
            }
        }
    }

    fn end_turn(&self) {
        let now = Instant::now();
        let mut held = lock(&self.held);
        let oldest = held.iter().enumerate().min_by_key(|(_, one)| one.since).map(|(at, _)| at);
        if let Some(at) = oldest.filter(|at| held[*at].since + TURN <= now) {
            held.swap_remove(at).leave.0.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn there_are_few_answers_at_a_time() {
        let scrapes = Scrapes::default();
        let ask = || scrapes.answer(|| text(StatusCode::OK, "a 1\n"));
        let (first, second) = (ask().await, ask().await);
        assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
        let third = ask().await;
        assert_eq!(third.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(third.headers().contains_key(header::RETRY_AFTER));
        let body = first.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&body[..], b"a 1\n");
        assert_eq!(ask().await.status(), StatusCode::SERVICE_UNAVAILABLE, "it is still held");
        drop(body);
        assert_eq!(ask().await.status(), StatusCode::OK);
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_served_when_a_turn_is_over() {
        let scrapes = Scrapes::default();
        let ask = || scrapes.answer(|| text(StatusCode::OK, "a 1\n"));
        let (first, second) = (ask().await, ask().await);
        let leave = |reply: &Reply| reply.extensions().get::<Leave>().cloned().unwrap();
        let (asked, began) = (leave(&first), Instant::now());
        // Its connection does what it is told.
        let leaving = async {
            asked.wait().await;
            drop(first);
        };
        let (third, ()) = tokio::join!(ask(), leaving);
        assert_eq!(third.status(), StatusCode::OK);
        assert!(began.elapsed() >= TURN && began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        let second_left = timeout(Duration::from_millis(1), leave(&second).wait()).await;
        assert!(second_left.is_err(), "one was enough");
        drop((second, third));
        assert!(lock(&scrapes.held).is_empty());
    }
}
