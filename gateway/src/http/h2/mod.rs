//! HTTP/2 (RFC 9113). One task per connection reads frames and flushes; each stream is served by its own, which writes into
//! what the connection sends.
//!
//! ```text
//!  server, client: drivers and their streams --> half: a stream as whoever serves it sees it
//!        |                                          |
//!        v                                          v
//!      core: bytes in and out ------------------> state (slot, content, control, flood): what is known
//!                                                   |
//!                                                 frame, message, hpack, huffman: bytes
//! ```

pub(crate) mod client;
mod content;
mod control;
mod core;
mod flood;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod half;
mod hpack;
mod huffman;
mod message;
pub(crate) mod server;
mod slot;
mod state;
