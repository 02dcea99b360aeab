use std::{borrow::Cow, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    pattern::HeaderField,
    template::{Fact, ResponseField, Validity},
};

/// `GET /shop/a?b=1` of `shop.example.com` with `x-user: mary`, answered with 503 and `UF,URX` after 20 ms.
struct Known;

impl Values for Known {
    fn request(&self, field: &HeaderField) -> Option<Cow<'_, [u8]>> {
        let value: &[u8] = match field {
            HeaderField::Method => b"GET",
            HeaderField::Path => b"/shop/a?b=1",
            HeaderField::Authority => b"shop.example.com",
            HeaderField::Name(name) if name == "x-user" => b"mary",
            HeaderField::Name(name) if name == "x-bytes" => b"a\xffb",
            _ => return None,
        };
        Some(Cow::Borrowed(value))
    }

    fn response(&self, field: &ResponseField) -> Option<Cow<'_, [u8]>> {
        (*field == ResponseField::Status).then_some(Cow::Borrowed(b"503"))
    }

    fn fact(&self, fact: Fact, out: &mut Vec<u8>) {
        let value: &[u8] = match fact {
            Fact::ResponseCode => b"503",
            Fact::ResponseFlags => b"UF,URX",
            Fact::Duration => b"20",
            Fact::BytesReceived => b"7",
            Fact::RequestHeadersBytes => b"100",
            Fact::DownstreamLocalPort => b"8443",
            Fact::DownstreamPeerFingerprint256 => b"aa",
            Fact::RequestedServerName => b"shop.example.com",
            Fact::DownstreamPeerUriSan => b"spiffe://one,spiffe://two",
            _ => b"",
        };
        out.extend_from_slice(value);
    }

    fn trailer(&self, name: &http::HeaderName) -> Option<Cow<'_, [u8]>> {
        (name == "grpc-message").then_some(Cow::Borrowed(b"gone"))
    }

    fn environment(&self, _: &str) -> Option<String> {
        None
    }

    fn start(&self) -> Duration {
        Duration::from_millis(1_500)
    }

    fn certificate(&self, _: Validity) -> Option<i64> {
        None
    }

    fn peer(&self, side: Side, field: PeerField) -> Option<Cow<'_, str>> {
        match (side, field) {
            (Side::Upstream, PeerField::Workload) => Some("cart-v1".into()),
            (Side::Upstream, PeerField::App) => Some("cart".into()),
            (Side::Own, PeerField::Namespace) => Some("shop".into()),
            (Side::Own, PeerField::Node) => Some("sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local".into()),
            _ => None,
        }
    }
}

fn written(text: &str) -> String {
    let mut out = Vec::new();
    let expression = Expression::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    if expression.write(&Known, &mut out) { String::from_utf8(out).unwrap() } else { "unknown".to_owned() }
}

#[test]
fn expressions_are_evaluated() {
    let table = [
        ("response.code >= 400", "true"),
        ("connection.uri_san_peer_certificate", "spiffe://one"),
        ("connection.dns_san_peer_certificate", "unknown"),
        ("node.id", "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local"),
        ("response.code == 503 && request.method == 'GET'", "true"),
        ("response.code / 100", "5"),
        ("string(response.code) + '/' + request.host", "503/shop.example.com"),
        ("request.url_path + '|' + request.query", "/shop/a|b=1"),
        ("request.headers['x-user']", "mary"),
        ("request.headers['X-User']", "mary"),
        ("request.headers.cookie", "unknown"),
        ("request.headers[\"x-bytes\"]", "a\u{fffd}b"),
        ("'x-user' in request.headers", "true"),
        ("!('x-none' in request.headers)", "true"),
        ("has(request.headers.cookie) ? request.headers.cookie : 'none'", "none"),
        ("request.method in ['PUT', 'GET']", "true"),
        ("request.url_path.startsWith('/shop') && request.host.endsWith('.com')", "true"),
        ("request.path.matches('^/sh.p/[a-z]')", "true"),
        ("matches(request.path, 'x')", "false"),
        ("request.host.contains('example') || request.headers.x == 'a'", "true"),
        ("request.headers.x == 'a' || true", "true"),
        ("request.headers.x == 'a' && false", "false"),
        ("request.headers.x == 'a' && true", "unknown"),
        ("!(request.headers.x == 'a')", "unknown"),
        ("request.duration > duration('10ms') && request.duration < duration('1s')", "true"),
        ("request.total_size", "107"),
        ("response.trailers['grpc-message'] + string('x' in response.trailers)", "gonefalse"),
        ("destination.port == 8443 && connection.mtls", "true"),
        ("connection.requested_server_name", "shop.example.com"),
        ("response.flags", "32800"),
        ("upstream_peer.workload + '.' + node.metadata['NAMESPACE']", "cart-v1.shop"),
        ("filter_state.upstream_peer.labels['app'].value", "cart"),
        ("filter_state['upstream_peer'].app", "cart"),
        ("downstream_peer.namespace", "unknown"),
        ("size(request.method) + int('4')", "7"),
        ("request.method.lowerAscii()", "get"),
        ("1.5 + 2.0 > 3", "true"),
        ("-(1 + 2) * 3 % 4", "-1"),
        ("9223372036854775807 + 1", "unknown"),
        ("1 / (response.code - 503)", "unknown"),
        ("request.time", "1970-01-01T00:00:01.500Z"),
        ("response.grpc_status == 0", "unknown"),
    ];
    for (text, expected) in table {
        assert_eq!(written(text), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_by_name() {
    let table = [
        ("request.hots == 'a'", "there is no attribute `request.hots`; did you mean `request.host`?"),
        ("nothing.at.all", "there is no attribute `nothing.at.all`; there are those of `request`"),
        ("upstream.locality == 'a'", "`upstream.locality` tells of what this proxy does not keep"),
        ("response.trailers == 'a'", "is asked for by its name, as `response.trailers['x-user']`"),
        ("upstream_peer.labels['tier']", "tells of what this proxy does not keep"),
        ("request.headers == 'a'", "of `request.headers` one is asked for by its name, as `request.headers['x-user']`"),
        ("request.headers[request.path] == 'a'", "a key is a text that stands there"),
        ("response.code == '503'", "`==` compares a number with a text"),
        ("response.code + 'a'", "`string(...)` makes a text of a number"),
        ("response.code && true", "`&&` is of conditions, and this is a number"),
        ("request.path.matches('(')", "`matches` is given no regular expression"),
        ("request.path.matches(request.host)", "a regular expression that stands there"),
        ("['a'].exists(x, x == request.path)", "a loop over a list is not evaluated"),
        ("request.path.replace('a', 'b')", "there is no function `replace` here"),
        ("response.code >=", "it is no CEL"),
        ("duration('soon')", "`soon` is no duration"),
        ("", "it is no CEL"),
    ];
    for (text, expected) in table {
        let fault = Expression::parse(text).expect_err(text).to_string();
        assert!(fault.contains(expected), "{text}: {fault}");
    }
    let fault = Expression::condition("request.path").unwrap_err().to_string();
    assert!(fault.starts_with("it is a text, and a condition is wanted"), "{fault}");
    assert!(matches!(Expression::parse(&"a".repeat(MOST_EXPRESSION + 1)), Err(Fault::TooLong(_))));
}

#[test]
fn no_expression_leads_deeper_than_a_stack() {
    for deep in ["(", "[", "!", "-", "a.", "a[", "a?b:", "1+", "a||", "a in ["] {
        for count in [40, 300, 2000] {
            let text = deep.repeat(count);
            let _ = Expression::parse(text.get(..MOST_EXPRESSION).unwrap_or(&text));
            let _ = Expression::parse(&format!("{}a", text.get(..MOST_EXPRESSION - 1).unwrap_or(&text)));
        }
    }
    assert!(Expression::parse(&vec!["1"; 100].join(" + ")).is_ok());
    assert!(Expression::parse(&vec!["1"; 300].join(" + ")).is_err());
    assert!(Expression::parse(&format!("response.code{}", ".int()".repeat(600))).is_err());
    let many: Vec<String> = (0..60).map(|number| format!("request.path == '/{number}'")).collect();
    assert!(Expression::condition(&many.join(" || ")).is_ok());
}

#[test]
fn what_cannot_be_evaluated_does_not_pass_a_filter() {
    assert!(Expression::condition("response.code >= 500").unwrap().holds(&Known));
    assert!(!Expression::condition("request.headers.cookie == 'a'").unwrap().holds(&Known));
    assert!(!Expression::condition("request.headers.cookie != 'a'").unwrap().holds(&Known));
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in "\\PC{0,40}") {
        let _ = Expression::parse(&text);
    }

    #[test]
    fn any_words_of_it_are_read_and_evaluated_without_panic(
        words in prop::collection::vec(prop::sample::select(vec![
            "request.path", "response.code", "request.headers['a']", "(", ")", "&&", "||", "!", "-", "==", "<", "in", "[", "]",
            "'a'", "1", "1.5", "has(", "size(", "matches(", ",", "?", ":", "+", "%", "/", "true", "null", ".contains(", "b'a'", "{", "}",
        ]), 0..12),
    ) {
        if let Ok(expression) = Expression::parse(&words.join(" ")) {
            let _ = expression.value(&Known);
        }
    }

    #[test]
    fn comparing_numbers_is_as_in_rust(a in -1000i64..1000, b in -1000i64..1000) {
        prop_assert_eq!(written(&format!("({a}) < ({b})")), (a < b).to_string());
        prop_assert_eq!(written(&format!("({a}) == ({b})")), (a == b).to_string());
        prop_assert_eq!(written(&format!("({a}) + ({b})")), (a + b).to_string());
    }
}
