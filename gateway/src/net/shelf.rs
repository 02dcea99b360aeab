//! What a thread keeps for the next one who needs such a thing, instead of making it anew for each request.

use std::cell::RefCell;

/// As many are kept: what a few connections of HTTP/2 have on their way at once.
const KEEP: usize = 256;

/// Things that nobody uses, the one that was used last on top. To be had as a thread's own.
pub(crate) struct Shelf<T>(RefCell<Vec<T>>);

impl<T> Shelf<T> {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// Takes one.
    pub(crate) fn take(&self) -> Option<T> {
        self.0.borrow_mut().pop()
    }

    /// Puts one back, if there is room.
    pub(crate) fn keep(&self, thing: T) {
        let mut things = self.0.borrow_mut();
        if things.len() < KEEP {
            things.push(thing);
        }
    }
}
