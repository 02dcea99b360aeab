//! Everything about one workload: a Pod, or what stands for pods.

use std::collections::BTreeMap;

use routing::{
    compile::{LeadingPort, Proxy, Role, View},
    resources::Resources,
};

use super::{
    Concerned, authorization,
    backends::Backend,
    checks, mutual_tls,
    report::{Finding, Service, Workload, WorkloadPort},
    service,
};

/// Describes a workload and the Services that lead to it, and notes which objects and proxies that concerns.
pub(super) fn describe(
    resources: &Resources,
    backend: &Backend,
    concerned: &mut Concerned,
) -> (Workload, Vec<Service>) {
    let facts = &backend.facts;
    let proxy = Proxy {
        role: Role::Sidecar { namespace: facts.namespace.clone(), workload: backend.name.clone() },
        name: backend.name.clone(),
        namespace: facts.namespace.clone(),
        labels: facts.labels.clone(),
        service_account: facts.service_account.clone(),
        ..Proxy::default()
    };
    let proxy = proxy.within(resources);
    concerned.looked_as(&proxy);
    concerned.name(backend.kind, &facts.namespace, &backend.name);
    let view = View::new(resources, &proxy);
    let leading = view.leading_to(facts);
    let ports = ports(&view, backend, &leading);
    let policies = view.mutual_tls(&facts.namespace, &facts.labels);
    let sources = policies.ports().filter_map(|port| policies.at_port(port).1).chain(policies.source);
    sources.for_each(|it| concerned.name("PeerAuthentication", it.namespace(), it.name()));
    for policy in authorization::held(&view, backend) {
        concerned.name("AuthorizationPolicy", policy.namespace, policy.name);
    }
    for check in view.checks(facts) {
        concerned.name(check.kind, check.namespace, check.name);
    }

    let mut services = Vec::new();
    for object in resources.services.in_namespace(&facts.namespace) {
        let host = view.full_host(object.name(), object.namespace());
        if leading.iter().any(|known| *known.host == *host) {
            services.push(service::describe(resources, object, concerned));
        }
    }
    let workload = Workload {
        kind: backend.kind,
        namespace: facts.namespace.clone(),
        name: backend.name.clone(),
        owner: facts.name.clone(),
        labels: facts.labels.clone(),
        service_account: facts.service_account.clone(),
        addresses: facts.addresses.iter().map(ToString::to_string).collect(),
        sidecar: backend.sidecar,
        findings: findings(backend, &ports),
        ports,
        mutual_tls: mutual_tls::of_workload(&view, backend),
        authorization: authorization::of_workload(&view, backend),
        checks: checks::of_workload(&view, backend),
    };
    (workload, services)
}

/// The ports that it declares, and those that services lead to.
fn ports(view: &View<'_>, backend: &Backend, leading: &[LeadingPort]) -> Vec<WorkloadPort> {
    let facts = &backend.facts;
    let mut names: BTreeMap<u16, &str> = BTreeMap::new();
    for port in &facts.ports {
        names.entry(port.number).or_insert(&port.name);
    }
    for port in leading {
        names.entry(port.workload_port).or_default();
    }
    let policies = view.mutual_tls(&facts.namespace, &facts.labels);
    let ports = names.into_iter().map(|(number, name)| {
        let own = leading.iter().filter(|port| port.workload_port == number);
        WorkloadPort {
            number,
            name: name.to_owned(),
            services: own.map(|port| format!("{}:{}", port.host, port.port)).collect(),
            mutual_tls: mutual_tls::mode(policies.port(number)),
        }
    });
    ports.collect()
}

fn findings(backend: &Backend, ports: &[WorkloadPort]) -> Vec<Finding> {
    let facts = &backend.facts;
    let has = |names: &[&str]| names.iter().any(|name| facts.labels.get(*name).is_some_and(|value| !value.is_empty()));
    let mut found = Vec::new();
    if !has(&["app", "app.kubernetes.io/name", "service.istio.io/canonical-name"]) {
        found.push(Finding::warning("it has no label app (or app.kubernetes.io/name), which metrics name it by"));
    }
    if !has(&["version", "app.kubernetes.io/version", "service.istio.io/canonical-revision"]) {
        let message =
            "it has no label version (or app.kubernetes.io/version), which subsets and metrics tell versions by";
        found.push(Finding::warning(message));
    }
    if backend.sidecar == Some(false) {
        found.push(Finding::warning(
            "no sidecar stands beside it (label security.istio.io/tlsMode=istio), so nothing enforces PeerAuthentication \
             and clients send plain text unless a DestinationRule says otherwise",
        ));
    }
    if ports.iter().all(|port| port.services.is_empty()) {
        found.push(Finding::warning("no Service leads to it"));
        return found;
    }
    let uncovered = ports.iter().filter(|port| port.services.is_empty());
    found.extend(uncovered.map(|port| {
        let name = if port.name.is_empty() { String::new() } else { format!(" ({})", port.name) };
        Finding::warning(format!("container port {}{name} belongs to no Service, so it is sniffed", port.number))
    }));
    found
}
