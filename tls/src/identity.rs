//! Who a peer is: SPIFFE ids, and what its certificate says.

mod details;

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use crate::Error;
use crate::san::Sans;
use crate::subject;

/// A SPIFFE id such as `spiffe://cluster.local/ns/cargo/sa/rating`.
///
/// Source: the SPIFFE-ID specification, section 2; Istio `pkg/spiffe`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Where the path starts in `text`.
    path: usize,
}

/// The text is not a SPIFFE id; the message says which rule it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a SPIFFE id: {0}")]
pub struct BadSpiffeId(&'static str);

impl SpiffeId {
    /// Parse `spiffe://<trust domain>/<path>`.
    pub fn parse(text: &str) -> Result<Self, BadSpiffeId> {
        let rest = text.strip_prefix(SCHEME).ok_or(BadSpiffeId("it must start with spiffe://"))?;
        if text.len() > LONGEST {
            return Err(BadSpiffeId("it is longer than 2048 bytes"));
        }
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let in_domain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if domain.is_empty() || domain.len() > 255 || !domain.bytes().all(in_domain) {
            return Err(BadSpiffeId("the trust domain is 1 to 255 of a-z, 0-9, dot, dash and underscore"));
        }
        let in_path = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        for segment in path.split('/').skip(1) {
            if segment.is_empty() || segment == "." || segment == ".." || !segment.bytes().all(in_path) {
                return Err(BadSpiffeId("a path segment is letters, digits, dots, dashes and underscores"));
            }
        }
        Ok(Self { text: text.into(), path: SCHEME.len() + domain.len() })
    }

    /// The id Istio gives to a service account; `@` in the trust domain becomes `.`, as there.
    pub fn workload(trust_domain: &str, namespace: &str, service_account: &str) -> Result<Self, BadSpiffeId> {
        Self::parse(&format!("{SCHEME}{}/ns/{namespace}/sa/{service_account}", trust_domain.replace('@', ".")))
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part after `spiffe://`, up to the path.
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..self.path]
    }

    /// The Kubernetes namespace; `None` when the path is not Istio's `/ns/<namespace>/sa/<service account>`.
    pub fn namespace(&self) -> Option<&str> {
        self.workload_path().map(|(namespace, _)| namespace)
    }

    /// The Kubernetes service account; `None` when the path is not Istio's.
    pub fn service_account(&self) -> Option<&str> {
        self.workload_path().map(|(_, account)| account)
    }

    fn workload_path(&self) -> Option<(&str, &str)> {
        let (namespace, account) = self.text[self.path..].strip_prefix("/ns/")?.split_once("/sa/")?;
        (!namespace.contains('/') && !account.contains('/')).then_some((namespace, account))
    }
}

impl FromStr for SpiffeId {
    type Err = BadSpiffeId;

    fn from_str(text: &str) -> Result<Self, BadSpiffeId> {
        Self::parse(text)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a peer's certificate says about it. The chain was verified before this is made.
pub struct PeerIdentity {
    /// The principal: the URI SAN, when there is exactly one and it is a SPIFFE id of a workload.
    pub spiffe: Option<Arc<str>>,
    /// All URI SANs, in the certificate's order.
    pub uri_sans: Vec<Box<str>>,
    /// All DNS SANs, in the certificate's order.
    pub dns_sans: Vec<Box<str>>,
    /// The subject as one line of RFC 2253; empty for mesh certificates.
    pub subject: Box<str>,
    /// SHA-256 of the certificate's DER, in lower-case hex.
    pub sha256_hex: Box<str>,
    /// When the certificate ends, in seconds since 1970.
    pub not_after: i64,
    /// The certificate is of an X.509 version before 3.
    pub old: bool,
    der: Box<[u8]>,
    pem: OnceLock<Box<str>>,
}

impl PeerIdentity {
    /// Read a DER certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Error::BadCertificate(None))?;
        let sans = Sans::of(&certificate).map_err(|_| Error::BadCertificate(None))?;
        Ok(Self {
            spiffe: spiffe(&sans).map(Arc::from),
            uri_sans: sans.uris.iter().map(|uri| (*uri).into()).collect(),
            dns_sans: sans.dns.iter().map(|name| (*name).into()).collect(),
            subject: subject::rfc2253(certificate.subject()).into(),
            sha256_hex: hex(digest(&SHA256, der).as_ref()).into(),
            not_after: certificate.validity().not_after.timestamp(),
            old: certificate.version() != X509Version::V3,
            der: der.into(),
            pem: OnceLock::new(),
        })
    }

    /// The subject for a quoted string of x-forwarded-client-cert: RFC 2253, with everything in its values that separates or
    /// quotes as two hex digits, which that allows for any character.
    pub(crate) fn subject_in_header(&self) -> String {
        let parsed = X509Certificate::from_der(&self.der);
        parsed.map_or_else(|_| String::new(), |(_, parsed)| subject::in_header(parsed.subject()))
    }

    /// The certificate as PEM, URL-encoded as Envoy does for x-forwarded-client-cert; made on first use.
    pub fn pem_urlencoded(&self) -> &str {
        self.pem.get_or_init(|| urlencoded_pem(&self.der).into())
    }
}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerIdentity")
            .field("spiffe", &self.spiffe)
            .field("subject", &self.subject)
            .field("sha256_hex", &self.sha256_hex)
            .finish_non_exhaustive()
    }
}

/// The id of a workload. The path of a certificate's own id is not empty (SPIFFE X.509-SVID section 5.2).
pub(crate) fn of_peer(uri: &str) -> Result<SpiffeId, BadSpiffeId> {
    let id = SpiffeId::parse(uri)?;
    if id.path == id.text.len() {
        return Err(BadSpiffeId("it names a trust domain and no workload in it"));
    }
    Ok(id)
}

/// The one URI SAN of a mesh certificate (SPIFFE X.509-SVID section 2: exactly one). What breaks a rule of SPIFFE is no
/// identity: who reads it otherwise than we do would take it for somebody else's.
pub(crate) fn spiffe<'a>(sans: &Sans<'a>) -> Option<&'a str> {
    match sans.uris[..] {
        [uri] => of_peer(uri).ok().map(|_| uri),
        _ => None,
    }
}

/// The SPIFFE URI SAN of a DER certificate.
pub(crate) fn spiffe_of(der: &[u8]) -> Option<Box<str>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    spiffe(&Sans::of(&certificate).ok()?).map(Box::from)
}

/// When a DER certificate ends, in seconds since 1970.
pub(crate) fn not_after(der: &[u8]) -> Result<i64, Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Error::BadCertificate(None))?;
    Ok(certificate.validity().not_after.timestamp())
}

/// When a DER certificate begins and ends, in seconds since 1970.
pub(crate) fn validity(der: &[u8]) -> Result<(i64, i64), Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Error::BadCertificate(None))?;
    let validity = certificate.validity();
    Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

pub(crate) const SCHEME: &str = "spiffe://";
const LONGEST: usize = 2048;

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn urlencoded_pem(der: &[u8]) -> String {
    let pem = x509_pem(der);
    let mut text = String::with_capacity(pem.len() + pem.len() / 8);
    for letter in pem.chars() {
        match letter {
            '\n' => text.push_str("%0A"),
            ' ' => text.push_str("%20"),
            '+' => text.push_str("%2B"),
            '/' => text.push_str("%2F"),
            '=' => text.push_str("%3D"),
            other => text.push(other),
        }
    }
    text
}

pub(crate) fn x509_pem(der: &[u8]) -> String {
    written_pem("CERTIFICATE", der)
}

pub(crate) fn written_pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    let _ = writeln!(text, "-----END {label}-----");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_istio_id_has_its_three_parts() {
        let id = SpiffeId::parse("spiffe://cluster.local/ns/cargo/sa/rating").expect("is an id");
        assert_eq!(id.trust_domain(), "cluster.local");
        assert_eq!(id.namespace(), Some("cargo"));
        assert_eq!(id.service_account(), Some("rating"));
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/cargo/sa/rating");
    }

    #[test]
    fn an_id_of_another_shape_has_only_a_trust_domain() {
        for text in
            ["spiffe://td", "spiffe://td/ns/a", "spiffe://td/ns/a/b/sa/c", "spiffe://td/ns/a/sa/b/c", "spiffe://td/x"]
        {
            let id = SpiffeId::parse(text).expect(text);
            assert_eq!((id.trust_domain(), id.namespace(), id.service_account()), ("td", None, None), "{text}");
        }
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let long = format!("spiffe://td/{}", "a".repeat(2048));
        let bad = [
            "",
            "spiffe://",
            "spiffe:///ns/a/sa/b",
            "https://td/ns/a/sa/b",
            "SPIFFE://td/a",
            "spiffe://TD/a",
            "spiffe://td/",
            "spiffe://td//a",
            "spiffe://td/a/",
            "spiffe://td/./a",
            "spiffe://td/../a",
            "spiffe://td/a?b",
            "spiffe://td/a#b",
            "spiffe://td:80/a",
            "spiffe://u@td/a",
            "spiffe://td/%61",
            "spiffe://td/a b",
            "spiffe://td/é",
            &long,
        ];
        for text in bad {
            assert!(SpiffeId::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_id_of_a_service_account_is_istios() {
        let id = SpiffeId::workload("a@b.local", "cargo", "rating").expect("is an id");
        assert_eq!(id.as_str(), "spiffe://a.b.local/ns/cargo/sa/rating");
        assert!(SpiffeId::workload("td", "a/b", "").is_err());
    }

    #[test]
    fn pem_is_written_as_openssl_writes_it() {
        assert_eq!(x509_pem(b"a"), "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n");
        assert_eq!(x509_pem(b"abc"), "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n");
        assert!(x509_pem(&[0xff; 49]).contains(&format!("{}\n/w==\n", "/".repeat(64))));
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics_and_printing_gives_the_text_back(text in "(spiffe://)?[a-z./@ns%é]{0,40}") {
            if let Ok(id) = SpiffeId::parse(&text) {
                proptest::prop_assert_eq!(id.to_string(), text);
                proptest::prop_assert!(!id.trust_domain().is_empty());
            }
        }

        #[test]
        fn no_bytes_panic_as_a_certificate(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            proptest::prop_assert!(PeerIdentity::from_der(&bytes).is_err());
        }
    }
}
