//! Where a route leads: hosts, subsets and ports of its destinations to clusters.

use std::sync::Arc;

use super::{
    clusters::{self, Carries, Member},
    context::Context,
    destination_rules::MergedRule,
    entry::Entry,
    header_ops::{self, Way},
    report::UNKNOWN_HOST,
    services::Service,
};
use crate::{
    api::{VirtualService, virtual_service as api},
    resources::Object,
    rule::{Destination, HeaderOps},
    upstream::ClusterId,
};

const UNKNOWN_SUBSET: &str = "unknown-subset";
const UNKNOWN_PORT: &str = "unknown-port";
const PORT_REQUIRED: &str = "port-required";

/// The destinations that can be chosen: the only one whatever its weight, else those with a weight.
pub(super) fn compile(context: &Context<'_>, entry: &Entry<'_, '_>) -> Vec<Destination> {
    let weighted = weighted(&entry.route.route, |to| to.weight);
    weighted.map(|(index, to, weight)| one(context, entry, (index, to), weight)).collect()
}

/// As [`compile`], for a `tls` or `tcp` route; `field` is where it stands.
pub(super) fn of_bytes(
    context: &Context<'_>,
    object: &Object<VirtualService>,
    route: &[api::RouteDestination],
    (field, port): (&str, u16),
) -> Vec<Destination> {
    let fallback = api::Destination::default();
    let weighted = weighted(route, |to| to.weight);
    let destinations = weighted.map(|(index, to, weight)| {
        let field = format!("{field}.route[{index}].destination");
        let to = to.destination.as_ref().unwrap_or(&fallback);
        let asked = Asked { object, to, field: &field, lost: "so these connections are closed" };
        let found = lead(context, &asked, (port, Carries::Bytes));
        Destination { weight, ..Destination::new(found.cluster, found.name) }
    });
    destinations.collect()
}

fn weighted<T>(all: &[T], weight: impl Fn(&T) -> i32) -> impl Iterator<Item = (usize, &T, u32)> {
    let only = all.len() == 1;
    all.iter().enumerate().filter_map(move |(index, to)| {
        let weight = if only { 1 } else { u32::try_from(weight(to)).unwrap_or(0) };
        (weight > 0).then_some((index, to, weight))
    })
}

fn one(
    context: &Context<'_>,
    entry: &Entry<'_, '_>,
    (index, to): (usize, &api::HttpRouteDestination),
    weight: u32,
) -> Destination {
    let field = format!("{}.route[{index}]", entry.field);
    let fallback = api::Destination::default();
    let asked = Asked {
        object: entry.object,
        to: to.destination.as_ref().unwrap_or(&fallback),
        field: &format!("{field}.destination"),
        lost: "so these requests get 503",
    };
    let found = resolve(context, entry, &asked);
    let ops = |ops: Option<&api::HeaderOperations>, way: Way| -> Option<Box<HeaderOps>> {
        let field = format!("{field}.headers.{}", way.name());
        header_ops::compile(context, entry.object, ops?, way, &field).boxed()
    };
    Destination {
        cluster: found.cluster,
        cluster_name: found.name,
        weight,
        request_headers: ops(to.headers.as_ref().and_then(|headers| headers.request.as_ref()), Way::Request),
        response_headers: ops(to.headers.as_ref().and_then(|headers| headers.response.as_ref()), Way::Response),
    }
}

/// A destination as it is written.
pub(super) struct Asked<'d> {
    /// Where it is written.
    pub(super) object: &'d Object<VirtualService>,
    pub(super) to: &'d api::Destination,
    /// `spec.http[0].route[0].destination`.
    pub(super) field: &'d str,
    /// What follows when there is no such destination.
    pub(super) lost: &'d str,
}

/// A cluster, or the name that it would have.
pub(super) struct Resolved {
    pub(super) cluster: Option<ClusterId>,
    pub(super) name: Arc<str>,
}

/// A destination as it is asked for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Lookup {
    /// In full.
    pub(super) host: String,
    /// `None`: the service's only one, else the listener's.
    pub(super) port: Option<u16>,
    pub(super) subset: Option<String>,
    /// Port of the Gateway server or of the service.
    pub(super) listener: u16,
    pub(super) carries: Carries,
}

/// What a destination lacks.
pub(super) enum Missing<'c, 'a> {
    Host,
    Port(&'c Service<'a>),
    Subset(&'c Service<'a>),
}

/// Where a destination leads; its cluster is made if need be.
pub(super) fn find<'c, 'a>(context: &'c Context<'a>, lookup: &Lookup) -> Result<ClusterId, Missing<'c, 'a>> {
    let service = context.services.find(&lookup.host).ok_or(Missing::Host)?;
    let number = match (lookup.port, service.ports.as_slice()) {
        (Some(number), _) => number,
        (None, [only]) => only.number,
        (None, _) => lookup.listener,
    };
    let port = service.port(number).ok_or(Missing::Port(service))?;
    let subset = match &lookup.subset {
        None => None,
        Some(name) => {
            let rule = context.destination_rules.of(&service.host, &service.namespace);
            Some(rule.and_then(|rule| rule.subset(name)).ok_or(Missing::Subset(service))?)
        }
    };
    Ok(clusters::carrying(context, &Member { service, port, subset }, lookup.carries))
}

/// Where a destination leads. What stands in the way is reported.
pub(super) fn resolve(context: &Context<'_>, entry: &Entry<'_, '_>, asked: &Asked<'_>) -> Resolved {
    lead(context, asked, (entry.binding.port, Carries::Http))
}

/// `port`: of the Gateway server or of the service, for destinations without one.
fn lead(context: &Context<'_>, asked: &Asked<'_>, (port, carries): (u16, Carries)) -> Resolved {
    let to = asked.to;
    let lookup = Lookup {
        host: context.full_host(&to.host, asked.object.namespace()),
        port: to.port.map(|port| port.number).filter(|&number| number != 0),
        subset: to.subset.clone(),
        listener: port,
        carries,
    };
    match find(context, &lookup) {
        Ok(cluster) => {
            context.memory.looked_up(lookup, cluster);
            Resolved { cluster: Some(cluster), name: context.clusters.get(cluster).name.clone() }
        }
        Err(missing) => {
            tell(context, &lookup, &missing, asked);
            let subset = lookup.subset.as_deref().unwrap_or_default();
            let name = clusters::name(lookup.port.unwrap_or(lookup.listener), subset, &lookup.host);
            Resolved { cluster: None, name }
        }
    }
}

/// Says what a destination lacks.
fn tell(context: &Context<'_>, lookup: &Lookup, missing: &Missing<'_, '_>, asked: &Asked<'_>) {
    let Asked { object, field, lost, .. } = *asked;
    let error = |code, field: &str, message: String| context.report.error(object, code, field, message);
    match missing {
        Missing::Host => {
            let host = &lookup.host;
            let hint = context.services.similar(host).map(|near| format!("; `{near}` exists")).unwrap_or_default();
            let absence = context.absent_host(object, UNKNOWN_HOST, host);
            let rest = format!(", {lost}{hint}");
            context.report.absent(object, &format!("{field}.host"), absence, &rest);
        }
        Missing::Port(service) => {
            let (host, ports) = (&service.host, service.ports_in_words());
            match lookup.port {
                Some(number) => error(
                    UNKNOWN_PORT,
                    &format!("{field}.port.number"),
                    format!("`{host}` has no port {number}, {lost}; its ports are {ports}"),
                ),
                None if service.ports.is_empty() => {
                    error(UNKNOWN_PORT, field, format!("`{host}` has no ports, {lost}; name those that it serves"))
                }
                None => error(
                    PORT_REQUIRED,
                    field,
                    format!("`{host}` has several ports and none is named, {lost}; its ports are {ports}"),
                ),
            }
        }
        Missing::Subset(service) => {
            let known = subsets_in_words(context.destination_rules.of(&service.host, &service.namespace));
            let subset = lookup.subset.as_deref().unwrap_or_default();
            let absence = context.absent_subset(object, UNKNOWN_SUBSET, (subset, &service.host), &known);
            context.report.absent(object, &format!("{field}.subset"), absence, &format!(", {lost}"));
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
