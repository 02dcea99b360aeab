//! Memory for bodies that are kept beside the request's own way, bounded for the whole process.

use std::sync::atomic::{AtomicUsize, Ordering};

/// So many bytes, shared by all requests.
#[derive(Debug)]
pub(crate) struct Room {
    taken: AtomicUsize,
    all: usize,
}

impl Room {
    /// With room for `all` bytes.
    pub(crate) const fn new(all: usize) -> Self {
        Self { taken: AtomicUsize::new(0), all }
    }

    /// Takes some, unless there is no room for all of them.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let add = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= self.all);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    /// Gives back what was taken.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_never_more_than_all() {
        let room = Room::new(10);
        assert!(room.take(6) && !room.take(5) && room.take(4) && !room.take(1) && !room.take(usize::MAX));
        room.give_back(6);
        assert!(room.take(6) && !room.take(1));
    }
}
