//! The x-forwarded-client-cert header, in Envoy's format.

use std::fmt::Write as _;

use crate::identity::PeerIdentity;

/// Which keys of an element are written besides `By` and `Hash`.
///
/// Source: Envoy `set_current_client_cert_details`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Include {
    /// The whole client certificate as URL-encoded PEM.
    pub cert: bool,
    /// The subject in RFC 2253 form.
    pub subject: bool,
    /// The URI SANs.
    pub uri: bool,
    /// The DNS SANs.
    pub dns: bool,
}

impl Include {
    /// What an Istio sidecar adds for inbound requests.
    pub const SIDECAR: Self = Self { cert: false, subject: true, uri: true, dns: true };
    /// What an Istio ingress gateway adds for clients with a certificate.
    pub const GATEWAY: Self = Self { cert: true, subject: true, uri: true, dns: true };
}

/// One element: the peer's certificate, received by the certificate whose URI SAN is `by`.
///
/// The same for every request of a connection, so make it once per connection.
pub fn element(peer: &PeerIdentity, by: Option<&str>, include: Include) -> String {
    let mut text = String::with_capacity(256);
    if let Some(by) = by {
        text.push_str("By=");
        push_value(&mut text, by);
        text.push(';');
    }
    let _ = write!(text, "Hash={}", peer.sha256_hex);
    if include.cert {
        let _ = write!(text, ";Cert=\"{}\"", peer.pem_urlencoded());
    }
    if include.subject {
        // A quote inside the subject is escaped by RFC 2253 already.
        let _ = write!(text, ";Subject=\"{}\"", peer.subject);
    }
    if include.uri {
        // Envoy writes the key even when there is nothing to put in it.
        text.push_str(";URI=");
        let mut uris = peer.uri_sans.iter();
        uris.next().into_iter().for_each(|uri| push_value(&mut text, uri));
        uris.for_each(|uri| push_pair(&mut text, "URI", uri));
    }
    if include.dns {
        peer.dns_sans.iter().for_each(|name| push_pair(&mut text, "DNS", name));
    }
    text
}

fn push_pair(text: &mut String, key: &str, value: &str) {
    let _ = write!(text, ";{key}=");
    push_value(text, value);
}

/// A name that holds one of the format's separators is quoted, and what must not stand in a header is
/// percent-encoded: the client chose its names, and must not be able to add elements or headers.
fn push_value(text: &mut String, value: &str) {
    let quoted = value.contains([',', ';', '=', '"']);
    if quoted {
        text.push('"');
    }
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' if quoted => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b'!'..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    if quoted {
        text.push('"');
    }
}
