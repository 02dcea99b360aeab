//! OTLP's messages (opentelemetry-proto 1), as far as they are sent: written by hand with their public field numbers.

use std::sync::Arc;

use prost::{Message, Oneof};

use super::exports::{Destination, Item, LogRecord, Payload, Span};

/// Where spans go by gRPC.
pub(crate) const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// Where records of logs go.
pub(crate) const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// Who measures, in OTLP's words.
const SCOPE: &str = "sluice";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TracesRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) resources: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub(crate) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) scopes: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub(crate) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) spans: Vec<SpanMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LogsRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) resources: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    pub(crate) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) scopes: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScopeLogs {
    #[prost(message, optional, tag = "1")]
    pub(crate) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) records: Vec<LogMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(crate) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Scope {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnyValue {
    #[prost(oneof = "AnyKind", tags = "1")]
    pub(crate) kind: Option<AnyKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum AnyKind {
    #[prost(string, tag = "1")]
    Text(String),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SpanMessage {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(crate) name: String,
    #[prost(int32, tag = "6")]
    pub(crate) kind: i32,
    #[prost(fixed64, tag = "7")]
    pub(crate) start: u64,
    #[prost(fixed64, tag = "8")]
    pub(crate) end: u64,
    #[prost(message, repeated, tag = "9")]
    pub(crate) attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    pub(crate) status: Option<SpanStatus>,
    #[prost(fixed32, tag = "16")]
    pub(crate) flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SpanStatus {
    #[prost(int32, tag = "3")]
    pub(crate) code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LogMessage {
    #[prost(fixed64, tag = "1")]
    pub(crate) time: u64,
    #[prost(message, optional, tag = "5")]
    pub(crate) body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) attributes: Vec<KeyValue>,
    #[prost(fixed32, tag = "8")]
    pub(crate) flags: u32,
    #[prost(bytes = "vec", tag = "9")]
    pub(crate) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "10")]
    pub(crate) span_id: Vec<u8>,
    #[prost(fixed64, tag = "11")]
    pub(crate) observed: u64,
}

/// The answer to both.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) partial: Option<Partial>,
}

/// What was not taken.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Partial {
    #[prost(int64, tag = "1")]
    pub(crate) rejected: i64,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

/// OTLP's kinds of spans.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
/// OTLP's status of what went wrong.
const ERROR: i32 = 2;
/// W3C's flag of what is traced.
const SAMPLED: u32 = 1;

/// A batch of spans.
pub(crate) fn traces(to: &Destination, batch: &[Item]) -> TracesRequest {
    let spans = batch.iter().filter_map(|item| match &item.what {
        Payload::Span(span) => Some(message(span)),
        Payload::Log(_) => None,
    });
    let scopes = vec![ScopeSpans { scope: Some(scope()), spans: spans.collect() }];
    TracesRequest { resources: vec![ResourceSpans { resource: Some(resource(to)), scopes }] }
}

/// A batch of records.
pub(crate) fn logs(to: &Destination, batch: &[Item]) -> LogsRequest {
    let records = batch.iter().filter_map(|item| match &item.what {
        Payload::Log(log) => Some(record(log)),
        Payload::Span(_) => None,
    });
    let scopes = vec![ScopeLogs { scope: Some(scope()), records: records.collect() }];
    LogsRequest { resources: vec![ResourceLogs { resource: Some(resource(to)), scopes }] }
}

fn message(span: &Span) -> SpanMessage {
    SpanMessage {
        trace_id: span.trace.to_be_bytes().to_vec(),
        span_id: span.id.to_be_bytes().to_vec(),
        parent_span_id: if span.parent == 0 { Vec::new() } else { span.parent.to_be_bytes().to_vec() },
        name: span.name.clone(),
        kind: if span.server { SERVER } else { CLIENT },
        start: nanos(span.start),
        end: nanos(span.start + span.duration),
        attributes: pairs(&span.tags),
        status: span.error.then_some(SpanStatus { code: ERROR }),
        flags: SAMPLED,
    }
}

fn record(log: &LogRecord) -> LogMessage {
    LogMessage {
        time: nanos(log.time),
        observed: nanos(log.time),
        body: Some(text(log.body.clone())),
        attributes: pairs(&log.attributes),
        flags: u32::from(log.trace.is_some()),
        trace_id: log.trace.map(|(trace, _)| trace.to_be_bytes().to_vec()).unwrap_or_default(),
        span_id: log.trace.map(|(_, span)| span.to_be_bytes().to_vec()).unwrap_or_default(),
    }
}

fn resource(to: &Destination) -> Resource {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let mut attributes = vec![
        pair("service.name", to.collector.service_name.to_string()),
        pair("telemetry.sdk.language", "rust".to_owned()),
        pair("telemetry.sdk.name", SCOPE.to_owned()),
        pair("telemetry.sdk.version", version),
    ];
    if !to.log.is_empty() {
        attributes.push(pair("log_name", to.log.to_string()));
        attributes.push(pair("node_name", to.node.to_string()));
    }
    if to.collector.environment {
        attributes.extend(said_by_the_environment());
    }
    Resource { attributes }
}

/// `OTEL_RESOURCE_ATTRIBUTES`: `key=value,key=value`.
fn said_by_the_environment() -> Vec<KeyValue> {
    let said = std::env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    said.split(',')
        .filter_map(|one| one.split_once('='))
        .map(|(key, value)| pair(key.trim(), value.trim().to_owned()))
        .collect()
}

fn scope() -> Scope {
    Scope { name: SCOPE.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

fn pairs(all: &[(Arc<str>, String)]) -> Vec<KeyValue> {
    all.iter().map(|(key, value)| pair(key, value.clone())).collect()
}

fn pair(key: &str, value: String) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(text(value)) }
}

fn text(text: String) -> AnyValue {
    AnyValue { kind: Some(AnyKind::Text(text)) }
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
