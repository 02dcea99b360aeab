//! What a connection to an endpoint is held to beyond serving: a limit that counts it, an age, a client that it is for. Most
//! have no terms.

use std::{
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
};

use tokio::time::Instant;

use super::{
    dial::Dial,
    gate::{Next, Permit, Worker},
    pool::Place,
};
use crate::net::facts::Facts;

/// See the module.
#[derive(Debug)]
pub(crate) struct Terms {
    /// Counts it until it is closed.
    pub(crate) permit: Option<Permit>,
    /// It serves nothing new from then on (Istio `maxConnectionDuration`).
    expires: Option<Instant>,
    /// The connection whose client it names (Istio `proxyProtocol`): nobody else may use it.
    client: Option<Weak<Facts>>,
}

impl Terms {
    /// The terms of a connection that was just made.
    pub(crate) fn of(dial: &Dial, permit: Option<Permit>, client: &Rc<Facts>) -> Option<Box<Self>> {
        let expires = dial.settings.as_ref().and_then(|settings| settings.lifetime).map(|life| Instant::now() + life);
        let client = dial.names_client().then(|| Rc::downgrade(client));
        let any = permit.is_some() || expires.is_some() || client.is_some();
        any.then(|| Box::new(Self { permit, expires, client }))
    }

    /// Whether it may not be kept any longer.
    pub(crate) fn are_over(&self) -> bool {
        self.expires.is_some_and(|at| at <= Instant::now())
            || self.client.as_ref().is_some_and(|client| client.strong_count() == 0)
    }

    /// Its request is done, and it could serve another one.
    pub(crate) fn served(&self, worker: &Arc<Worker>, place: &Place) -> Next {
        if self.are_over() {
            return Next::Close;
        }
        self.permit.as_ref().map_or(Next::Rest, |permit| permit.served(worker, place))
    }

    /// Requests share it, and there are none.
    pub(crate) fn rest(&self, worker: &Arc<Worker>, place: &Place) {
        if let Some(permit) = &self.permit {
            permit.rest(worker, place);
        }
    }

    /// It serves another request.
    pub(crate) fn resume(&self) {
        if let Some(permit) = &self.permit {
            permit.resume();
        }
    }
}

/// Who a connection names when it says who its client is: the client, and the address that it connected to.
pub(crate) fn named(facts: &Facts) -> (SocketAddr, SocketAddr) {
    (facts.remote, facts.local)
}
