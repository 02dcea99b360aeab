//! Istio `MeshConfig.ExtensionProvider`: services outside of the proxy that it may ask or tell, by name.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

pub use self::telemetry::{
    FileAccessLog, GrpcExport, HttpExport, HttpHeader, LogForm, OpenTelemetry, OtelAccessLog, TraceContext, Zipkin,
};
use super::scalar::{ProtoDuration, non_empty};

mod telemetry;

/// One provider. It has exactly one of the kinds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExtensionProvider {
    /// What policies call it.
    pub name: String,
    /// Is asked about requests over HTTP.
    pub envoy_ext_authz_http: Option<ExtAuthzHttp>,
    /// Is asked about requests and connections by gRPC.
    pub envoy_ext_authz_grpc: Option<ExtAuthzGrpc>,
    /// Traces, as Zipkin takes them.
    pub zipkin: Option<Zipkin>,
    /// Traces.
    pub lightstep: Option<Value>,
    /// Traces.
    pub datadog: Option<Value>,
    /// Traces, metrics and logs.
    pub stackdriver: Option<Value>,
    /// Traces.
    pub opencensus: Option<Value>,
    /// Traces.
    pub skywalking: Option<Value>,
    /// Traces, by OTLP.
    pub opentelemetry: Option<OpenTelemetry>,
    /// Metrics.
    pub prometheus: Option<Value>,
    /// Logs in a file.
    pub envoy_file_access_log: Option<FileAccessLog>,
    /// Logs.
    pub envoy_http_als: Option<Value>,
    /// Logs.
    pub envoy_tcp_als: Option<Value>,
    /// Logs, by OTLP.
    pub envoy_otel_als: Option<OtelAccessLog>,
    /// Certificates.
    pub sds: Option<Value>,
}

impl ExtensionProvider {
    /// The kinds that nothing is given to, of those that it has.
    pub fn unused(&self) -> impl Iterator<Item = &'static str> {
        let kinds = [
            ("lightstep", &self.lightstep),
            ("datadog", &self.datadog),
            ("stackdriver", &self.stackdriver),
            ("opencensus", &self.opencensus),
            ("skywalking", &self.skywalking),
            ("envoyHttpAls", &self.envoy_http_als),
            ("envoyTcpAls", &self.envoy_tcp_als),
            ("sds", &self.sds),
        ];
        kinds.into_iter().filter(|(_, kind)| kind.is_some()).map(|(name, _)| name)
    }

    /// How many kinds it has; one is right.
    pub fn kinds(&self) -> usize {
        let used = [
            self.envoy_ext_authz_http.is_some(),
            self.envoy_ext_authz_grpc.is_some(),
            self.zipkin.is_some(),
            self.opentelemetry.is_some(),
            self.prometheus.is_some(),
            self.envoy_file_access_log.is_some(),
            self.envoy_otel_als.is_some(),
        ];
        self.unused().count() + used.iter().filter(|used| **used).count()
    }

    /// Whether CUSTOM policies may name it.
    pub fn authorizes(&self) -> bool {
        self.envoy_ext_authz_http.is_some() || self.envoy_ext_authz_grpc.is_some()
    }
}

/// Istio `EnvoyExternalAuthorizationHttpProvider`. Lists of headers hold names, `prefix*` and `*suffix`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExtAuthzHttp {
    /// `host` or `namespace/host`.
    pub service: String,
    /// Port of the service.
    pub port: u32,
    /// It has to answer within this time; 10 minutes when unset.
    pub timeout: Option<ProtoDuration>,
    /// Stands before the path that it is asked about.
    #[serde(deserialize_with = "non_empty")]
    pub path_prefix: Option<String>,
    /// Requests go on when it cannot be asked.
    pub fail_open: bool,
    /// The route is chosen by the headers that it sets.
    pub clear_route_cache: bool,
    /// Status for clients when it cannot be asked; 403 when unset.
    #[serde(deserialize_with = "non_empty")]
    pub status_on_error: Option<String>,
    /// The older name of [`Self::include_request_headers_in_check`].
    pub include_headers_in_check: Vec<String>,
    /// Headers of the request that it is shown.
    pub include_request_headers_in_check: Vec<String>,
    /// Headers that it is sent besides.
    pub include_additional_headers_in_check: BTreeMap<String, String>,
    /// It is shown the body, too.
    pub include_request_body_in_check: Option<RequestBody>,
    /// Headers of a yes that go on with the request.
    pub headers_to_upstream_on_allow: Vec<String>,
    /// Headers of a no that go to the client; all when empty.
    pub headers_to_downstream_on_deny: Vec<String>,
    /// Headers of a yes that go to the client with the answer.
    pub headers_to_downstream_on_allow: Vec<String>,
}

/// Istio `EnvoyExternalAuthorizationGrpcProvider`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExtAuthzGrpc {
    /// `host` or `namespace/host`.
    pub service: String,
    /// Port of the service.
    pub port: u32,
    /// It has to answer within this time; 10 minutes when unset.
    pub timeout: Option<ProtoDuration>,
    /// Requests go on when it cannot be asked.
    pub fail_open: bool,
    /// The route is chosen by the headers that it sets.
    pub clear_route_cache: bool,
    /// Status for clients when it cannot be asked; 403 when unset.
    #[serde(deserialize_with = "non_empty")]
    pub status_on_error: Option<String>,
    /// It is shown the body, too.
    pub include_request_body_in_check: Option<RequestBody>,
}

/// Istio `EnvoyExternalAuthorizationRequestBody`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RequestBody {
    /// So much of it.
    pub max_request_bytes: u32,
    /// Larger ones are shown in part; else they are answered with 413.
    pub allow_partial_message: bool,
    /// By gRPC as bytes, not as text.
    pub pack_as_bytes: bool,
}
