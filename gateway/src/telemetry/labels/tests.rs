use std::{sync::Arc, time::SystemTime};

use super::*;
use crate::telemetry::record::{Asked, Silent, Told};

fn workload(name: &str, namespace: &str) -> Arc<Workload> {
    Arc::new(Workload {
        name: format!("{name}-v1").into(),
        namespace: namespace.into(),
        canonical_service: name.into(),
        canonical_revision: "v1".into(),
        app: name.into(),
        version: "v1".into(),
        cluster: Arc::default(),
        principal: format!("spiffe://cluster.local/ns/{namespace}/sa/{name}").into(),
    })
}

fn record<'a>(reporter: Reporter, peer: Option<&'a Arc<Workload>>) -> Record<'a> {
    Record {
        start: SystemTime::UNIX_EPOCH,
        duration: std::time::Duration::from_millis(3),
        asked: Asked { method: b"GET", path: b"/", authority: b"anything.example.com", ..Asked::default() },
        protocol: "HTTP/1.1",
        status: 200,
        flags: "-",
        details: "via_upstream",
        transport_failure: "",
        bytes_received: 0,
        bytes_sent: 0,
        upstream_service_time: None,
        upstream_host: None,
        upstream_local: None,
        upstream_cluster: "",
        downstream_local: None,
        downstream_remote: None,
        sni: "",
        route: "",
        trace: None,
        volume: crate::telemetry::record::Volume::default(),
        labels: Labels {
            reporter,
            peer,
            peer_principal: peer.map_or("", |it| &it.principal),
            service_host: "rating.cargo.svc.cluster.local",
            service_name: "rating",
            service_namespace: "cargo",
            grpc: false,
            grpc_status: None,
            mutual_tls: false,
        },
        told: Told(&Silent),
    }
}

fn line(record: &Record<'_>, own: &Workload) -> String {
    let values = values(record, own);
    NAMES.iter().zip(&values).map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_gateway_reports_itself_as_the_source() {
    let (own, peer) = (workload("gateway", "istio-system"), workload("rating", "cargo"));
    assert_eq!(
        line(&record(Reporter::Source, Some(&peer)), &own),
        "reporter=source source_workload=gateway-v1 source_canonical_service=gateway source_canonical_revision=v1 \
         source_workload_namespace=istio-system source_principal=spiffe://cluster.local/ns/istio-system/sa/gateway \
         source_app=gateway source_version=v1 source_cluster=Kubernetes destination_workload=rating-v1 \
         destination_workload_namespace=cargo destination_principal=spiffe://cluster.local/ns/cargo/sa/rating \
         destination_app=rating destination_version=v1 destination_service=rating.cargo.svc.cluster.local \
         destination_canonical_service=rating destination_canonical_revision=v1 destination_service_name=rating \
         destination_service_namespace=cargo destination_cluster=Kubernetes request_protocol=http response_code=200 \
         grpc_response_status= response_flags=- connection_security_policy=unknown"
    );
}

#[test]
fn a_sidecar_reports_itself_as_the_destination() {
    let (own, peer) = (workload("rating", "cargo"), workload("gateway", "istio-system"));
    let mut record = record(Reporter::Destination, Some(&peer));
    record.labels.mutual_tls = true;
    let line = line(&record, &own);
    for label in [
        "reporter=destination source_workload=gateway-v1",
        "destination_workload=rating-v1",
        "source_principal=spiffe://cluster.local/ns/istio-system/sa/gateway",
        "destination_principal=spiffe://cluster.local/ns/cargo/sa/rating",
        "connection_security_policy=mutual_tls",
    ] {
        assert!(line.contains(label), "{label}: {line}");
    }
}

#[test]
fn the_clusters_name_is_the_one_that_was_given() {
    let own = Workload { cluster: "west".into(), ..(*workload("gateway", "istio-system")).clone() };
    let found = line(&record(Reporter::Source, Some(&workload("rating", "cargo"))), &own);
    assert!(found.contains("source_cluster=west") && found.contains("destination_cluster=west"), "{found}");
    let elsewhere = Workload { cluster: "east".into(), ..(*workload("rating", "cargo")).clone() };
    let found = line(&record(Reporter::Source, Some(&Arc::new(elsewhere))), &own);
    assert!(found.contains("source_cluster=west") && found.contains("destination_cluster=east"), "{found}");
}

#[test]
fn what_is_not_known_of_a_peer_says_so() {
    let own = Workload { name: "gw".into(), ..Workload::default() };
    let mut record = record(Reporter::Source, None);
    record.status = 404;
    record.flags = "NR";
    record.labels.service_host = "";
    record.labels.service_name = "";
    record.labels.service_namespace = "";
    assert_eq!(
        line(&record, &own),
        "reporter=source source_workload=gw source_canonical_service=unknown source_canonical_revision=latest \
         source_workload_namespace=unknown source_principal=unknown source_app= source_version= source_cluster=Kubernetes \
         destination_workload=unknown destination_workload_namespace=unknown destination_principal=unknown \
         destination_app=unknown destination_version=unknown destination_service=unknown \
         destination_canonical_service=unknown destination_canonical_revision=latest destination_service_name=unknown \
         destination_service_namespace=unknown destination_cluster=unknown request_protocol=http response_code=404 \
         grpc_response_status= response_flags=NR connection_security_policy=unknown"
    );
}

#[test]
fn a_certificate_proves_the_namespace_of_an_unknown_peer() {
    let own = workload("rating", "cargo");
    let mut record = record(Reporter::Destination, None);
    record.labels.peer_principal = "spiffe://cluster.local/ns/elsewhere/sa/x";
    record.labels.mutual_tls = true;
    assert!(line(&record, &own).contains("source_workload_namespace=elsewhere"));
}

#[test]
fn a_sidecar_without_a_service_reports_its_own_namespace() {
    let own = workload("rating", "cargo");
    let mut record = record(Reporter::Destination, None);
    record.labels.service_namespace = "";
    let line = line(&record, &own);
    assert!(line.contains("destination_service_namespace=cargo"), "{line}");
    assert!(line.contains("connection_security_policy=none"), "{line}");
    assert!(line.contains("destination_principal=unknown"), "{line}");
}

#[test]
fn statuses_from_outside_cannot_make_series() {
    let own = workload("gateway", "istio-system");
    let mut record = record(Reporter::Source, None);
    for (sent, label) in [(0, "0"), (99, "0"), (100, "100"), (599, "599"), (600, "0"), (u16::MAX, "0")] {
        record.status = sent;
        assert!(line(&record, &own).contains(&format!("response_code={label} ")));
    }
    record.labels.grpc = true;
    for (sent, label) in [(Some(0), "0"), (Some(16), "16"), (Some(4711), "2"), (None, "")] {
        record.labels.grpc_status = sent;
        assert!(
            line(&record, &own)
                .contains(&format!("request_protocol=grpc response_code=0 grpc_response_status={label} "))
        );
    }
}

#[test]
fn a_status_of_grpc_is_none_of_plain_http() {
    let mut record = record(Reporter::Source, None);
    record.labels.grpc_status = Some(3);
    assert!(line(&record, &Workload::default()).contains("grpc_response_status= "));
}

#[test]
fn the_authority_is_no_label() {
    assert!(!line(&record(Reporter::Source, None), &Workload::default()).contains("anything.example.com"));
}
