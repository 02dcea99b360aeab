//! Spans as Zipkin takes them: version 2 of its JSON.

use std::time::Duration;

use routing::telemetry::context::{b3_digits, span_text, trace_text};
use serde_json::{Map, Value, json};

use super::exports::{Destination, Item, Payload, Span};

/// A batch.
pub(crate) fn body(to: &Destination, batch: &[Item]) -> Vec<u8> {
    let spans = batch.iter().filter_map(|item| match &item.what {
        Payload::Span(span) => Some(one(to, span)),
        Payload::Log(_) => None,
    });
    Value::Array(spans.collect()).to_string().into_bytes()
}

fn one(to: &Destination, span: &Span) -> Value {
    let tags: Map<String, Value> = span.tags.iter().map(|(key, value)| (key.to_string(), json!(value))).collect();
    let mut object = json!({
        "traceId": ascii(b3_digits(&trace_text(span.trace))),
        "id": ascii(&span_text(span.id)),
        "name": span.name,
        "kind": if span.server { "SERVER" } else { "CLIENT" },
        "timestamp": micros(span.start),
        // Zipkin knows no span without a duration.
        "duration": micros(span.duration).max(1),
        "localEndpoint": {"serviceName": &*to.collector.service_name},
        "tags": tags,
    });
    if span.parent != 0 {
        object["parentId"] = json!(ascii(&span_text(span.parent)));
    }
    object
}

fn ascii(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
