//! Which proxies a set of files speaks of: a gateway for each selector, a sidecar for each workload.

use std::collections::{BTreeMap, BTreeSet};

use routing::{
    api::Gateway,
    compile::{Proxy, Role},
    problem::Problem,
    resources::{Object, Resources},
};

/// A proxy to compile for.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// As it would be started.
    pub(crate) proxy: Proxy,
    /// The files do not hold its workload: it was made up to look at what every sidecar of a namespace would see.
    invented: bool,
}

impl Candidate {
    /// Whether a problem is one of the files, and not of the proxy being made up.
    pub(crate) fn is_about_files(&self, problem: &Problem) -> bool {
        // A made-up sidecar does not send anything: rules that are for the gateway beside it are no fault.
        !(self.invented && matches!(problem.code, "unknown-workload" | "credential-at-a-sidecar"))
    }
}

type Labels = BTreeMap<String, String>;

/// A workload that the files hold.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Workload {
    namespace: String,
    name: String,
    labels: Labels,
    service_account: String,
}

/// Every proxy worth compiling for: one per distinct Gateway selector, one sidecar per workload that is no gateway, and
/// one made-up sidecar in each namespace that has VirtualServices or DestinationRules but no workload.
pub(crate) fn of(resources: &Resources) -> Vec<Candidate> {
    let workloads = workloads(resources);
    let mut by_selector: BTreeMap<&Labels, Vec<&Object<Gateway>>> = BTreeMap::new();
    for gateway in &resources.gateways {
        by_selector.entry(&gateway.spec.selector).or_default().push(gateway);
    }
    let some_selector = by_selector.keys().any(|selector| !selector.is_empty());
    let mut candidates = Vec::new();
    for (selector, gateways) in &by_selector {
        // A Gateway without selector is served by every gateway: it is compiled with each of the others.
        if !(selector.is_empty() && some_selector) {
            candidates.push(Candidate { proxy: gateway(resources, selector, gateways, &workloads), invented: false });
        }
    }
    let serves = |workload: &Workload| by_selector.keys().any(|it| !it.is_empty() && is_subset(it, &workload.labels));
    let beside: Vec<&Workload> = workloads.iter().filter(|it| !serves(it)).collect();
    let inhabited: BTreeSet<&str> = beside.iter().map(|it| it.namespace.as_str()).collect();
    candidates.extend(beside.iter().map(|it| Candidate { proxy: sidecar(&it.namespace, &it.name), invented: false }));
    candidates.extend(
        ruled_namespaces(resources)
            .difference(&inhabited)
            .map(|namespace| Candidate { proxy: sidecar(namespace, "any-workload"), invented: true }),
    );
    candidates
}

/// The gateway of a selector: the workload that has its labels, else one made up where its Secrets are.
fn gateway(resources: &Resources, selector: &Labels, gateways: &[&Object<Gateway>], workloads: &[Workload]) -> Proxy {
    let defaults = Proxy::default();
    if !selector.is_empty()
        && let Some(found) = workloads.iter().find(|it| is_subset(selector, &it.labels))
    {
        return Proxy {
            name: found.name.clone(),
            namespace: found.namespace.clone(),
            labels: found.labels.clone(),
            service_account: found.service_account.clone(),
            ..defaults
        };
    }
    let namespace = namespace_of(resources, gateways).to_owned();
    let labels = if selector.is_empty() { defaults.labels.clone() } else { selector.clone() };
    Proxy { namespace, labels, ..defaults }
}

/// Secrets are looked up in the gateway's own namespace, which the files do not tell: it is taken to be the one that has
/// most of them, a Gateway's own before Istio's.
fn namespace_of<'a>(resources: &Resources, gateways: &[&'a Object<Gateway>]) -> &'a str {
    let servers = gateways.iter().flat_map(|it| &it.spec.servers);
    let settings: Vec<_> = servers.filter_map(|it| it.tls.as_ref()).collect();
    let names: BTreeSet<&str> = settings
        .iter()
        .flat_map(|it| it.credential_name.iter().chain(&it.credential_names))
        .map(String::as_str)
        .collect();
    let found = |namespace: &str| names.iter().filter(|name| resources.secrets.get(namespace, name).is_some()).count();
    let mut best = ("istio-system", found("istio-system"));
    for gateway in gateways.iter().rev() {
        let own = found(gateway.namespace());
        if own >= best.1 {
            best = (gateway.namespace(), own);
        }
    }
    best.0
}

fn sidecar(namespace: &str, name: &str) -> Proxy {
    Proxy {
        role: Role::Sidecar { namespace: namespace.to_owned(), workload: name.to_owned() },
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        labels: Labels::new(),
        service_account: String::new(),
        ..Proxy::default()
    }
}

/// Deployments and their like, and Pods that belong to none of them.
fn workloads(resources: &Resources) -> Vec<Workload> {
    let mut found: Vec<Workload> = resources
        .deployments
        .iter()
        .map(|it| Workload {
            namespace: it.namespace().to_owned(),
            name: it.name().to_owned(),
            labels: it.spec.spec.template.metadata.labels.clone(),
            service_account: it.spec.spec.template.spec.account().to_owned(),
        })
        .collect();
    found.sort();
    found.dedup();
    let owned = |namespace: &str, labels: &Labels| {
        found.iter().any(|it| it.namespace == namespace && !it.labels.is_empty() && is_subset(&it.labels, labels))
    };
    let pods = resources.pods.iter().filter(|it| !owned(it.namespace(), &it.meta.labels));
    let alone: Vec<Workload> = pods
        .map(|it| Workload {
            namespace: it.namespace().to_owned(),
            name: it.name().to_owned(),
            labels: it.meta.labels.clone(),
            service_account: it.spec.spec.account().to_owned(),
        })
        .collect();
    found.extend(alone);
    found
}

/// Namespaces with objects that only a sidecar would read in full.
fn ruled_namespaces(resources: &Resources) -> BTreeSet<&str> {
    let services = resources.virtual_services.iter().map(|it| it.namespace());
    services.chain(resources.destination_rules.iter().map(|it| it.namespace())).collect()
}

fn is_subset(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}
