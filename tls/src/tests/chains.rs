//! Chains of certificates that clients and servers show, each in a real handshake of TLS 1.3 and of TLS 1.2, with
//! `openssl verify` as the judge. Where we differ, the row says why.

use super::openssl::Workshop;
use super::*;
use crate::server::Version;

/// Who shows the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Client,
    /// For `cargo.example`.
    Server,
}
use Shows::{Client, Server};

/// A chain, what is trusted, and what comes of it.
struct Chain {
    name: &'static str,
    shows: Shows,
    /// The own certificate and those below it, by their files.
    chain: &'static [&'static str],
    trusted: &'static [&'static str],
    /// `None`: accepted. Else the reason of the refusal.
    refused: Option<&'static str>,
    /// Why `openssl` says otherwise.
    differs: Option<&'static str>,
}

const fn accepted(
    name: &'static str,
    shows: Shows,
    chain: &'static [&'static str],
    trusted: &'static [&'static str],
) -> Chain {
    Chain { name, shows, chain, trusted, refused: None, differs: None }
}

const fn refused(
    name: &'static str,
    shows: Shows,
    chain: &'static [&'static str],
    trusted: &'static [&'static str],
    reason: &'static str,
) -> Chain {
    Chain { name, shows, chain, trusted, refused: Some(reason), differs: None }
}

impl Chain {
    const fn unlike(self, why: &'static str) -> Self {
        Self { differs: Some(why), ..self }
    }
}

const OLD_BELOW: &str =
    "openssl takes version 1 below an intermediate CA; we take it directly below a trusted one only";
const SHA_1: &str = "openssl verifies SHA-1 at its lowest security level; forgeries of it are within reach";
const COMMON_NAME: &str =
    "openssl takes the common name whoever issued it; we only directly below a CA that was chosen for it";
const CA_AS_LEAF: &str =
    "openssl takes a CA's certificate for a server's; webpki takes only one that is itself trusted";

const CHAINS: &[Chain] = &[
    // Version 3.
    accepted("a leaf", Client, &["leaf"], &["root"]),
    accepted("a leaf", Server, &["leaf"], &["root"]),
    accepted("a leaf below an intermediate CA", Client, &["deep", "between"], &["root"]),
    accepted("a leaf below an intermediate CA", Server, &["deep", "between"], &["root"]),
    accepted("the chain with its root", Client, &["deep", "between", "root"], &["root"]),
    accepted("an intermediate CA is trusted, not its root", Client, &["deep"], &["between"]),
    accepted("one of several CAs", Client, &["leaf"], &["other", "root"]),
    refused("a CA that is not trusted", Client, &["leaf"], &["other"], "UnknownCa"),
    refused("a CA that is not trusted", Server, &["leaf"], &["other"], "UnknownCa"),
    refused("a CA of the same name and another key", Client, &["leaf"], &["twin"], "UnknownCa"),
    refused("the intermediate CA is missing", Client, &["deep"], &["root"], "UnknownCa"),
    refused("an end", Client, &["ended"], &["root"], "CertificateExpired"),
    refused("an end", Server, &["ended"], &["root"], "CertificateExpired"),
    refused("a leaf that issued", Client, &["below-leaf", "leaf"], &["root"], "NoCaInChain"),
    refused("a leaf that issued, and is trusted", Client, &["below-leaf"], &["leaf"], "UnknownCa"),
    refused("a leaf that issued, and is trusted", Server, &["below-leaf"], &["leaf"], "UnknownCa"),
    refused("a leaf without basic constraints that issued", Client, &["below-bare"], &["bare"], "UnknownCa"),
    refused("a CA without the right to sign certificates", Client, &["below-signless"], &["signless"], "UnknownCa"),
    refused("an intermediate CA without that right", Client, &["below-mute", "mute"], &["root"], "NoCaInChain"),
    refused("an intermediate CA without that right", Server, &["below-mute", "mute"], &["root"], "NoCaInChain"),
    accepted("one without that right that is not needed", Client, &["leaf", "mute"], &["root"]),
    refused("a key that may not sign", Client, &["encrypts"], &["root"], "WrongPurpose"),
    accepted("a key that may encrypt", Server, &["encrypts"], &["root"]),
    refused("a key for neither", Server, &["data"], &["root"], "WrongPurpose"),
    refused("a longer chain than the CA allows", Client, &["too-deep", "second", "shallow"], &["root"], "ChainTooLong"),
    refused("for servers only", Client, &["server-only"], &["root"], "WrongPurpose"),
    accepted("for servers only", Server, &["server-only"], &["root"]),
    accepted("for clients only", Client, &["client-only"], &["root"]),
    refused("for clients only", Server, &["client-only"], &["root"], "WrongPurpose"),
    refused("a critical extension that nobody knows", Client, &["critical"], &["root"], "CriticalExtension"),
    refused("another name", Server, &["elsewhere"], &["root"], "WrongName"),
    refused(
        "a name against the constraints",
        Server,
        &["below-constrained", "constrained"],
        &["root"],
        "NameConstraints",
    ),
    refused("a CA's own certificate", Client, &["root"], &["other"], "CaAsEndEntity"),
    refused("an intermediate CA's own certificate", Client, &["between"], &["root"], "CaAsEndEntity")
        .unlike(CA_AS_LEAF),
    refused("a CA that has ended", Client, &["below-ended"], &["ended-root"], "CaExpired"),
    refused("a CA that has ended", Server, &["below-ended"], &["ended-root"], "CaExpired"),
    accepted("a CA that has ended, and one that has not", Client, &["leaf"], &["ended-root", "root"]),
    accepted("directly below a CA that allows no other", Client, &["below-shallow"], &["shallow"]),
    refused("below another of a CA that allows none", Client, &["too-deep", "second"], &["shallow"], "ChainTooLong"),
    accepted("below a CA for clients only", Client, &["below-clients"], &["clients"]),
    refused("below a CA for clients only", Server, &["below-clients"], &["clients"], "WrongPurpose"),
    refused("version 1 below a CA for clients only", Server, &["old-clients"], &["clients"], "WrongPurpose"),
    refused("version 1 below a CA that has ended", Client, &["old-below-ended"], &["ended-root"], "CaExpired"),
    refused("signed with SHA-1", Client, &["sha1"], &["root"], "SignatureAlgorithm").unlike(SHA_1),
    // Version 1, directly below a trusted CA.
    accepted("version 1", Client, &["old"], &["root"]),
    accepted("version 1, named by its subject", Server, &["old"], &["root"]),
    accepted("version 1 with RSA", Client, &["old-rsa"], &["rsa-root"]),
    accepted("version 1 with RSA", Server, &["old-rsa"], &["rsa-root"]),
    accepted("version 1 with RSA-PSS", Client, &["old-pss"], &["rsa-root"]),
    accepted("version 1 with Ed25519", Client, &["old-ed"], &["root"]),
    accepted("version 1 with P-384", Client, &["old-p384"], &["root"]),
    accepted("version 1 below a trusted intermediate CA", Client, &["old-deep"], &["between"]),
    accepted("version 1 with its root", Client, &["old", "root"], &["root"]),
    refused("version 1 of another name", Server, &["old-elsewhere"], &["root"], "WrongName"),
    refused("version 1 that ended", Client, &["old-ended"], &["root"], "CertificateExpired"),
    refused("version 1 of another CA", Client, &["old"], &["other"], "UnknownCa"),
    refused("version 1 of a CA of the same name", Client, &["old"], &["twin"], "UnknownCa"),
    refused("version 1 of a CA of the same name", Server, &["old"], &["twin"], "UnknownCa"),
    refused("version 1 of a CA of the same name, which comes along", Client, &["old", "twin"], &["twin"], "UnknownCa"),
    refused("version 1 with SHA-1", Client, &["old-sha1"], &["root"], "SignatureAlgorithm").unlike(SHA_1),
    refused("version 1 below an intermediate CA", Client, &["old-deep", "between"], &["root"], "Version1")
        .unlike(OLD_BELOW),
    refused("version 1 below an intermediate CA", Server, &["old-deep", "between"], &["root"], "Version1")
        .unlike(OLD_BELOW),
    refused("version 1 below a constrained CA", Client, &["old-constrained"], &["constrained"], "UnknownCa"),
    // Version 1 that issues.
    accepted("a root of version 1", Client, &["below-old-root"], &["old-root"]),
    accepted("a root of version 1", Server, &["below-old-root"], &["old-root"]),
    accepted("version 1 below a root of version 1", Client, &["old-below-old-root"], &["old-root"]),
    refused("a leaf of version 1 that issued", Client, &["below-old", "old"], &["root"], "Version1"),
    refused("a leaf of version 1 that issued version 1", Client, &["old-below-old", "old"], &["root"], "Version1"),
    refused("a leaf of version 1 that issued, and is trusted", Client, &["below-old"], &["old"], "UnknownCa"),
    refused(
        "a leaf of version 1 that issued version 1, and is trusted",
        Client,
        &["old-below-old"],
        &["old"],
        "UnknownCa",
    ),
    // Certificates that are trusted themselves.
    accepted("a CA's own certificate that is trusted", Client, &["self"], &["self"]),
    accepted("a CA's own certificate that is trusted", Server, &["self"], &["self"]),
    accepted("a CA's own certificate without subjectAltName", Server, &["self-unnamed"], &["self-unnamed"]),
    accepted("a leaf that is trusted itself", Client, &["leaf"], &["leaf"]),
    accepted("a leaf that signed itself", Client, &["lone"], &["lone"]),
    accepted("a leaf that signed itself", Server, &["lone"], &["lone"]),
    accepted("version 1 that is trusted itself", Client, &["old"], &["old"]),
    accepted("version 1 that signed itself", Client, &["old-root"], &["old-root"]),
    refused("of another name, trusted itself", Server, &["self-elsewhere"], &["self-elsewhere"], "WrongName"),
    refused("that ended, trusted itself", Client, &["ended"], &["ended"], "CertificateExpired"),
    refused("for servers only, trusted itself", Client, &["server-only"], &["server-only"], "WrongPurpose"),
    refused("for certificates only, trusted itself", Client, &["signs-only"], &["signs-only"], "WrongPurpose"),
    refused("a critical extension, trusted itself", Client, &["critical"], &["critical"], "CriticalExtension"),
    refused("the twin of a trusted one", Client, &["twin"], &["root"], "CaAsEndEntity"),
    // Names without subjectAltName.
    accepted("no subjectAltName", Server, &["unnamed"], &["root"]),
    refused("no subjectAltName below an intermediate CA", Server, &["unnamed-deep", "between"], &["root"], "WrongName")
        .unlike(COMMON_NAME),
    refused("a subjectAltName elsewhere and the common name here", Server, &["two-names"], &["root"], "WrongName"),
];

const SECTIONS: &str = "
[req]
distinguished_name = dn
[dn]
[ca]
basicConstraints = critical,CA:TRUE
[ca0]
basicConstraints = critical,CA:TRUE,pathlen:0
[ca-san]
basicConstraints = critical,CA:TRUE
subjectAltName = DNS:cargo.example
[ca-elsewhere]
basicConstraints = critical,CA:TRUE
subjectAltName = DNS:elsewhere.example
[signless]
basicConstraints = critical,CA:TRUE
keyUsage = critical,digitalSignature
[signs-only]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
[constrained]
basicConstraints = critical,CA:TRUE
nameConstraints = critical,permitted;DNS:elsewhere.example
[encrypts]
keyUsage = keyEncipherment
subjectAltName = DNS:cargo.example
[data]
keyUsage = dataEncipherment
subjectAltName = DNS:cargo.example
[clients]
basicConstraints = critical,CA:TRUE
extendedKeyUsage = clientAuth
[leaf]
basicConstraints = CA:FALSE
subjectAltName = DNS:cargo.example
[bare]
subjectAltName = DNS:cargo.example
[unnamed]
basicConstraints = CA:FALSE
[elsewhere]
basicConstraints = CA:FALSE
subjectAltName = DNS:elsewhere.example
[server]
extendedKeyUsage = serverAuth
subjectAltName = DNS:cargo.example
[client]
extendedKeyUsage = clientAuth
subjectAltName = DNS:cargo.example
[critical]
1.2.3.4 = critical,ASN1:UTF8String:x
";

/// Name, common name, kind of key, section of extensions (none: version 1), days, issuer (none: itself).
type Make = (&'static str, &'static str, &'static str, &'static str, i32, &'static str);

const EC: &str = "ec -pkeyopt ec_paramgen_curve:prime256v1";
const P384: &str = "ec -pkeyopt ec_paramgen_curve:secp384r1";
const RSA: &str = "rsa:2048";
const HOST: &str = "cargo.example";

const MAKES: &[Make] = &[
    ("root", "root", EC, "ca", 30, ""),
    ("twin", "root", EC, "ca", 30, ""),
    ("other", "other", EC, "ca", 30, ""),
    ("rsa-root", "rsa-root", RSA, "ca", 30, ""),
    ("old-root", "old-root", EC, "", 30, ""),
    ("ended-root", "ended-root", EC, "ca", -1, ""),
    ("signless", "signless", EC, "signless", 30, ""),
    ("signs-only", "signs-only", EC, "signs-only", 30, ""),
    ("bare", "bare", EC, "bare", 30, ""),
    ("self", "self", EC, "ca-san", 30, ""),
    ("self-unnamed", HOST, EC, "ca", 30, ""),
    ("self-elsewhere", "self-elsewhere", EC, "ca-elsewhere", 30, ""),
    ("lone", "lone", EC, "leaf", 30, ""),
    ("clients", "clients", EC, "clients", 30, ""),
    ("between", "between", EC, "ca", 30, "root"),
    ("shallow", "shallow", EC, "ca0", 30, "root"),
    ("second", "second", EC, "ca", 30, "shallow"),
    ("constrained", "constrained", EC, "constrained", 30, "root"),
    ("leaf", HOST, EC, "leaf", 30, "root"),
    ("deep", HOST, EC, "leaf", 30, "between"),
    ("too-deep", HOST, EC, "leaf", 30, "second"),
    ("ended", HOST, EC, "leaf", -1, "root"),
    ("below-leaf", HOST, EC, "leaf", 30, "leaf"),
    ("below-bare", HOST, EC, "leaf", 30, "bare"),
    ("below-signless", HOST, EC, "leaf", 30, "signless"),
    ("below-ended", HOST, EC, "leaf", 30, "ended-root"),
    ("mute", "mute", EC, "signless", 30, "root"),
    ("below-mute", HOST, EC, "leaf", 30, "mute"),
    ("encrypts", HOST, EC, "encrypts", 30, "root"),
    ("data", HOST, EC, "data", 30, "root"),
    ("below-shallow", HOST, EC, "leaf", 30, "shallow"),
    ("below-clients", HOST, EC, "leaf", 30, "clients"),
    ("old-clients", HOST, EC, "", 30, "clients"),
    ("old-below-ended", HOST, EC, "", 30, "ended-root"),
    ("below-constrained", HOST, EC, "leaf", 30, "constrained"),
    ("server-only", HOST, EC, "server", 30, "root"),
    ("client-only", HOST, EC, "client", 30, "root"),
    ("critical", HOST, EC, "critical", 30, "root"),
    ("elsewhere", HOST, EC, "elsewhere", 30, "root"),
    ("two-names", HOST, EC, "elsewhere", 30, "root"),
    ("unnamed", HOST, EC, "unnamed", 30, "root"),
    ("unnamed-deep", HOST, EC, "unnamed", 30, "between"),
    ("sha1", HOST, EC, "leaf", 30, "root -sha1"),
    ("old", HOST, EC, "", 30, "root"),
    ("old-rsa", HOST, RSA, "", 30, "rsa-root"),
    ("old-pss", HOST, RSA, "", 30, "rsa-root -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest"),
    ("old-ed", HOST, "ed25519", "", 30, "root"),
    ("old-p384", HOST, P384, "", 30, "root"),
    ("old-deep", HOST, EC, "", 30, "between"),
    ("old-elsewhere", "elsewhere.example", EC, "", 30, "root"),
    ("old-ended", HOST, EC, "", -1, "root"),
    ("old-sha1", HOST, EC, "", 30, "root -sha1"),
    ("old-constrained", HOST, EC, "", 30, "constrained"),
    ("below-old-root", HOST, EC, "leaf", 30, "old-root"),
    ("old-below-old-root", HOST, EC, "", 30, "old-root"),
    ("below-old", "below-old", EC, "leaf", 30, "old"),
    ("old-below-old", "old-below-old", EC, "", 30, "old"),
];

fn make(workshop: &Workshop, (serial, make): (usize, &Make)) {
    let (name, subject, key, section, days, issuer) = make;
    let key = format!("-newkey {key} -nodes -keyout {name}.key");
    workshop.run(&format!("req -new -config cnf {key} -subj /CN={subject} -out csr"));
    let extensions = if section.is_empty() { String::new() } else { format!("-extfile cnf -extensions {section}") };
    let (issuer, options) = issuer.split_once(' ').unwrap_or((issuer, ""));
    let signer = match issuer {
        "" => format!("-signkey {name}.key"),
        _ => format!("-CA {issuer}.crt -CAkey {issuer}.key"),
    };
    let signer = format!("{signer} -set_serial {serial} {options}");
    workshop.run(&format!("x509 -req -in csr {signer} -days {days} {extensions} -out {name}.crt"));
}

/// The files of some certificates, one after the other.
fn joined(workshop: &Workshop, names: &[&str]) -> Vec<u8> {
    names.iter().flat_map(|name| workshop.read(&format!("{name}.crt"))).collect()
}

fn openssl_accepts(workshop: &Workshop, chain: &Chain) -> bool {
    workshop.write("trusted", &joined(workshop, chain.trusted));
    workshop.write("below", &joined(workshop, &chain.chain[1..]));
    let purpose = match chain.shows {
        Client => "-purpose sslclient".to_owned(),
        Server => format!("-purpose sslserver -verify_hostname {HOST}"),
    };
    let untrusted = if chain.chain.len() > 1 { "-untrusted below" } else { "" };
    // As Envoy does, an intermediate CA may be trusted without its root.
    let options = "-partial_chain -no-CApath -no-CAstore -CAfile trusted";
    workshop.agrees(&format!("verify {options} {purpose} {untrusted} {}.crt", chain.chain[0]))
}

/// The reason of our refusal.
async fn ours(workshop: &Workshop, ca: &Authority, chain: &Chain, version: Version) -> Option<&'static str> {
    let trusted = joined(workshop, chain.trusted);
    let (own, key) = (joined(workshop, chain.chain), workshop.read(&format!("{}.key", chain.chain[0])));
    let spec = ServerSpec { max_version: version, ..server_spec(ca) };
    match chain.shows {
        Client => {
            let auth = ClientAuth::Required { roots_pem: trusted, crl: None, sans: Vec::new() };
            let certificate = Certificate::Pem { chain: own, key };
            let (server, client) =
                (server(&ServerSpec { client: auth, ..spec }), client(&ClientSpec { certificate, ..client_spec(ca) }));
            let (served, asked) = meet(&server, &client, HOST).await;
            assert_eq!(served.is_ok(), asked.is_ok(), "{}: both sides know", chain.name);
            served.err().map(|error| error.reason())
        }
        Server => {
            let certificates = vec![CertifiedPem { chain: own, key, ocsp: None }];
            let server = server(&ServerSpec { certificates, ..spec });
            let client = client(&ClientSpec { roots: Roots::Pem(trusted), ..client_spec(ca) });
            let (served, asked) = meet(&server, &client, HOST).await;
            assert_eq!(served.is_ok(), asked.is_ok(), "{}: both sides know", chain.name);
            asked.err().map(|error| error.reason())
        }
    }
}

#[tokio::test]
async fn chains_are_judged_as_openssl_judges_them() {
    let Some(workshop) = Workshop::open() else { return };
    workshop.write("cnf", SECTIONS.as_bytes());
    MAKES.iter().enumerate().for_each(|numbered| make(&workshop, numbered));
    if !workshop.is_version_1("old.crt") {
        return;
    }
    let ca = authority();
    let mut faults = Vec::new();
    for chain in CHAINS {
        let name = format!("{} ({:?})", chain.name, chain.shows);
        let accepts = openssl_accepts(&workshop, chain);
        for version in [Version::Tls13, Version::Tls12] {
            let reason = ours(&workshop, &ca, chain, version).await;
            if reason != chain.refused {
                faults.push(format!("{name}, {version:?}: expected {:?}, was {reason:?}", chain.refused));
            }
        }
        let (same, ours) = (accepts == chain.refused.is_none(), chain.refused.is_none());
        if same == chain.differs.is_some() {
            faults.push(format!("{name}: openssl accepts: {accepts}, we: {ours}, differs: {:?}", chain.differs));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(CHAINS.len() >= 60);
}
