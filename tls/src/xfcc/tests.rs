//! Two readers of the header: one that knows the grammar, and one that splits.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, string::Ia5String};

use super::*;

/// Elements, each a list of keys and values.
type Read = Vec<Vec<(String, String)>>;

/// Envoy's grammar: separators do not count within double quotes, where a backslash takes the next letter with it.
fn careful(header: &str) -> Read {
    let split = |text: &str, separator: char| {
        let (mut parts, mut quoted, mut escaped) = (vec![String::new()], false, false);
        for letter in text.chars() {
            match letter {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                _ => {}
            }
            if letter == separator && !quoted {
                parts.push(String::new());
            } else {
                parts.last_mut().expect("has one").push(letter);
            }
        }
        parts
    };
    let pair = |text: String| {
        let (key, value) = text.split_once('=').expect("is a pair");
        (key.to_owned(), value.trim_matches('"').to_owned())
    };
    split(header, ',').into_iter().map(|it| split(&it, ';').into_iter().map(pair).collect()).collect()
}

/// Splits at every comma, semicolon and equals sign. An element is what has a `Hash`: RFC 2253 itself puts commas between the
/// parts of a subject.
fn careless(header: &str) -> Read {
    let mut elements: Read = Vec::new();
    for part in header.split([',', ';']) {
        let mut words = part.split('=');
        let (key, value) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if key == "By" || (key == "Hash" && elements.last().is_none_or(|it| it.iter().any(|(key, _)| key == "Hash"))) {
            elements.push(Vec::new());
        }
        if let Some(element) = elements.last_mut() {
            element.push((key.to_owned(), value.to_owned()));
        }
    }
    elements
}

fn who(read: &Read) -> Vec<Vec<(String, String)>> {
    let said = ["By", "Hash", "URI", "DNS"];
    let only = |element: &Vec<(String, String)>| {
        element.iter().filter(|(key, _)| said.contains(&key.as_str())).cloned().collect::<Vec<_>>()
    };
    read.iter().map(only).collect()
}

/// A client's certificate with these parts of its subject and these names.
fn peer(subject: &[String], uris: &[String], dns: &[String]) -> PeerIdentity {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let kinds = [DnType::CommonName, DnType::OrganizationName, DnType::OrganizationalUnitName, DnType::LocalityName];
    for (kind, value) in kinds.into_iter().zip(subject) {
        params.distinguished_name.push(kind, value.as_str());
    }
    let text = |name: &String| Ia5String::try_from(name.as_str()).expect("is ASCII");
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI(text(uri))).collect();
    params.subject_alt_names.extend(dns.iter().map(|name| SanType::DnsName(text(name))));
    params.not_after = (SystemTime::now() + Duration::from_secs(3600)).into();
    thread_local!(static KEY: KeyPair = KeyPair::generate().expect("a key"));
    let der = KEY.with(|key| params.self_signed(key).expect("is signed").der().to_vec());
    PeerIdentity::from_der(&der).expect("is a certificate")
}

fn unescaped(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        match hex_pair(after).filter(|byte| *first == b'%' && is_escaped(*byte)) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).expect("was text")
}

const HOSTILE: &str = "([!-~ ]|,By=|;URI=|\",|\\\\\"|\r\n|;Hash=|%2C|%){0,12}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_careful_and_a_careless_reader_see_the_same(
        subject in prop::collection::vec("([ -~éλ\u{1}\u{7f}]|,By=x|;URI=spiffe://td/a|\"|\\\\|,CN=){1,10}", 0..4),
        uris in prop::collection::vec(HOSTILE, 0..3),
        dns in prop::collection::vec(HOSTILE, 0..3),
        by in prop::option::of(HOSTILE),
        twice in any::<bool>(),
    ) {
        let peer = peer(&subject, &uris, &dns);
        let one = element(&peer, by.as_deref(), Include::GATEWAY);
        let header = if twice { format!("{one},{one}") } else { one };

        prop_assert!(header.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{header}");
        let (careful, careless) = (careful(&header), careless(&header));
        prop_assert_eq!(careful.len(), if twice { 2 } else { 1 });
        prop_assert_eq!(who(&careful), who(&careless), "{}", header);
        // And what they see is what the certificate says.
        let values = |key: &str| -> Vec<String> {
            careful[0].iter().filter(|(found, _)| found == key).map(|(_, value)| unescaped(value)).collect()
        };
        prop_assert_eq!(values("By"), by.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(values("URI"), if uris.is_empty() { vec![String::new()] } else { uris });
        prop_assert_eq!(values("DNS"), dns);
        prop_assert!(is_whole(header.as_bytes()));
    }

    #[test]
    fn different_names_stay_different(one in HOSTILE, two in HOSTILE) {
        let written = |name: &str| {
            let mut text = String::new();
            push_value(&mut text, name);
            text
        };
        prop_assert_eq!(unescaped(&written(&one)), one.clone());
        prop_assert_eq!(written(&one) == written(&two), one == two);
    }
}

#[test]
fn ordinary_names_are_written_as_they_are() {
    for name in ["spiffe://cluster.local/ns/a/sa/b", "https://a.example/%61?b&c", "*.b.example", "100%"] {
        let mut text = String::new();
        push_value(&mut text, name);
        assert_eq!(text, name);
    }
}

#[test]
fn an_open_quote_is_noticed() {
    for whole in ["", "By=a;URI=b", r#"Subject="CN=a,O=\"b\"";URI=c"#, r#"Subject="\\""#] {
        assert!(is_whole(whole.as_bytes()), "{whole}");
    }
    for open in [r#"Subject=""#, r#"Subject="a\""#, r#"By=a,Subject="CN=b;URI=c"#] {
        assert!(!is_whole(open.as_bytes()), "{open}");
    }
}
