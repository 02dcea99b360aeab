//! What a request needs while it is on its way is lent by the thread: a connection that has none holds nothing of it, and no
//! request allocates it.

use std::{
    ops::{Deref, DerefMut},
    rc::Rc,
    sync::Arc,
};

use super::{
    exchange::{Exchange, Heads},
    head::Head,
};
use crate::{
    live::Installed,
    net::{facts::Facts, shelf::Shelf},
};

thread_local! {
    // Boxes, so that moving what is lent in and out copies one pointer.
    static HEADS: Shelf<Box<Heads>> = const { Shelf::new() };
    static EXCHANGES: Shelf<Box<Option<Exchange>>> = const { Shelf::new() };
}

/// Heads, until the request is over.
pub(crate) struct LentHeads(Option<Box<Heads>>);

impl LentHeads {
    /// Heads that hold nothing yet.
    pub(crate) fn new() -> Self {
        let kept = HEADS.with(Shelf::take);
        Self(Some(kept.unwrap_or_else(|| {
            Box::new(Heads { request: Head::roomy(), sent: Head::roomy(), response: Head::roomy() })
        })))
    }
}

impl Deref for LentHeads {
    type Target = Heads;

    fn deref(&self) -> &Heads {
        self.0.as_ref().expect("it is taken by the drop alone")
    }
}

impl DerefMut for LentHeads {
    fn deref_mut(&mut self) -> &mut Heads {
        self.0.as_mut().expect("it is taken by the drop alone")
    }
}

impl Drop for LentHeads {
    fn drop(&mut self) {
        let Some(mut heads) = self.0.take() else { return };
        // One that had to grow for a large head does not stay.
        if [&heads.request, &heads.sent, &heads.response].iter().any(|head| head.is_large()) {
            return;
        }
        heads.request.clear();
        heads.sent.clear();
        heads.response.clear();
        // A thread that ends keeps nothing.
        let _ = HEADS.try_with(|shelf| shelf.keep(heads));
    }
}

/// An exchange, until it is over.
pub(crate) struct LentExchange(Option<Box<Option<Exchange>>>);

impl LentExchange {
    /// Of a request that begins now.
    pub(crate) fn new(installed: Arc<Installed>, facts: Rc<Facts>) -> Self {
        let mut kept = EXCHANGES.with(Shelf::take).unwrap_or_default();
        *kept = Some(Exchange::new(installed, facts));
        Self(Some(kept))
    }
}

impl Deref for LentExchange {
    type Target = Exchange;

    fn deref(&self) -> &Exchange {
        self.0.as_deref().and_then(Option::as_ref).expect("it is taken by the drop alone")
    }
}

impl DerefMut for LentExchange {
    fn deref_mut(&mut self) -> &mut Exchange {
        self.0.as_deref_mut().and_then(Option::as_mut).expect("it is taken by the drop alone")
    }
}

impl Drop for LentExchange {
    fn drop(&mut self) {
        let Some(mut exchange) = self.0.take() else { return };
        *exchange = None;
        let _ = EXCHANGES.try_with(|shelf| shelf.keep(exchange));
    }
}
