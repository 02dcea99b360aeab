//! One attempt: which endpoint, how to reach it, and which connections are kept.

pub(crate) mod breaker;
pub(crate) mod connect;
pub(crate) mod dial;
pub(crate) mod endpoints;
pub(crate) mod gate;
pub(crate) mod health;
pub(crate) mod lookups;
pub(crate) mod names;
pub(crate) mod pool;
pub(crate) mod posted;
pub(crate) mod reach;
pub(crate) mod retries;
pub(crate) mod terms;
pub(crate) mod tunnel;
