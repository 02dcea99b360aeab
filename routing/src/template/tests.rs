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
        if fact == Fact::Protocol {
            out.extend_from_slice(b"HTTP/2");
        }
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
    assert!(fault("%DYNAMIC_METADATA(a:b)%").ends_with("tells of what this proxy does not keep"));
    assert!(fault("%DYNAMIC_METADATA(envoy.filters.http.rbac:istio_dry_run_deny)%").ends_with("does not keep"));
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
