//! The life of one HTTP connection: request after request on HTTP/1.1, stream beside stream on HTTP/2.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use pingora::{
    apps::{HttpPersistentSettings, HttpServerApp as _},
    protocols::{
        Digest, GetProxyDigest as _,
        http::{
            ServerSession,
            v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake},
        },
    },
};
use tokio::{
    io::AsyncWriteExt as _,
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::build::Engine;
use crate::net::{connection::Connection, facts::Facts};

/// A request head, or an HTTP/2 preface, is complete within this time of its first byte.
pub(crate) const HEAD: Duration = Duration::from_secs(10);
/// Istio's idle timeout of a downstream connection.
const IDLE: Duration = Duration::from_secs(3600);
/// A connection that has not carried a request yet when its listener stops may bring its first one for this long: whoever
/// opened it is about to send it, and could not tell a close from a failed request.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// Longest wait for a close to go out.
const CLOSE: Duration = Duration::from_secs(2);
/// Malformed HTTP/2 requests before the connection is ended.
const MALFORMED: u32 = 32;

/// Serves a connection until it ends, or until `stop` turns true and its last request is answered.
pub(crate) async fn serve(engine: &Arc<Engine>, connection: Connection, stop: watch::Receiver<bool>) {
    if connection.is_h2() {
        Box::pin(http2(engine, connection, stop)).await;
    } else {
        http1(engine, Box::new(connection), stop).await;
    }
}

/// Waiting for the next request happens here, outside pingora's request future, which would hold 20 KiB meanwhile.
async fn http1(engine: &Arc<Engine>, mut connection: Box<Connection>, stop: watch::Receiver<bool>) {
    let mut watched = stop.clone();
    // Registered once, not once a request.
    let stopped = watched.wait_for(|stop| *stop);
    tokio::pin!(stopped);
    let mut settings: Option<HttpPersistentSettings> = None;
    let (mut served, mut leaving) = (false, false);
    loop {
        let readable = tokio::select! {
            biased;
            readable = connection.readable(IDLE), if !leaving => readable,
            _ = &mut stopped, if !leaving => {
                leaving = true;
                false
            }
            else => false,
        };
        let more = readable || (leaving && !served && connection.readable(FIRST_REQUEST).await);
        if !more {
            let _ = timeout(CLOSE, connection.shutdown()).await;
            return;
        }
        connection.begin_head(HEAD);
        let mut session = ServerSession::new_http1(connection);
        session.set_keepalive(Some(0));
        if let Some(settings) = settings.take() {
            settings.apply_to_session(&mut session);
        }
        let Some(reused) = engine.process_new_http(session, &stop).await else { return };
        let (stream, next) = reused.consume();
        settings = next;
        served = true;
        let Ok(same) = stream.into_any().downcast::<Connection>() else { return };
        connection = same;
    }
}

async fn http2(engine: &Arc<Engine>, connection: Connection, stop: watch::Receiver<bool>) {
    let digest = Arc::new(Digest { proxy_digest: connection.get_proxy_digest(), ..Digest::default() });
    let facts = Arc::clone(connection.facts());
    let Ok(Ok(mut h2)) = timeout(HEAD, handshake(Box::new(connection), Some(h2_options()))).await else { return };
    let streams = Arc::new(());
    let (mut malformed, mut draining, mut used) = (0, false, false);
    let mut watched = stop.clone();
    let stopped = watched.wait_for(|stop| *stop);
    let idle = sleep(IDLE);
    tokio::pin!(stopped, idle);
    loop {
        tokio::select! {
            biased;
            accepted = corked(&facts, HttpSession::from_h2_conn(&mut h2, Arc::clone(&digest))) => match accepted {
                Ok(Some(H2Accept::Session(session))) => {
                    used = true;
                    let (engine, stop, alive) = (Arc::clone(engine), stop.clone(), Arc::clone(&streams));
                    tokio::spawn(async move {
                        engine.process_new_http(ServerSession::new_http2(session), &stop).await;
                        drop(alive);
                    });
                }
                Ok(Some(H2Accept::Rejected)) if malformed + 1 < MALFORMED => malformed += 1,
                Ok(Some(H2Accept::Rejected) | None) | Err(_) => return,
            },
            _ = &mut stopped, if !draining => {
                // GOAWAY twice (RFC 9113 section 6.8); streams in flight finish.
                h2.graceful_shutdown();
                draining = true;
            }
            () = &mut idle, if !draining => {
                if !used && Arc::strong_count(&streams) == 1 {
                    h2.graceful_shutdown();
                    draining = true;
                }
                used = false;
                idle.as_mut().reset(Instant::now() + IDLE);
            }
        }
    }
}

/// h2 flushes after each DATA frame, which is a system call per response. Answers of many streams are ready at once on a
/// busy connection, so flushes do nothing while it works, and once it has nothing left to do a second poll flushes them all.
async fn corked<T>(facts: &Facts, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        facts.corked.store(true, Ordering::Relaxed);
        let polled = work.as_mut().poll(cx);
        facts.corked.store(false, Ordering::Relaxed);
        if polled.is_ready() { polled } else { work.as_mut().poll(cx) }
    })
    .await
}

/// Envoy's recommendations for an edge proxy, on top of what pingora and h2 bound already (decoded header list, resets).
fn h2_options() -> H2Options {
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(100)
        .initial_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_header_list_size(60 * 1024)
        .max_send_buffer_size(64 * 1024);
    options
}
