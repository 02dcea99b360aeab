//! What a proxy has put in force, for whoever tells others of it.

use std::sync::Arc;

use routing::{compile::Proxy, problem::Problem, resources::Resources};

use crate::trust::Served;

/// One configuration in force, with all that was found on the way to it.
#[derive(Debug)]
pub(crate) struct Applied {
    /// Hash of what was read: the same in every replica that has read the same, see [`Proxy::configuration`].
    pub(crate) content: u64,
    /// The snapshot's digest, which also covers addresses of names as this process resolved them.
    pub(crate) snapshot: u64,
    /// Whom it was compiled for.
    pub(crate) proxy: Proxy,
    /// What it was compiled from.
    pub(crate) resources: Resources,
    /// Everything that is wrong: found by reading, by compiling and in certificates.
    pub(crate) problems: Vec<Problem>,
    /// The certificates that are served.
    pub(crate) certificates: Vec<Served>,
}

/// The newest one; `None` = there is none yet.
pub(crate) type Latest = Option<Arc<Applied>>;
