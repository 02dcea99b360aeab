//! One attempt: which endpoint, how to dial it, and the connections that are kept.

pub(crate) mod connector;
pub(crate) mod dial;
pub(crate) mod endpoints;
pub(crate) mod h2_pool;
pub(crate) mod h2_session;
pub(crate) mod names;
