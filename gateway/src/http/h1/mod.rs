//! HTTP/1.1 (RFC 9112): strict where two readers could disagree.

pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod read;
pub(crate) mod server;
pub(crate) mod status;
pub(crate) mod write;
