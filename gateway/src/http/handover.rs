//! Connections on their way from a request that is done with one to a request of the same worker that waits for it.

use std::{cell::RefCell, collections::HashMap};

use foldhash::fast::RandomState;

use super::h1::client::Client;

/// One hand per request that waits, by its number.
#[derive(Default)]
pub(crate) struct Hands(RefCell<HashMap<u64, Option<Box<Client>>, RandomState>>);

/// The hand of one request; whatever is in it is dropped with it.
pub(crate) struct Hand<'a> {
    hands: &'a Hands,
    number: u64,
}

impl Hands {
    /// The hand of a request that waits.
    pub(crate) fn open(&self, number: u64) -> Hand<'_> {
        self.0.borrow_mut().insert(number, None);
        Hand { hands: self, number }
    }

    /// Puts a connection into a hand; without one it is closed.
    pub(crate) fn give(&self, number: u64, client: Box<Client>) {
        if let Some(hand) = self.0.borrow_mut().get_mut(&number) {
            *hand = Some(client);
        }
    }
}

impl Hand<'_> {
    /// What is in it.
    pub(crate) fn take(&self) -> Option<Box<Client>> {
        self.hands.0.borrow_mut().get_mut(&self.number)?.take()
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        // Its drop passes a permit on, outside of the borrow.
        let left = self.hands.0.borrow_mut().remove(&self.number);
        drop(left);
    }
}
