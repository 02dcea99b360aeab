//! What is told of requests and connections, and to whom (Istio `Telemetry`), resolved for one proxy.
//!
//! A proxy is on one of two sides: a gateway and the outbound side of a sidecar are CLIENT, its inbound side is SERVER. Levels
//! follow each other from the mesh to the workload, and what they mean together differs by signal: each has a module.

pub mod access_log;
pub mod context;
mod demands;
pub mod metrics;
pub mod tracing;

use std::{collections::BTreeMap, sync::Arc};

pub use self::demands::demands;

use crate::api::{self, telemetry::WorkloadMode};

/// What holds at a proxy. A snapshot without it tells everything as usual.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {
    /// The objects that hold, the widest first.
    pub levels: Vec<Level>,
    /// What the mesh configuration says for where they say nothing.
    pub defaults: Defaults,
    /// What is counted otherwise than usual where requests leave a workload; `None` = nothing.
    pub client: Option<Arc<metrics::Rules>>,
    /// The same where they arrive at it.
    pub server: Option<Arc<metrics::Rules>>,
    /// How requests are traced, where they leave a workload and where they arrive at it; `None` = they are not.
    pub traced: Sides<Arc<tracing::Tracing>>,
    /// Who gets lines about requests; `None` = what the mesh configuration says beside Telemetry.
    pub logged: Option<Sides<Box<[access_log::Log]>>>,
}

impl Telemetry {
    /// What is counted otherwise than usual on one side.
    pub fn metrics(&self, side: WorkloadMode) -> Option<&Arc<metrics::Rules>> {
        match side {
            WorkloadMode::Server => self.server.as_ref(),
            WorkloadMode::Client | WorkloadMode::ClientAndServer => self.client.as_ref(),
        }
    }

    /// What the levels say of traces on one side, the widest first: of each the first entry, as in Istio.
    pub fn tracing(&self, side: WorkloadMode) -> impl Iterator<Item = (&Level, &api::telemetry::Tracing)> {
        self.levels.iter().filter_map(move |level| {
            let first = level.spec.tracing.first()?;
            first.matches.unwrap_or_default().mode.covers(side).then_some((level, first))
        })
    }

    /// What the levels say of access logs on one side, the widest first; of each in the order it is written.
    pub fn access_logging(&self, side: WorkloadMode) -> impl Iterator<Item = (&Level, &api::telemetry::AccessLogging)> {
        self.levels.iter().flat_map(move |level| {
            let all = level.spec.access_logging.iter();
            all.filter(move |one| one.matches.unwrap_or_default().mode.covers(side)).map(move |one| (level, one))
        })
    }
}

/// What holds on each side.
#[derive(Clone, Debug, PartialEq)]
pub struct Sides<T> {
    /// Where requests leave a workload, and at gateways.
    pub client: Option<T>,
    /// Where they arrive at a workload.
    pub server: Option<T>,
}

impl<T> Default for Sides<T> {
    fn default() -> Self {
        Self { client: None, server: None }
    }
}

impl<T> Sides<T> {
    /// Of one side.
    pub fn get(&self, side: WorkloadMode) -> Option<&T> {
        match side {
            WorkloadMode::Server => self.server.as_ref(),
            WorkloadMode::Client | WorkloadMode::ClientAndServer => self.client.as_ref(),
        }
    }
}

/// One object that holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it says.
    pub spec: api::Telemetry,
}

/// Istio `MeshConfig.DefaultProviders`: names of those who are told where no Telemetry names any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Traces.
    pub tracing: Vec<String>,
    /// Metrics.
    pub metrics: Vec<String>,
    /// Access logs.
    pub access_logging: Vec<String>,
}

/// What a provider of the mesh configuration takes, as far as it matters here: which of them serve metrics for Prometheus.
pub type Providers = BTreeMap<String, bool>;
