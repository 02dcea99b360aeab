//! What a request needs while it is on its way is lent by the thread: a connection that has none holds nothing of it, and no
//! request allocates it.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
    rc::Rc,
    sync::Arc,
    thread::LocalKey,
};

use super::{
    exchange::{Exchange, Heads},
    head::Head,
};
use crate::{live::Installed, net::facts::Facts};

/// As many a thread keeps for the next requests: what a few connections of HTTP/2 have on their way at once.
const KEEP: usize = 256;

/// Boxes, so that moving what is lent in and out copies one pointer.
type Shelf<T> = RefCell<Vec<Box<T>>>;

thread_local! {
    static HEADS: Shelf<Heads> = const { RefCell::new(Vec::new()) };
    static EXCHANGES: Shelf<Option<Exchange>> = const { RefCell::new(Vec::new()) };
}

/// Heads, until the request is over.
pub(crate) struct LentHeads(Option<Box<Heads>>);

impl LentHeads {
    /// Heads that hold nothing yet.
    pub(crate) fn new() -> Self {
        let kept = HEADS.with_borrow_mut(Vec::pop);
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
        give_back(&HEADS, heads);
    }
}

/// An exchange, until it is over.
pub(crate) struct LentExchange(Option<Box<Option<Exchange>>>);

impl LentExchange {
    /// Of a request that begins now.
    pub(crate) fn new(installed: Arc<Installed>, facts: Rc<Facts>) -> Self {
        let mut kept = EXCHANGES.with_borrow_mut(Vec::pop).unwrap_or_default();
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
        give_back(&EXCHANGES, exchange);
    }
}

fn give_back<T>(shelf: &'static LocalKey<Shelf<T>>, lent: Box<T>) {
    // A thread that ends keeps nothing.
    let _ = shelf.try_with(|shelf| {
        let mut shelf = shelf.borrow_mut();
        if shelf.len() < KEEP {
            shelf.push(lent);
        }
    });
}
