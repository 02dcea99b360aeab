//! The end of a tunnel over HTTP/1.1 whose listener, or the rule that let its connection in, is no more: a tunnel has no end that
//! one could wait for. HTTP/2 looks after its streams itself.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::task::{JoinHandle, spawn_local};

use super::{desk::Desk, side::Down};
use crate::net::standing::Outlived;

/// See the module.
pub(crate) struct Overdue(Option<JoinHandle<Outlived>>);

impl Overdue {
    /// Begins to wait, where there is a tunnel.
    pub(crate) fn watch(desk: &Desk, down: &Down<'_>, tunnel: bool) -> Self {
        match down {
            // A task of its own, so that bytes on their way ask nobody.
            Down::H1(server) if tunnel => Self(Some(spawn_local(server.overdue(&desk.live, desk.drain_time())))),
            _ => Self(None),
        }
    }

    /// Ready when the time has passed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(waiting) => Pin::new(waiting).poll(cx).map(drop),
            None => Poll::Pending,
        }
    }
}

impl Drop for Overdue {
    fn drop(&mut self) {
        if let Some(waiting) = &self.0 {
            waiting.abort();
        }
    }
}
