//! `/problems`.

use routing::problem::Problem;
use serde::Serialize;

/// What is wrong with the configuration, errors first.
#[derive(Debug, Serialize)]
pub(crate) struct Problems {
    /// Number of the installed configuration.
    pub(crate) generation: u64,
    /// Those from `?from=` on.
    pub(crate) problems: Vec<Problem>,
    /// How many have what was asked for with `?q=`; all without it.
    pub(crate) found: usize,
    /// How many of them follow: ask with `?from=`.
    pub(crate) left_out: usize,
}
