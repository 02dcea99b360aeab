//! Upstream TLS outside the mesh: host names, SAN lists, IP addresses, no SNI.

use super::*;

fn sans(ca: &Authority, names: &[&str]) -> ClientTls {
    let names = Names::Sans(names.iter().map(|name| (*name).to_owned()).collect());
    client(&ClientSpec { names, ..client_spec(ca) })
}

#[tokio::test]
async fn a_server_of_another_name_is_refused() {
    let ca = authority();
    let (_, asked) = disagree(&server(&server_spec(&ca)), &client(&client_spec(&ca)), "other.example").await;
    assert_eq!(asked.reason(), "WrongName");
    let text =
        "the peer's certificate is not valid for the host name other.example; it names cargo.example, *.wild.example";
    assert!(asked.to_string().starts_with(text), "{asked}");
}

#[tokio::test]
async fn a_server_of_an_unknown_ca_is_refused_unless_verification_is_off() {
    let ca = authority();
    let serving = server(&server_spec(&ca));
    let stranger = client_spec(&Authority::new("other").expect("a CA"));

    let (_, asked) = disagree(&serving, &client(&stranger), "cargo.example").await;
    assert_eq!(asked.reason(), "UnknownCa");

    agree(&serving, &client(&ClientSpec { roots: Roots::Insecure, ..stranger }), "other.example").await;
}

#[tokio::test]
async fn the_systems_roots_do_not_know_the_test_ca() {
    let ca = authority();
    let serving = server(&server_spec(&ca));
    // A system without any root cannot be told apart by the message of a handshake: there is none.
    match ClientTls::build(&ClientSpec { roots: Roots::System, ..client_spec(&ca) }, None) {
        Ok(asking) => assert_eq!(disagree(&serving, &asking, "cargo.example").await.1.reason(), "UnknownCa"),
        Err(error) => assert_eq!(error.reason(), "NoSystemRoots"),
    }
}

#[tokio::test]
async fn one_of_the_subject_alt_names_is_enough_whatever_the_sni() {
    let ca = authority();
    let serving = server(&server_spec(&ca));
    for name in ["cargo.example", "a.wild.example", "10.0.0.1"] {
        agree(&serving, &sans(&ca, &["nobody.example", name]), "sni.example").await;
    }
    let (_, asked) = disagree(&serving, &sans(&ca, &["a.b.wild.example"]), "cargo.example").await;
    assert_eq!(asked.reason(), "WrongIdentity");
}

#[tokio::test]
async fn an_ip_address_is_verified_and_not_sent() {
    let ca = authority();
    let serving = server(&server_spec(&ca));
    let (served, _) = agree(&serving, &client(&client_spec(&ca)), "10.0.0.1").await;
    assert_eq!(served.sni(), None);
    let (_, asked) = disagree(&serving, &client(&client_spec(&ca)), "10.0.0.2").await;
    assert_eq!(asked.reason(), "WrongName");
}

#[tokio::test]
async fn without_sni_the_names_are_still_verified() {
    let ca = authority();
    let serving = server(&server_spec(&ca));
    let (served, _) = agree(&serving, &sans(&ca, &["cargo.example"]), "").await;
    assert_eq!(served.sni(), None);
    let (_, asked) = disagree(&serving, &sans(&ca, &["other.example"]), "").await;
    assert_eq!(asked.reason(), "WrongIdentity");
    let (near, _far) = duplex(1024);
    let asked = client(&client_spec(&ca)).connect("", near).await;
    assert_eq!(asked.err().map(|error| error.reason()), Some("NoServerName"));
}

#[tokio::test]
async fn a_name_that_is_none_is_an_error() {
    let asking = client(&ClientSpec { names: Names::Any, ..client_spec(&authority()) });
    for name in ["a b", "-", "a..b", "a\nb"] {
        let (near, _far) = duplex(1024);
        let error = asking.connect(name, near).await.err().map(|error| error.to_string());
        assert_eq!(error, Some(format!("`{}` is neither a DNS name nor an IP address", name.escape_debug())));
    }
}

#[tokio::test]
async fn the_names_istio_sends_as_sni_arrive() {
    let ca = authority();
    let serving = server(&server_spec(&ca));
    let asking = client(&ClientSpec { names: Names::Any, ..client_spec(&ca) });
    for name in ["outbound_.8080_.v1_.host.ns.svc.cluster.local", "outbound_.80_._.h.ns.svc.cluster.local", "_", "a.9b"]
    {
        let (served, _) = agree(&serving, &asking, name).await;
        assert_eq!(served.sni(), Some(name));
    }
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_told_apart() {
    let asking = client(&client_spec(&authority()));
    let (near, mut far) = duplex(4096);
    far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("fits");
    let asked = asking.connect("cargo.example", near).await;
    assert_eq!(asked.err().map(|error| error.reason()), Some("NotTls"));
}

#[tokio::test]
async fn a_client_offers_the_suites_that_it_may_use_alone() {
    let ca = authority();
    let spec = ServerSpec { max_version: crate::server::Version::Tls12, ..server_spec(&ca) };
    let serving = server(&spec);
    let suites = |name: &str| ClientSpec { cipher_suites: vec![name.to_owned()], ..client_spec(&ca) };
    for name in ["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256"] {
        let (ours, _) = agree(&serving, &client(&suites(name)), "cargo.example").await;
        assert_eq!(ours.cipher(), name);
    }
}
