//! gRPC over hyper, for what is not on a request's path: the mesh's CA, and whoever asks it for a certificate.
//!
//! Messages are written by hand with their public field numbers. What goes over the wire is bounded in size and in time on
//! both sides, and nothing is compressed.

pub(crate) mod client;
pub(crate) mod frame;
pub(crate) mod messages;
pub(crate) mod server;
pub(crate) mod status;
pub(crate) mod timeout;
