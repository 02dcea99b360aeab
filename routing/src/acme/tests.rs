//! Which challenges can work, and in which order.

use super::*;

fn ordered(reach: Reach, challenges: &[Challenge], publisher: Option<Publisher>) -> Ordered {
    let issuer = Issuer {
        name: "ca".to_owned(),
        server: "https://ca.example.com/directory".to_owned(),
        email: None,
        ca_bundle: None,
        external_account: None,
        profile: None,
        challenges: challenges.to_vec(),
        dns01: publisher.map(|publisher| Dns01 { publisher, propagation: Duration::ZERO }),
        key_type: KeyType::default(),
    };
    Ordered {
        secret: "cert".to_owned(),
        hosts: vec!["*.example.com".to_owned(), "example.com".to_owned()],
        issuer: Arc::new(issuer),
        gateways: vec![ObjectRef::new("Gateway", "istio-system", "web")],
        reach,
        placeholder: false,
        current: Current::Nothing,
    }
}

fn hook() -> Option<Publisher> {
    Some(Publisher::Exec(Exec { command: "publish".to_owned(), timeout: Duration::from_secs(120) }))
}

fn ways(ordered: &Ordered, host: &str) -> Vec<&'static str> {
    ordered.ways(host).iter().map(|way| way.challenge.name()).collect()
}

const BOTH: Reach = Reach { http: true, tls: true };

#[test]
fn http_goes_before_tls_and_both_before_dns() {
    assert_eq!(ways(&ordered(BOTH, &[], hook()), "example.com"), ["http-01", "tls-alpn-01", "dns-01"]);
}

#[test]
fn what_is_not_reachable_is_no_way() {
    let plain = ordered(Reach { http: true, tls: false }, &[], None);
    assert_eq!(ways(&plain, "example.com"), ["http-01"]);
    let tls = ordered(Reach { http: false, tls: true }, &[], None);
    assert_eq!(ways(&tls, "example.com"), ["tls-alpn-01"]);
    assert_eq!(ways(&ordered(Reach::default(), &[], None), "example.com"), Vec::<&str>::new());
    assert_eq!(ways(&ordered(Reach::default(), &[], hook()), "example.com"), ["dns-01"]);
}

#[test]
fn the_issuers_own_list_is_the_order_and_leaves_out_the_rest() {
    let listed = ordered(BOTH, &[Challenge::Dns01, Challenge::Http01], hook());
    assert_eq!(ways(&listed, "example.com"), ["dns-01", "http-01"]);
    let listed = ordered(Reach { http: true, tls: false }, &[Challenge::TlsAlpn01, Challenge::Http01], None);
    assert_eq!(ways(&listed, "example.com"), ["http-01"]);
}

#[test]
fn a_wildcard_is_proved_by_dns_only() {
    assert_eq!(ways(&ordered(BOTH, &[], hook()), "*.example.com"), ["dns-01"]);
    assert_eq!(ways(&ordered(BOTH, &[], None), "*.example.com"), Vec::<&str>::new());
    assert_eq!(ways(&ordered(BOTH, &[Challenge::Http01], hook()), "*.example.com"), Vec::<&str>::new());
}

#[test]
fn a_way_tells_its_reason() {
    let reasons =
        |host: &str| ordered(BOTH, &[], hook()).ways(host).iter().map(|way| way.reason).collect::<Vec<_>>().join("; ");
    assert_eq!(
        reasons("example.com"),
        "port 80 is open here; port 443 terminates TLS here; a hook publishes TXT records"
    );
    assert_eq!(reasons("*.example.com"), "only a TXT record proves a wildcard");
}
