use proptest::prelude::*;

use super::{command::FACTS, *};

/// A request to `/a?b=1&page=2` with `x-user: mary`, answered with 200.
struct Known;

impl Values for Known {
    fn request(&self, field: &HeaderField) -> Option<Cow<'_, [u8]>> {
        let value: &[u8] = match field {
            HeaderField::Method => b"GET",
            HeaderField::Path => b"/a?b=1&page=2",
            HeaderField::Name(name) if name == "x-user" => b"mary",
            _ => return None,
        };
        Some(Cow::Borrowed(value))
    }

    fn response(&self, field: &ResponseField) -> Option<Cow<'_, [u8]>> {
        (*field == ResponseField::Status).then_some(Cow::Borrowed(b"200"))
    }

    fn fact(&self, fact: Fact, out: &mut Vec<u8>) {
        out.extend_from_slice(match fact {
            Fact::Protocol => b"HTTP/2",
            Fact::DownstreamRemoteAddressWithoutPort => b"10.1.10.23",
            Fact::UpstreamLocalAddressWithoutPort => b"2001:db8:1234:5678:9abc::1",
            Fact::RequestedServerName => b"tls.test",
            Fact::ConnectionId => b"7",
            _ => b"",
        });
    }

    fn trailer(&self, name: &HeaderName) -> Option<Cow<'_, [u8]>> {
        (name == "grpc-message").then_some(Cow::Borrowed(b"not there"))
    }

    fn moment(&self, moment: Moment) -> Option<i64> {
        match moment {
            Moment::ConnectBegun => Some(-3_000_000),
            Moment::RequestBegun => Some(0),
            Moment::SendBegun => Some(1_234_567),
            _ => None,
        }
    }

    fn details(&self) -> Option<Cow<'_, [u8]>> {
        Some(Cow::Borrowed(b"a b"))
    }

    fn end(&self) -> Option<Duration> {
        Some(Duration::from_millis(2_750))
    }

    fn environment(&self, name: &str) -> Option<String> {
        (name == "POD").then(|| "web-0".to_owned())
    }

    fn start(&self) -> Duration {
        Duration::from_millis(1_500)
    }

    fn certificate(&self, end: Validity) -> Option<i64> {
        (end == Validity::NotAfter).then_some(86_400)
    }
}

fn logged(text: &str) -> String {
    let mut out = Vec::new();
    let (template, passed) = Template::parse_for_log(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    assert_eq!(passed, [], "{text}");
    template.fill(&Known, "-", &mut out);
    String::from_utf8(out).unwrap()
}

fn filled(text: &str) -> String {
    let mut out = Vec::new();
    Template::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}")).fill(&Known, "-", &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn commands_are_filled_in() {
    let table = [
        ("", ""),
        ("100%% of %PROTOCOL%", "100% of HTTP/2"),
        ("%REQ(X-User)%/%REQ(:METHOD)%", "mary/GET"),
        ("%REQ(x-none)%", "-"),
        ("%REQ(x-none?x-user)%", "mary"),
        ("%REQ(x-user?:method):2%", "ma"),
        ("%REQ(x-user):99%", "mary"),
        ("%REQ(:path)%", "/a?b=1&page=2"),
        ("%REQ_WITHOUT_QUERY(:path)%", "/a"),
        ("%QUERY_PARAM(page)%%QUERY_PARAM(none)%", "2-"),
        ("%RESP(:status)%%RESP(x-none)%", "200-"),
        ("%ENVIRONMENT(POD)%%ENVIRONMENT(NONE)%", "web-0-"),
        ("%START_TIME%", "1970-01-01T00:00:01.500Z"),
        ("%START_TIME(%s%3f)%", "1500"),
        ("%DOWNSTREAM_PEER_CERT_V_END(%F)%%DOWNSTREAM_PEER_CERT_V_START%", "1970-01-02-"),
        ("%UPSTREAM_HOST%", "-"),
        ("%%%PROTOCOL%%%", "%HTTP/2%"),
    ];
    for (text, expected) in table {
        assert_eq!(filled(text), expected, "{text}");
    }
}

#[test]
fn what_has_ended_is_told_by_logs() {
    let table = [
        ("%TRAILER(Grpc-Message)%|%RESPONSE_TRAILER(x-none?grpc-message):3%|%TRAILER(x-none)%", "not there|not|-"),
        ("%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:ms)%", "1"),
        ("%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)%", "1234"),
        ("%COMMON_DURATION(US_TX_BEG:US_CX_BEG:ns)%", "-4234567"),
        ("%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:ms)%", "-"),
        ("%EMIT_TIME%|%EMIT_TIME(%s)%", "1970-01-01T00:00:02.750Z|2"),
        ("%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", "a b"),
        ("%REQUEST_HEADER(:METHOD)%|%RESPONSE_HEADER(:status)%|%QUERY_PARAMS(ORIG)%", "GET|200|b=1&page=2"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16)%", "10.1.0.0/16"),
        (
            "%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(64)%|%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
            "2001:db8:1234:5678::/64|2001:db8:1234:5678:9abc::1",
        ),
        ("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(8)%", "-"),
        ("%REQUESTED_SERVER_NAME(SNI_FIRST:HOST)%|%REQUESTED_SERVER_NAME(SNI_ONLY)%", "tls.test|tls.test"),
        ("%REQUESTED_SERVER_NAME(HOST_FIRST)%|%CONNECTION_ID%", "-|7"),
        ("%TYPED_CEL(1 + 2)%", "3"),
    ];
    for (text, expected) in table {
        assert_eq!(logged(text), expected, "{text}");
    }
    let fault = |text: &str| Template::parse_for_log(text).unwrap_err().to_string();
    for wrong in ["DS_RX_BEG:US_TX_BEG", "DS_RX_BEG:NEVER:ms", "DS_RX_BEG:US_TX_BEG:s", "DS_RX_BEG:US_TX_BEG:ms:x", ""]
    {
        assert!(fault(&format!("%COMMON_DURATION({wrong})%")).contains("%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:ms)%"));
    }
    assert!(fault("%TRAILER%").contains("%TRAILER(grpc-message)%"));
    assert!(fault("%REQUESTED_SERVER_NAME(BOTH)%").contains("SNI_FIRST"));
    let early = Template::parse("%TRAILER(a)%").unwrap_err().to_string();
    assert!(early.ends_with("known only when a request has ended"), "{early}");
}

#[test]
fn what_is_not_served_has_its_reason() {
    for (name, why) in command::UNSERVED {
        assert!(why.starts_with("tell"), "{name}: {why}");
        assert_eq!(command::fact(name), None, "{name}");
        let (_, passed) = Template::parse_for_log(&format!("%{name}(a)%")).unwrap();
        assert_eq!(passed, [Fault::Unserved((*name).to_owned(), why)]);
    }
}

#[test]
fn what_has_to_be_kept_is_told() {
    let demands = |text: &str| Template::parse_for_log(text).unwrap().0.demands();
    let none = Demands::default();
    let (moments, trailers) = (Demands { moments: true, ..none }, Demands { trailers: true, ..none });
    assert_eq!(demands("%UPSTREAM_WIRE_BYTES_SENT%"), Demands { wire: true, ..none });
    assert_eq!(demands("%REQ(a)% %DURATION% %COMMON_DURATION(DS_RX_BEG:US_RX_BEG:ms)%"), Demands::default());
    assert_eq!(demands("%COMMON_DURATION(DS_RX_BEG:DS_RX_END:ms)%"), moments);
    assert_eq!(demands("%REQUEST_TX_DURATION%"), moments);
    assert_eq!(demands("%TRAILER(a)%"), trailers);
    assert_eq!(demands("%RESPONSE_TRAILERS_BYTES%"), trailers);
    assert_eq!(demands("%CEL(response.trailers['a'])% %REQUEST_DURATION%"), moments.and(trailers));
}

#[test]
fn what_holds_no_command_is_plain() {
    let plain = |text: &str| Template::parse(text).unwrap().as_plain().map(str::to_owned);
    assert_eq!(plain("a%%b"), Some("a%b".to_owned()));
    assert_eq!(plain(""), Some(String::new()));
    assert_eq!(plain("a%PROTOCOL%"), None);
}

#[test]
fn what_cannot_be_served_is_told_with_what_would_be_right() {
    let fault = |text: &str| Template::parse(text).unwrap_err().to_string();
    for lone in ["%", "50%", "50% off", "%a%", "%REQ(x", "%PROTOCOL", "%REQ(x):%x"] {
        assert!(fault(lone).starts_with("a lone `%`"), "{lone}: {}", fault(lone));
    }
    assert_eq!(fault("%PROTOCOLL%"), "there is no command `%PROTOCOLL%`; did you mean `%PROTOCOL%`?");
    assert_eq!(fault("%BANANA%"), "there is no command `%BANANA%`");
    assert_eq!(fault("%REQ%"), "`%REQ...%` is written as `%REQ(x-user)%`");
    assert_eq!(fault("%REQ(a b)%"), "`%REQ...%` is written as `%REQ(x-user)%`");
    assert_eq!(
        fault("%RESPONSE_DURATION%"),
        "the command `%RESPONSE_DURATION%` tells of what is known only when a request has ended"
    );
    assert!(fault("%DYNAMIC_METADATA(a:b)%").contains("tells of metadata of Envoy's, which this proxy does not keep"));
    assert!(fault("%DYNAMIC_METADATA(envoy.filters.http.rbac:istio_dry_run_deny)%").contains("tells of metadata"));
    assert!(fault("%START_TIME(%Q)%").contains("%START_TIME(%Y-%m-%dT%H:%M:%S)%"));
    assert!(fault("%PROTOCOL(x)%").contains("nothing between parentheses"));
}

#[test]
fn every_fact_is_found_by_its_name_and_no_name_is_told_twice() {
    for (fact, name) in FACTS {
        assert_eq!((command::fact(name), fact.name()), (Some(*fact), *name));
        assert_eq!(command::why_not(name), None, "{name}");
    }
}

#[test]
fn what_tells_of_answers_is_known() {
    let command = |text: &str| Template::parse(text).unwrap().command_of_answers();
    assert_eq!(command("%REQ(a)% %RESPONSE_CODE%"), Some("RESPONSE_CODE"));
    assert_eq!(command("%RESP(a)%"), Some("RESP"));
    assert_eq!(command("%PROTOCOL%"), None);
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in "[%A-Z_a-z():?0-9 ]{0,40}") {
        if let Ok(template) = Template::parse(&text) {
            template.fill(&Known, "-", &mut Vec::new());
        }
    }

    #[test]
    fn text_without_percent_signs_stays(text in "[^%]{0,20}") {
        prop_assert_eq!(filled(&text), text);
    }
}
