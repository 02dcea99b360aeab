//! Where a route leads: hosts, subsets and ports of its destinations to clusters.

use std::sync::Arc;

use super::{
    clusters::{self, Member},
    context::Context,
    destination_rules::MergedRule,
    header_ops,
    report::UNKNOWN_HOST,
    routes::Entry,
};
use crate::{
    api::virtual_service as api,
    rule::{Destination, HeaderOps},
    upstream::ClusterId,
};

const UNKNOWN_SUBSET: &str = "unknown-subset";
const UNKNOWN_PORT: &str = "unknown-port";
const PORT_REQUIRED: &str = "port-required";

/// The destinations that can be chosen: the only one whatever its weight, else those with a weight.
pub(super) fn compile(context: &Context<'_>, entry: &Entry<'_, '_>) -> Vec<Destination> {
    let only = entry.route.route.len() == 1;
    let weighted = entry.route.route.iter().enumerate().filter_map(|(index, to)| {
        let weight = if only { 1 } else { u32::try_from(to.weight).unwrap_or(0) };
        (weight > 0).then_some((index, to, weight))
    });
    weighted.map(|(index, to, weight)| one(context, entry, (index, to), weight)).collect()
}

fn one(
    context: &Context<'_>,
    entry: &Entry<'_, '_>,
    (index, to): (usize, &api::HttpRouteDestination),
    weight: u32,
) -> Destination {
    let field = format!("{}.route[{index}]", entry.field);
    let fallback = api::Destination::default();
    let found = resolve(context, entry, to.destination.as_ref().unwrap_or(&fallback), &format!("{field}.destination"));
    let ops = |ops: Option<&api::HeaderOperations>, which: &str| -> HeaderOps {
        let field = format!("{field}.headers.{which}");
        ops.map(|ops| header_ops::compile(context, entry.object, ops, &field)).unwrap_or_default()
    };
    Destination {
        cluster: found.cluster,
        cluster_name: found.name,
        weight,
        request_headers: ops(to.headers.as_ref().and_then(|headers| headers.request.as_ref()), "request"),
        response_headers: ops(to.headers.as_ref().and_then(|headers| headers.response.as_ref()), "response"),
    }
}

/// A cluster, or the name that it would have.
struct Resolved {
    cluster: Option<ClusterId>,
    name: Arc<str>,
}

fn resolve(context: &Context<'_>, entry: &Entry<'_, '_>, to: &api::Destination, field: &str) -> Resolved {
    let host = context.full_host(&to.host, entry.object.namespace());
    let subset = to.subset.as_deref().unwrap_or_default();
    let asked = to.port.map(|port| port.number).filter(|&number| number != 0);
    let nowhere =
        || Resolved { cluster: None, name: clusters::name(asked.unwrap_or(entry.binding.port), subset, &host) };
    let unknown = |code, field: &str, message: String| {
        context.report.error(entry.object, code, field, message);
        nowhere()
    };

    let Some(service) = context.services.find(&host) else {
        let hint = context.services.similar(&host).map(|near| format!("; `{near}` exists")).unwrap_or_default();
        let absence = context.absent_host(entry.object, UNKNOWN_HOST, &host);
        let rest = format!(", so these requests get 503{hint}");
        context.report.absent(entry.object, &format!("{field}.host"), absence, &rest);
        return nowhere();
    };
    // For an alias, the name of what it leads to.
    let host = &service.host;
    let number = match (asked, service.ports.as_slice()) {
        (Some(number), _) => number,
        (None, [only]) => only.number,
        (None, _) => entry.binding.port,
    };
    let Some(port) = service.port(number) else {
        let ports = service.ports_in_words();
        return if asked.is_some() {
            let message = format!("`{host}` has no port {number}, so these requests get 503; its ports are {ports}");
            unknown(UNKNOWN_PORT, &format!("{field}.port.number"), message)
        } else if service.ports.is_empty() {
            let message = format!("`{host}` has no ports, so these requests get 503; name those that it serves");
            unknown(UNKNOWN_PORT, field, message)
        } else {
            let message =
                format!("`{host}` has several ports, so one must be named, or these requests get 503: {ports}");
            unknown(PORT_REQUIRED, field, message)
        };
    };
    if to.subset.is_none() {
        let cluster = clusters::cluster(context, &Member { service, port, subset: None });
        return Resolved { cluster: Some(cluster), name: clusters::name(number, "", host) };
    }
    let rule = context.destination_rules.of(&service.host, &service.namespace);
    match rule.and_then(|rule| rule.subset(subset)) {
        Some(named) => {
            let cluster = clusters::cluster(context, &Member { service, port, subset: Some(named) });
            Resolved { cluster: Some(cluster), name: clusters::name(number, subset, host) }
        }
        None => {
            let known = subsets_in_words(rule);
            let absence = context.absent_subset(entry.object, UNKNOWN_SUBSET, (subset, host), &known);
            context.report.absent(entry.object, &format!("{field}.subset"), absence, ", so these requests get 503");
            nowhere()
        }
    }
}

/// Which subsets a host has instead of the one that is asked for.
fn subsets_in_words(rule: Option<&MergedRule<'_>>) -> String {
    let Some(rule) = rule else { return "there is no DestinationRule for it".to_owned() };
    let (namespace, name) = (rule.base.namespace(), rule.base.name());
    match rule.subsets().is_empty() {
        true => format!("DestinationRule {namespace}/{name} has no subsets"),
        false => format!("DestinationRule {namespace}/{name} has the subsets {}", rule.subsets_in_words()),
    }
}
