//! What each object shows by itself: fields that are not honoured, each named; rules that nothing can reach.
//!
//! Fields that would make a server or a route unsafe when left out are refused where they are compiled.

mod destination_rule;
mod finding;
mod mesh;
mod policies;
mod services;
mod sidecars;
mod virtual_service;

use finding::Findings;

use super::{absent::Absence, context::Context, memory, report::UNKNOWN_HOST, telemetry};
use crate::{
    api::{Protocol, WorkloadEntry, gateway::Server},
    host::HostPattern,
    problem::Severity,
};

pub(super) fn all(context: &Context<'_>) {
    for object in &context.resources.virtual_services {
        // It shows by itself, so what showed nothing shows nothing.
        memory::unless_clean(context, object, || virtual_service::review(context, object));
    }
    for object in &context.resources.destination_rules {
        destination_rule::review(context, object);
        destination_host(context, object);
    }
    mesh::review(context);
    policies::review(context);
    telemetry::review(context);
    sidecars::review(context);
    gateways(context);
    entries(context);
    services::review(context);
    for object in &context.resources.peer_authentications {
        let selects = object.spec.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
        if selects && object.namespace() == context.proxy.root_namespace {
            let message = format!(
                "a policy with a selector has no effect in the root namespace `{}`; put it into the namespace of its workloads",
                context.proxy.root_namespace
            );
            context.report.warning(object, "no-effect", "spec.selector", message);
        }
    }
}

/// A DestinationRule for a host that nobody has: often a misspelt name, or a short one from another namespace.
fn destination_host(context: &Context<'_>, object: &crate::resources::Object<crate::api::DestinationRule>) {
    let host = context.full_host(&object.spec.host, object.namespace());
    let known = match host.parse::<HostPattern>() {
        Ok(pattern) => context.services.any_matches(&pattern),
        Err(_) => false,
    };
    if !known && context.proxy.sees_destination_rule(&object.spec.export_to, object.namespace()) {
        let hint = context.services.similar(&host).map(|near| format!("; `{near}` exists")).unwrap_or_default();
        // Rules for hosts that nobody has yet are usual, also in a cluster.
        let absence = Absence { severity: Severity::Warning, ..context.absent_host(object, UNKNOWN_HOST, &host) };
        context.report.absent(object, "spec.host", absence, &format!(", so this rule holds for nothing{hint}"));
    }
}

fn gateways(context: &Context<'_>) {
    for object in &context.resources.gateways {
        let mut findings = Findings::default();
        for (index, server) in object.spec.servers.iter().enumerate() {
            server_fields(&mut findings, server, &format!("spec.servers[{index}]"));
        }
        findings.tell(context, object);
    }
}

fn server_fields(findings: &mut Findings, server: &Server, field: &str) {
    let web = server.port.as_ref().is_some_and(|port| port.protocol == Some(Protocol::GrpcWeb));
    findings.note(web, "gRPC-Web is not translated to gRPC; its requests are forwarded as they are", || {
        format!("{field}.port.protocol")
    });
    let endpoint = server.default_endpoint.is_some();
    findings.note(endpoint, "defaultEndpoint has no effect, as in Istio", || format!("{field}.defaultEndpoint"));
}

fn entries(context: &Context<'_>) {
    for object in &context.resources.service_entries {
        let mut findings = Findings::default();
        for (index, endpoint) in object.spec.endpoints.iter().enumerate() {
            network(context, &mut findings, endpoint, || format!("spec.endpoints[{index}].network"));
        }
        findings.tell(context, object);
    }
    for object in &context.resources.workload_entries {
        let mut findings = Findings::default();
        network(context, &mut findings, &object.spec, || "spec.network".to_owned());
        findings.tell(context, object);
    }
}

/// A network that nothing is known of.
fn network(context: &Context<'_>, findings: &mut Findings, entry: &WorkloadEntry, field: impl Fn() -> String) {
    let Some(network) = entry.network.as_deref().filter(|network| *network != context.proxy.network) else { return };
    let known = context.networks.as_ref().is_some_and(|networks| networks.has(network));
    let away = entry.address.is_empty();
    let no_gateway = "no gateway of this network is known (meshNetworks of the mesh configuration, or a Service with the label \
                      topology.istio.io/network), so the address is connected to directly";
    let no_way = "no gateway of this network is known (meshNetworks of the mesh configuration, or a Service with the label \
                  topology.istio.io/network), and there is no address, so it is not reached";
    findings.note(!known && !away, no_gateway, &field);
    findings.note(!known && away, no_way, &field);
    let lost = "this proxy's own network is not known (--network, or its label topology.istio.io/network), so every address is \
                connected to directly";
    findings.note(known && context.proxy.network.is_empty(), lost, &field);
}
