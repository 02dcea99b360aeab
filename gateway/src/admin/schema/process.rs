//! `/server_info`, `/version`, `/memory`, `/logging`.

use std::collections::BTreeMap;

use serde::Serialize;

/// `/server_info`.
#[derive(Debug, Serialize)]
pub(crate) struct ServerInfo {
    /// Version of the binary.
    pub(crate) version: &'static str,
    /// `LIVE`, `DRAINING` or `PRE_INITIALIZING`, as Envoy says it.
    pub(crate) state: &'static str,
    /// What `/ready` says.
    pub(crate) ready: String,
    /// Since its start.
    pub(crate) uptime_seconds: u64,
    /// Process id.
    pub(crate) pid: u32,
    /// Threads.
    pub(crate) threads: i64,
    /// Open file descriptors.
    pub(crate) open_files: i64,
    /// Memory.
    #[serde(flatten)]
    pub(crate) memory: Memory,
}

/// `/version`.
#[derive(Debug, Serialize)]
pub(crate) struct Version {
    /// Version of the binary.
    pub(crate) version: &'static str,
}

/// `/memory`.
#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    /// Bytes that are mapped and in memory.
    pub(crate) resident_bytes: i64,
    /// User and system time.
    pub(crate) cpu_seconds: f64,
}

/// `/logging?format=json`.
#[derive(Debug, Serialize)]
pub(crate) struct Logging {
    /// The whole filter.
    pub(crate) filter: String,
    /// The level of each part of the proxy.
    pub(crate) components: BTreeMap<&'static str, String>,
}
