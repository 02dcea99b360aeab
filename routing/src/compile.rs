//! Resources to snapshot: one pure function that collects every problem and never stops at one.

mod absent;
mod certificates;
mod clusters;
mod conditions;
mod context;
mod destination_rules;
mod destinations;
mod endpoints;
mod expressions;
mod gateways;
mod header_ops;
mod inbound;
mod issuers;
mod listeners;
mod outbound;
mod peer_authentication;
mod proxy;
mod report;
mod retries;
mod review;
mod routes;
mod secrets;
mod server_tls;
mod services;
mod upstream_tls;
mod view;
mod virtual_hosts;
mod virtual_services;
mod workloads;

pub use destination_rules::{MergedRule, NamedSubset, Policy, RuleLevel, TlsPolicy};
pub use endpoints::has_sidecar;
pub use peer_authentication::WorkloadMtls;
pub use proxy::{Proxy, Role};
pub use secrets::named_secrets;
pub use services::ProtocolChoice;
pub use view::{GatewayPort, GatewayServer, LeadingPort, View, ViewedPort, ViewedService, selects};
pub use workloads::{WorkloadFacts, WorkloadPort, entry_facts, pod_facts, template_facts, workload};

use context::Context;

use crate::{problem::Problem, resources::Resources, snapshot::Snapshot};

/// A snapshot, and what was wrong on the way to it.
#[derive(Debug, Default)]
pub struct Compiled {
    /// What the data path reads. It serves everything that is right, whatever the problems.
    pub snapshot: Snapshot,
    /// Everything found, by place.
    pub problems: Vec<Problem>,
}

/// Compile what one proxy needs.
pub fn compile(resources: &Resources, proxy: &Proxy) -> Compiled {
    let context = Context::new(resources, proxy);
    review::all(&context);

    let mut snapshot = Snapshot { digest: proxy.digest(resources), ..Snapshot::default() };
    match &proxy.role {
        Role::Gateway => {
            (snapshot.listeners, snapshot.ordered) = listeners::compile(&context);
            snapshot.workload = workloads::of_gateway(proxy);
        }
        Role::Sidecar { namespace, workload } => {
            let facts = workloads::own(&context, namespace, workload);
            snapshot.inbound = Some(inbound::compile(&context, &facts));
            snapshot.outbound = Some(outbound::compile(&context));
            snapshot.workload = facts.metrics(&proxy.trust_domain);
        }
    }
    snapshot.names = context.endpoints.names();
    snapshot.clusters = context.clusters.into_all();
    Compiled { snapshot, problems: context.report.into_problems() }
}

#[cfg(test)]
mod tests;
