//! Kept HTTP/2 connections of one worker. One dial per key at a time: a burst shares what the first one gets.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pingora::{
    BError,
    connectors::http::v2::{ConnectionRef, H2HandshakeSettings, handshake},
};
use tokio::{sync::watch, time::Instant};

use super::{dial::Dial, h2_session::H2Session};
use crate::net::{connection::Connection, facts::Facts};

/// Streams at most on one connection; more open another.
const STREAMS: usize = 100;
/// Receive window of a stream, bytes: what an endpoint may send before its client takes it.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Receive window of a connection, bytes.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// One connection and the facts its streams report.
#[derive(Clone)]
struct Kept {
    connection: ConnectionRef,
    facts: Arc<Facts>,
    used: Instant,
    /// Requests it may still take.
    left: u32,
    /// Fails when nobody can ask for it any more.
    in_use: watch::Receiver<()>,
}

impl Kept {
    fn usable(&self) -> bool {
        let connection = &self.connection;
        !connection.is_closed() && !connection.is_shutting_down() && !connection.ping_timedout()
    }

    async fn stream(&self) -> Result<Option<H2Session>, BError> {
        Ok(self.connection.spawn_stream().await?.map(|stream| H2Session::new(stream, Arc::clone(&self.facts))))
    }
}

#[derive(Default)]
struct Slot {
    kept: Vec<Kept>,
    dialling: Arc<tokio::sync::Mutex<()>>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct H2Pool {
    slots: Mutex<HashMap<u64, Slot>>,
}

impl H2Pool {
    /// True when nothing is kept: most proxies never speak HTTP/2 upstream.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// A stream on a kept connection.
    pub(crate) async fn reuse(&self, key: u64) -> Option<H2Session> {
        loop {
            let kept = {
                let mut slots = self.lock();
                let slot = slots.get_mut(&key)?;
                slot.kept.retain(Kept::usable);
                let kept = slot.kept.iter_mut().find(|kept| kept.left > 0 && kept.connection.more_streams_allowed())?;
                kept.used = Instant::now();
                kept.left = kept.left.saturating_sub(1);
                if kept.left == 0 {
                    // This request is its last (Istio `maxRequestsPerConnection`).
                    kept.connection.mark_shutdown();
                }
                kept.clone()
            };
            match kept.stream().await {
                Ok(Some(session)) => return Some(session),
                // Full or going away meanwhile: the next look finds another one or none.
                Ok(None) | Err(_) if kept.usable() && kept.connection.more_streams_allowed() => {
                    kept.connection.mark_shutdown();
                }
                Ok(None) | Err(_) => {}
            }
        }
    }

    /// A stream on a kept connection, else on the one that `dial` makes.
    ///
    /// # Errors
    /// Whatever the dial or the HTTP/2 handshake says.
    pub(crate) async fn session<F>(&self, key: u64, way: &Dial, dial: impl FnOnce() -> F) -> Result<H2Session, BError>
    where
        F: Future<Output = Result<Connection, BError>>,
    {
        let dialling = Arc::clone(&self.lock().entry(key).or_default().dialling);
        let _only_one = dialling.lock().await;
        if let Some(session) = self.reuse(key).await {
            return Ok(session);
        }
        let connection = dial().await?;
        let facts = Arc::clone(connection.facts());
        let mut settings = H2HandshakeSettings::new();
        settings.max_streams = STREAMS;
        settings.stream_window_size = Some(STREAM_WINDOW);
        settings.connection_window_size = Some(CONNECTION_WINDOW);
        let connection = handshake(Box::new(connection), settings).await?;
        let left = way.requests.unwrap_or(u32::MAX).saturating_sub(1);
        let kept = Kept { connection, facts, used: Instant::now(), left, in_use: way.in_use() };
        let session = kept.stream().await?.ok_or_else(|| {
            pingora::Error::explain(pingora::ErrorType::H2Error, "a new connection had no free stream")
        })?;
        self.lock().entry(key).or_default().kept.push(kept);
        Ok(session)
    }

    /// Ends connections without streams that were not used for `idle` or cannot be asked for any more, and forgets ended
    /// ones.
    pub(crate) fn sweep(&self, idle: Duration) {
        self.lock().retain(|_, slot| {
            slot.kept.retain(|kept| {
                let unwanted = kept.used.elapsed() > idle || kept.in_use.has_changed().is_err();
                kept.usable() && !(kept.connection.is_idle() && unwanted)
            });
            !slot.kept.is_empty() || Arc::strong_count(&slot.dialling) > 1
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
