//! Whose eyes a service is looked at with. DestinationRules and routes depend on the client, so one client stands for all
//! that could see something of their own.

use std::collections::{BTreeMap, BTreeSet};

use routing::{
    compile::{Proxy, Role, View, workload},
    host::HostPattern,
    resources::Resources,
};

use crate::command::check::proxies;

/// A client and how people call it.
#[derive(Debug)]
pub(super) struct Client {
    /// As `workloads of shop`.
    pub(super) name: String,
    /// Its proxy.
    pub(super) proxy: Proxy,
}

type Labels = BTreeMap<String, String>;

/// The clients of a service (its host in full): workloads of its namespace first, every gateway, namespaces and workloads
/// that a rule singles out, and at last workloads of any other namespace.
pub(super) fn of(resources: &Resources, host: &str, namespace: &str) -> Vec<Client> {
    let sidecar = |namespace: &str, labels| sidecar(namespace, labels).within(resources);
    let home = sidecar(namespace, Labels::new());
    let singled_out = singled_out(resources, &View::new(resources, &home), (host, namespace));
    let mut clients = vec![Client { name: format!("workloads of {namespace}"), proxy: home }];
    clients.extend(gateways(resources));
    for (namespace, labels) in singled_out {
        let name = match labels.is_empty() {
            true => format!("workloads of {namespace}"),
            false => format!("workloads of {namespace} with {}", words(&labels)),
        };
        if clients.iter().all(|known| known.name != name) {
            clients.push(Client { name, proxy: sidecar(&namespace, labels) });
        }
    }
    // No namespace is called nothing, so that nothing is exported to it by name.
    clients.push(Client { name: "workloads of other namespaces".to_owned(), proxy: sidecar("", Labels::new()) });
    clients
}

/// Every gateway that the configuration speaks of.
pub(super) fn gateways(resources: &Resources) -> Vec<Client> {
    let all = proxies::of(resources).into_iter().map(|candidate| candidate.proxy).filter(Proxy::is_gateway);
    all.map(|proxy| Client { name: gateway_name(resources, &proxy), proxy: proxy.within(resources) }).collect()
}

/// By its workload when the configuration has it, else by the labels that Gateways select it by.
fn gateway_name(resources: &Resources, proxy: &Proxy) -> String {
    match workload(resources, &proxy.namespace, &proxy.name) {
        Some(_) => format!("gateway {}/{}", proxy.namespace, proxy.name),
        None => format!("gateways with {}", words(&proxy.labels)),
    }
}

/// Namespaces, or workloads of them, that a DestinationRule or VirtualService for this host treats differently.
fn singled_out(resources: &Resources, view: &View<'_>, (host, own): (&str, &str)) -> BTreeSet<(String, Labels)> {
    let mut found = BTreeSet::new();
    let mut exported = |to: &[String]| {
        let names = to.iter().filter(|to| !matches!(to.as_str(), "*" | "." | "~"));
        found.extend(names.map(|name| (name.clone(), Labels::new())));
    };
    let rules = || resources.destination_rules.iter().filter(|it| covers(view, &it.spec.host, it.namespace(), host));
    let services = || resources.virtual_services.iter().filter(|it| names(view, it, host));
    rules().for_each(|it| exported(&it.spec.export_to));
    services().for_each(|it| exported(&it.spec.export_to));
    for rule in rules() {
        let labels = rule.spec.workload_selector.as_ref().map(|it| it.match_labels.clone()).unwrap_or_default();
        found.insert((rule.namespace().to_owned(), labels));
    }
    for service in services() {
        // Exported to its own namespace only: nobody else is routed by it.
        if service.spec.export_to.iter().any(|to| to == ".") {
            found.insert((service.namespace().to_owned(), Labels::new()));
        }
        let spec = &service.spec;
        let http =
            spec.http.iter().flat_map(|it| &it.matches).map(|when| (&when.source_namespace, &when.source_labels));
        let tls = spec.tls.iter().flat_map(|it| &it.matches).map(|when| (&when.source_namespace, &when.source_labels));
        let tcp = spec.tcp.iter().flat_map(|it| &it.matches).map(|when| (&when.source_namespace, &when.source_labels));
        for (namespace, labels) in http.chain(tls).chain(tcp) {
            if namespace.is_some() || !labels.is_empty() {
                found.insert((namespace.as_deref().unwrap_or(own).to_owned(), labels.clone()));
            }
        }
    }
    found
}

/// Whether a host as an object of `namespace` writes it holds for a host in full.
pub(super) fn covers(view: &View<'_>, written: &str, namespace: &str, host: &str) -> bool {
    let pattern = view.full_host(written, namespace).parse::<HostPattern>();
    pattern.is_ok_and(|pattern| pattern.covers(&HostPattern::Exact(host.into())))
}

/// Whether a VirtualService is for a host, or has a route to it.
pub(super) fn names(
    view: &View<'_>,
    service: &routing::resources::Object<routing::api::VirtualService>,
    host: &str,
) -> bool {
    let own = service.namespace();
    let leads = |to: &routing::api::virtual_service::Destination| view.full_host(&to.host, own) == host;
    let spec = &service.spec;
    let http = spec.http.iter().flat_map(|route| &route.route).filter_map(|to| to.destination.as_ref());
    let bytes = spec.tls.iter().flat_map(|it| &it.route).chain(spec.tcp.iter().flat_map(|it| &it.route));
    spec.hosts.iter().any(|written| view.full_host(written, own) == host)
        || http.chain(bytes.filter_map(|to| to.destination.as_ref())).any(leads)
}

fn sidecar(namespace: &str, labels: Labels) -> Proxy {
    Proxy {
        role: Role::Sidecar { namespace: namespace.to_owned(), workload: "any-workload".to_owned() },
        name: "any-workload".to_owned(),
        namespace: namespace.to_owned(),
        labels,
        service_account: String::new(),
        ..Proxy::default()
    }
}

/// `app=web,version=v1`.
pub(super) fn words(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(",")
}

/// Clients that see the same, together; without names when all of them do.
pub(super) fn grouped<T: PartialEq>(seen: impl IntoIterator<Item = (String, T)>) -> Vec<(Vec<String>, T)> {
    let mut groups: Vec<(Vec<String>, T)> = Vec::new();
    for (name, what) in seen {
        match groups.iter_mut().find(|(_, known)| *known == what) {
            Some((names, _)) => names.push(name),
            None => groups.push((vec![name], what)),
        }
    }
    if let [(names, _)] = groups.as_mut_slice() {
        names.clear();
    }
    groups
}
