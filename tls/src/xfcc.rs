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
        let _ = write!(text, ";Subject=\"{}\"", peer.subject_in_header());
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

/// A name, so that whoever reads the header by its grammar and whoever merely splits it see the same: the client chose its
/// names, and must not be able to add elements, pairs or headers. Therefore nothing is quoted; what separates (`,` `;` `=`),
/// quotes (`"` `\`) or must not stand in a header is percent-encoded. A percent sign is, too, where it could be taken for
/// one of these, so that different names stay different.
fn push_value(text: &mut String, value: &str) {
    let bytes = value.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        let escapes = byte == b'%' && hex_pair(&bytes[at + 1..]).is_some_and(is_escaped);
        if escapes || is_escaped(byte) && byte != b'%' {
            let _ = write!(text, "%{byte:02X}");
        } else {
            text.push(char::from(byte));
        }
    }
}

fn is_escaped(byte: u8) -> bool {
    matches!(byte, b',' | b';' | b'=' | b'"' | b'\\' | b'%') || !byte.is_ascii_graphic()
}

fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    u8::try_from(digit(0)? << 4 | digit(1)?).ok()
}

/// Whether every quote of a received value is closed: behind one that is not, our element would be a part of its text.
pub fn is_whole(value: &[u8]) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for byte in value {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    !quoted
}

#[cfg(test)]
mod tests;
