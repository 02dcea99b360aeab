//! One request, from its head to its log line.
//!
//! ```text
//! serve (connection loops) -> proxy (pingora's hooks) -> admit -> attempt -> forward -> respond -> record
//!                                                        \_________ exchange: what the hooks share ________/
//! ```

pub(crate) mod admit;
pub(crate) mod attempt;
pub(crate) mod build;
pub(crate) mod exchange;
pub(crate) mod failure;
pub(crate) mod forward;
pub(crate) mod names;
pub(crate) mod proxy;
pub(crate) mod record;
pub(crate) mod reply;
pub(crate) mod serve;
