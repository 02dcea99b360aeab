//! HTTP/2 (RFC 9113) by the `h2` crate, above a stream whose writes wait for the end of the wake-up.

pub(crate) mod client;
pub(crate) mod convert;
pub(crate) mod server;
pub(crate) mod wire;
