//! What a proxy tells of itself on the page.

use std::collections::BTreeMap;

use routing::{
    guard::Guard,
    limits::Place,
    problem::{Problem, Severity},
    snapshot::Snapshot,
};

use super::{
    listeners::{Ports, bound},
    problems,
};
use crate::admin::{
    Readiness,
    schema::{
        certs::Certificate,
        overview::{Counts, Door, Policy, Proxy},
    },
};

/// Hosts that a door names.
const MOST_HOSTS: usize = 20;
/// Doors, policies and certificates that are told; of certificates those that end first.
const MOST: usize = 300;

pub(super) const AUTHORIZATION: &str = "AuthorizationPolicy";
pub(super) const LIMIT: &str = "RateLimit";

/// Everything that is not counted.
/// `ports`: as a Gateway names them, and as they are bound instead.
pub(crate) fn summary(
    (snapshot, ports): (&Snapshot, &Ports),
    generation: u64,
    found: &[Problem],
    readiness: &Readiness,
) -> Proxy {
    let workload = &snapshot.workload;
    let tables = snapshot.listeners.iter().map(|it| &it.routes);
    let outbound = snapshot.outbound.iter().flat_map(|it| it.by_port.values());
    let (ready, readiness) = told(readiness);
    let mut sorted: Vec<&Problem> = found.iter().collect();
    sorted.sort_by_key(|problem| problem.severity);
    let count = |severity: Severity| found.iter().filter(|it| it.severity == severity).count();
    let (mut doors, mut policies) = (doors(snapshot, ports), guards(snapshot));
    let left_out = [("doors", cut(&mut doors)), ("policies", cut(&mut policies))];
    let left_out = left_out.into_iter().filter(|(_, count)| *count > 0).collect();
    Proxy {
        kind: if snapshot.inbound.is_some() || snapshot.outbound.is_some() { "sidecar" } else { "gateway" },
        name: format!("{}/{}", workload.namespace, workload.name),
        principal: workload.principal.to_string(),
        version: env!("CARGO_PKG_VERSION"),
        ready,
        readiness,
        generation,
        digest: format!("{:016x}", snapshot.digest),
        counts: Counts {
            listeners: snapshot.listeners.len(),
            hosts: tables.chain(outbound).map(|table| table.hosts.len()).sum(),
            clusters: snapshot.named_clusters().count(),
            endpoints: snapshot.named_clusters().map(|cluster| cluster.endpoints.len()).sum(),
        },
        doors,
        policies,
        problems: sorted.into_iter().take(problems::MOST).cloned().collect(),
        left_out,
        problem_counts: [Severity::Error, Severity::Warning, Severity::Info].map(|it| (it.name(), count(it))).into(),
        ..Proxy::default()
    }
}

/// Those of them that end first.
pub(crate) fn with_certificates(mut proxy: Proxy, mut certificates: Vec<Certificate>) -> Proxy {
    if certificates.len() > MOST {
        certificates.sort_by(|a, b| a.not_after.cmp(&b.not_after));
        proxy.left_out.insert("certificates", cut(&mut certificates));
    }
    Proxy { certificates, ..proxy }
}

/// Takes off what is too much, and says how much that was.
fn cut<T>(all: &mut Vec<T>) -> usize {
    let more = all.len().saturating_sub(MOST);
    all.truncate(MOST);
    more
}

/// Whether it is ready, and what `/ready` says.
pub(crate) fn told(readiness: &Readiness) -> (bool, String) {
    match readiness {
        Readiness::Ready => (true, "ready".to_owned()),
        Readiness::ReadyBut(what) => (true, format!("ready, but {what}")),
        Readiness::NotReady(why) => (false, format!("not ready: {why}")),
    }
}

fn doors(snapshot: &Snapshot, ports: &Ports) -> Vec<Door> {
    let hosts = |table: &routing::table::RouteTable| {
        let mut hosts: Vec<String> = table.hosts.iter().map(|(_, host)| host.domain.to_string()).collect();
        hosts.sort_unstable();
        hosts.truncate(MOST_HOSTS);
        hosts
    };
    let gateway = snapshot.listeners.iter().map(|it| Door {
        side: "gateway",
        port: it.port,
        bound: bound(it, ports),
        tls: it.tls.is_some(),
        hosts: hosts(&it.routes),
    });
    let inbound = snapshot.inbound.iter().flat_map(|it| it.ports.values()).map(|it| Door {
        side: "inbound",
        port: it.port,
        bound: it.port,
        tls: it.mtls == routing::inbound::MtlsMode::Strict,
        hosts: Some(it.service_host.to_string()).into_iter().filter(|host| !host.is_empty()).collect(),
    });
    let mut outbound: Vec<Door> = snapshot
        .outbound
        .iter()
        .flat_map(|it| &it.by_port)
        .map(|(port, table)| Door { side: "outbound", port: *port, bound: *port, tls: false, hosts: hosts(table) })
        .collect();
    outbound.sort_unstable_by_key(|door| door.port);
    gateway.chain(inbound).chain(outbound).collect()
}

/// Policies in force, not yet counted.
fn guards(snapshot: &Snapshot) -> Vec<Policy> {
    let new = |kind, name: String, action: String| Policy { kind, name, action, counts: BTreeMap::new() };
    let mut policies = Vec::new();
    if let Some(inbound) = &snapshot.inbound {
        let mode = format!("{:?}", inbound.default_mtls).to_uppercase();
        let others = inbound.ports.values().filter(|port| port.mtls != inbound.default_mtls);
        let others = others.map(|port| format!(", {:?} on port {}", port.mtls, port.port).to_uppercase());
        policies.push(new(
            "PeerAuthentication",
            String::new(),
            mode + &others.collect::<String>().replace("ON PORT", "on port"),
        ));
    }
    policies.extend(snapshot.guard.iter().flat_map(|guard| of_guard(guard)));
    policies
}

fn of_guard(guard: &Guard) -> Vec<Policy> {
    let new = |kind, name: String, action: String| Policy { kind, name, action, counts: BTreeMap::new() };
    let mut policies = Vec::new();
    let authorization = guard.authorization.iter().flat_map(|it| it.in_force());
    policies.extend(authorization.map(|(id, action)| new(AUTHORIZATION, object(id), action.to_owned())));
    if guard.tokens.as_ref().is_some_and(|tokens| tokens.closed) {
        policies.push(new(
            "RequestAuthentication",
            String::new(),
            "cannot be read: no token is known to be good".to_owned(),
        ));
    }
    for rule in guard.tokens.iter().flat_map(|tokens| &tokens.rules) {
        policies.push(new("RequestAuthentication", rule.object.to_string(), format!("tokens of {}", rule.issuer)));
    }
    for limit in guard.limits.iter().flat_map(|limits| limits.all()) {
        let what = match &limit.place {
            Place::Local(rate) => format!("{} in {:?}", rate.requests, rate.period),
            Place::Global(service) => format!("asks {}", service.cluster_name),
        };
        let dry = if limit.dry_run { " (dry run)" } else { "" };
        policies.push(new(LIMIT, limit.name.to_string(), what + dry));
    }
    policies
}

/// `namespace/name` of `ns[..]-policy[..]`; empty when it is none.
pub(super) fn object(id: &str) -> String {
    let names = id.strip_prefix("ns[").and_then(|rest| rest.split_once("]-policy["));
    names.map(|(namespace, name)| format!("{namespace}/{}", name.trim_end_matches(']'))).unwrap_or_default()
}
