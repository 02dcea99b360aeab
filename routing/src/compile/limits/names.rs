//! Names of routes in a RateLimit: those that no route has, which would be silent.

use std::collections::BTreeSet;

use crate::{
    api::{RateLimit, VirtualService, virtual_service::HttpRoute},
    compile::context::Context,
    resources::{Extent, Object},
};

/// A name that no route has.
const UNKNOWN_ROUTE: &str = "unknown-route";
/// A rule that can never apply.
const IDLE: &str = "idle-limit";
/// Names that a message lists.
const LISTED: usize = 8;

/// Tells of them.
pub(super) fn review(context: &Context<'_>, object: &Object<RateLimit>) {
    let spec = &object.spec;
    for (index, target) in spec.target_refs.iter().enumerate().filter(|(_, it)| it.kind == "VirtualService") {
        let service = context.resources.virtual_services.get(object.namespace(), &target.name);
        let (Some(name), Some(service)) = (&target.section_name, service) else { continue };
        let known = names(context, service);
        if !known.contains(name) {
            let field = format!("spec.targetRefs[{index}].sectionName");
            let place = format!("of VirtualService {}/{}", service.namespace(), service.name());
            context.report.warning(object, UNKNOWN_ROUTE, &field, unknown(name, &place, &known));
        }
    }
    let asked = || spec.rules.iter().flat_map(|rule| &rule.matches).any(|one| !one.routes.is_empty());
    if !asked() {
        return;
    }
    routes(context, object);
    services(context, object);
}

/// A workload's own side has no routes: what comes to it is past them.
fn services(context: &Context<'_>, object: &Object<RateLimit>) {
    let spec = &object.spec;
    let at_workloads = |kind: &str| kind == "Service";
    if spec.target_refs.is_empty() || !spec.target_refs.iter().all(|it| at_workloads(&it.kind)) {
        return;
    }
    for (index, rule) in spec.rules.iter().enumerate() {
        if !rule.matches.is_empty() && rule.matches.iter().all(|one| !one.routes.is_empty()) {
            let message = "what comes to a Service's workloads is past all routes, so this rule limits nothing; choose by paths or \
                           hosts, or name a Gateway or VirtualService in targetRefs";
            context.report.warning(object, IDLE, &format!("spec.rules[{index}].match"), message);
        }
    }
}

fn routes(context: &Context<'_>, object: &Object<RateLimit>) {
    let all = &context.resources.virtual_services;
    let targets = object.spec.target_refs.iter().filter(|it| it.kind == "VirtualService");
    let named: Vec<_> = targets.filter_map(|it| all.get(object.namespace(), &it.name)).collect();
    let alone = !named.is_empty() && named.len() == object.spec.target_refs.len();
    let known: BTreeSet<String> = match alone {
        true => named.into_iter().flat_map(|service| names(context, service)).collect(),
        false => all.iter().flat_map(|service| names(context, service)).collect(),
    };
    // A part of the files says little of what routes there are.
    if known.is_empty() && !alone && context.resources.extent() == Extent::Part {
        return;
    }
    let place = if alone { "of the VirtualServices that it names" } else { "of a VirtualService" };
    for (index, rule) in object.spec.rules.iter().enumerate() {
        for (number, one) in rule.matches.iter().enumerate() {
            for (at, name) in one.routes.iter().enumerate().filter(|(_, name)| !known.contains(*name)) {
                let field = format!("spec.rules[{index}].match[{number}].routes[{at}]");
                context.report.warning(object, UNKNOWN_ROUTE, &field, unknown(name, place, &known));
            }
        }
    }
}

fn unknown(name: &str, place: &str, known: &BTreeSet<String>) -> String {
    let there = match known.len() {
        0 => "its routes have no names".to_owned(),
        _ => {
            let listed: Vec<&str> = known.iter().take(LISTED).map(String::as_str).collect();
            let more = if known.len() > LISTED { ", ..." } else { "" };
            format!("there are {}{more}", listed.join(", "))
        }
    };
    format!("no route {place} is called `{name}`, so nothing is limited by it; {there}")
}

/// What the routes of a VirtualService are called, those of its delegates among them.
fn names(context: &Context<'_>, service: &Object<VirtualService>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for route in &service.spec.http {
        add(&mut all, route.name.as_deref(), &[route]);
        let Some(delegate) = &route.delegate else { continue };
        let namespace = delegate.namespace.as_deref().unwrap_or_else(|| service.namespace());
        let Some(other) = context.resources.virtual_services.get(namespace, &delegate.name) else { continue };
        for leaf in &other.spec.http {
            let joined = match (&route.name, &leaf.name) {
                (Some(root), Some(leaf)) => Some(format!("{root}-{leaf}")),
                (root, leaf) => root.clone().or_else(|| leaf.clone()),
            };
            add(&mut all, joined.as_deref(), &[route, leaf]);
        }
    }
    all
}

/// The name of a route, and those with the names of its matches.
fn add(all: &mut BTreeSet<String>, route: Option<&str>, parts: &[&HttpRoute]) {
    all.extend(route.map(str::to_owned));
    for name in parts.iter().flat_map(|part| &part.matches).filter_map(|when| when.name.as_ref()) {
        all.insert(format!("{}.{name}", route.unwrap_or_default()));
    }
}
