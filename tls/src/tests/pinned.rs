//! Clients that are named by digest, clients that nobody verifies, groups of key exchange, revoked servers.

use aws_lc_rs::digest::{SHA256, digest};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::server::{required, revocation_list};
use super::*;
use crate::pem;
use crate::pins::Pins;

/// Digests of the key and of the certificate.
fn digests(issued: &Issued) -> ([u8; 32], [u8; 32]) {
    let chain = pem::certificates(issued.chain_pem.as_bytes()).expect("is PEM");
    let (_, parsed) = X509Certificate::from_der(&chain[0]).expect("is a certificate");
    let of = |bytes: &[u8]| digest(&SHA256, bytes).as_ref().try_into().expect("32 bytes");
    (of(parsed.public_key().raw), of(&chain[0]))
}

#[tokio::test]
async fn a_client_must_have_one_of_the_digests_in_either_list_and_a_chain() {
    let (ca, foreign) = (authority(), Authority::new("foreign").expect("a CA"));
    let (own, other) = (ca.issue_client("own", &[]).expect("issues"), ca.issue_client("other", &[]).expect("issues"));
    let stranger = foreign.issue_client("own", &[]).expect("issues");
    let (key, certificate) = digests(&own);
    let (stranger_key, stranger_certificate) = digests(&stranger);
    let serving = |keys: Vec<[u8; 32]>, certificates: Vec<[u8; 32]>| {
        let pins = Pins { keys, certificates };
        server(&ServerSpec { client: required(&ca, &[]), pins, ..server_spec(&ca) })
    };
    let asking = |issued: &Issued| client(&with_certificate(client_spec(&ca), issued));

    for pinned in
        [serving(vec![key], vec![]), serving(vec![], vec![certificate]), serving(vec![[7; 32], key], vec![[7; 32]])]
    {
        let (served, _) = agree(&pinned, &asking(&own), "cargo.example").await;
        assert!(served.peer.is_some());
        let (served, _) = disagree(&pinned, &asking(&other), "cargo.example").await;
        assert_eq!(served.reason(), "NotPinned");
    }
    // The digest of one in the other's list is none.
    let (served, _) = disagree(&serving(vec![certificate], vec![key]), &asking(&own), "cargo.example").await;
    assert_eq!(served.reason(), "NotPinned");
    let foreign = serving(vec![stranger_key], vec![stranger_certificate]);
    assert_eq!(disagree(&foreign, &asking(&stranger), "cargo.example").await.0.reason(), "UnknownCa");
}

#[tokio::test]
async fn nobody_is_known_by_a_certificate_that_nobody_verifies() {
    let (ca, foreign) = (authority(), Authority::new("foreign").expect("a CA"));
    let own = foreign.issue_client("x", &["spiffe://cluster.local/ns/a/sa/b"]).expect("issues");
    let asking = client(&with_certificate(client_spec(&ca), &own));
    for required in [true, false] {
        let serving = server(&ServerSpec { client: ClientAuth::Unverified { required }, ..server_spec(&ca) });
        // Resumed the second time.
        for _ in 0..2 {
            let (served, _) = agree(&serving, &asking, "cargo.example").await;
            assert!(served.peer.is_none());
        }
        if required {
            let (served, _) = disagree(&serving, &client(&client_spec(&ca)), "cargo.example").await;
            assert_eq!(served.reason(), "CertificateRequired");
        } else {
            agree(&serving, &client(&client_spec(&ca)), "cargo.example").await;
        }
    }
}

#[tokio::test]
async fn only_the_named_groups_are_spoken() {
    let ca = authority();
    let serving = |names: &[&str]| {
        let curves = names.iter().map(|name| (*name).to_owned()).collect();
        server(&ServerSpec { curves, ..server_spec(&ca) })
    };
    for names in [&["P-384"][..], &["X25519MLKEM768"], &["P-521", "X25519"]] {
        agree(&serving(names), &client(&client_spec(&ca)), "cargo.example").await;
    }
    let (served, _) = disagree(&serving(&["MLKEM768"]), &client(&client_spec(&ca)), "cargo.example").await;
    assert!(served.to_string().contains("key exchange"), "{served}");
}

#[tokio::test]
async fn a_revoked_server_is_refused_and_so_is_one_that_no_list_covers() {
    let (ca, other) = (authority(), Authority::new("other").expect("a CA"));
    let spec = |issued: &Issued| ServerSpec { certificates: vec![certified(issued)], ..ServerSpec::default() };
    let issue = |ca: &Authority| ca.issue_server(&["cargo.example"], HOUR).expect("issues");
    let (good, bad) = (issue(&ca), issue(&ca));
    let asking = |list: Vec<u8>| client(&ClientSpec { crl: Some(list), ..client_spec(&ca) });

    agree(&server(&spec(&good)), &asking(revocation_list(&ca, &bad)), "cargo.example").await;
    let (_, asked) = disagree(&server(&spec(&bad)), &asking(revocation_list(&ca, &bad)), "cargo.example").await;
    assert_eq!(asked.reason(), "CertificateRevoked");
    let elsewhere = revocation_list(&other, &issue(&other));
    let (_, asked) = disagree(&server(&spec(&good)), &asking(elsewhere), "cargo.example").await;
    assert_eq!(asked.reason(), "RevocationUnknown");
    assert!(ClientTls::build(&ClientSpec { crl: Some(b"nothing".to_vec()), ..client_spec(&ca) }, None).is_err());
}
