//! The subject alternative names of one certificate, and how an expected name matches them.

use std::borrow::Cow;
use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// The names a certificate carries, borrowed from its DER.
pub(crate) struct Sans<'a> {
    pub(crate) uris: Vec<&'a str>,
    pub(crate) dns: Vec<&'a str>,
    ips: Vec<&'a [u8]>,
    pub(crate) emails: Vec<&'a str>,
}

/// The certificate's names cannot be read, so nothing may be concluded from them.
#[derive(Debug)]
pub(crate) struct Unreadable;

impl<'a> Sans<'a> {
    /// Fails on malformed names and on a repeated extension: a name that cannot be read must not be passed over.
    pub(crate) fn of(certificate: &X509Certificate<'a>) -> Result<Self, Unreadable> {
        let mut sans = Self { uris: Vec::new(), dns: Vec::new(), ips: Vec::new(), emails: Vec::new() };
        let names = certificate.subject_alternative_name().map_err(|_| Unreadable)?;
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::URI(uri) => sans.uris.push(uri),
                GeneralName::DNSName(name) => sans.dns.push(name),
                GeneralName::IPAddress(octets) => sans.ips.push(octets),
                GeneralName::RFC822Name(email) => sans.emails.push(email),
                GeneralName::Invalid(..) => return Err(Unreadable),
                _ => {}
            }
        }
        Ok(sans)
    }

    /// Whether one of the names is `expected`, as Envoy's exact matcher sees it.
    pub(crate) fn holds(&self, expected: &str) -> bool {
        self.uris.contains(&expected)
            || self.emails.contains(&expected)
            || self.dns.iter().any(|pattern| dns_matches(pattern, expected))
            || expected.parse().is_ok_and(|ip| self.holds_ip(ip))
    }

    /// All names as text for a message, at most a handful of them, control characters escaped.
    pub(crate) fn describe(&self) -> String {
        const SHOWN: usize = 4;
        let ips = self.addresses().into_iter().map(|ip| Cow::Owned(ip.to_string()));
        let texts = self.uris.iter().chain(&self.dns).chain(&self.emails).map(|text| Cow::Borrowed(*text));
        let names: Vec<String> = texts.chain(ips).take(SHOWN).map(|name| printable(&name)).collect();
        if names.is_empty() { "(no name)".to_owned() } else { names.join(", ") }
    }

    /// The IP addresses.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.ips.iter().filter_map(|octets| address(octets)).collect()
    }

    fn holds_ip(&self, expected: IpAddr) -> bool {
        self.ips.iter().any(|octets| address(octets) == Some(expected))
    }
}

/// A peer chooses what stands in its certificate; it must not be able to write lines into our log.
pub(crate) fn printable(text: &str) -> String {
    const LONGEST: usize = 256;
    text.chars().take(LONGEST).flat_map(char::escape_debug).collect()
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// Case-insensitive; `*.example.com` in the certificate stands for exactly one label (RFC 6125 6.4.3).
pub(crate) fn dns_matches(pattern: &str, name: &str) -> bool {
    if pattern.eq_ignore_ascii_case(name) {
        return true;
    }
    let (Some(parent), Some((label, rest))) = (pattern.strip_prefix("*."), name.split_once('.')) else {
        return false;
    };
    !label.is_empty() && !parent.is_empty() && parent.eq_ignore_ascii_case(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sans() -> Sans<'static> {
        Sans {
            uris: vec!["spiffe://cluster.local/ns/a/sa/a"],
            dns: vec!["Example.com", "*.example.org"],
            ips: vec![&[10, 0, 0, 1]],
            emails: vec!["ops@example.com"],
        }
    }

    #[test]
    fn each_kind_of_name_matches_exactly() {
        assert!(sans().holds("spiffe://cluster.local/ns/a/sa/a"));
        assert!(sans().holds("ops@example.com"));
        assert!(sans().holds("10.0.0.1"));
        assert!(sans().holds("example.COM"));
        assert!(!sans().holds("spiffe://cluster.local/ns/a/sa/ab"));
        assert!(!sans().holds("SPIFFE://cluster.local/ns/a/sa/a"));
        assert!(!sans().holds("10.0.0.2"));
        assert!(!sans().holds("a.example.com"));
        assert!(!sans().holds(""));
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        assert!(sans().holds("a.example.org"));
        assert!(!sans().holds("example.org"));
        assert!(!sans().holds(".example.org"));
        assert!(!sans().holds("a.b.example.org"));
    }

    #[test]
    fn hostile_names_are_printed_escaped() {
        assert_eq!(printable("a\r\nb"), "a\\r\\nb");
    }
}
