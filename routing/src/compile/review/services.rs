//! Services that are not what they seem: names that lead nowhere, hosts that several ServiceEntries have.

use crate::{
    api::{self, service_entry::ServiceEntryPort},
    compile::{
        context::Context,
        report::{BAD_VALUE, UNKNOWN_HOST},
        services::{Alias, Leads, MOST_ALIASES, Service},
    },
    resources::Object,
};

/// What of a ServiceEntry does not count beside another.
const CONFLICT: &str = "conflict";
const NO_EFFECT: &str = "no-effect";

pub(super) fn review(context: &Context<'_>) {
    rules(context);
    for object in &context.resources.services {
        hints(context, object);
        if object.spec.spec.node_local && context.proxy.node.is_empty() {
            let message =
                "this proxy's pod is not known, so its node is not either, and it uses endpoints of all nodes";
            context.report.info(object, NO_EFFECT, "spec.internalTrafficPolicy", message);
        }
    }
    for service in context.services.iter() {
        if let Some(found) = &service.alias {
            alias(context, service, found);
        }
        united(context, service);
    }
    for (passed, service) in context.services.passed_over() {
        let whose = match service.entries.first() {
            Some(first) if same(first, passed.entry) => continue,
            Some(first) if first.namespace() == passed.entry.namespace() => format!(
                "{}, which is older and has another resolution: give both the same, or write one entry",
                first.reference()
            ),
            Some(first) => format!(
                "{}; entries of the proxy's own namespace come first, then the oldest: limit them with exportTo, or write one \
                 entry",
                first.reference()
            ),
            None => format!("Service {}/{}, and Services come before ServiceEntries", service.namespace, service.name),
        };
        let field = format!("spec.hosts[{}]", passed.host);
        let message = format!("nothing here holds for `{}`: the host belongs to {whose}", service.host);
        context.report.warning(passed.entry, CONFLICT, &field, message);
    }
}

/// What kube-proxy looks at and no proxy of Istio's does.
fn hints(context: &Context<'_>, object: &Object<api::Service>) {
    for key in ["service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"] {
        let asked = object.meta.annotations.get(key).filter(|mode| !mode.eq_ignore_ascii_case("disabled"));
        if asked.is_some() {
            let message = "topology-aware hints are not looked at, by Istio neither; localityLbSetting of a DestinationRule, or \
                           spec.trafficDistribution, prefers endpoints that are near";
            context.report.warning(object, NO_EFFECT, &format!("metadata.annotations[{key:?}]"), message);
        }
    }
}

/// Whether two entries ask for the same, so that it does not matter which of them counts.
fn same(one: &Object<api::ServiceEntry>, other: &Object<api::ServiceEntry>) -> bool {
    let (one, other) = (&one.spec, &other.spec);
    one.ports == other.ports
        && one.resolution == other.resolution
        && one.location == other.location
        && one.endpoints == other.endpoints
        && one.workload_selector.is_none()
        && other.workload_selector.is_none()
        && one.subject_alt_names == other.subject_alt_names
}

fn alias(context: &Context<'_>, service: &Service<'_>, alias: &Alias<'_>) {
    let (object, target) = (alias.object, &alias.target);
    let field = "spec.externalName";
    match alias.leads {
        Leads::To(_) => {}
        Leads::Outside => {
            let domain = format!(".svc.{}", context.proxy.cluster_domain);
            if let Some(near) = context.services.similar(target).filter(|near| near.ends_with(&domain)) {
                let message = format!(
                    "no Service has the host `{target}`, so DNS is asked for it; `{near}` exists: written in full, requests go to \
                     its endpoints"
                );
                context.report.warning(object, UNKNOWN_HOST, field, message);
            }
        }
        Leads::InACircle => {
            let chain = chain(context, service).join(" -> ");
            let message = format!("these names lead in a circle, and requests to them get 503: {chain}");
            context.report.error(object, BAD_VALUE, field, message);
        }
        Leads::TooFar => {
            let message = format!(
                "this leads through more than {MOST_ALIASES} names, and requests get 503; name what is at the end of: {}",
                chain(context, service).join(" -> ")
            );
            context.report.error(object, BAD_VALUE, field, message);
        }
    }
}

/// The names from an alias on, until one comes twice or nobody follows any more.
fn chain(context: &Context<'_>, service: &Service<'_>) -> Vec<String> {
    let mut names = vec![service.host.to_string()];
    let mut next = Some(service);
    while let Some(alias) = next.and_then(|service| service.alias.as_ref()) {
        let met = names.contains(&alias.target);
        names.push(alias.target.clone());
        if met || names.len() > MOST_ALIASES + 1 {
            break;
        }
        next = context.services.named(&alias.target);
    }
    names
}

/// DestinationRules for an alias hold for nothing: those for what it leads to do.
fn rules(context: &Context<'_>) {
    let services = &context.services;
    for rule in &context.resources.destination_rules {
        let host = context.full_host(&rule.spec.host, rule.namespace());
        let Some(named) = services.named(&host) else { continue };
        let behind = &services.behind(named).host;
        if *behind != named.host && context.proxy.sees_destination_rule(&rule.spec.export_to, rule.namespace()) {
            let message =
                format!("`{host}` is another name for `{behind}`, whose DestinationRules hold; write it for that");
            context.report.warning(rule, "no-effect", "spec.host", message);
        }
    }
}

/// Where the ServiceEntries of one host disagree.
fn united(context: &Context<'_>, service: &Service<'_>) {
    for (number, entry) in service.entries.iter().enumerate().skip(1) {
        let earlier = &service.entries[..number];
        for (index, port) in entry.spec.ports.iter().enumerate() {
            let found = earlier.iter().find_map(|older| disagreement(older, port).map(|found| (older, found)));
            if let Some((older, (what, said))) = found {
                let field = format!("spec.ports[{index}]{what}");
                let message = format!("{} has the host `{}`, too, and {said}", older.reference(), service.host);
                context.report.warning(*entry, CONFLICT, &field, message);
            }
        }
        let first = service.entries[0];
        let whole = [
            ("location", first.spec.location != entry.spec.location),
            ("subjectAltNames", first.spec.subject_alt_names != entry.spec.subject_alt_names),
        ];
        for (field, _) in whole.iter().filter(|(_, differs)| *differs) {
            let message = format!(
                "{} has the host `{}`, too, and is older: its {field} holds for the endpoints of both",
                first.reference(),
                service.host
            );
            context.report.warning(*entry, CONFLICT, &format!("spec.{field}"), message);
        }
    }
}

/// What an older entry says differently about a port, and what comes of it.
fn disagreement(older: &Object<api::ServiceEntry>, port: &ServiceEntryPort) -> Option<(&'static str, String)> {
    let number = port.number;
    if let Some(same) = older.spec.ports.iter().find(|known| known.number == number) {
        if same.name != port.name {
            let said = format!("names port {number} `{}`: the endpoints of this one are left out of it", same.name);
            return Some((".name", said));
        }
        let differs = same.protocol != port.protocol;
        return differs.then(|| (".protocol", format!("gives port {number} another protocol, which holds for both")));
    }
    let same = older.spec.ports.iter().find(|known| known.name == port.name)?;
    let said = format!(
        "calls its port {} `{}`: Istio would mix the endpoints of both, here they stay apart",
        same.number, port.name
    );
    Some((".name", said))
}
