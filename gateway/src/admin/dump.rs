//! The installed snapshot as JSON and as text. Never holds keys or certificates: only names say where they came from.

use std::{fmt::Write as _, sync::Arc};

use routing::{
    inbound::Inbound,
    opaque::{OpaqueRoute, OpaqueTable},
    problem::Problem,
    rule::{Action, Destination, Destinations, Rule},
    snapshot::{CertificateSource, ClientAuth, Content, Listener, RootsSource, ServerTls, Snapshot, Workload},
    table::{RouteTable, VirtualHost},
    unix,
    upstream::{Cluster, Endpoint},
};
use serde_json::{Value, json};

use super::schema::SCHEMA;
use crate::upstream::endpoints::Upstream;

/// The page `/config_dump`: version of the binary, number and digest of the snapshot, what it serves, and every problem found
/// on the way to it.
pub(crate) fn snapshot_json(snapshot: &Snapshot, generation: u64, problems: &[Problem]) -> Value {
    json!({
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "generation": generation,
        "digest": format!("{:016x}", snapshot.digest),
        "workload": workload(&snapshot.workload),
        "listeners": snapshot.listeners.iter().map(|it| listener(it, snapshot)).collect::<Vec<_>>(),
        "inbound": snapshot.inbound.as_ref().map(inbound),
        "outbound": snapshot.outbound.as_ref().map(|outbound| {
            let mut ports: Vec<_> = outbound.by_port.iter().collect();
            ports.sort_unstable_by_key(|(port, _)| **port);
            ports.into_iter().map(|(port, table)| json!({"port": port, "hosts": hosts(table, snapshot)})).collect::<Vec<_>>()
        }),
        "outbound_opaque": snapshot.outbound.as_ref().map(|outbound| {
            let mut ports: Vec<_> = outbound.opaque.iter().collect();
            ports.sort_unstable_by_key(|(port, _)| **port);
            let port = |(port, table): (&u16, &Arc<OpaqueTable>)| json!({"port": port, "routes": opaque_routes(table, snapshot)});
            ports.into_iter().map(port).collect::<Vec<_>>()
        }),
        "clusters": snapshot.named_clusters().map(|it| cluster(it)).collect::<Vec<_>>(),
        "names_to_resolve": snapshot.names,
        "problems": problems,
    })
}

/// The page `/clusters`: one line per endpoint, `cluster address weight tls workload`, and what it does now. `upstreams`: in
/// the order of the clusters.
pub(crate) fn clusters_text(snapshot: &Snapshot, upstreams: &[Arc<Upstream>]) -> String {
    let mut text = String::new();
    let named = snapshot.clusters.iter().enumerate().filter(|(_, cluster)| !cluster.name.is_empty());
    for (number, cluster) in named {
        if cluster.endpoints.is_empty() {
            push_line(&mut text, format_args!("{} has no endpoints", cluster.name));
        }
        for (index, endpoint) in cluster.endpoints.iter().enumerate() {
            push_line(
                &mut text,
                format_args!(
                    "{} {} weight={} tls={} workload={}/{}{}{}",
                    cluster.name,
                    unix::shown(endpoint.address),
                    endpoint.weight,
                    is_encrypted(cluster, endpoint),
                    endpoint.workload.namespace,
                    endpoint.workload.name,
                    place(cluster, endpoint),
                    upstreams.get(number).map(|upstream| doings(upstream, index)).unwrap_or_default(),
                ),
            );
        }
    }
    text
}

/// Where an endpoint stands among the others, as far as there is a difference.
fn place(cluster: &Cluster, endpoint: &Endpoint) -> String {
    let mut text = String::new();
    if cluster.endpoints.iter().any(|other| other.priority != 0) {
        // Writing into a String cannot fail.
        let _ = write!(text, " priority={}", endpoint.priority);
    }
    if let Some(group) = cluster.groups.get(usize::from(endpoint.group)) {
        let _ = write!(text, " locality={}", group.locality);
    }
    text
}

/// What an endpoint does now.
fn doings(upstream: &Upstream, index: usize) -> String {
    let mut text = format!(" in_flight={}", upstream.in_flight(index));
    if let Some(standing) = upstream.varying().map(|varying| varying.standing(index)) {
        if standing.out {
            text.push_str(" ejected");
        }
        if standing.warmth < 1.0 {
            // Writing into a String cannot fail.
            let _ = write!(text, " warm={:.0}%", standing.warmth * 100.0);
        }
    }
    text
}

fn push_line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = writeln!(text, "{line}");
}

fn is_encrypted(cluster: &Cluster, endpoint: &Endpoint) -> bool {
    endpoint.tls && cluster.tls.is_some()
}

fn workload(workload: &Workload) -> Value {
    json!({
        "name": *workload.name,
        "namespace": *workload.namespace,
        "canonical_service": *workload.canonical_service,
        "canonical_revision": *workload.canonical_revision,
        "app": *workload.app,
        "version": *workload.version,
        "principal": *workload.principal,
    })
}

fn listener(listener: &Listener, snapshot: &Snapshot) -> Value {
    json!({
        "bind": listener.bind,
        "port": listener.port,
        "bind_port": listener.bind_port,
        "tls": listener.tls.as_ref().map(|tls| {
            let mut names: Vec<(String, usize)> = tls.by_sni.iter().map(|(host, &at)| (host.to_string(), at)).collect();
            names.sort_unstable();
            tls.servers.iter().enumerate().map(|(index, server)| json!({
                "name": *server.name,
                "sni": names.iter().filter(|(_, at)| *at == index).map(|(host, _)| host).collect::<Vec<_>>(),
                "settings": server_tls(&server.settings),
                "content": content(&server.content, snapshot),
            })).collect::<Vec<_>>()
        }),
        "bytes": listener.bytes.as_ref().map(|table| opaque_routes(table, snapshot)),
        "hosts": hosts(&listener.routes, snapshot),
    })
}

/// What follows a ClientHello.
fn content(content: &Content, snapshot: &Snapshot) -> Value {
    match content {
        Content::Http => json!("http"),
        Content::Bytes(table) => json!({"bytes": opaque_routes(table, snapshot)}),
        Content::Passed(table) => json!({"passthrough": opaque_routes(table, snapshot)}),
        Content::Mesh(table) => json!({"auto_passthrough": opaque_routes(table, snapshot)}),
    }
}

fn opaque_routes(table: &OpaqueTable, snapshot: &Snapshot) -> Vec<Value> {
    let route = |route: &OpaqueRoute| {
        json!({
            "destinations": route.subnets.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "sni": route.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "unless_http": route.sniffed,
            "source": *route.rule.source,
            "action": destinations(&route.rule.to, snapshot),
        })
    };
    table.routes().iter().map(route).collect()
}

fn destinations(destinations: &Destinations, snapshot: &Snapshot) -> Value {
    let one = |it: &Destination| {
        json!({
            "cluster": it.cluster.map_or(&it.cluster_name, |id| &snapshot.cluster(id).name).as_ref(),
            "known": it.cluster.is_some(),
            "weight": it.weight,
        })
    };
    json!(destinations.all.iter().map(one).collect::<Vec<_>>())
}

fn server_tls(tls: &ServerTls) -> Value {
    json!({
        "certificate": match &tls.certificate {
            CertificateSource::Secrets(secrets) => json!({"secrets": secrets.iter().map(|it| &it.name).collect::<Vec<_>>()}),
            CertificateSource::Files(files) => {
                json!({"files": files.iter().map(|it| &it.certificate).collect::<Vec<_>>()})
            }
            CertificateSource::Workload => json!("workload"),
            CertificateSource::Missing(name) => json!({"missing": name}),
            CertificateSource::Rejected => json!("rejected"),
            CertificateSource::Elsewhere => json!("elsewhere"),
            CertificateSource::Pending { secret, issuer, .. } => json!({"pending": secret, "issuer": issuer}),
        },
        "client": match &tls.client {
            ClientAuth::None => json!("none"),
            ClientAuth::Required(ca) => json!({"required": roots(&ca.roots), "subject_alt_names": ca.sans}),
            ClientAuth::Optional(ca) => json!({"optional": roots(&ca.roots), "subject_alt_names": ca.sans}),
            ClientAuth::Unverified { required } => json!({"unverified": {"required": required}}),
            ClientAuth::Mesh { trust_domains, .. } => json!({"mesh": trust_domains}),
        },
        "min_version": format!("{:?}", tls.min_version),
        "max_version": format!("{:?}", tls.max_version),
        "cipher_suites": tls.cipher_suites,
    })
}

fn roots(roots: &RootsSource) -> Value {
    match roots {
        RootsSource::Pem(_) => json!("secret"),
        RootsSource::File(path) => json!({"file": path}),
        RootsSource::Missing(name) => json!({"missing": name}),
    }
}

fn hosts(table: &RouteTable, snapshot: &Snapshot) -> Vec<Value> {
    let mut hosts: Vec<&VirtualHost> = table.hosts.iter().map(|(_, host)| host).collect();
    hosts.sort_unstable_by(|a, b| a.domain.cmp(&b.domain));
    let routes =
        |host: &VirtualHost| host.routes.routes().iter().map(|it| rule(&it.rule, snapshot)).collect::<Vec<_>>();
    hosts
        .into_iter()
        .map(|host| json!({"host": *host.domain, "https_redirect": host.https_redirect, "routes": routes(host)}))
        .collect()
}

fn rule(rule: &Rule, snapshot: &Snapshot) -> Value {
    let action = match &rule.action {
        Action::Route(to) => destinations(to, snapshot),
        Action::Redirect(redirect) => json!({"redirect": redirect.code}),
        Action::Direct(response) => json!({"direct_response": response.status}),
    };
    json!({
        "name": *rule.name,
        "source": *rule.source,
        "timeout_ms": rule.timeout.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
        "action": action,
    })
}

fn inbound(inbound: &Inbound) -> Value {
    let port = |port: &routing::inbound::InboundPort| {
        json!({
            "port": port.port,
            "mtls": format!("{:?}", port.mtls),
            "protocol": format!("{:?}", port.protocol),
            "service": *port.service_host,
        })
    };
    json!({
        "addresses": inbound.addresses,
        "default_mtls": format!("{:?}", inbound.default_mtls),
        "trust_domains": inbound.trust_domains,
        "ports": inbound.ports.values().map(port).collect::<Vec<_>>(),
    })
}

fn cluster(cluster: &Cluster) -> Value {
    let endpoint = |endpoint: &Endpoint| {
        json!({
            "address": unix::shown(endpoint.address).to_string(),
            "weight": endpoint.weight,
            "tls": is_encrypted(cluster, endpoint),
            "workload": workload(&endpoint.workload),
        })
    };
    json!({
        "name": *cluster.name,
        "host": *cluster.host,
        "port": cluster.port,
        "protocol": format!("{:?}", cluster.protocol),
        "balance": format!("{:?}", cluster.balance),
        "tls": cluster.tls.as_ref().map(|tls| json!({
            "mesh": tls.mesh,
            "sni": format!("{:?}", tls.sni),
            "names": format!("{:?}", tls.names),
        })),
        "endpoints": cluster.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}
