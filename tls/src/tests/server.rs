//! SIMPLE, MUTUAL and OPTIONAL_MUTUAL servers, SNI, ALPN, versions, resumption.

use std::future::poll_fn;

use super::openssl::Workshop;
use super::*;
use crate::accept::Refusal;
use crate::server::Version;

pub(super) fn required(ca: &Authority, sans: &[&str]) -> ClientAuth {
    let sans = sans.iter().map(|name| (*name).to_owned()).collect();
    ClientAuth::Required { roots_pem: ca.root_pem().as_bytes().to_vec(), crl: None, sans }
}

fn optional(ca: &Authority) -> ClientAuth {
    ClientAuth::Optional { roots_pem: ca.root_pem().as_bytes().to_vec(), crl: None, sans: Vec::new() }
}

/// The list of a CA that has revoked one certificate.
pub(super) fn revocation_list(ca: &Authority, revoked: &Issued) -> Vec<u8> {
    ca.revocation_list(&[&revoked.chain_pem]).expect("a list can be made").into_bytes()
}

#[tokio::test]
async fn a_simple_server_is_verified_by_its_host_name() {
    let ca = authority();
    let (served, asked) = agree(&server(&server_spec(&ca)), &client(&client_spec(&ca)), "Cargo.Example").await;

    assert_eq!(served.sni(), Some("cargo.example"));
    assert_eq!((served.version(), asked.version()), ("TLSv1.3", "TLSv1.3"));
    assert!(served.cipher().starts_with("TLS_AES_"));
    assert_eq!(served.cipher(), asked.cipher());
    assert!(served.peer.is_none() && served.local.is_none() && !served.resumed());
}

/// 64 KiB of names fit into a handshake at most (RFC 8446 section 4.2.4).
#[tokio::test]
async fn a_bundle_of_very_many_cas_is_not_named_in_the_handshake() {
    let (ca, clients) = (authority(), authority());
    let own = clients.issue_client("port,captain", &["a.example"]).expect("issues");
    let others =
        (0..400).map(|number| Authority::new(&format!("{number} {}", "n".repeat(200))).expect("a CA can be made"));
    let roots: String =
        others.map(|other| other.root_pem().to_owned()).chain([clients.root_pem().to_owned()]).collect();
    let auth = ClientAuth::Required { roots_pem: roots.into_bytes(), crl: None, sans: Vec::new() };
    let server = server(&ServerSpec { client: auth, ..server_spec(&ca) });
    assert!(server.remarks().iter().any(|remark| remark.text.contains("more names")), "{:?}", server.remarks());
    let (served, _) = agree(&server, &client(&with_certificate(client_spec(&ca), &own)), "cargo.example").await;
    assert!(served.peer.is_some());
}

#[tokio::test]
async fn a_required_client_certificate_becomes_the_peer_identity() {
    let (ca, clients) = (authority(), authority());
    let own = clients.issue_client("port,captain", &["spiffe://td/x", "a.example", "b.example"]).expect("issues");
    let spec = ServerSpec { client: required(&clients, &[]), ..server_spec(&ca) };

    let (served, _) = agree(&server(&spec), &client(&with_certificate(client_spec(&ca), &own)), "cargo.example").await;

    let peer = served.peer.expect("has a certificate");
    assert_eq!(peer.spiffe.as_deref(), Some("spiffe://td/x"));
    assert_eq!(&*peer.subject, "CN=port\\,captain");
    assert_eq!(peer.dns_sans.iter().map(|name| &**name).collect::<Vec<_>>(), ["a.example", "b.example"]);
    assert_eq!(peer.sha256_hex.len(), 64);
}

#[tokio::test]
async fn a_missing_client_certificate_is_named_on_both_sides() {
    let ca = authority();
    let spec = ServerSpec { client: required(&ca, &[]), ..server_spec(&ca) };

    let (served, asked) = disagree(&server(&spec), &client(&client_spec(&ca)), "cargo.example").await;

    assert_eq!(served.reason(), "CertificateRequired");
    assert_eq!(asked.reason(), "AlertCertificateRequired");
    assert_eq!(asked.to_string(), "the peer refused the handshake: certificate required");
}

#[tokio::test]
async fn a_client_certificate_of_a_foreign_ca_is_refused() {
    let (ca, foreign) = (authority(), Authority::new("foreign").expect("a CA"));
    let own = foreign.issue_client("x", &[]).expect("issues");
    let asking = client(&with_certificate(client_spec(&ca), &own));

    for auth in [required(&ca, &[]), optional(&ca)] {
        let spec = ServerSpec { client: auth, ..server_spec(&ca) };
        let (served, asked) = disagree(&server(&spec), &asking, "cargo.example").await;
        assert_eq!(served.reason(), "UnknownCa");
        assert_eq!(asked.reason(), "AlertUnknownCa");
    }
}

#[tokio::test]
async fn an_expired_client_certificate_is_refused() {
    let ca = authority();
    let own = ca.at(SystemTime::now() - 48 * HOUR).issue_client("x", &[]).expect("issues");
    let spec = ServerSpec { client: required(&ca, &[]), ..server_spec(&ca) };

    let asking = client(&with_certificate(client_spec(&ca), &own));
    let (served, asked) = disagree(&server(&spec), &asking, "cargo.example").await;

    assert_eq!(served.reason(), "CertificateExpired");
    assert_eq!(asked.reason(), "AlertCertificateExpired");
}

#[tokio::test]
async fn an_optional_client_certificate_may_be_left_out() {
    let ca = authority();
    let serving = server(&ServerSpec { client: optional(&ca), ..server_spec(&ca) });
    let own = ca.issue_client("x", &[]).expect("issues");

    let (without, _) = agree(&serving, &client(&client_spec(&ca)), "cargo.example").await;
    let (with, _) = agree(&serving, &client(&with_certificate(client_spec(&ca), &own)), "cargo.example").await;

    assert!(without.peer.is_none());
    assert_eq!(with.peer.map(|peer| peer.subject.to_string()).as_deref(), Some("CN=x"));
}

#[tokio::test]
async fn a_client_must_have_one_of_the_subject_alt_names() {
    let ca = authority();
    let serving = server(&ServerSpec { client: required(&ca, &["a.example", "ops@example"]), ..server_spec(&ca) });
    let named =
        |name: &str| client(&with_certificate(client_spec(&ca), &ca.issue_client("x", &[name]).expect("issues")));

    agree(&serving, &named("ops@example"), "cargo.example").await;
    let (served, _) = disagree(&serving, &named("b.example"), "cargo.example").await;

    let text = "the client's identity b.example is not one of the expected a.example, ops@example";
    assert_eq!((served.reason(), served.to_string().as_str()), ("WrongIdentity", text));
}

#[tokio::test]
async fn a_revoked_client_certificate_is_refused() {
    let ca = authority();
    let (good, bad) = (ca.issue_client("good", &[]).expect("issues"), ca.issue_client("bad", &[]).expect("issues"));
    let crl = Some(revocation_list(&ca, &bad));
    let auth = ClientAuth::Required { roots_pem: ca.root_pem().as_bytes().to_vec(), crl, sans: Vec::new() };
    let serving = server(&ServerSpec { client: auth, ..server_spec(&ca) });

    agree(&serving, &client(&with_certificate(client_spec(&ca), &good)), "cargo.example").await;
    let asking = client(&with_certificate(client_spec(&ca), &bad));
    let (served, _) = disagree(&serving, &asking, "cargo.example").await;

    assert_eq!(served.reason(), "CertificateRevoked");
}

#[tokio::test]
async fn a_client_certificate_of_version_1_must_be_covered_by_the_revocation_list_of_its_ca() {
    let Some(workshop) = Workshop::open() else { return };
    let ca = authority();
    workshop.write("ca.crt", ca.root_pem().as_bytes());
    workshop.write("ca.key", ca.key_pem().as_bytes());
    let made = |name: &str, serial: u32| {
        workshop.run(&format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        let signer = format!("-CA ca.crt -CAkey ca.key -set_serial {serial}");
        workshop.run(&format!("x509 -req -in {name}.csr {signer} -days 9 -out {name}.crt"));
        let text = |ending: &str| String::from_utf8(workshop.read(&format!("{name}.{ending}"))).expect("is PEM");
        Issued { chain_pem: text("crt"), key_pem: text("key") }
    };
    let (good, bad, other) = (made("good", 500), made("bad", 501), authority());
    if !workshop.is_version_1("good.crt") {
        return;
    }
    let reason = async |list: Vec<u8>, own: &Issued| {
        let auth =
            ClientAuth::Required { roots_pem: ca.root_pem().as_bytes().to_vec(), crl: Some(list), sans: Vec::new() };
        let serving = server(&ServerSpec { client: auth, ..server_spec(&ca) });
        let asking = client(&with_certificate(client_spec(&ca), own));
        let (served, _) = meet(&serving, &asking, "cargo.example").await;
        served.err().map(|error| error.reason())
    };

    assert_eq!(reason(revocation_list(&ca, &bad), &good).await, None);
    assert_eq!(reason(revocation_list(&ca, &bad), &bad).await, Some("CertificateRevoked"));
    // A CA of the same name and another key says nothing about it.
    assert_eq!(reason(revocation_list(&other, &bad), &good).await, Some("RevocationUnknown"));
}

#[tokio::test]
async fn a_refused_server_name_is_seen_by_the_client() {
    let asking = client(&client_spec(&authority()));
    let cases = [(Refusal::UnrecognizedName, "AlertUnrecognizedName"), (Refusal::NoCertificate, "AlertInternalError")];
    for (refusal, reason) in cases {
        let (near, far) = duplex(64 * 1024);
        let refuse = async {
            let hello = accept::hello(Stream::new(far)).await.expect("is a ClientHello");
            assert_eq!(hello.sni(), Some("other.example"));
            hello.refuse(refusal).await
        };
        let (refused, asked) = tokio::join!(refuse, asking.connect("Other.Example", near));
        refused.expect("the alert is sent");
        assert_eq!(asked.expect_err("is refused").reason(), reason);
    }
}

#[tokio::test]
async fn the_best_common_protocol_is_agreed_on() {
    let ca = authority();
    let asking = client(&ClientSpec { alpn: protocols(&["istio-http/1.1", "istio", "http/1.1"]), ..client_spec(&ca) });

    let (served, asked) = agree(&server(&server_spec(&ca)), &asking, "cargo.example").await;

    assert_eq!(served.alpn(), Some(&b"http/1.1"[..]));
    assert_eq!(asked.alpn(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn a_client_without_a_common_protocol_is_served_without_alpn() {
    let ca = authority();
    let asking = client(&ClientSpec { alpn: protocols(&["http/1.0", "spdy/3"]), ..client_spec(&ca) });

    let (served, asked) = agree(&server(&server_spec(&ca)), &asking, "cargo.example").await;

    assert_eq!((served.alpn(), asked.alpn()), (None, None));
}

#[tokio::test]
async fn the_offered_protocols_are_known_before_the_answer() {
    let ca = authority();
    let asking = client(&ClientSpec { alpn: protocols(&["istio-h2", "h2"]), ..client_spec(&ca) });
    let (near, far) = duplex(64 * 1024);

    let (hello, _) = tokio::join!(
        async {
            let hello = accept::hello(Stream::new(far)).await.expect("is a ClientHello");
            hello.alpn().map(<[u8]>::to_vec).collect::<Vec<_>>()
        },
        asking.connect("cargo.example", near)
    );

    assert_eq!(hello, protocols(&["istio-h2", "h2"]));
}

#[tokio::test]
async fn a_second_handshake_is_resumed_and_keeps_the_identity() {
    let ca = authority();
    let own = ca.issue_client("x", &["spiffe://td/x"]).expect("issues");
    let serving = server(&ServerSpec { client: required(&ca, &[]), ..server_spec(&ca) });
    let asking = client(&with_certificate(client_spec(&ca), &own));

    let (first, _) = agree(&serving, &asking, "cargo.example").await;
    let (second, asked) = agree(&serving, &asking, "cargo.example").await;

    assert!(!first.resumed() && second.resumed() && asked.resumed());
    let spiffe = |stream: Stream<DuplexStream>| stream.peer.and_then(|peer| peer.spiffe.clone());
    assert_eq!(spiffe(second).as_deref(), Some("spiffe://td/x"));
}

#[tokio::test]
async fn a_rebuilt_server_resumes_no_session_of_the_old_one() {
    let ca = authority();
    let spec = server_spec(&ca);
    let asking = client(&client_spec(&ca));

    agree(&server(&spec), &asking, "cargo.example").await;
    let (served, _) = agree(&server(&spec), &asking, "cargo.example").await;

    assert!(!served.resumed());
}

#[tokio::test]
async fn tls_1_2_clients_are_served_with_the_configured_suites_and_resume() {
    let ca = authority();
    let spec = ServerSpec { cipher_suites: vec!["ECDHE-ECDSA-AES256-GCM-SHA384".into()], ..server_spec(&ca) };
    let (serving, asking) = (server(&spec), tls12_client());

    let (first, _) = agree(&serving, &asking, "cargo.example").await;
    let (second, _) = agree(&serving, &asking, "cargo.example").await;

    assert_eq!((first.version(), first.cipher()), ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"));
    assert!(!first.resumed() && second.resumed());
}

#[tokio::test]
async fn a_version_below_the_minimum_is_refused() {
    let ca = authority();
    let spec = ServerSpec { min_version: Version::Tls13, ..server_spec(&ca) };

    let (served, asked) = disagree(&server(&spec), &tls12_client(), "cargo.example").await;

    assert_eq!(served.reason(), "NothingInCommon");
    assert_eq!(asked.reason(), "AlertProtocolVersion");
}

#[tokio::test]
async fn a_late_refusal_is_found_in_the_error_of_a_read() {
    let ca = authority();
    let serving = server(&ServerSpec { client: required(&ca, &[]), ..server_spec(&ca) });
    let (near, far) = duplex(64 * 1024);
    let serve = async { accept::hello(Stream::new(far)).await?.accept(&serving).await };
    let ask = async {
        let asking = client(&client_spec(&ca));
        let mut stream = asking.connect("cargo.example", near).await.expect("TLS 1.3 goes on");
        stream.read_u8().await.expect_err("the server refuses")
    };

    let (_, error) = tokio::join!(serve, ask);

    let reason = Error::of_io(&error).map(|error| error.reason());
    assert_eq!(reason, Some("AlertCertificateRequired"));
    assert!(Error::of_io(&std::io::Error::other("x")).is_none());
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_told_apart() {
    let (mut near, far) = duplex(1024);
    near.write_all(b"GET / HTTP/1.1\r\nhost: cargo.example\r\n\r\n").await.expect("fits");
    assert_eq!(accept::hello(Stream::new(far)).await.err().map(|error| error.reason()), Some("NotTls"));
}

#[tokio::test]
async fn a_client_that_leaves_is_told_apart() {
    let (near, far) = duplex(1024);
    drop(near);
    assert_eq!(accept::hello(Stream::new(far)).await.err().map(|error| error.reason()), Some("PeerClosed"));
}

#[tokio::test]
async fn readiness_takes_no_byte_and_ends_with_the_connection() {
    let ca = authority();
    let (mut served, mut asked) = agree(&server(&server_spec(&ca)), &client(&client_spec(&ca)), "cargo.example").await;

    asked.write_all(b"x").await.expect("is open");
    asked.flush().await.expect("is open");
    assert!(poll_fn(|cx| served.poll_readable(cx)).await.expect("is open"));
    assert!(poll_fn(|cx| served.poll_readable(cx)).await.expect("is open"));
    assert_eq!(served.read_u8().await.expect("a byte"), b'x');
    drop(asked);
    assert!(!poll_fn(|cx| served.poll_readable(cx)).await.expect("ends"));
}

#[tokio::test]
async fn hostile_first_bytes_are_an_error() {
    let record = |length: u16, body: &[u8]| [&[22, 3, 1], &length.to_be_bytes()[..], body].concat();
    let hostile = [record(0xffff, &[1; 64]), record(4, &[1, 0xff, 0xff, 0xff]), record(2, &[2, 0]), vec![0x80; 64]];
    for bytes in hostile {
        let (mut near, far) = duplex(1024);
        near.write_all(&bytes).await.expect("fits");
        near.shutdown().await.expect("closes");
        assert!(accept::hello(Stream::new(far)).await.is_err());
    }
}

#[tokio::test]
async fn a_client_that_closes_right_behind_its_handshake_has_shaken_hands() {
    let ca = authority();
    let (server, client) = (server(&server_spec(&ca)), client(&client_spec(&ca)));
    for client in [client, tls12_client()] {
        let (near, far) = duplex(64 * 1024);
        let serve = async { accept::hello(Stream::new(far)).await?.accept(&server).await };
        // What ends the handshake and what ends the connection come with one read.
        let ask = async {
            let mut stream = client.connect("cargo.example", near).await?;
            stream.shutdown().await.map_err(Error::from_io)?;
            Ok::<_, Error>(stream)
        };

        let (served, asked) = tokio::join!(serve, ask);

        let _asked = asked.expect("the client accepts");
        let mut stream = served.expect("the server accepts");
        assert_eq!(stream.read(&mut [0; 1]).await.expect("a proper end"), 0);
    }
}
