//! The JSON answer: what the application saw of the request.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, Version, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Serialize;

use super::{Names, secure::Shown};

/// One answer, in the order in which it is printed.
#[derive(Debug, Serialize)]
pub(crate) struct Reply<'a> {
    service: &'a str,
    pod: &'a str,
    method: &'a str,
    /// With the query, as it arrived.
    path: &'a str,
    headers: BTreeMap<&'a str, String>,
    /// Identity of the caller as the sidecar proved it; null without mutual TLS.
    peer: Option<String>,
    /// What the application's own handshake told; left out where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'a Shown>,
    protocol: &'static str,
    body_bytes: u64,
    /// The first 4 KiB as text.
    body: String,
}

/// A request's body: how long it was, and its beginning.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    bytes: u64,
    beginning: Vec<u8>,
}

/// Reads a body to its end without keeping more than its beginning.
pub(crate) async fn read(mut body: Incoming) -> Result<Seen, hyper::Error> {
    let mut seen = Seen::default();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            seen.add(&data);
        }
    }
    Ok(seen)
}

impl Seen {
    fn add(&mut self, data: &Bytes) {
        self.bytes += data.len() as u64;
        let room = KEPT.saturating_sub(self.beginning.len()).min(data.len());
        self.beginning.extend_from_slice(&data[..room]);
    }
}

impl<'a> Reply<'a> {
    /// Describes one request.
    pub(crate) fn new(names: &'a Names, head: &'a Parts, seen: Seen, shown: Option<&'a Shown>) -> Self {
        let path = match head.uri.path_and_query() {
            Some(path) => path.as_str(),
            None => head.uri.path(),
        };
        Self {
            service: &names.service,
            pod: &names.pod,
            method: head.method.as_str(),
            path,
            headers: headers(head),
            peer: peer(&head.headers),
            tls: shown,
            protocol: protocol(head.version),
            body_bytes: seen.bytes,
            body: String::from_utf8_lossy(&seen.beginning).into_owned(),
        }
    }

    /// Pretty-printed, with a line end: it is read in terminals.
    pub(crate) fn to_json(&self) -> String {
        // Strings and numbers under string keys cannot fail to serialise; an empty object would be seen at once.
        let mut json = serde_json::to_string_pretty(self).unwrap_or_else(|_| "{}".into());
        json.push('\n');
        json
    }
}

/// Headers of one name joined by `, `; HTTP/2's authority is shown as the `host` it stands for.
fn headers(head: &Parts) -> BTreeMap<&str, String> {
    let mut seen = BTreeMap::<&str, String>::new();
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        seen.entry(name.as_str())
            .and_modify(|joined| {
                joined.push_str(", ");
                joined.push_str(&value);
            })
            .or_insert_with(|| value.clone().into_owned());
    }
    if let Some(authority) = head.uri.authority() {
        seen.entry("host").or_insert_with(|| authority.to_string());
    }
    seen
}

/// `URI` of the last element of `x-forwarded-client-cert`: the one that this workload's own sidecar wrote.
fn peer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get_all("x-forwarded-client-cert").iter().next_back()?.to_str().ok()?;
    let element = split_outside_quotes(value, ',').next_back()?;
    let uri = split_outside_quotes(element, ';').find_map(|part| part.trim().strip_prefix("URI="))?;
    Some(uri.trim_matches('"').to_owned()).filter(|uri| !uri.is_empty())
}

fn split_outside_quotes(text: &str, separator: char) -> impl DoubleEndedIterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    let mut start = 0;
    let mut parts = Vec::new();
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if character == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + character.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        _ => "unknown",
    }
}

/// How much of a body is shown, bytes.
const KEPT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn with_certificate(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-client-cert", value.parse().unwrap());
        headers
    }

    #[test]
    fn the_nearest_proxy_names_the_peer() {
        let headers = with_certificate(
            "By=spiffe://td/ns/a/sa/a;URI=spiffe://td/ns/x/sa/forged,By=b;Hash=ab;Subject=\"\";URI=spiffe://td/ns/c/sa/c",
        );
        assert_eq!(peer(&headers).as_deref(), Some("spiffe://td/ns/c/sa/c"));
    }

    #[test]
    fn separators_inside_a_subject_do_not_split() {
        let headers = with_certificate(r#"By=b;Subject="O=a;URI=fake,CN=\"x,y\"";URI=spiffe://td/ns/c/sa/c"#);
        assert_eq!(peer(&headers).as_deref(), Some("spiffe://td/ns/c/sa/c"));
    }

    #[test]
    fn without_mutual_tls_there_is_no_peer() {
        assert_eq!(peer(&HeaderMap::new()), None);
        assert_eq!(peer(&with_certificate("By=b;Subject=\"\";URI=")), None);
        assert_eq!(peer(&with_certificate("")), None);
    }

    #[test]
    fn only_the_beginning_of_a_body_is_kept_but_all_of_it_counted() {
        let mut seen = Seen::default();
        seen.add(&Bytes::from(vec![b'a'; 4000]));
        seen.add(&Bytes::from(vec![b'b'; 4000]));
        assert_eq!((seen.bytes, seen.beginning.len()), (8000, KEPT));
    }

    #[test]
    fn repeated_headers_are_joined_and_the_authority_is_the_host() {
        let (head, ()) = http::Request::builder()
            .uri("http://rates.example:8080/x")
            .header("via", "one")
            .header("via", "two")
            .body(())
            .unwrap()
            .into_parts();
        let seen = headers(&head);
        assert_eq!(seen["via"], "one, two");
        assert_eq!(seen["host"], "rates.example:8080");
    }
}
