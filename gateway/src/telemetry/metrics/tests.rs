use std::time::Duration;

use super::*;
use crate::telemetry::{
    record::Reporter,
    standard::{OF_CONNECTIONS, OF_REQUESTS, Sample, Wish},
};

/// A request and a gRPC message of it, and a connection.
fn count_some(metrics: &Metrics) {
    let sample = Sample { request_messages: 1, response_messages: 1, ..Sample::default() };
    let of = |which| {
        let wish = Wish { plan: 0, side: Reporter::Source, which, wanted: which, labels: "a=\"b\"", host: "" };
        metrics.standard.series(&wish, String::new).unwrap()
    };
    of(OF_REQUESTS).request(&sample);
    of(OF_CONNECTIONS);
}

fn certificate(secret: &str) -> CertificateValue<'_> {
    CertificateValue { server: "istio-system/edge/https", hosts: &[], secret, not_after: 1_900_000_000, kept: false }
}

#[test]
fn every_metric_of_the_table_is_rendered_once_it_has_a_value() {
    let metrics = Metrics::new();
    metrics.set_ejected([("outbound|80||gone".into(), 2)]);
    metrics.set_ejected([("outbound|80||a".into(), 1)]);
    metrics.ejection("outbound|80||a", true);
    metrics.ejection("outbound|80||a", false);
    count_some(&metrics);
    metrics.set_problems(&[("error", 2)]);
    metrics.set_snapshot(3, 0xabc);
    metrics.reload(Reload::Installed, Duration::from_millis(20));
    let hosts: Vec<String> = (1..=7).map(|number| format!("{number}.example.com")).collect();
    metrics.set_certificates([CertificateValue { hosts: &hosts, kept: true, ..certificate("istio-system/cert") }]);
    metrics.handshake(Handshake::Refused);
    metrics.handshake_failed("UnrecognizedName");
    metrics.shed("memory");
    metrics.connect(Connect::TlsFailed);
    // Twice: the port is for requests and for bytes.
    metrics.set_limits([("outbound|80||a".into(), "pending", 3, 7), ("outbound|80||a".into(), "pending", 3, 7)]);
    metrics.set_rate_limits([("shop/limit/0".into(), "passed", 2)]);
    metrics.exporting().of("otel", "traces").add(exports::Result::Sent, 1);
    metrics.set_identity(1_900_000_000, Some(1_800_000_000));
    metrics.identity_attempt(Attempt::Refused);
    metrics.asked("auth", crate::telemetry::outcomes::Asked::Allowed, Duration::from_millis(7));
    let text = metrics.render(Format::Text);
    for row in TABLE {
        assert!(
            text.contains(&format!("# HELP {} {}\n# TYPE {} {}\n", row.name, row.help, row.name, row.kind)),
            "{}",
            row.name
        );
    }
    assert_eq!(text.matches("# TYPE ").count(), TABLE.len());
    assert!(!text.contains("outbound|80||gone"));
    for line in [
        "sluice_config_problems{severity=\"error\"} 2",
        "sluice_snapshot_generation 3",
        "sluice_exports_total{provider=\"otel\",signal=\"traces\",result=\"sent\"} 1",
        "sluice_snapshot_info{digest=\"0000000000000abc\"} 1",
        "sluice_reloads_total{result=\"installed\"} 1",
        "sluice_reload_duration_seconds_bucket{le=\"0.025\"} 1",
        concat!(
            "sluice_certificate_not_after_seconds{server=\"istio-system/edge/https\",hosts=\"1.example.com,2.example.com,",
            "3.example.com,4.example.com,5.example.com,+2\",secret=\"istio-system/cert\"} 1900000000"
        ),
        "sluice_certificates_kept 1",
        "sluice_identity_not_after_seconds 1900000000",
        "sluice_identity_next_renewal_seconds 1800000000",
        "sluice_identity_attempts_total{result=\"refused\"} 1",
        "sluice_tls_handshakes_total{result=\"refused\"} 1",
        "sluice_tls_handshake_failures_total{reason=\"UnrecognizedName\"} 1",
        "sluice_upstream_connections_total{result=\"tls_failed\"} 1",
        "sluice_cluster_limited_active{cluster=\"outbound|80||a\",limit=\"pending\"} 3",
        "sluice_cluster_overflow_total{cluster=\"outbound|80||a\",limit=\"pending\"} 7",
        concat!("istio_build{component=\"proxy\",tag=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
}

#[test]
fn the_readme_names_every_metric_and_no_other() {
    let readme = include_str!("../../../../README.md");
    let (_, section) = readme.split_once("\n## Metrics\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let names: Vec<&str> = rows.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`')).collect();
    let table: Vec<&str> = TABLE.iter().map(|row| row.name).collect();
    assert_eq!(names, table);
}

#[test]
fn old_snapshots_and_certificates_are_not_told_any_more() {
    let metrics = Metrics::new();
    metrics.set_snapshot(1, 1);
    metrics.set_certificates([certificate("a")]);
    metrics.set_snapshot(2, 2);
    metrics.set_certificates([certificate("b")]);
    let text = metrics.render(Format::Text);
    assert_eq!(text.matches("sluice_snapshot_info{").count(), 1);
    assert!(!text.contains("secret=\"a\"") && text.contains("secret=\"b\""));
}

#[test]
fn a_connection_is_active_until_it_is_dropped() {
    let metrics = Metrics::new();
    let connections = (metrics.connection(), metrics.connection());
    assert!(metrics.render(Format::Text).contains("sluice_downstream_connections_active 2\n"));
    drop(connections);
    assert!(metrics.render(Format::Text).contains("sluice_downstream_connections_active 0\n"));
}
