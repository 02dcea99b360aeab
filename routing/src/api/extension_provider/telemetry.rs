//! Providers that are told of requests: traces and access logs.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::api::scalar::{ProtoDuration, non_empty};

/// Istio `OpenTelemetryTracingProvider`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OpenTelemetry {
    /// `host` or `namespace/host`.
    pub service: String,
    /// Port of the service.
    pub port: u32,
    /// Longest path in a tag; 256 when unset.
    pub max_tag_length: Option<u32>,
    /// Spans go by HTTP and not by gRPC.
    pub http: Option<HttpExport>,
    /// How gRPC is spoken.
    pub grpc: Option<GrpcExport>,
    /// What tells of the proxy besides.
    pub resource_detectors: Option<BTreeMap<String, Value>>,
    /// A sampler of Dynatrace's.
    pub dynatrace_sampler: Option<Value>,
}

/// Istio `HttpService`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpExport {
    /// Path, as `/v1/traces`.
    pub path: String,
    /// It has to answer within this time; 3 s when unset.
    pub timeout: Option<ProtoDuration>,
    /// Headers that it is sent.
    pub headers: Vec<HttpHeader>,
}

/// Istio `GrpcService`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GrpcExport {
    /// It has to answer within this time; 3 s when unset.
    pub timeout: Option<ProtoDuration>,
    /// Headers that it is sent.
    pub initial_metadata: Vec<HttpHeader>,
}

/// Istio `HttpHeader`: exactly one of the values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
    /// The variable of the proxy's environment that holds it.
    pub env_name: Option<String>,
}

/// Istio `ZipkinTracingProvider`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Zipkin {
    /// `host` or `namespace/host`.
    pub service: String,
    /// Port of the service.
    pub port: u32,
    /// Longest path in a tag; 256 when unset.
    pub max_tag_length: Option<u32>,
    /// Trace ids have 64 bits.
    pub enable_64bit_trace_id: bool,
    /// Path; `/api/v2/spans` when unset.
    #[serde(deserialize_with = "non_empty")]
    pub path: Option<String>,
    /// Headers by which a trace is passed on.
    pub trace_context_option: TraceContext,
    /// It has to answer within this time; 5 s when unset.
    pub timeout: Option<ProtoDuration>,
    /// Headers that it is sent.
    pub headers: Vec<HttpHeader>,
}

/// Istio `ZipkinTracingProvider.TraceContextOption`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TraceContext {
    /// B3 alone.
    #[default]
    UseB3,
    /// B3 and W3C's.
    UseB3WithW3cPropagation,
}

/// Istio `EnvoyFileAccessLogProvider`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FileAccessLog {
    /// Path; `/dev/stdout` when unset.
    #[serde(deserialize_with = "non_empty")]
    pub path: Option<String>,
    /// Its lines; the mesh's when unset.
    pub log_format: Option<LogForm>,
    /// Headers that are left out of a format that does not name them.
    pub omit_empty_values: Option<bool>,
}

/// Istio `EnvoyFileAccessLogProvider.LogFormat`: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LogForm {
    /// A text of commands.
    #[serde(deserialize_with = "non_empty")]
    pub text: Option<String>,
    /// An object of commands.
    pub labels: Option<Value>,
}

/// Istio `EnvoyOpenTelemetryLogProvider`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OtelAccessLog {
    /// `host` or `namespace/host`.
    pub service: String,
    /// Port of the service.
    pub port: u32,
    /// Name of the log; `otel_envoy_accesslog` when unset.
    #[serde(deserialize_with = "non_empty")]
    pub log_name: Option<String>,
    /// Body and attributes of a record.
    pub log_format: Option<LogForm>,
}
