//! Spans as Zipkin takes them: version 2 of its JSON.

use std::time::Duration;

use routing::telemetry::context::{span_text, trace_text};
use serde_json::{Map, Value, json};

use super::exports::{Destination, Item, Payload, Span};

/// A batch; `short`: trace ids have 64 bits.
pub(crate) fn body(to: &Destination, batch: &[Item], short: bool) -> Vec<u8> {
    let spans = batch.iter().filter_map(|item| match &item.what {
        Payload::Span(span) => Some(one(to, span, short)),
        Payload::Log(_) => None,
    });
    Value::Array(spans.collect()).to_string().into_bytes()
}

fn one(to: &Destination, span: &Span, short: bool) -> Value {
    let trace = ascii(&trace_text(span.trace));
    let tags: Map<String, Value> = span.tags.iter().map(|(key, value)| (key.to_string(), json!(value))).collect();
    let mut object = json!({
        "traceId": if short { &trace[16..] } else { &trace[..] },
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
