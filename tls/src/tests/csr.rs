//! What a CA may answer to a workload's request, and what becomes of it. `openssl verify` judges the chains that are taken.

use std::time::UNIX_EPOCH;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use super::openssl::Workshop;
use super::*;
use crate::csr::Application;
use crate::identity::SpiffeId;
use crate::request::KeyKind;

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What a certificate says besides its key.
struct Leaf {
    uris: &'static [&'static str],
    begins: i64,
    ends: i64,
    purposes: Vec<ExtendedKeyUsagePurpose>,
}

impl Default for Leaf {
    fn default() -> Self {
        let purposes = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Self { uris: &[RATING], begins: -120, ends: 3600, purposes }
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn at(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs((now() + seconds) as u64)
}

fn ca(name: &str, above: Option<&Ca>, ends: i64) -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) = (at(-86_400).into(), at(ends).into());
    let made = match above {
        Some(above) => params.signed_by(&key, &above.issuer),
        None => params.self_signed(&key),
    };
    let pem = made.unwrap().pem();
    Ca { issuer: Issuer::new(params, key), pem }
}

impl Ca {
    fn sign(&self, csr: &str, leaf: &Leaf) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        let params = &mut request.params;
        params.subject_alt_names = leaf.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages.clone_from(&leaf.purposes);
        (params.not_before, params.not_after) = (at(leaf.begins).into(), at(leaf.ends).into());
        request.signed_by(&self.issuer).unwrap().pem()
    }
}

fn application() -> Application {
    Application::new(KeyKind::EcdsaP256, &SpiffeId::parse(RATING).unwrap()).unwrap()
}

/// Why an answer is refused: a leaf below an intermediate CA below a root.
fn refusal(leaf: &Leaf) -> String {
    let (root, application) = (ca("root", None, 86_400), application());
    let below = ca("below", Some(&root), 86_400);
    let answer = [below.sign(application.pem(), leaf), below.pem.clone(), root.pem.clone()];
    application.accept(&answer, now()).map(drop).expect_err("is refused").to_string()
}

#[test]
fn a_request_asks_for_the_identity_with_a_key_of_its_own() {
    let (one, two) = (application(), application());
    let read = CertificateSigningRequestParams::from_pem(one.pem()).expect("is a CSR");
    assert_eq!(read.params.subject_alt_names, [SanType::URI(RATING.try_into().unwrap())]);
    assert_eq!(read.params.distinguished_name.iter().count(), 0);
    assert_ne!(one.pem(), two.pem());
}

#[test]
fn a_chain_with_its_roots_is_an_identity() {
    for kind in [KeyKind::EcdsaP256, KeyKind::Rsa2048] {
        let (old, root) = (ca("old root", None, 86_400), ca("root", None, 86_400));
        let below = ca("below", Some(&root), 86_400);
        let application = Application::new(kind, &SpiffeId::parse(RATING).unwrap()).unwrap();
        let leaf = below.sign(application.pem(), &Leaf::default());
        let bundle = format!("{}{}", old.pem, root.pem);

        let grant = application.accept(&[leaf.clone(), below.pem.clone(), bundle.clone()], now()).expect("is taken");
        let identity = grant.with(None).unwrap().identity;

        assert_eq!(identity.spiffe.as_deref(), Some(RATING));
        assert_eq!((identity.roots(), &*identity.issuer), (2, "below"));
        assert!(identity.not_before < now() && identity.not_after > now());
        let Some(shop) = Workshop::open() else { continue };
        for (file, text) in [("roots.pem", &bundle), ("below.pem", &below.pem), ("leaf.pem", &leaf)] {
            shop.write(file, text.as_bytes());
        }
        shop.run("verify -CAfile roots.pem -untrusted below.pem -purpose sslserver leaf.pem");
        shop.run("verify -CAfile roots.pem -untrusted below.pem -purpose sslclient leaf.pem");
    }
}

#[test]
fn what_is_mounted_is_trusted_beside_what_the_ca_gives() {
    let (root, new) = (ca("root", None, 86_400), ca("new root", None, 86_400));
    let application = application();
    let answer = [root.sign(application.pem(), &Leaf::default()), root.pem.clone()];
    let grant = application.accept(&answer, now()).unwrap();
    let counts = |mounted: &str| {
        let granted = grant.with(Some(mounted.as_bytes())).expect("is a bundle");
        (granted.identity.roots(), granted.only_given, granted.only_mounted)
    };
    assert_eq!(counts(&root.pem), (1, 0, 0));
    assert_eq!(counts(&format!("{}{}", root.pem, new.pem)), (2, 0, 1));
    assert_eq!(counts(&new.pem), (2, 1, 1));
    assert!(grant.with(Some(b"no bundle")).is_err());
    let generation = |mounted: &str| grant.with(Some(mounted.as_bytes())).unwrap().identity.generation;
    assert_eq!(generation(&root.pem), grant.with(None).unwrap().identity.generation);
    assert_ne!(generation(&new.pem), generation(&root.pem));
}

#[test]
fn an_answer_for_somebody_else_is_refused() {
    let of = |uris| refusal(&Leaf { uris, ..Leaf::default() });
    assert_eq!(of(&[WEBAPP]), format!("it is for {WEBAPP}, and {RATING} is asked for"));
    assert_eq!(of(&[]), format!("it names no identity ((no name)), and {RATING} is asked for"));
    assert_eq!(of(&[RATING, WEBAPP]), format!("it has 2 URI names, and an identity is one alone: {RATING}, {WEBAPP}"));
}

#[test]
fn an_answer_of_another_time_is_refused() {
    let of = |begins, ends| refusal(&Leaf { begins, ends, ..Leaf::default() });
    assert!(of(-7200, -5).starts_with("the certificate has ended 5 s ago"), "{}", of(-7200, -5));
    assert!(of(700, 7200).starts_with("the certificate begins in 700 s only"), "{}", of(700, 7200));
}

#[test]
fn a_certificate_of_a_clock_that_is_a_little_ahead_is_taken() {
    let (root, application) = (ca("root", None, 86_400), application());
    let leaf = Leaf { begins: 580, ..Leaf::default() };
    assert!(application.accept(&[root.sign(application.pem(), &leaf), root.pem.clone()], now()).is_ok());
}

#[test]
fn a_certificate_for_one_side_alone_is_refused() {
    let of = |purpose| refusal(&Leaf { purposes: vec![purpose], ..Leaf::default() });
    let text = "the certificate may not be used for this side of TLS (extended key usage)";
    assert_eq!(of(ExtendedKeyUsagePurpose::ServerAuth), text);
    assert_eq!(of(ExtendedKeyUsagePurpose::ClientAuth), text);
}

#[test]
fn what_is_no_chain_is_refused() {
    let (root, other, application) = (ca("root", None, 86_400), ca("other", None, 86_400), application());
    let (ended, other_key) = (ca("ended", Some(&root), -5), self::application());
    let leaf = |ca: &Ca| ca.sign(application.pem(), &Leaf::default());
    let of = |answer: &[String]| application.accept(answer, now()).map(drop).expect_err("is refused").to_string();

    assert_eq!(of(&[]), "it has 0 parts, of a chain and its roots");
    assert_eq!(of(&[leaf(&root)]), "it has 1 parts, of a chain and its roots");
    assert_eq!(of(&[leaf(&root), other.pem.clone()]), "the certificate was not issued by a trusted CA");
    assert_eq!(of(&[leaf(&ended), ended.pem.clone(), root.pem.clone()]), "the certificate is expired");
    let foreign = root.sign(other_key.pem(), &Leaf::default());
    assert!(of(&[foreign, root.pem.clone()]).starts_with("the private key does not belong to the certificate"));
    assert!(of(&["?".into(), root.pem.clone()]).contains("no BEGIN CERTIFICATE block"));
    assert!(of(&[leaf(&root), "?".into()]).contains("no BEGIN CERTIFICATE block"));
}
