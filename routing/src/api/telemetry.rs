//! Istio `Telemetry` (telemetry.istio.io).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    destination_rule::LabelSelector,
    scalar::{ProtoDuration, non_empty},
    target_reference::TargetReference,
};

/// Istio `Telemetry`: what of requests and connections is counted, traced and logged, and who is told.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Telemetry {
    /// The workloads; the whole namespace when unset, the whole mesh in the root namespace.
    pub selector: Option<LabelSelector>,
    /// What it is attached to, instead of a selector; `targetRefs` replaces it.
    pub target_ref: Option<TargetReference>,
    /// What it is attached to, instead of a selector.
    pub target_refs: Vec<TargetReference>,
    /// Traces; of several entries the first counts.
    pub tracing: Vec<Tracing>,
    /// Metrics.
    pub metrics: Vec<Metrics>,
    /// Access logs.
    pub access_logging: Vec<AccessLogging>,
}

impl Telemetry {
    /// What it is attached to.
    pub fn targets(&self) -> impl Iterator<Item = &TargetReference> {
        self.target_ref.iter().chain(&self.target_refs)
    }

    /// Whether it is for all workloads of its namespace.
    pub fn is_wide(&self) -> bool {
        let selects = self.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
        !selects && self.targets().next().is_none()
    }
}

/// Istio `WorkloadMode`: which side of a request a proxy is on; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkloadMode {
    /// Both.
    #[default]
    ClientAndServer,
    /// Where requests leave a workload; gateways are always on this side.
    Client,
    /// Where requests arrive at a workload.
    Server,
}

impl WorkloadMode {
    /// Whether what is said for this mode is for one of the two sides.
    pub fn covers(self, side: Self) -> bool {
        self == Self::ClientAndServer || self == side
    }
}

/// Istio `ProviderRef`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ProviderRef {
    /// Name of an extension provider of the mesh configuration. Required.
    #[schemars(extend("x-required" = true))]
    pub name: String,
}

/// Istio `Tracing`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Tracing {
    /// The side that it is for.
    #[serde(rename = "match")]
    pub matches: Option<TracingSelector>,
    /// Who gets the spans; the mesh's default when empty. One counts.
    pub providers: Vec<ProviderRef>,
    /// How many of a hundred requests are traced whose sender has not decided it; 0 to 100.
    pub random_sampling_percentage: Option<f64>,
    /// Spans are passed on by headers and reported to nobody.
    pub disable_span_reporting: Option<bool>,
    /// Tags besides the usual ones, by name.
    pub custom_tags: BTreeMap<String, CustomTag>,
    /// Whether `x-request-id` says what is traced; true when unset.
    pub use_request_id_for_trace_sampling: Option<bool>,
    /// Whether the tags `istio.*` are there; true when unset.
    pub enable_istio_tags: Option<bool>,
    /// Requests go on without headers of the trace.
    pub disable_context_propagation: Option<bool>,
}

/// Istio `Tracing.TracingSelector`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TracingSelector {
    /// The side.
    pub mode: WorkloadMode,
}

/// Istio `Tracing.CustomTag`: exactly one of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct CustomTag {
    /// Always the same.
    pub literal: Option<LiteralTag>,
    /// Of the proxy's environment.
    pub environment: Option<NamedTag>,
    /// A header of the request.
    pub header: Option<NamedTag>,
    /// A format of the access log.
    pub formatter: Option<LiteralTag>,
}

/// Istio `Tracing.Literal` and `Tracing.Formatter`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct LiteralTag {
    /// The text. Required.
    #[schemars(extend("x-required" = true))]
    pub value: String,
}

/// Istio `Tracing.Environment` and `Tracing.RequestHeader`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct NamedTag {
    /// Name of the variable or header. Required.
    #[schemars(extend("x-required" = true))]
    pub name: String,
    /// The tag's value where there is none.
    pub default_value: String,
}

/// Istio `Metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Metrics {
    /// Who gets them; what the wider level says, or the mesh's default, when empty.
    pub providers: Vec<ProviderRef>,
    /// What is otherwise than usual, in this order.
    pub overrides: Vec<MetricsOverrides>,
    /// How often connections that last, and streams of messages, are told of; 5 s when unset.
    pub reporting_interval: Option<ProtoDuration>,
}

/// Istio `MetricsOverrides`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MetricsOverrides {
    /// The metrics and the side; all on both when unset.
    #[serde(rename = "match")]
    pub matches: Option<MetricSelector>,
    /// Whether they are not counted.
    pub disabled: Option<bool>,
    /// Labels that are otherwise than usual, by name.
    pub tag_overrides: BTreeMap<String, TagOverride>,
}

/// Istio `MetricSelector`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MetricSelector {
    /// One of Istio's metrics.
    pub metric: Option<IstioMetric>,
    /// A metric by its own name.
    #[serde(deserialize_with = "non_empty")]
    pub custom_metric: Option<String>,
    /// The side.
    pub mode: WorkloadMode,
}

/// Istio `MetricSelector.IstioMetric`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IstioMetric {
    /// All of them.
    #[default]
    AllMetrics,
    /// `istio_requests_total`.
    RequestCount,
    /// `istio_request_duration_milliseconds`.
    RequestDuration,
    /// `istio_request_bytes`.
    RequestSize,
    /// `istio_response_bytes`.
    ResponseSize,
    /// `istio_tcp_connections_opened_total`.
    TcpOpenedConnections,
    /// `istio_tcp_connections_closed_total`.
    TcpClosedConnections,
    /// `istio_tcp_sent_bytes_total`.
    TcpSentBytes,
    /// `istio_tcp_received_bytes_total`.
    TcpReceivedBytes,
    /// `istio_request_messages_total`.
    GrpcRequestMessages,
    /// `istio_response_messages_total`.
    GrpcResponseMessages,
}

/// Istio `MetricsOverrides.TagOverride`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TagOverride {
    /// What becomes of the label.
    pub operation: TagOperation,
    /// The CEL expression whose value it gets.
    pub value: String,
}

/// Istio `MetricsOverrides.TagOverride.Operation`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TagOperation {
    /// It is added, or gets another value.
    #[default]
    Upsert,
    /// It is left out.
    Remove,
}

/// Istio `AccessLogging`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct AccessLogging {
    /// The side that it is for.
    #[serde(rename = "match")]
    pub matches: Option<LogSelector>,
    /// Who gets the lines; the mesh's default when empty.
    pub providers: Vec<ProviderRef>,
    /// Whether there is no line.
    pub disabled: Option<bool>,
    /// Which requests and connections have one.
    pub filter: Option<LogFilter>,
}

/// Istio `AccessLogging.LogSelector`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct LogSelector {
    /// The side.
    pub mode: WorkloadMode,
}

/// Istio `AccessLogging.Filter`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct LogFilter {
    /// A CEL expression that is true for them.
    pub expression: String,
}
