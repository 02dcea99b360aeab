//! Certificates and keys as users get them wrong, and what is read from the right ones.

use std::fs;
use std::path::Path;

use super::*;
use crate::identity::PeerIdentity;
use crate::pem;
use crate::server::Version;
use crate::xfcc::{self, Include};

fn build_error(change: impl FnOnce(&mut ServerSpec)) -> Error {
    let mut spec = server_spec(&authority());
    change(&mut spec);
    ServerTls::build(&spec, None).expect_err("cannot be built")
}

fn peer(issued: &Issued) -> PeerIdentity {
    let chain = pem::certificates(issued.chain_pem.as_bytes()).expect("is PEM");
    PeerIdentity::from_der(&chain[0]).expect("is a certificate")
}

fn write(folder: &Path, chain: &str, key: &str, root: &str) {
    fs::write(folder.join("cert-chain.pem"), chain).expect("writes");
    fs::write(folder.join("key.pem"), key).expect("writes");
    fs::write(folder.join("root-cert.pem"), root).expect("writes");
}

#[test]
fn a_key_of_another_certificate_is_told() {
    let other = authority().issue_server(&["x"], HOUR).expect("issues");
    let error = build_error(|spec| spec.certificates[0].key = other.key_pem.into_bytes());
    assert_eq!(error.reason(), "KeyMismatch");
    assert!(error.to_string().starts_with("the private key does not belong to the certificate"));
}

#[test]
fn what_cannot_be_served_is_told() {
    let garbage = b"-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n";
    assert_eq!(build_error(|spec| spec.certificates.clear()).reason(), "NoCertificate");
    assert_eq!(build_error(|spec| spec.certificates[0].chain = b"?".to_vec()).reason(), "BadPem");
    assert_eq!(build_error(|spec| spec.certificates[0].chain = garbage.to_vec()).reason(), "BadCertificate");
    assert_eq!(build_error(|spec| spec.certificates[0].key = b"?".to_vec()).reason(), "BadPem");
    let key = b"-----BEGIN PRIVATE KEY-----\nMAMCAQA=\n-----END PRIVATE KEY-----\n";
    assert_eq!(build_error(|spec| spec.certificates[0].key = key.to_vec()).reason(), "UnusableKey");
    let error = build_error(|spec| (spec.min_version, spec.max_version) = (Version::Tls13, Version::Tls12));
    assert_eq!(error.reason(), "NoVersion");
}

#[test]
fn a_ca_that_cannot_be_used_is_told() {
    let required = |roots_pem: &str, crl: Option<&str>| {
        let (roots_pem, crl) = (roots_pem.as_bytes().to_vec(), crl.map(|text| text.as_bytes().to_vec()));
        build_error(|spec| spec.client = ClientAuth::Required { roots_pem, crl, sans: Vec::new() }).reason()
    };
    let root = authority().root_pem().to_owned();
    assert_eq!(required("", None), "BadPem");
    assert_eq!(required("-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n", None), "NoRoots");
    assert_eq!(required(&root, Some("")), "BadPem");
    assert_eq!(
        required(&root, Some("-----BEGIN X509 CRL-----\nMAMCAQA=\n-----END X509 CRL-----\n")),
        "BadRevocationList"
    );
}

#[tokio::test]
async fn an_expired_server_certificate_is_served_and_reported() {
    let ca = authority();
    let issued = ca.at(long_ago()).issue_server(&["cargo.example"], HOUR).expect("issues");
    let serving = server(&ServerSpec { certificates: vec![certified(&issued)], ..ServerSpec::default() });

    let (_, asked) = disagree(&serving, &client(&client_spec(&ca)), "cargo.example").await;

    assert_eq!(asked.reason(), "CertificateExpired");
    assert_eq!(serving.not_after(), peer(&issued).not_after);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(serving.not_after() < i64::try_from(now).expect("fits") - 22 * 3600);
}

#[test]
fn an_identity_is_read_from_istios_files() {
    let ca = authority();
    let issued = ca.issue_workload(RATING, HOUR).expect("issues");
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &issued.chain_pem, &issued.key_pem, ca.root_pem());

    let read = WorkloadIdentity::from_dir(folder.path()).expect("is an identity");

    assert_eq!(read.spiffe.as_deref(), Some(RATING));
    assert_eq!(read.generation, identity(&ca, &issued).generation);
    assert_eq!(read.not_after, peer(&issued).not_after);
    assert!(!format!("{read:?}").contains("PRIVATE"));
}

#[test]
fn a_broken_identity_names_the_file() {
    let ca = authority();
    let (one, two) =
        (ca.issue_workload(RATING, HOUR).expect("issues"), ca.issue_workload(RATING, HOUR).expect("issues"));
    let folder = tempfile::tempdir().expect("a folder");
    let error = || WorkloadIdentity::from_dir(folder.path()).expect_err("is broken");

    assert!(error().to_string().ends_with("cert-chain.pem cannot be read (entity not found)"));
    write(folder.path(), &one.chain_pem, &two.key_pem, ca.root_pem());
    assert!(error().to_string().contains("/key.pem: the private key does not belong"));
    assert_eq!(error().reason(), "KeyMismatch");
    write(folder.path(), &one.chain_pem, &one.key_pem, "");
    assert!(error().to_string().ends_with("/root-cert.pem: the certificate is empty"));
    write(folder.path(), &one.key_pem, &one.key_pem, ca.root_pem());
    assert!(error().to_string().contains("/cert-chain.pem: a private key stands where"));
}

#[test]
fn a_workload_certificate_has_istios_shape() {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let issued = authority().issue_workload(RATING, HOUR).expect("issues");
    let chain = pem::certificates(issued.chain_pem.as_bytes()).expect("is PEM");
    let (_, parsed) = X509Certificate::from_der(&chain[0]).expect("is a certificate");

    let san = parsed.subject_alternative_name().expect("once").expect("is there");
    assert!(san.critical);
    assert_eq!(san.value.general_names.len(), 1);
    assert_eq!(parsed.subject().iter().count(), 0);
    let usage = parsed.key_usage().expect("once").expect("is there").value;
    assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
    let extended = parsed.extended_key_usage().expect("once").expect("is there").value;
    assert!(extended.server_auth && extended.client_auth);
}

#[test]
fn an_authority_kept_as_pem_goes_on_issuing() {
    let first = authority();
    let again = Authority::from_pem(first.root_pem(), &first.key_pem()).expect("is a CA");
    let issued = again.issue_workload(RATING, HOUR).expect("issues");
    let read = identity(&first, &issued);
    assert_eq!(read.spiffe.as_deref(), Some(RATING));
    assert_eq!(again.root_pem(), first.root_pem());
    assert!(Authority::from_pem("", &first.key_pem()).is_err());
    assert!(Authority::from_pem(first.root_pem(), "").is_err());
}

#[test]
fn a_certificate_without_names_has_an_empty_uri_in_xfcc() {
    let issued = authority().issue_client("x", &[]).expect("issues");
    let peer = peer(&issued);
    let text = xfcc::element(&peer, None, Include { subject: false, ..Include::SIDECAR });
    assert_eq!(text, format!("Hash={};URI=", peer.sha256_hex));
}

#[test]
fn xfcc_names_all_sans_and_carries_the_certificate() {
    let issued =
        authority().issue_client("a \"b\"", &["spiffe://td/a", "https://b", "c.example", "d.example"]).expect("issues");
    let peer = peer(&issued);

    let text = xfcc::element(&peer, Some("spiffe://td/me"), Include::GATEWAY);

    let pem = issued.chain_pem.replace("\r\n", "\n");
    let pem = pem.replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let names = "URI=spiffe://td/a;URI=https://b;DNS=c.example;DNS=d.example";
    let hash = &peer.sha256_hex;
    assert_eq!(text, format!("By=spiffe://td/me;Hash={hash};Cert=\"{pem}\";Subject=\"CN=a \\22b\\22\";{names}"));
    assert_eq!(peer.spiffe, None);
}

#[test]
fn a_hostile_name_cannot_add_an_element() {
    let issued = authority().issue_client("x", &["spiffe://td/a,By=x;URI=\"y\"\r\nevil: 1"]).expect("issues");
    let text = xfcc::element(&peer(&issued), None, Include { cert: false, subject: false, uri: true, dns: false });
    assert!(text.ends_with(";URI=spiffe://td/a%2CBy%3Dx%3BURI%3D%22y%22%0D%0Aevil:%201"), "{text}");
}
