//! Resources to snapshot: one pure function that collects every problem and never stops at one.

mod absent;
mod authorization;
mod balancing;
mod certificates;
mod checks;
mod clusters;
mod conditions;
mod connections;
mod context;
mod cors;
mod delegates;
mod destination_rules;
mod destinations;
mod endpoints;
mod entry;
mod expressions;
mod external;
mod faults;
mod gateways;
mod guard;
mod header_ops;
mod holders;
mod inbound;
mod inbound_pools;
mod ingress;
mod issuers;
mod limits;
mod listeners;
mod localities;
mod memory;
mod mirrors;
mod networks;
mod opaque;
mod outbound;
mod peer_authentication;
mod proxy;
mod report;
mod retries;
mod review;
mod routes;
mod scope;
mod secrets;
mod selection;
mod server_tls;
mod services;
mod tallies;
mod telemetry;
mod tellers;
mod tokens;
mod upstream_tls;
mod view;
mod virtual_hosts;
mod virtual_services;
mod workloads;

pub use authorization::holding::HoldingPolicy;
pub use checks::HoldingCheck;
pub use destination_rules::{MergedRule, NamedSubset, Policy, RuleLevel, TlsPolicy};
pub use endpoints::has_sidecar;
pub use holders::{HeldPolicy, Holds, held_policies};
pub use limits::LIMITS_NOTHING;
pub use peer_authentication::WorkloadMtls;
pub use proxy::{Proxy, Role};
pub use secrets::named_secrets;
pub use services::ProtocolChoice;
pub use view::{
    BytesRoute, BytesServer, GatewayPort, GatewayServer, LeadingPort, TlsEnds, View, ViewedPort, ViewedService, selects,
};
pub use workloads::{WorkloadFacts, WorkloadPort, entry_facts, pod_facts, template_facts, whereabouts, workload};

use context::Context;
use memory::Memory;

use std::sync::Arc;

use crate::{
    problem::Problem,
    resources::Resources,
    snapshot::{Snapshot, Topology},
};

/// A snapshot, and what was wrong on the way to it.
#[derive(Debug, Default)]
pub struct Compiled {
    /// What the data path reads. It serves everything that is right, whatever the problems.
    pub snapshot: Snapshot,
    /// Everything found, by place.
    pub problems: Vec<Problem>,
}

/// Compiles again and again, and makes anew only what a change touches (see the module `memory`). The result is that of
/// [`compile`], except that the numbers of clusters stay what they were, so that there may be vacant ones among them.
#[derive(Default)]
pub struct Compiler {
    memory: Memory,
}

impl Compiler {
    /// Compile what one proxy needs.
    pub fn compile(&mut self, resources: &Resources, proxy: &Proxy) -> Compiled {
        let proxy = proxy.within(resources);
        let context = Context::after(std::mem::take(&mut self.memory), resources, &proxy);
        let (compiled, memory) = run(context);
        self.memory = memory;
        compiled
    }

    /// How many lists of routes the last compilation took from the one before.
    pub fn reused(&self) -> usize {
        self.memory.reused()
    }
}

/// Compile what one proxy needs.
pub fn compile(resources: &Resources, proxy: &Proxy) -> Compiled {
    let proxy = proxy.within(resources);
    run(Context::new(resources, &proxy)).0
}

fn run(context: Context<'_>) -> (Compiled, Memory) {
    let (resources, proxy) = (context.resources, context.proxy);
    review::all(&context);

    let digest = proxy.digest(resources);
    let mut snapshot = Snapshot { digest, mesh: Arc::clone(&proxy.mesh), ..Snapshot::default() };
    let mut own = None;
    match &proxy.role {
        Role::Gateway => {
            (snapshot.listeners, snapshot.ordered) = listeners::compile(&context);
            snapshot.topology = topology(proxy);
            snapshot.workload = workloads::of_gateway(proxy);
        }
        Role::Sidecar { namespace, workload } => {
            let facts = workloads::own(&context, namespace, workload);
            snapshot.inbound = Some(inbound::compile(&context, &facts));
            snapshot.outbound = Some(outbound::compile(&context));
            snapshot.workload = facts.metrics(&proxy.trust_domain);
            own = Some(facts);
        }
    }
    snapshot.telemetry = telemetry::compile(&context, &snapshot.workload);
    snapshot.guard = guard::compile(&context, own.as_ref());
    snapshot.names = context.endpoints.names();
    let (clusters, places) = context.clusters.into_all();
    snapshot.clusters = clusters;
    (Compiled { snapshot, problems: context.report.into_problems() }, context.memory.end(places))
}

#[cfg(test)]
mod tests;

/// Who stands in front of a gateway.
fn topology(proxy: &Proxy) -> Topology {
    proxy.mesh.proxy.gateway_topology.as_ref().map_or_else(Topology::default, |topology| Topology {
        trusted_proxies: topology.num_trusted_proxies,
        forward_client_cert: topology.forward_client_cert_details,
        proxy_protocol: topology.proxy_protocol.is_some(),
    })
}
