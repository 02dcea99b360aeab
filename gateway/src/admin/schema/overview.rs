//! `/overview`: what the page shows.

use std::collections::BTreeMap;

use routing::problem::Problem;
use serde::Serialize;
use serde_json::Value;

use super::{certs::Certificate, control::Control};
use crate::telemetry::edges::Edges;

/// What the page shows. A proxy tells of itself; `sluice dashboard` tells of many.
#[derive(Debug, Serialize)]
pub(crate) struct Overview<P = Proxy> {
    /// One for each process.
    pub(crate) proxies: Vec<P>,
    /// Of a mesh: how many more there are, who were not asked.
    pub(crate) left_out: usize,
    /// Of a mesh: what is to know about the list, as sentences.
    pub(crate) notes: Vec<String>,
}

/// One process.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Proxy {
    /// `gateway`, `sidecar` or `control`.
    pub(crate) kind: &'static str,
    /// `namespace/name` of its workload.
    pub(crate) name: String,
    /// Its SPIFFE id; empty = none.
    pub(crate) principal: String,
    /// Version of the binary.
    pub(crate) version: &'static str,
    /// Whether it takes traffic.
    pub(crate) ready: bool,
    /// What `/ready` says.
    pub(crate) readiness: String,
    /// Number of the installed configuration; 0 = none yet.
    pub(crate) generation: u64,
    /// Its content hash.
    pub(crate) digest: String,
    /// Hosts and routes.
    pub(crate) counts: Counts,
    /// Where requests can come in, for the form.
    pub(crate) doors: Vec<Door>,
    /// Who talks to whom, as this proxy counts it.
    pub(crate) traffic: Edges,
    /// Policies in force, with what was counted.
    pub(crate) policies: Vec<Policy>,
    /// What policies said altogether: `allowed`, and `denied` by none that allows.
    pub(crate) verdicts: BTreeMap<String, u64>,
    /// Certificates.
    pub(crate) certificates: Vec<Certificate>,
    /// What is wrong with the configuration: the first of it.
    pub(crate) problems: Vec<Problem>,
    /// How much is wrong, by severity.
    pub(crate) problem_counts: BTreeMap<&'static str, usize>,
    /// How many more there are of `certificates`, `doors` and `policies`, where there are too many.
    pub(crate) left_out: BTreeMap<&'static str, usize>,
    /// Of a control plane: its CA.
    pub(crate) ca: Option<Value>,
    /// Of a control plane: what it does.
    pub(crate) control: Option<Control>,
}

/// How large the configuration is.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Counts {
    /// Listeners.
    pub(crate) listeners: usize,
    /// Hosts with routes, over all ports.
    pub(crate) hosts: usize,
    /// Clusters.
    pub(crate) clusters: usize,
    /// Endpoints of all clusters.
    pub(crate) endpoints: usize,
}

/// Where requests can come in.
#[derive(Debug, Serialize)]
pub(crate) struct Door {
    /// `gateway`, `inbound` or `outbound`.
    pub(crate) side: &'static str,
    /// As a Gateway names it, of the workload, or of services.
    pub(crate) port: u16,
    /// The port that is bound.
    pub(crate) bound: u16,
    /// Whether TLS is spoken.
    pub(crate) tls: bool,
    /// The first hosts that have routes there.
    pub(crate) hosts: Vec<String>,
}

/// A policy in force.
#[derive(Debug, Serialize)]
pub(crate) struct Policy {
    /// As `AuthorizationPolicy`.
    pub(crate) kind: &'static str,
    /// `namespace/name`, with the rule of a RateLimit behind it.
    pub(crate) name: String,
    /// What it does: `DENY`, `STRICT`, `100 in 60s`.
    pub(crate) action: String,
    /// What was counted, by result.
    pub(crate) counts: BTreeMap<String, u64>,
}
