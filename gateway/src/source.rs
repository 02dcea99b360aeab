//! Where configuration comes from: files and folders today. A source says when something changed and loads it; it never
//! decides what the configuration means (that is `routing::compile`).

pub(crate) mod audit;
pub(crate) mod files;
pub(crate) mod identity;
mod trail;
mod watch;
