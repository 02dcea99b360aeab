//! What `sluice control` is told at start.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::settings::{AdminPeers, SourceSettings};

/// Everything one control plane process is told.
#[derive(Clone, Debug)]
pub(crate) struct ControlSettings {
    /// Where the mesh's configuration is, and with an API server everything else.
    pub(crate) source: SourceSettings,
    /// Namespace of the control plane: where its Secrets are.
    pub(crate) namespace: String,
    /// `None`: what the values of the injection say.
    pub(crate) revision: Option<String>,
    /// `None`: what the mesh configuration says, else `cluster.local`.
    pub(crate) trust_domain: Option<String>,
    /// The CA, over TLS.
    pub(crate) ca: SocketAddr,
    /// The CA in plain text; on loopback.
    pub(crate) ca_plain: Option<SocketAddr>,
    /// The webhooks; `None` = there are none.
    pub(crate) webhooks: Option<SocketAddr>,
    /// Values of the injection, watched.
    pub(crate) injection_values: Option<PathBuf>,
    /// Readiness, metrics and admin pages.
    pub(crate) pages: [SocketAddr; 3],
    /// Who may ask the admin pages.
    pub(crate) admin_peers: AdminPeers,
    /// A plug-in CA.
    pub(crate) ca_dir: Option<PathBuf>,
    /// With an API server: the roots are a ClusterTrustBundle, too.
    pub(crate) trust_bundle: bool,
    /// Without an API server: where the self-signed CA is kept.
    pub(crate) state_dir: Option<PathBuf>,
    /// Without an API server: where the roots are written, too.
    pub(crate) root_file: Option<PathBuf>,
    /// Without an API server: keys of tokens.
    pub(crate) token_keys: Option<PathBuf>,
    /// One of these must be a token's audience.
    pub(crate) audiences: Vec<String>,
    /// Names, beside Istio's, for which the CA's own server certificate is.
    pub(crate) hosts: Vec<String>,
    /// Lifetimes of certificates.
    pub(crate) lifetimes: Lifetimes,
    /// Time after SIGTERM in which connections are still accepted.
    pub(crate) drain_delay: Duration,
    /// Name of this process among its replicas.
    pub(crate) replica: String,
}

/// Lifetimes of what is issued.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    /// Of a certificate whose request says nothing.
    pub(crate) usual: Duration,
    /// More is refused.
    pub(crate) longest: Duration,
    /// Of a root that is made here.
    pub(crate) root: Duration,
    /// How long a change of roots may take to reach every replica and workload.
    pub(crate) propagation: Duration,
}
