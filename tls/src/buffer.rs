//! Bytes on their way, in memory that is lent by the thread while there are any: an idle connection holds none.

use std::cell::RefCell;
use std::mem::take;

/// What a buffer that is read into holds without growing, bytes: two full TLS records (RFC 8446 section 5.2).
pub const SIZE: usize = 2 * (16 * 1024 + 256);
/// Bytes for a head, a small answer, or the beginning of something that somebody takes his time to send.
const SMALL: usize = 2 * 1024;
/// What a buffer that had to grow holds, bytes: a whole window of HTTP/2, answers of many streams, or what one socket may
/// keep waiting.
const LARGE: usize = 2 * SIZE;
/// Sizes of memory that is lent, and how many of each a thread keeps; more go back to the allocator.
const CLASSES: [(usize, usize); 4] = [(SMALL, 128), (SIZE, 32), (LARGE, 8), (2 * LARGE, 4)];

thread_local! {
    /// Memory that nobody uses, by class.
    static FREE: RefCell<[Vec<Vec<u8>>; 4]> = const { RefCell::new([const { Vec::new() }; 4]) };
}

/// Memory for so many bytes, initialised.
fn lend(least: usize) -> Vec<u8> {
    let Some(class) = CLASSES.iter().position(|(size, _)| least <= *size) else {
        return vec![0; least.next_power_of_two()];
    };
    FREE.with_borrow_mut(|free| free[class].pop()).unwrap_or_else(|| vec![0; CLASSES[class].0])
}

fn give_back(bytes: Vec<u8>) {
    let Some(class) = CLASSES.iter().position(|(size, _)| bytes.len() == *size) else { return };
    // A thread that ends keeps nothing.
    let _ = FREE.try_with(|free| {
        let kept = &mut free.borrow_mut()[class];
        if kept.len() < CLASSES[class].1 {
            kept.push(bytes);
        }
    });
}

/// A queue of bytes: taken from the front, added at the end.
#[derive(Debug, Default)]
pub struct Buffer {
    /// Initialised to its whole length; empty while nothing is lent.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// How far it was filled the last time, bytes: so much is lent at once the next time, instead of growing towards it.
    last: u32,
}

impl Buffer {
    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// True when none waits.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The bytes that wait, oldest first.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// As [`Self::as_slice`], to decrypt in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// Takes the oldest `count` bytes away; memory goes back when none is left.
    pub fn consume(&mut self, count: usize) {
        self.start += count.min(self.len());
        if self.is_empty() {
            self.release();
        }
    }

    /// Takes all bytes away.
    pub fn clear(&mut self) {
        self.start = self.end;
        self.release();
    }

    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Free space behind the bytes, at least `least`; what is written there counts after [`Self::filled`].
    pub fn room(&mut self, least: usize) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = lend(least.max(self.last as usize));
        }
        if self.bytes.len() - self.end < least {
            if self.start > 0 {
                self.bytes.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            let needed = self.end + least;
            if self.bytes.len() < needed {
                let mut larger = lend(needed);
                larger[..self.end].copy_from_slice(&self.bytes[..self.end]);
                give_back(std::mem::replace(&mut self.bytes, larger));
            }
        }
        &mut self.bytes[self.end..]
    }

    /// `count` bytes were written into [`Self::room`].
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
        if self.is_empty() {
            self.release();
        }
    }

    /// Moves what is a little into little memory: whoever sends the rest may take his time.
    pub fn settle(&mut self) {
        if self.bytes.len() > SMALL && self.len() <= SMALL {
            let mut smaller = lend(SMALL);
            smaller[..self.len()].copy_from_slice(self.as_slice());
            (self.start, self.end) = (0, self.len());
            give_back(std::mem::replace(&mut self.bytes, smaller));
        }
    }

    fn release(&mut self) {
        self.start = 0;
        if self.end > 0 {
            self.last = self.end.min(LARGE) as u32;
        }
        self.end = 0;
        let bytes = take(&mut self.bytes);
        if !bytes.is_empty() {
            give_back(bytes);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_queue(steps in prop::collection::vec((0_u8..5, 0_usize..40_000), 0..40)) {
            let (mut buffer, mut queue) = (Buffer::default(), VecDeque::new());
            for (number, (step, count)) in steps.into_iter().enumerate() {
                if step == 0 {
                    buffer.settle();
                    prop_assert!(buffer.len() > SMALL || buffer.bytes.len() <= SMALL);
                } else if step < 3 {
                    let bytes = vec![number as u8; count];
                    buffer.push(&bytes);
                    queue.extend(bytes);
                } else {
                    buffer.consume(count);
                    queue.drain(..count.min(queue.len()));
                }
                prop_assert!(buffer.as_slice() == queue.make_contiguous());
                prop_assert!(!buffer.is_empty() || buffer.bytes.is_empty());
            }
        }
    }
}
