//! Values of Istio's standard metric labels (Istio `istio_stats` filter).

use std::borrow::Cow;

use routing::snapshot::Workload;

use super::record::{Labels, Record, Reporter};
use crate::peers::namespace_of;

/// Istio's standard labels, in the order Istio writes them.
pub(crate) const NAMES: [&str; 25] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

/// Those of connections that carry no HTTP: there are no statuses.
pub(crate) const CONNECTION_NAMES: [&str; 23] = {
    let mut names = [""; 23];
    let mut at = 0;
    while at < names.len() {
        names[at] = NAMES[if at < STATUSES[0] { at } else { at + 2 }];
        at += 1;
    }
    names
};

/// Where `response_code` and `grpc_response_status` stand in [`NAMES`].
pub(super) const STATUSES: [usize; 2] = [21, 22];
/// Where `destination_service` stands.
pub(super) const SERVICE: usize = 14;
/// Where `request_protocol` stands.
const PROTOCOL: usize = 20;

/// One value per name in [`NAMES`].
pub(crate) type Values<'a> = [Cow<'a, str>; NAMES.len()];

const UNKNOWN: &str = "unknown";
/// Istio's name of a cluster that nobody has named (`CLUSTER_ID`).
const CLUSTER: &str = "Kubernetes";

/// The cluster that this proxy's workload is in.
pub(crate) fn cluster_of(own: &Workload) -> &str {
    or(&own.cluster, CLUSTER)
}

/// The label values of one request.
pub(crate) fn values<'a>(record: &'a Record<'_>, own: &'a Workload) -> Values<'a> {
    let labels = &record.labels;
    let peer = Side::peer(labels, cluster_of(own));
    let own = Side::own(own, labels);
    let (reporter, source, destination) = match labels.reporter {
        Reporter::Source => ("source", own, peer),
        Reporter::Destination => ("destination", peer, own),
    };
    let service_namespace = match labels.reporter {
        Reporter::Destination if labels.service_namespace.is_empty() => destination.namespace,
        _ => known(labels.service_namespace),
    };
    [
        reporter.into(),
        source.workload.into(),
        source.service.into(),
        source.revision.into(),
        source.namespace.into(),
        source.principal.into(),
        source.app.into(),
        source.version.into(),
        source.cluster.into(),
        destination.workload.into(),
        destination.namespace.into(),
        destination.principal.into(),
        destination.app.into(),
        destination.version.into(),
        known(labels.service_host).into(),
        destination.service.into(),
        destination.revision.into(),
        known(labels.service_name).into(),
        service_namespace.into(),
        destination.cluster.into(),
        if labels.grpc { "grpc" } else { "http" }.into(),
        status(record.status).to_string().into(),
        grpc_status(labels).map_or("".into(), |it| it.to_string().into()),
        record.flags.into(),
        security(labels).into(),
    ]
}

/// The label values of one connection that carries no HTTP; its statuses are in no label.
pub(crate) fn of_connection<'a>(record: &'a Record<'_>, own: &'a Workload) -> Values<'a> {
    let mut values = values(record, own);
    values[PROTOCOL] = "tcp".into();
    values
}

/// The values that stand for all requests which find no place in a full table.
pub(crate) fn overflow() -> Values<'static> {
    NAMES.map(|name| if name == "reporter" { "overflow".into() } else { UNKNOWN.into() })
}

/// A status that may become a label: 0 where none was sent or where it is no HTTP status.
pub(crate) fn status(status: u16) -> u16 {
    if (100..=599).contains(&status) { status } else { 0 }
}

/// A gRPC status that may become a label: what is not in the list means UNKNOWN (2), as gRPC clients take it.
pub(crate) fn grpc_status(labels: &Labels<'_>) -> Option<u16> {
    labels.grpc_status.filter(|_| labels.grpc).map(|code| if code <= 16 { code } else { 2 })
}

/// Only the destination knows: at the source Istio always says unknown.
fn security(labels: &Labels<'_>) -> &'static str {
    match (labels.reporter, labels.mutual_tls) {
        (Reporter::Source, _) => UNKNOWN,
        (Reporter::Destination, true) => "mutual_tls",
        (Reporter::Destination, false) => "none",
    }
}

fn known(text: &str) -> &str {
    or(text, UNKNOWN)
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// One end of a request.
struct Side<'a> {
    workload: &'a str,
    namespace: &'a str,
    service: &'a str,
    revision: &'a str,
    principal: &'a str,
    app: &'a str,
    version: &'a str,
    cluster: &'a str,
}

impl<'a> Side<'a> {
    /// This proxy's end: labels that the workload does not have are empty.
    fn own(own: &'a Workload, labels: &Labels<'_>) -> Self {
        // A gateway may meet mutual TLS on the other side, with a client that is not the peer of this hop.
        let mutual_tls = match labels.reporter {
            Reporter::Source => !labels.peer_principal.is_empty(),
            Reporter::Destination => labels.mutual_tls,
        };
        Self {
            app: &own.app,
            version: &own.version,
            principal: if mutual_tls { known(&own.principal) } else { UNKNOWN },
            cluster: cluster_of(own),
            ..Self::of(own)
        }
    }

    /// The other end: what is not known says so. It is in our cluster unless it is said to be in another.
    fn peer(labels: &Labels<'a>, cluster: &'a str) -> Self {
        let principal = known(labels.peer_principal);
        // What the certificate proves beats what the configuration says.
        let proven = namespace_of(labels.peer_principal);
        let Some(peer) = labels.peer else {
            return Self {
                workload: UNKNOWN,
                namespace: proven.unwrap_or(UNKNOWN),
                service: UNKNOWN,
                revision: "latest",
                principal,
                app: UNKNOWN,
                version: UNKNOWN,
                cluster: UNKNOWN,
            };
        };
        let side = Self::of(peer);
        Self {
            namespace: proven.unwrap_or(side.namespace),
            principal,
            app: known(&peer.app),
            version: known(&peer.version),
            cluster: if peer.name.is_empty() { UNKNOWN } else { or(&peer.cluster, cluster) },
            ..side
        }
    }

    fn of(workload: &'a Workload) -> Self {
        Self {
            workload: known(&workload.name),
            namespace: known(&workload.namespace),
            service: known(&workload.canonical_service),
            revision: or(&workload.canonical_revision, "latest"),
            principal: UNKNOWN,
            app: "",
            version: "",
            cluster: UNKNOWN,
        }
    }
}

#[cfg(test)]
mod tests;
