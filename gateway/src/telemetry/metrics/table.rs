//! Every metric there is, with its labels and what it says.

use crate::telemetry::{connections, labels::NAMES};

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Definition {
    /// Name, with its unit.
    pub(crate) name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the library knows the types; tests compare them with the table")
    )]
    pub(crate) kind: &'static str,
    /// What it tells.
    pub(crate) help: &'static str,
    /// Label names.
    pub(crate) labels: &'static [&'static str],
}

pub(in crate::telemetry) const fn row(
    name: &'static str,
    kind: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Definition {
    Definition { name, kind, help, labels }
}

pub(super) const REQUESTS: Definition = row("istio_requests_total", "counter", &NAMES, "Finished requests.");
pub(super) const DURATION: Definition =
    row("istio_request_duration_milliseconds", "histogram", &NAMES, "Request head to last byte, milliseconds.");
pub(super) const REQUEST_BYTES: Definition =
    row("istio_request_bytes", "histogram", &NAMES, "Bytes of requests, heads included.");
pub(super) const RESPONSE_BYTES: Definition =
    row("istio_response_bytes", "histogram", &NAMES, "Bytes of answers, heads included.");
pub(super) const REQUEST_MESSAGES: Definition =
    row("istio_request_messages_total", "counter", &NAMES, "gRPC messages from clients.");
pub(super) const RESPONSE_MESSAGES: Definition =
    row("istio_response_messages_total", "counter", &NAMES, "gRPC messages to clients.");
pub(super) const BUILD: Definition =
    row("istio_build", "gauge", &["component", "tag"], "The version that runs; always 1.");
pub(super) const PROBLEMS: Definition =
    row("sluice_config_problems", "gauge", &["severity"], "Problems in the installed configuration.");
pub(super) const GENERATION: Definition =
    row("sluice_snapshot_generation", "gauge", &[], "Number of the installed configuration, counted from 1.");
pub(super) const SNAPSHOT: Definition =
    row("sluice_snapshot_info", "gauge", &["digest"], "What the installed configuration is.");
pub(super) const RELOADS: Definition =
    row("sluice_reloads_total", "counter", &["result"], "Times the configuration was read.");
pub(super) const INSTALLED: Definition = row(
    "sluice_snapshot_installed_timestamp_seconds",
    "gauge",
    &[],
    "When the installed configuration was put in force, seconds since 1970.",
);
pub(super) const RELOADING: Definition = row(
    "sluice_reload_duration_seconds",
    "histogram",
    &[],
    "How long it took to compile a configuration that was read and to put it in force.",
);
pub(super) const CONNECTIONS: Definition =
    row("sluice_downstream_connections_active", "gauge", &[], "Open connections from clients.");
pub(super) const HANDSHAKES: Definition =
    row("sluice_tls_handshakes_total", "counter", &["result"], "TLS handshakes with clients.");
pub(super) const REFUSALS: Definition = row(
    "sluice_tls_handshake_failures_total",
    "counter",
    &["reason"],
    "Handshakes with clients that failed, by reason.",
);
pub(super) const SHED: Definition = row(
    "sluice_shed_total",
    "counter",
    &["limit"],
    "Requests answered with 503, and connections closed unserved, by the limit that was reached.",
);
pub(super) const CERTIFICATES: Definition = row(
    "sluice_certificate_not_after_seconds",
    "gauge",
    &["server", "hosts", "secret"],
    "When a served certificate expires, seconds since 1970.",
);
pub(super) const KEPT: Definition = row(
    "sluice_certificates_kept",
    "gauge",
    &[],
    "Servers whose last good certificate serves because the one asked for cannot.",
);
pub(super) const EXPIRY: Definition = row(
    "sluice_identity_not_after_seconds",
    "gauge",
    &[],
    "When the workload's own certificate ends, seconds since 1970; 0 = there is none.",
);
pub(super) const RENEWAL: Definition = row(
    "sluice_identity_next_renewal_seconds",
    "gauge",
    &[],
    "When the CA is asked for the next one, seconds since 1970; 0 = somebody else renews it.",
);
pub(super) const ATTEMPTS: Definition = row(
    "sluice_identity_attempts_total",
    "counter",
    &["result"],
    "Times that the workload's identity was asked for: given, unreachable, refused, unfit, unprepared.",
);
pub(super) const ORDERS: Definition =
    row("sluice_acme_orders_total", "counter", &["result"], "Tries to get a certificate from a CA.");
pub(super) const FAILING: Definition =
    row("sluice_acme_failing_certificates", "gauge", &[], "Certificates to order or renew whose last try failed.");
pub(super) const KEY_FETCHES: Definition = row(
    "sluice_jwks_fetches_total",
    "counter",
    &["result"],
    "Times that an issuer was asked for the keys of its tokens.",
);
pub(super) const UPSTREAMS: Definition =
    row("sluice_upstream_connections_total", "counter", &["result"], "Connections opened to endpoints.");
pub(super) const EJECTED: Definition = row(
    "envoy_cluster_outlier_detection_ejections_active",
    "gauge",
    &["cluster_name"],
    "Endpoints that are ejected now (outlierDetection).",
);
pub(super) const EJECTIONS: Definition = row(
    "envoy_cluster_outlier_detection_ejections_enforced_total",
    "counter",
    &["cluster_name"],
    "Times that an endpoint was ejected.",
);
pub(super) const SPARED: Definition = row(
    "envoy_cluster_outlier_detection_ejections_overflow",
    "counter",
    &["cluster_name"],
    "Times that an endpoint failed and stayed, because of maxEjectionPercent.",
);
pub(super) const LIMITED: Definition = row(
    "sluice_cluster_limited_active",
    "gauge",
    &["cluster", "limit"],
    "What a connectionPool limits, as much as there is: connections, pending requests, requests.",
);
pub(super) const OVERFLOWS: Definition = row(
    "sluice_cluster_overflow_total",
    "counter",
    &["cluster", "limit"],
    "Requests and connections refused because a limit of a connectionPool was reached.",
);
pub(super) const RATE_LIMITS: Definition = row(
    "sluice_rate_limit_total",
    "counter",
    &["limit", "result"],
    "Requests that a RateLimit looked at: passed, refused, dry_run, crowded (no place for its client), failed.",
);
pub(super) const RETRIES: Definition =
    row("sluice_retries_total", "counter", &["result"], "Retries begun, and what became of those that a route wanted.");
pub(super) const MIRRORS: Definition = row(
    "sluice_mirrored_requests_total",
    "counter",
    &["result"],
    "Copies of requests for mirrors: answered, failed, or dropped and why.",
);
pub(super) const CLAIMS: Definition = row(
    "sluice_peer_metadata_total",
    "counter",
    &["result"],
    "What peers told of their workloads: known, contradicted by its certificate, broken, crowded (its identity has told of too \
     many).",
);
pub(super) const VERDICTS: Definition = row(
    "sluice_authorization_total",
    "counter",
    &["verdict", "policy"],
    "What AuthorizationPolicies said: allowed, denied, audited, dry_run_allowed, dry_run_denied; by the policy that did.",
);
pub(super) const ASKED: Definition = row(
    "sluice_external_authorization_total",
    "counter",
    &["provider", "result"],
    "Times that a provider was asked about a request or a connection, by what came of it.",
);
pub(super) const ASKING: Definition = row(
    "sluice_external_authorization_duration_milliseconds",
    "histogram",
    &["provider"],
    "How long a provider took to say something.",
);
pub(super) const DROPPED: Definition = row(
    "sluice_access_log_dropped_total",
    "counter",
    &[],
    "Access log lines lost because stdout was not read in time, or because a file could not be written.",
);
pub(super) const SERIES: Definition =
    row("sluice_metrics_series", "gauge", &[], "Label sets of Istio's metrics that are kept.");
pub(super) const SERIES_DROPPED: Definition = row(
    "sluice_metrics_series_dropped_total",
    "counter",
    &[],
    "Times that a label set of Istio's metrics found no room; what it counts is counted together with others.",
);
pub(super) const CPU: Definition = row("process_cpu_seconds_total", "counter", &[], "User and system time.");
pub(super) const MEMORY: Definition = row("process_resident_memory_bytes", "gauge", &[], "Resident memory.");
pub(super) const EXPORTS: Definition = row(
    "sluice_exports_total",
    "counter",
    &["provider", "signal", "result"],
    "Spans and access log records for collectors, by what came of them.",
);
pub(super) const STARTED: Definition = row("process_start_time_seconds", "gauge", &[], "Start, seconds since 1970.");
pub(super) const FILES: Definition = row("process_open_fds", "gauge", &[], "Open file descriptors.");
pub(super) const THREADS: Definition = row("process_threads", "gauge", &[], "Threads.");

/// Every metric, in the order of the documentation.
pub(crate) const TABLE: [Definition; 51] = [
    REQUESTS,
    DURATION,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    REQUEST_MESSAGES,
    RESPONSE_MESSAGES,
    connections::OPENED,
    connections::CLOSED,
    connections::SENT,
    connections::RECEIVED,
    BUILD,
    PROBLEMS,
    GENERATION,
    SNAPSHOT,
    INSTALLED,
    RELOADS,
    RELOADING,
    CONNECTIONS,
    HANDSHAKES,
    REFUSALS,
    SHED,
    CERTIFICATES,
    KEPT,
    EXPIRY,
    RENEWAL,
    ATTEMPTS,
    ORDERS,
    FAILING,
    KEY_FETCHES,
    UPSTREAMS,
    EJECTED,
    EJECTIONS,
    SPARED,
    LIMITED,
    OVERFLOWS,
    RATE_LIMITS,
    RETRIES,
    MIRRORS,
    CLAIMS,
    VERDICTS,
    ASKED,
    ASKING,
    DROPPED,
    EXPORTS,
    SERIES,
    SERIES_DROPPED,
    CPU,
    MEMORY,
    STARTED,
    FILES,
    THREADS,
];
