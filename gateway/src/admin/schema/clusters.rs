//! `/clusters?format=json`.

use serde::Serialize;

/// Every place that requests can go to.
#[derive(Debug, Serialize)]
pub(crate) struct Clusters {
    /// By name, as a route names them.
    pub(crate) clusters: Vec<Cluster>,
}

/// One port of one service, or a subset of it.
#[derive(Debug, Serialize)]
pub(crate) struct Cluster {
    /// `outbound|8080|v1|reviews.default.svc.cluster.local`.
    pub(crate) name: String,
    /// Host of the service.
    pub(crate) host: String,
    /// Port of the service.
    pub(crate) port: u16,
    /// `mutual`, `tls` or `none`.
    pub(crate) tls: &'static str,
    /// How endpoints are found: `known`, `original` (where the client meant to go), `name` (looked up for each request).
    pub(crate) reach: &'static str,
    /// Endpoints that may be used now.
    pub(crate) healthy: usize,
    /// Limits of its connection pool.
    pub(crate) limits: Vec<Limit>,
    /// All endpoints.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// One limit of a connection pool.
#[derive(Debug, Serialize)]
pub(crate) struct Limit {
    /// `connections`, `pending`, `requests`.
    pub(crate) limit: &'static str,
    /// So many there are now.
    pub(crate) active: u32,
    /// How often somebody was refused because of it.
    pub(crate) overflow: u64,
}

/// One endpoint, and what it does now.
#[derive(Debug, Serialize)]
pub(crate) struct Endpoint {
    /// Address and port, or a unix socket.
    pub(crate) address: String,
    /// Its workload, `namespace/name`.
    pub(crate) workload: String,
    /// Relative share.
    pub(crate) weight: u32,
    /// 0 is used first.
    pub(crate) priority: u8,
    /// `region/zone/subzone`; empty = it does not matter.
    pub(crate) locality: String,
    /// Whether it is spoken to in TLS.
    pub(crate) tls: bool,
    /// `healthy` or `ejected`.
    pub(crate) health: &'static str,
    /// Requests on their way to it.
    pub(crate) in_flight: u32,
    /// How much of its share it takes, while it is new: 1 = all.
    pub(crate) warmth: f64,
}
