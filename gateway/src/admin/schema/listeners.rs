//! `/listeners`.

use serde::Serialize;

/// Where the proxy takes connections.
#[derive(Debug, Serialize)]
pub(crate) struct Listeners {
    /// Of a gateway, by port; then a sidecar's.
    pub(crate) listeners: Vec<Listener>,
    /// What could not be bound, and why nothing is bound yet.
    pub(crate) failures: Vec<String>,
}

/// One of them.
#[derive(Debug, Serialize)]
pub(crate) struct Listener {
    /// `gateway`, `inbound` or `outbound`.
    pub(crate) side: &'static str,
    /// The port as a Gateway names it; of a workload; of services.
    pub(crate) port: u16,
    /// Address and port that are bound, where they are the listener's own.
    pub(crate) bound: Option<String>,
    /// `plain`, `tls`; of a workload's port its PeerAuthentication: `STRICT`, `PERMISSIVE`, `DISABLE`.
    pub(crate) tls: String,
    /// `http`, `tcp`, `auto`.
    pub(crate) protocol: &'static str,
    /// Hosts with routes.
    pub(crate) hosts: usize,
}
