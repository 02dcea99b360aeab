//! The mesh's CA, by what `openssl` and rustls say of what it signs.

use std::time::{Duration, SystemTime};

use super::Authority;
use super::lists::{Lists, Untrusted};
use super::request::Request;
use super::signer::{Material, Refused, Signer, self_signed};
use crate::facts::facts;
use crate::request::{KeyKind, generate_key, signing_request};
use crate::tests::openssl::Workshop;

const DAY: Duration = Duration::from_secs(86_400);
const ID: &str = "spiffe://cluster.local/ns/shop/sa/cart";

fn root(now: SystemTime) -> Material {
    let (certificate, key) = self_signed("cluster.local", None, 3650 * DAY, now).expect("a root");
    Material {
        roots: certificate.clone().into(),
        certificate: certificate.into(),
        key: key.into(),
        chain: Vec::new(),
        crl: Vec::new(),
    }
}

fn request(kind: KeyKind) -> Request {
    use base64::Engine as _;
    let key = generate_key(kind).expect("a key");
    let der = signing_request(&key, &["evil.example".to_owned()]).expect("a request");
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n");
    Request::read(&pem).expect("is a request")
}

#[test]
fn a_self_signed_root_signs_what_openssl_accepts() {
    let Some(shop) = Workshop::open() else { return };
    let now = SystemTime::now();
    let material = root(now);
    let signer = Signer::load(&material, now).expect("is a CA");
    assert_eq!(signer.chain(), [""; 0]);
    shop.write("root.pem", &material.roots);
    for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Rsa2048] {
        let signed = signer.workload(&request(kind), ID, DAY, now).expect("signs");
        shop.write("leaf.pem", signed.pem.as_bytes());
        shop.run("verify -x509_strict -CAfile root.pem leaf.pem");
        shop.run("verify -purpose sslserver -CAfile root.pem leaf.pem");
        shop.run("verify -purpose sslclient -CAfile root.pem leaf.pem");
        shop.run("x509 -in leaf.pem -noout -text -out leaf.txt");
        let text = String::from_utf8(shop.read("leaf.txt")).expect("text");
        assert!(
            text.contains(&format!("X509v3 Subject Alternative Name: critical\n                URI:{ID}\n")),
            "{text}"
        );
        assert!(!text.contains("evil.example"), "{text}");
        assert!(text.contains("Digital Signature, Key Encipherment"), "{text}");
        assert!(text.contains("TLS Web Server Authentication, TLS Web Client Authentication"), "{text}");
        assert!(text.contains("CA:FALSE"), "{text}");
        assert_eq!(signed.serial.len(), 32);
        assert_eq!(facts(signed.pem.as_bytes()).expect("is one").serial, signed.serial);
    }
}

#[test]
fn nothing_outlives_its_signer_and_an_ended_one_signs_nothing() {
    let begin = SystemTime::now() - 100 * DAY;
    let (certificate, key) = self_signed("td", None, 101 * DAY, begin).expect("a root");
    let material = Material {
        roots: certificate.clone().into(),
        certificate: certificate.into(),
        key: key.into(),
        chain: Vec::new(),
        crl: Vec::new(),
    };
    let now = SystemTime::now();
    let signer = Signer::load(&material, now).expect("is a CA");
    let signed = signer.workload(&request(KeyKind::EcdsaP256), ID, 90 * DAY, now).expect("signs");
    let end = signer.ends().duration_since(SystemTime::UNIX_EPOCH).expect("later").as_secs();
    assert_eq!(signed.not_after, end);
    let late = signer.workload(&request(KeyKind::EcdsaP256), ID, DAY, now + 2 * DAY);
    assert_eq!(late.unwrap_err(), Refused::Ended);
    assert!(Signer::load(&material, now + 2 * DAY).unwrap_err().contains("has ended"));
}

#[test]
fn a_root_that_is_renewed_with_its_key_is_the_same_ca() {
    let now = SystemTime::now();
    let old = root(now);
    let (certificate, key) = self_signed("cluster.local", Some(&old.key), 3650 * DAY, now).expect("renews");
    let new =
        Material { roots: certificate.clone().into(), certificate: certificate.into(), key: key.into(), ..old.clone() };
    let (old, new) = (Signer::load(&old, now).expect("is a CA"), Signer::load(&new, now).expect("is a CA"));
    assert!(old.is_trusted(new.roots(), &Lists::default(), now).is_ok());
    assert!(new.is_trusted(old.roots(), &Lists::default(), now).is_ok());
    let other = Signer::load(&root(now), now).expect("is a CA");
    assert!(other.is_trusted(new.roots(), &Lists::default(), now).is_err());
}

#[test]
fn a_plugged_in_ca_shows_what_stands_between() {
    let Some(shop) = Workshop::open() else { return };
    shop.run("req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -days 30 -subj /O=Istio/CN=Root -addext keyUsage=critical,keyCertSign");
    for (issuer, own) in [("root", "mid"), ("mid", "ca")] {
        shop.run(&format!("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {own}.key -out {own}.csr -subj /O=Istio/CN={own}"));
        shop.write(
            "ca.ext",
            b"basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n",
        );
        shop.run(&format!("x509 -req -in {own}.csr -CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial -days 20 -extfile ca.ext -out {own}.pem"));
    }
    let chain = [shop.read("ca.pem"), shop.read("mid.pem"), shop.read("root.pem")].concat();
    let material = Material {
        certificate: shop.read("ca.pem"),
        key: shop.read("ca.key"),
        chain: chain.clone(),
        roots: shop.read("root.pem"),
        crl: Vec::new(),
    };
    let now = SystemTime::now();
    let signer = Signer::load(&material, now).expect("is a CA");
    assert_eq!(signer.chain().len(), 2, "the root is no part of it");
    let signed = signer.workload(&request(KeyKind::EcdsaP256), ID, DAY, now).expect("signs");
    shop.write("leaf.pem", signed.pem.as_bytes());
    shop.write("between.pem", signer.chain().concat().as_bytes());
    shop.run("verify -x509_strict -CAfile root.pem -untrusted between.pem leaf.pem");

    let with = |change: fn(&mut Material, &Workshop)| {
        let mut broken = material.clone();
        change(&mut broken, &shop);
        Signer::load(&broken, now).expect_err("is broken")
    };
    let cut = with(|material, shop| material.chain = shop.read("ca.pem"));
    assert!(cut.contains("is cert-chain.pem whole?"), "{cut}");
    let key = with(|material, shop| material.key = shop.read("mid.key"));
    assert_eq!(key, "ca-key.pem: the key does not belong to ca-cert.pem");
    let roots = with(|material, _| material.roots = Vec::new());
    assert!(roots.starts_with("root-cert.pem: "), "{roots}");
    let foreign = with(|material, _| material.roots = root(SystemTime::now()).roots);
    assert!(foreign.contains("not accepted"), "{foreign}");
    let leaf = with(|material, shop| {
        shop.run("req -x509 -newkey rsa:2048 -nodes -keyout l.key -out l.pem -days 3 -subj /CN=l -addext basicConstraints=CA:false");
        material.certificate = shop.read("l.pem");
        material.key = shop.read("l.key");
    });
    assert!(leaf.contains("ca-cert.pem is no CA"), "{leaf}");
}

#[test]
fn revocation_lists_are_whole_and_leave_the_ca_alone() {
    let Some(shop) = Workshop::open() else { return };
    shop.write(
        "ca.ext",
        b"basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n",
    );
    shop.run("req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -days 30 -subj /CN=Root -addext keyUsage=critical,keyCertSign,cRLSign");
    for (issuer, own) in [("root", "mid"), ("mid", "ca")] {
        shop.run(&format!("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {own}.key -out {own}.csr -subj /O=Istio/CN={own}"));
        shop.run(&format!("x509 -req -in {own}.csr -CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial -days 20 -extfile ca.ext -out {own}.pem"));
    }
    let now = SystemTime::now();
    let material = Material {
        certificate: shop.read("ca.pem"),
        key: shop.read("ca.key"),
        chain: [shop.read("ca.pem"), shop.read("mid.pem")].concat(),
        crl: Vec::new(),
        roots: shop.read("root.pem"),
    };
    // Lists of each CA of the chain; with one missing, or with a CA revoked, peers would refuse everything.
    shop.write("index.txt", b"");
    shop.write("number", b"01\n");
    shop.write(
        "ca.cnf",
        b"[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=20\ncrlnumber=number\n\
          crl_extensions=ext\n[ext]\nauthorityKeyIdentifier=keyid:always\n",
    );
    for name in ["root", "mid", "ca"] {
        shop.run(&format!("ca -config ca.cnf -gencrl -cert {name}.pem -keyfile {name}.key -out {name}.crl"));
    }
    shop.run("ca -config ca.cnf -revoke mid.pem -cert root.pem -keyfile root.key");
    shop.run("ca -config ca.cnf -gencrl -cert root.pem -keyfile root.key -out revoked.crl");
    let listed = |names: [&str; 3]| names.map(|name| shop.read(name)).concat();
    let whole = Material { crl: listed(["root.crl", "mid.crl", "ca.crl"]), ..material.clone() };
    Signer::load(&whole, now).expect("nobody is revoked");
    for crl in [
        listed(["revoked.crl", "mid.crl", "ca.crl"]),
        listed(["root.crl", "mid.crl", "mid.crl"]),
        shop.read("ca.pem"),
        b"nonsense".to_vec(),
    ] {
        let why = Signer::load(&Material { crl, ..material.clone() }, now).expect_err("peers would refuse it");
        assert!(why.starts_with("ca-crl.pem: "), "{why}");
    }
}

#[test]
fn lists_tell_a_revoked_ca_from_one_that_they_do_not_know() {
    let now = SystemTime::now();
    let root = Authority::new("root").expect("a CA");
    let [one, two] = ["one", "two"].map(|name| root.below(name).expect("a CA"));
    let ca = |own: &Authority| Material {
        certificate: own.root_pem().into(),
        key: own.key_pem().into(),
        chain: own.root_pem().into(),
        roots: root.root_pem().into(),
        crl: Vec::new(),
    };
    let signer = Signer::load(&ca(&two), now).expect("is a CA");
    let judge = |lists: &[String]| {
        let lists = Lists::read(lists.concat().as_bytes()).expect("are lists");
        signer.is_trusted(signer.roots(), &lists, now)
    };
    let list = |of: &Authority, revoked: &[&str]| of.revocation_list(revoked).expect("a list");
    let (clean, gone) = (list(&root, &[one.root_pem()]), list(&root, &[two.root_pem()]));
    let (first, second) = (list(&one, &[]), list(&two, &[]));
    assert_eq!(judge(&[]), Ok(()));
    assert_eq!(judge(&[clean.clone(), first.clone(), second.clone()]), Ok(()));
    assert_eq!(judge(&[clean, first.clone()]), Err(Untrusted::Unlisted));
    assert_eq!(judge(&[second.clone(), first.clone()]), Err(Untrusted::Unlisted), "the root has no list");
    assert_eq!(judge(&[gone.clone(), second]), Err(Untrusted::Revoked));
    assert_eq!(judge(&[gone, first]), Err(Untrusted::Revoked), "whoever else has no list");
    let lists = |lists: &[&Authority]| {
        let text: String = lists.iter().map(|of| list(of, &[])).collect();
        Lists::read(text.as_bytes()).expect("are lists")
    };
    let (all, few) = (lists(&[&root, &one, &two]), lists(&[&two, &root]));
    assert_eq!((few.miss(&all), all.miss(&few)), (vec!["CN=one".to_owned()], Vec::new()));
    assert!(Lists::default().miss(&all).is_empty() && all.are(&all) && !few.are(&all));
    assert!(Lists::read(b" \n").expect("no lists").is_empty());
    assert!(Lists::read(root.root_pem().as_bytes()).is_err());
}

#[test]
fn nothing_outlives_the_root_either() {
    let Some(shop) = Workshop::open() else { return };
    shop.run("req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -days 3 -subj /CN=Root -addext keyUsage=critical,keyCertSign");
    shop.run(
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.csr -subj /O=Istio/CN=below",
    );
    shop.write(
        "ca.ext",
        b"basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n",
    );
    shop.run("x509 -req -in ca.csr -CA root.pem -CAkey root.key -CAcreateserial -days 20 -extfile ca.ext -out ca.pem");
    // Of several roots it is the one that counts.
    let other = root(SystemTime::now()).roots;
    let material = Material {
        certificate: shop.read("ca.pem"),
        key: shop.read("ca.key"),
        chain: shop.read("ca.pem"),
        crl: Vec::new(),
        roots: [other, shop.read("root.pem")].concat(),
    };
    let now = SystemTime::now();
    let signer = Signer::load(&material, now).expect("is a CA");
    assert_eq!(signer.root().serial, facts(&shop.read("root.pem")).expect("is one").serial);
    assert!(signer.ends() == signer.root_ends() && signer.chain_ends() > now + 19 * DAY);
    let signed = signer.workload(&request(KeyKind::EcdsaP256), ID, 10 * DAY, now).expect("signs");
    let end = signer.root_ends().duration_since(SystemTime::UNIX_EPOCH).expect("later").as_secs();
    assert_eq!(signed.not_after, end);
    let late = signer.workload(&request(KeyKind::EcdsaP256), ID, DAY, now + 4 * DAY);
    assert_eq!(late.unwrap_err(), Refused::Ended);
    let why = Signer::load(&material, now + 4 * DAY).unwrap_err();
    assert!(why.contains("the root that ca-cert.pem leads to") && why.contains("has ended"), "{why}");
}

#[test]
fn a_server_gets_its_names() {
    let now = SystemTime::now();
    let signer = Signer::load(&root(now), now).expect("is a CA");
    let names = ["istiod.istio-system.svc".to_owned(), "127.0.0.1".to_owned()];
    let (chain, key, _) = signer.server(&names, DAY, now).expect("signs");
    assert_eq!(facts(chain.as_bytes()).expect("is one").dns_names, names[..1]);
    assert!(crate::facts::fits(chain.as_bytes(), key.as_bytes()).is_ok());
}
