//! From the installed snapshot to `/config_dump`.

use std::{collections::HashMap, sync::Arc};

use routing::{
    inbound, opaque,
    problem::Problem,
    rule, snapshot,
    snapshot::{CertificateSource, ClientAuth, RootsSource, Snapshot},
    table::{RouteTable, VirtualHost},
    unix, upstream,
};

use crate::admin::schema::dump::{
    Action, Certificate, Client, ClientTls, Cluster, ConfigDump, Content, Destination, Endpoint, Host, Inbound,
    InboundPort, Listener, OpaquePort, OpaqueRoute, OutboundPort, Roots, Route, ServerTls, TlsServer, Workload,
};

/// Version of the binary, number and digest of the snapshot, what it serves, and every problem found on the way to it.
pub(crate) fn dump<'a>(snapshot: &'a Snapshot, generation: u64, problems: &'a [Problem]) -> ConfigDump<'a> {
    let told = Told { snapshot };
    let outbound = snapshot.outbound.as_ref();
    ConfigDump {
        version: env!("CARGO_PKG_VERSION"),
        generation,
        digest: format!("{:016x}", snapshot.digest),
        workload: workload(&snapshot.workload),
        listeners: snapshot.listeners.iter().map(|it| told.listener(it)).collect(),
        inbound: snapshot.inbound.as_ref().map(told_inbound),
        outbound: outbound.map(|outbound| {
            let port = |(port, table): (u16, &'a Arc<RouteTable>)| OutboundPort { port, hosts: told.hosts(table) };
            sorted(&outbound.by_port).into_iter().map(port).collect()
        }),
        outbound_opaque: outbound.map(|outbound| {
            let port =
                |(port, table): (u16, &'a Arc<opaque::OpaqueTable>)| OpaquePort { port, routes: told.opaque(table) };
            sorted(&outbound.opaque).into_iter().map(port).collect()
        }),
        clusters: snapshot.named_clusters().map(|it| told_cluster(it)).collect(),
        names_to_resolve: &snapshot.names,
        problems,
    }
}

fn sorted<T, S>(by_port: &HashMap<u16, T, S>) -> Vec<(u16, &T)> {
    let mut ports: Vec<_> = by_port.iter().map(|(port, table)| (*port, table)).collect();
    ports.sort_unstable_by_key(|(port, _)| *port);
    ports
}

struct Told<'a> {
    snapshot: &'a Snapshot,
}

impl<'a> Told<'a> {
    fn listener(&self, listener: &'a snapshot::Listener) -> Listener<'a> {
        Listener {
            bind: listener.bind,
            port: listener.port,
            bind_port: listener.bind_port,
            tls: listener.tls.as_ref().map(|tls| {
                let mut names: Vec<(String, usize)> =
                    tls.by_sni.iter().map(|(host, &at)| (host.to_string(), at)).collect();
                names.sort_unstable();
                let sni = |index| names.iter().filter(|(_, at)| *at == index).map(|(host, _)| host.clone()).collect();
                let server = |(index, server): (usize, &'a snapshot::TlsServer)| TlsServer {
                    name: &server.name,
                    sni: sni(index),
                    settings: server_tls(&server.settings),
                    content: self.content(&server.content),
                };
                tls.servers.iter().enumerate().map(server).collect()
            }),
            bytes: listener.bytes.as_ref().map(|table| self.opaque(table)),
            hosts: self.hosts(&listener.routes),
        }
    }

    fn content(&self, content: &'a snapshot::Content) -> Content<'a> {
        match content {
            snapshot::Content::Http => Content::Http,
            snapshot::Content::Bytes(table) => Content::Bytes(self.opaque(table)),
            snapshot::Content::Passed(table) => Content::Passthrough(self.opaque(table)),
            snapshot::Content::Mesh(table) => Content::AutoPassthrough(self.opaque(table)),
        }
    }

    fn opaque(&self, table: &'a opaque::OpaqueTable) -> Vec<OpaqueRoute<'a>> {
        let route = |route: &'a opaque::OpaqueRoute| OpaqueRoute {
            destinations: route.subnets.iter().map(ToString::to_string).collect(),
            sni: route.names.iter().map(ToString::to_string).collect(),
            unless_http: route.sniffed,
            source: &route.rule.source,
            action: self.destinations(&route.rule.to),
        };
        table.routes().iter().map(route).collect()
    }

    fn destinations(&self, destinations: &'a rule::Destinations) -> Vec<Destination<'a>> {
        let one = |it: &'a rule::Destination| Destination {
            cluster: it.cluster.map_or(&it.cluster_name, |id| &self.snapshot.cluster(id).name),
            known: it.cluster.is_some(),
            weight: it.weight,
        };
        destinations.all.iter().map(one).collect()
    }

    fn hosts(&self, table: &'a RouteTable) -> Vec<Host<'a>> {
        let mut hosts: Vec<&VirtualHost> = table.hosts.iter().map(|(_, host)| host).collect();
        hosts.sort_unstable_by(|a, b| a.domain.cmp(&b.domain));
        let host = |host: &'a VirtualHost| Host {
            host: &host.domain,
            https_redirect: host.https_redirect,
            routes: host.routes.routes().iter().map(|it| self.route(&it.rule)).collect(),
        };
        hosts.into_iter().map(host).collect()
    }

    fn route(&self, rule: &'a rule::Rule) -> Route<'a> {
        let action = match &rule.action {
            rule::Action::Route(to) => Action::To(self.destinations(to)),
            rule::Action::Redirect(redirect) => Action::Redirect(redirect.code),
            rule::Action::Direct(response) => Action::DirectResponse(response.status),
        };
        Route {
            name: &rule.name,
            source: &rule.source,
            timeout_ms: rule.timeout.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
            action,
        }
    }
}

fn workload(workload: &snapshot::Workload) -> Workload<'_> {
    Workload {
        name: &workload.name,
        namespace: &workload.namespace,
        canonical_service: &workload.canonical_service,
        canonical_revision: &workload.canonical_revision,
        app: &workload.app,
        version: &workload.version,
        principal: &workload.principal,
    }
}

fn server_tls(tls: &snapshot::ServerTls) -> ServerTls<'_> {
    ServerTls {
        certificate: match &tls.certificate {
            CertificateSource::Secrets(all) => Certificate::Secrets(all.iter().map(|it| it.name.as_str()).collect()),
            CertificateSource::Files(all) => Certificate::Files(all.iter().map(|it| it.certificate.as_str()).collect()),
            CertificateSource::Workload => Certificate::Workload,
            CertificateSource::Missing(name) => Certificate::Missing(name),
            CertificateSource::Rejected => Certificate::Rejected,
            CertificateSource::Elsewhere => Certificate::Elsewhere,
            CertificateSource::Pending { secret, issuer, .. } => Certificate::Pending { pending: secret, issuer },
        },
        client: match &tls.client {
            ClientAuth::None => Client::None,
            ClientAuth::Required(ca) => Client::Required { required: roots(&ca.roots), subject_alt_names: &ca.sans },
            ClientAuth::Optional(ca) => Client::Optional { optional: roots(&ca.roots), subject_alt_names: &ca.sans },
            ClientAuth::Unverified { required } => Client::Unverified { required: *required },
            ClientAuth::Mesh { trust_domains, sans } => Client::Mesh { mesh: trust_domains, subject_alt_names: sans },
        },
        min_version: format!("{:?}", tls.min_version),
        max_version: format!("{:?}", tls.max_version),
        cipher_suites: &tls.cipher_suites,
    }
}

fn roots(roots: &RootsSource) -> Roots<'_> {
    match roots {
        RootsSource::Pem(_) => Roots::Secret,
        RootsSource::File(path) => Roots::File(path),
        RootsSource::Missing(name) => Roots::Missing(name),
    }
}

fn told_inbound(inbound: &inbound::Inbound) -> Inbound<'_> {
    Inbound {
        addresses: &inbound.addresses,
        default_mtls: format!("{:?}", inbound.default_mtls),
        trust_domains: &inbound.trust_domains,
        ports: inbound.ports.values().map(told_port).collect(),
    }
}

fn told_port(port: &inbound::InboundPort) -> InboundPort<'_> {
    InboundPort {
        port: port.port,
        mtls: format!("{:?}", port.mtls),
        protocol: format!("{:?}", port.protocol),
        service: &port.service_host,
    }
}

fn told_cluster(cluster: &upstream::Cluster) -> Cluster<'_> {
    Cluster {
        name: &cluster.name,
        host: &cluster.host,
        port: cluster.port,
        protocol: format!("{:?}", cluster.protocol),
        balance: format!("{:?}", cluster.balance),
        tls: cluster.tls.as_ref().map(|tls| ClientTls {
            mesh: tls.mesh,
            sni: format!("{:?}", tls.sni),
            names: format!("{:?}", tls.names),
        }),
        endpoints: cluster.endpoints.iter().map(|it| told_endpoint(cluster, it)).collect(),
    }
}

fn told_endpoint<'a>(cluster: &upstream::Cluster, endpoint: &'a upstream::Endpoint) -> Endpoint<'a> {
    Endpoint {
        address: unix::shown(endpoint.address).to_string(),
        weight: endpoint.weight,
        tls: endpoint.tls && cluster.tls.is_some(),
        workload: workload(&endpoint.workload),
    }
}
