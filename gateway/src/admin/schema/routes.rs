//! `/routes`.

use serde::Serialize;

/// Which request goes where, with what was counted.
#[derive(Debug, Serialize)]
pub(crate) struct Routes {
    /// Number of the installed configuration.
    pub(crate) generation: u64,
    /// By side and port.
    pub(crate) tables: Vec<Table>,
    /// Groups that have what was asked for with `?q=`; all without it.
    pub(crate) found: usize,
    /// How many of them follow: ask with `?from=`.
    pub(crate) left_out: usize,
}

/// The routes of one port.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    /// `gateway` or `outbound`.
    pub(crate) side: &'static str,
    /// As a Gateway names it, or of a service.
    pub(crate) port: u16,
    /// Whether TLS is spoken.
    pub(crate) tls: bool,
    /// Hosts with the same routes are one group.
    pub(crate) groups: Vec<Group>,
}

/// Hosts with the same routes.
#[derive(Debug, Serialize)]
pub(crate) struct Group {
    /// The first of them.
    pub(crate) hosts: Vec<String>,
    /// How many more there are.
    pub(crate) more_hosts: usize,
    /// The Gateway's `httpsRedirect`.
    pub(crate) https_redirect: bool,
    /// In order: the first that holds is followed.
    pub(crate) routes: Vec<Route>,
    /// How many more there are.
    pub(crate) more_routes: usize,
}

/// One route.
#[derive(Debug, Serialize)]
pub(crate) struct Route {
    /// Its name; may be empty.
    pub(crate) name: String,
    /// `namespace/name` of the VirtualService; empty = straight to a service.
    pub(crate) source: String,
    /// Which requests it is for, in words.
    pub(crate) when: String,
    /// `route`, `redirect` or `direct`.
    pub(crate) action: &'static str,
    /// Where to, in words.
    pub(crate) to: Vec<String>,
    /// Finished requests that followed it.
    pub(crate) requests: u64,
    /// Answered with 4xx.
    pub(crate) client_errors: u64,
    /// Answered with 5xx, or not at all.
    pub(crate) server_errors: u64,
}
