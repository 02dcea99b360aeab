//! A request that waits on its way, so that a story can do something at exactly that moment.

use std::io;

use tokio::{sync::oneshot, time::timeout};

use super::Step;
use crate::eventually::SOON;

/// Where on its way a request is held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// The CA has not seen it.
    Before,
    /// The CA has accepted it (2xx) and the client does not know yet. Rejected requests, a bad nonce for instance, pass.
    After,
}

/// The story's end of a hold. Dropped, it cuts the connection of the held request: no answer will ever come.
#[derive(Debug)]
pub struct Held {
    at: (Step, Moment),
    reached: oneshot::Receiver<()>,
    go: oneshot::Sender<()>,
}

impl Held {
    /// Waits until a request is held; panics when none comes soon.
    pub async fn reached(&mut self) {
        let at = self.at;
        let reached = timeout(SOON, &mut self.reached).await;
        reached
            .unwrap_or_else(|_| panic!("no request came to {at:?} within {SOON:?}"))
            .expect("a hold stays in the proxy");
    }

    /// Lets the request go on.
    pub fn release(self) {
        // The client may be gone, and its request with it.
        self.go.send(()).ok();
    }
}

/// The proxy's end.
#[derive(Debug)]
pub(crate) struct Hold {
    at: (Step, Moment),
    reached: oneshot::Sender<()>,
    go: oneshot::Receiver<()>,
}

impl Hold {
    pub(crate) fn pair(at: (Step, Moment)) -> (Self, Held) {
        let (reached, is_reached) = oneshot::channel();
        let (go, may_go) = oneshot::channel();
        (Self { at, reached, go: may_go }, Held { at, reached: is_reached, go })
    }

    /// Takes the first hold for this moment that its story still wants.
    pub(crate) fn take(holds: &mut Vec<Self>, at: (Step, Moment)) -> Option<Self> {
        holds.retain(|hold| !hold.reached.is_closed());
        let found = holds.iter().position(|hold| hold.at == at)?;
        Some(holds.remove(found))
    }

    pub(crate) async fn wait(self) -> io::Result<()> {
        self.reached.send(()).ok();
        self.go.await.map_err(|_| io::Error::other("cut on purpose"))
    }
}
