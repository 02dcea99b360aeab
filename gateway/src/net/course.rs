//! Where a connection goes whose bytes nobody looks at, as far as that can be told when it is received.

use std::{net::SocketAddr, sync::Arc};

use routing::opaque::OpaqueRule;

use crate::live::Installed;

/// See the module.
pub(crate) struct Course {
    /// The configuration it was found in, which the connection keeps.
    pub(crate) installed: Arc<Installed>,
    /// Which way.
    pub(crate) way: Way,
}

/// Which way a connection goes.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// As a rule says.
    Rule(Arc<OpaqueRule>),
    /// To the sidecar's application.
    Application {
        /// The workload's port.
        port: u16,
        /// Where the application listens.
        address: SocketAddr,
    },
    /// Where the client meant to go, which no service claims.
    Original(SocketAddr),
    /// No service claims where the client meant to go, and only those may be reached (REGISTRY_ONLY).
    Blocked,
    /// No route is for it.
    Nowhere,
}

impl Course {
    /// Into the sidecar's application.
    pub(crate) fn inward(installed: Arc<Installed>, port: u16, address: SocketAddr) -> Self {
        Self { installed, way: Way::Application { port, address } }
    }

    /// As a rule says, when there is one.
    pub(crate) fn by(installed: Arc<Installed>, rule: Option<&Arc<OpaqueRule>>) -> Self {
        let way = rule.map_or(Way::Nowhere, |rule| Way::Rule(Arc::clone(rule)));
        Self { installed, way }
    }
}
