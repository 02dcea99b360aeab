//! `/certs`.

use serde::Serialize;
use serde_json::Value;

/// Every certificate that is in use or ordered. Never holds keys.
#[derive(Debug, Serialize)]
pub(crate) struct Certificates {
    /// In the order of the configuration.
    pub(crate) certificates: Vec<Certificate>,
}

/// One of them.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Certificate {
    /// `namespace/gateway/port name`, or `workload`.
    pub(crate) name: String,
    /// Hosts that it is served for.
    pub(crate) hosts: Vec<String>,
    /// `namespace/name` of its Secret, a file, or `workload`.
    pub(crate) secret: String,
    /// Who issued it; `null`: it is not there yet.
    pub(crate) issuer: Option<String>,
    /// Serial number, hexadecimal.
    pub(crate) serial: Option<String>,
    /// When it ends.
    pub(crate) not_after: Option<String>,
    /// Why it is the last good one that serves.
    pub(crate) kept: Option<String>,
    /// How its order is doing, by ACME.
    pub(crate) order: Option<Value>,
    /// How the source of the workload's identity is doing.
    pub(crate) identity: Option<Value>,
}
