//! The two formats (Istio `accessLogEncoding` TEXT and JSON, default fields).

use std::{io::Write as _, net::SocketAddr, time::UNIX_EPOCH};

use routing::log_format::{self, LogFormat};

use super::text::{Escape, address, escaped, number};
use crate::telemetry::record::Record;

/// Lines being gathered, and the second that was formatted last.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Whole lines.
    pub(crate) bytes: Vec<u8>,
    second: Option<u64>,
    /// `2026-01-31T12:00:00.` of that second.
    stamp: Vec<u8>,
    /// Where values are put together.
    room: Vec<u8>,
}

/// Values as they stand in lines that the mesh configuration describes.
struct Escaped;

impl log_format::Escape for Escaped {
    fn text(value: &[u8], out: &mut Vec<u8>) {
        escaped(out, value, Escape::Quoted);
    }

    fn json(value: &[u8], out: &mut Vec<u8>) {
        escaped(out, String::from_utf8_lossy(value).as_bytes(), Escape::Json);
    }
}

impl Line {
    /// Appends Istio's default text line:
    /// `[START_TIME] "METHOD PATH PROTOCOL" CODE FLAGS DETAILS TERMINATION "TRANSPORT_FAILURE" RECEIVED SENT DURATION
    /// SERVICE_TIME "XFF" "AGENT" "REQUEST_ID" "AUTHORITY" "UPSTREAM_HOST" CLUSTER UPSTREAM_LOCAL DOWNSTREAM_LOCAL
    /// DOWNSTREAM_REMOTE SNI ROUTE`.
    pub(crate) fn text(&mut self, record: &Record<'_>) {
        self.bytes.push(b'[');
        self.time(record);
        let out = &mut self.bytes;
        out.extend_from_slice(b"] \"");
        escaped(out, or_dash(said(record.asked.method)).as_bytes(), Escape::Quoted);
        out.push(b' ');
        escaped(out, or_dash(said(record.asked.path)).as_bytes(), Escape::Quoted);
        out.push(b' ');
        escaped(out, or_dash(record.protocol).as_bytes(), Escape::Quoted);
        out.extend_from_slice(b"\" ");
        number(out, u64::from(record.status));
        bare(out, record.flags);
        bare(out, record.details);
        bare(out, ""); // CONNECTION_TERMINATION_DETAILS: nothing terminates a connection without a response here
        quoted(out, record.transport_failure);
        for count in [record.bytes_received, record.bytes_sent, milliseconds(record)] {
            out.push(b' ');
            number(out, count);
        }
        out.push(b' ');
        match record.upstream_service_time {
            Some(time) => number(out, time),
            None => out.push(b'-'),
        }
        let asked = &record.asked;
        for header in [asked.x_forwarded_for, asked.user_agent, asked.request_id, asked.authority] {
            quoted(out, said(header));
        }
        out.extend_from_slice(b" \"");
        address_or_dash(out, record.upstream_host);
        out.push(b'"');
        bare(out, record.upstream_cluster);
        for place in [record.upstream_local, record.downstream_local, record.downstream_remote] {
            out.push(b' ');
            address_or_dash(out, place);
        }
        bare(out, record.sni);
        bare(out, record.route);
        out.push(b'\n');
    }

    /// Appends a line that holds what somebody says.
    pub(crate) fn own(&mut self, format: &LogFormat, record: &Record<'_>) {
        format.write::<Escaped>(record.told.0, &mut self.room, &mut self.bytes);
    }

    /// Appends one JSON object with Istio's keys; what is absent is null. `upstream_service_time` is a string, because it
    /// is a header to Envoy.
    pub(crate) fn json(&mut self, record: &Record<'_>) {
        self.bytes.extend_from_slice(b"{\"start_time\":\"");
        self.time(record);
        let out = &mut self.bytes;
        out.push(b'"');
        json_text(out, "route_name", record.route);
        json_text(out, "method", said(record.asked.method));
        json_text(out, "path", said(record.asked.path));
        json_text(out, "protocol", record.protocol);
        json_number(out, "response_code", u64::from(record.status));
        json_text(out, "response_flags", record.flags);
        json_key(out, "response_code_details");
        if record.details.is_empty() {
            out.extend_from_slice(b"null");
        } else {
            out.push(b'"');
            // Envoy's details have no spaces in this format either.
            record.details.split(' ').enumerate().for_each(|(index, part)| {
                if index > 0 {
                    out.push(b'_');
                }
                escaped(out, part.as_bytes(), Escape::Json);
            });
            out.push(b'"');
        }
        json_text(out, "connection_termination_details", "");
        json_number(out, "bytes_received", record.bytes_received);
        json_number(out, "bytes_sent", record.bytes_sent);
        json_number(out, "duration", milliseconds(record));
        json_key(out, "upstream_service_time");
        match record.upstream_service_time {
            Some(time) => {
                out.push(b'"');
                number(out, time);
                out.push(b'"');
            }
            None => out.extend_from_slice(b"null"),
        }
        json_text(out, "x_forwarded_for", said(record.asked.x_forwarded_for));
        json_text(out, "user_agent", said(record.asked.user_agent));
        json_text(out, "request_id", said(record.asked.request_id));
        json_text(out, "authority", said(record.asked.authority));
        json_address(out, "upstream_host", record.upstream_host);
        json_text(out, "upstream_cluster", record.upstream_cluster);
        json_address(out, "upstream_local_address", record.upstream_local);
        json_address(out, "downstream_local_address", record.downstream_local);
        json_address(out, "downstream_remote_address", record.downstream_remote);
        json_text(out, "requested_server_name", record.sni);
        json_text(out, "upstream_transport_failure_reason", record.transport_failure);
        out.extend_from_slice(b"}\n");
    }

    /// Appends the start, ISO 8601 in UTC with milliseconds. The date is formatted once a second.
    fn time(&mut self, record: &Record<'_>) {
        let since = record.start.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            self.stamp.clear();
            let second = i64::try_from(since.as_secs()).ok().and_then(|it| jiff::Timestamp::from_second(it).ok());
            let second = second.unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            // Writing into a Vec cannot fail.
            let _ = write!(self.stamp, "{}", second.strftime("%Y-%m-%dT%H:%M:%S."));
        }
        self.bytes.extend_from_slice(&self.stamp);
        let milliseconds = since.subsec_millis();
        for divisor in [100, 10, 1] {
            self.bytes.push(b'0' + (milliseconds / divisor % 10) as u8);
        }
        self.bytes.push(b'Z');
    }
}

fn milliseconds(record: &Record<'_>) -> u64 {
    u64::try_from(record.duration.as_millis()).unwrap_or(u64::MAX)
}

/// What is not UTF-8 is no value.
fn said(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn address_or_dash(out: &mut Vec<u8>, place: Option<SocketAddr>) {
    match place {
        Some(place) => address(out, place),
        None => out.push(b'-'),
    }
}

fn bare(out: &mut Vec<u8>, text: &str) {
    out.push(b' ');
    escaped(out, or_dash(text).as_bytes(), Escape::Bare);
}

fn quoted(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b" \"");
    escaped(out, or_dash(text).as_bytes(), Escape::Quoted);
    out.push(b'"');
}

fn json_key(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn json_text(out: &mut Vec<u8>, key: &str, text: &str) {
    json_key(out, key);
    if text.is_empty() {
        out.extend_from_slice(b"null");
        return;
    }
    out.push(b'"');
    escaped(out, text.as_bytes(), Escape::Json);
    out.push(b'"');
}

fn json_number(out: &mut Vec<u8>, key: &str, value: u64) {
    json_key(out, key);
    number(out, value);
}

fn json_address(out: &mut Vec<u8>, key: &str, place: Option<SocketAddr>) {
    json_key(out, key);
    match place {
        Some(place) => {
            out.push(b'"');
            address(out, place);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}
