//! Which DestinationRule holds for whom, and what it comes to, port by port and subset by subset.

use std::time::Duration;

use routing::{
    api::destination_rule::{ClientTls, ClientTlsMode},
    compile::{MergedRule, NamedSubset, RuleLevel, TlsPolicy, View, ViewedService, selects},
    connections::{Connections, Preamble},
    upstream::{Balance, Cluster, UpstreamProtocol},
};

use super::{
    backends::Backend,
    clients::words,
    report::{Finding, Policies, Policy, PortPolicy, Rule, Subset},
};

/// What one client does; `clients` is left empty.
pub(super) fn of(view: &View<'_>, service: &ViewedService, backends: &[Backend]) -> Policies {
    let rule = view.destination_rule(&service.host);
    let merged = rule.map(|(_, merged)| merged);
    let ports = ports(view, service, merged, None);
    let subsets = merged.map(MergedRule::subsets).unwrap_or_default().iter().map(|named| {
        let own = self::ports(view, service, merged, Some(named));
        Subset {
            name: named.subset.name.clone(),
            labels: named.subset.labels.clone(),
            workloads: members(backends, named).map(Backend::title).collect(),
            ports: own.into_iter().filter(|port| !ports.contains(port)).collect(),
        }
    });
    let subsets = subsets.collect();
    let destination_rule = rule.map(|(level, merged)| describe(level, merged));
    Policies { clients: Vec::new(), destination_rule, ports, subsets }
}

/// The workloads that a subset picks.
pub(super) fn members<'b>(backends: &'b [Backend], named: &NamedSubset<'_>) -> impl Iterator<Item = &'b Backend> {
    backends.iter().filter(|backend| selects(&named.subset.labels, &backend.facts.labels))
}

/// Subsets that nothing is in.
pub(super) fn empty_subsets(view: &View<'_>, service: &ViewedService, backends: &[Backend]) -> Vec<Finding> {
    let Some((_, merged)) = view.destination_rule(&service.host) else { return Vec::new() };
    let endpoints = |named: &NamedSubset<'_>| {
        let ports = service.ports.iter();
        let clusters = ports.filter_map(|port| view.cluster(&service.host, port.number, Some(&named.subset.name)));
        clusters.map(|cluster| cluster.endpoints.len()).sum::<usize>()
    };
    let known = !backends.is_empty() || service.ports.iter().any(|port| !port.endpoints.is_empty());
    let empty =
        merged.subsets().iter().filter(|named| members(backends, named).next().is_none() && endpoints(named) == 0);
    let told = empty.filter(|_| known).map(|named| {
        Finding::warning(format!(
            "subset {} of DestinationRule {}/{} picks no workload of this service (labels {}), so what is routed to it gets 503",
            named.subset.name,
            named.object.namespace(),
            named.object.name(),
            words(&named.subset.labels)
        ))
    });
    told.collect()
}

fn describe(level: RuleLevel, merged: &MergedRule<'_>) -> Rule {
    let base = merged.base;
    let names = if base.spec.host.contains('*') { "its wildcard covers this host" } else { "it names this host" };
    let why = match level {
        RuleLevel::WorkloadSelector => "its workloadSelector picks the client",
        RuleLevel::ClientNamespace => "it is of the client's namespace",
        RuleLevel::ServiceNamespace => "it is of the service's namespace",
        RuleLevel::RootNamespace => "it is of the root namespace, for the whole mesh",
    };
    Rule {
        namespace: base.namespace().to_owned(),
        name: base.name().to_owned(),
        host: base.spec.host.clone(),
        why: format!("{names}, and {why}"),
        merged: merged.merged().iter().map(|it| format!("{}/{}", it.namespace(), it.name())).collect(),
    }
}

fn ports(
    view: &View<'_>,
    service: &ViewedService,
    merged: Option<&MergedRule<'_>>,
    subset: Option<&NamedSubset<'_>>,
) -> Vec<PortPolicy> {
    let of = |port: u16| {
        let cluster = view.cluster(&service.host, port, subset.map(|named| named.subset.name.as_str()))?;
        let tls = merged.and_then(|merged| merged.policy(subset, port).tls);
        Some(PortPolicy { port, policy: policy(&cluster, tls.as_ref()) })
    };
    service.ports.iter().filter_map(|port| of(port.number)).collect()
}

fn policy(cluster: &Cluster, tls: Option<&TlsPolicy<'_>>) -> Policy {
    Policy {
        tls: tls.map_or("AUTOMATIC", |policy| mode(policy.tls.mode)),
        tls_details: tls.map(|policy| details(policy.tls)).unwrap_or_default(),
        tls_set_by: tls.map(|it| format!("{}/{} {}", it.object.namespace(), it.object.name(), it.field)),
        load_balancer: match cluster.balance {
            Balance::LeastRequest => "LEAST_REQUEST",
            Balance::RoundRobin => "ROUND_ROBIN",
            Balance::Random => "RANDOM",
            Balance::Hash(_) => "CONSISTENT_HASH",
        },
        connection_pool: connection_pool(cluster),
    }
}

/// Istio's name.
pub(super) fn mode(mode: ClientTlsMode) -> &'static str {
    match mode {
        ClientTlsMode::Disable => "DISABLE",
        ClientTlsMode::Simple => "SIMPLE",
        ClientTlsMode::Mutual => "MUTUAL",
        ClientTlsMode::IstioMutual => "ISTIO_MUTUAL",
    }
}

fn details(tls: &ClientTls) -> Vec<String> {
    let named = [
        ("sni", tls.sni.as_ref()),
        ("credentialName", tls.credential_name.as_ref()),
        ("caCertificates", tls.ca_certificates.as_ref()),
        ("clientCertificate", tls.client_certificate.as_ref()),
    ];
    let mut details: Vec<String> =
        named.iter().filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?))).collect();
    if !tls.subject_alt_names.is_empty() {
        details.push(format!("subjectAltNames {}", tls.subject_alt_names.join(",")));
    }
    if tls.insecure_skip_verify == Some(true) {
        details.push("insecureSkipVerify".to_owned());
    }
    details
}

fn connection_pool(cluster: &Cluster) -> Vec<String> {
    let plain = Duration::from_secs;
    let mut words = Vec::new();
    if cluster.connect_timeout != plain(10) {
        words.push(format!("connectTimeout {:?}", cluster.connect_timeout));
    }
    if cluster.idle_timeout != plain(3600) {
        words.push(format!("idleTimeout {:?}", cluster.idle_timeout));
    }
    if let Some(most) = cluster.limits.max_requests {
        words.push(format!("http2MaxRequests {most}"));
    }
    if let Some(most) = cluster.limits.max_requests_per_connection {
        words.push(format!("maxRequestsPerConnection {most}"));
    }
    words.extend(cluster.connections.iter().flat_map(|found| connections(found)));
    if cluster.protocol == UpstreamProtocol::Http2 {
        words.push("HTTP/2 to the endpoints".to_owned());
    }
    words
}

fn connections(found: &Connections) -> Vec<String> {
    let numbers = [
        ("maxConnections", found.most),
        ("http1MaxPendingRequests", found.pending),
        ("maxConcurrentStreams", found.streams),
    ];
    let mut words: Vec<String> =
        numbers.iter().filter_map(|(name, number)| Some(format!("{name} {}", (*number)?))).collect();
    let times = [("maxConnectionDuration", found.lifetime), ("tcp.idleTimeout", found.idle)];
    words.extend(times.iter().filter_map(|(name, time)| Some(format!("{name} {:?}", (*time)?))));
    words.extend(found.keepalive.is_some().then(|| "tcpKeepalive".to_owned()));
    words.extend(found.pings.map(|pings| format!("http2KeepAlive {:?}", pings.interval)));
    words.extend(found.preamble.as_ref().map(|preamble| match preamble {
        Preamble::Proxy(version) => format!("PROXY protocol {version:?}"),
        Preamble::Tunnel(tunnel) => format!("tunnel to {}", tunnel.target),
    }));
    words
}
