//! Bytes on their way, in memory that is lent by the thread while there are any: an idle connection holds none.

use std::cell::RefCell;
use std::mem::take;

/// What a lent buffer holds without growing, bytes: two full TLS records (RFC 8446 section 5.2).
pub const SIZE: usize = 2 * (16 * 1024 + 256);
/// What a buffer that had to grow holds, bytes: a whole window of HTTP/2, answers of many streams, or what one socket may
/// keep waiting.
const LARGE: usize = 2 * SIZE;
/// Buffers kept per thread; more go back to the allocator.
const KEEP: usize = 32;
/// Large ones kept per thread.
const KEEP_LARGE: usize = 4;

/// Memory that nobody uses: of [`SIZE`], and of [`LARGE`].
struct Free {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

thread_local! {
    static FREE: RefCell<Free> = const { RefCell::new(Free { small: Vec::new(), large: Vec::new() }) };
}

/// Memory for so many bytes, initialised.
fn lend(least: usize) -> Vec<u8> {
    let (kept, size) = match least {
        ..=SIZE => (FREE.with_borrow_mut(|free| free.small.pop()), SIZE),
        least if least <= LARGE => (FREE.with_borrow_mut(|free| free.large.pop()), LARGE),
        _ => (None, least.next_power_of_two()),
    };
    kept.unwrap_or_else(|| vec![0; size])
}

fn give_back(bytes: Vec<u8>) {
    // A thread that ends keeps nothing.
    let _ = FREE.try_with(|free| {
        let free = &mut *free.borrow_mut();
        let (kept, most) = match bytes.len() {
            SIZE => (&mut free.small, KEEP),
            LARGE => (&mut free.large, KEEP_LARGE),
            _ => return,
        };
        if kept.len() < most {
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
            self.bytes = lend(least);
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

    fn release(&mut self) {
        self.start = 0;
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
        fn it_is_a_queue(steps in prop::collection::vec((any::<bool>(), 0_usize..40_000), 0..40)) {
            let (mut buffer, mut queue) = (Buffer::default(), VecDeque::new());
            for (number, (push, count)) in steps.into_iter().enumerate() {
                if push {
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
