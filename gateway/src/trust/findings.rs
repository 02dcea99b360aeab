//! What an install tells about certificates.

use std::{path::PathBuf, sync::Arc};

/// What [`Served::secret`] says of a self-signed placeholder.
pub(crate) const PLACEHOLDER: &str = "placeholder";

/// What [`Served::secret`] says of the workload's own.
pub(crate) const WORKLOAD: &str = "workload";

/// Something about certificates that an operator has to know.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Complaint {
    /// `namespace/gateway/port name`, or a cluster.
    pub(crate) subject: String,
    /// What is wrong and what happens meanwhile.
    pub(crate) message: String,
}

/// A certificate that is served.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Served {
    /// `namespace/gateway/port name`, or `workload`.
    pub(crate) server: String,
    /// Hosts that it is served for, as the Gateway names them, sorted; empty for the workload's own.
    pub(crate) hosts: Vec<String>,
    /// `namespace/name` of its Secret (two of different key types: joined by a comma), a file, or `workload`.
    pub(crate) secret: String,
    /// Its end, seconds since 1970.
    pub(crate) not_after: i64,
    /// Its serial number in lower-case hex.
    pub(crate) serial: String,
    /// Who issued it.
    pub(crate) issuer: String,
    /// Why it is the last good one that serves, and not what is asked for; `None` = it is what is asked for.
    pub(crate) kept: Option<Arc<str>>,
}

/// What came of one install.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Files that configurations were read from: a change of one asks for another install.
    pub(crate) files: Vec<PathBuf>,
    /// For the operator.
    pub(crate) complaints: Vec<Complaint>,
    /// Each certificate that is served.
    pub(crate) certificates: Vec<Served>,
}
