//! Answers with all metrics: large, and held until they are read. There are few at a time, whoever asks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use super::answers::{Reply, text};

/// Answers at a time.
const MOST: usize = 2;
/// Others wait for so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Places for such answers, of all servers together.
#[derive(Clone, Debug)]
pub(super) struct Scrapes(Arc<Semaphore>);

impl Default for Scrapes {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

/// An answer in its place.
struct Placed {
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Scrapes {
    /// Whether a page has all metrics.
    pub(super) fn is_one(path: &str) -> bool {
        matches!(path, "/stats/prometheus" | "/metrics" | "/stats" | "/overview")
    }

    /// Has the answer made on a thread of its own, so that probes are answered meanwhile. Its place is free when it was read.
    pub(super) async fn answer(&self, make: impl FnOnce() -> Reply + Send + 'static) -> Reply {
        let Ok(Ok(place)) = timeout(PATIENCE, Arc::clone(&self.0).acquire_owned()).await else {
            let busy = format!("{MOST} others are reading the metrics; try again\n");
            let mut reply = text(StatusCode::SERVICE_UNAVAILABLE, busy);
            reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            return reply;
        };
        let Ok(reply) = spawn_blocking(make).await else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n");
        };
        let (head, body) = reply.into_parts();
        let Ok(body) = body.collect().await;
        Reply::from_parts(head, Full::new(Bytes::from_owner(Placed { bytes: body.to_bytes(), _place: place })))
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
}
