//! `Issuer` (acme.sluice.dev): a CA that speaks ACME (RFC 8555), and how to prove to it that hosts are ours.

use std::net::Ipv6Addr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::check::is_host_name;
use super::scalar::{ProtoDuration, non_empty};

/// `Issuer`: a CA that Gateways order their certificates from, named by their annotation `acme.sluice.dev/issuer`. It is
/// looked up in the gateway's own namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Issuer {
    /// URL of the CA's directory, beginning with `https://`. An Issuer named `letsencrypt` or `letsencrypt-staging` may
    /// leave it out.
    #[serde(deserialize_with = "non_empty")]
    pub server: Option<String>,
    /// Where the CA may write to.
    #[serde(deserialize_with = "non_empty")]
    pub email: Option<String>,
    /// Whether you agree to the CA's terms of service; nothing is ordered before that.
    pub terms_of_service_agreed: bool,
    /// Certificates that the CA's own HTTPS certificate has to chain to, as PEM or as base64 of PEM; what the system
    /// trusts when unset.
    #[serde(deserialize_with = "non_empty")]
    pub ca_bundle: Option<String>,
    /// An account that the CA has given you outside of ACME (RFC 8555 section 7.3.4).
    pub external_account: Option<ExternalAccount>,
    /// Certificate profile, as the CA calls it; the CA's default when unset.
    #[serde(deserialize_with = "non_empty")]
    pub profile: Option<String>,
    /// The challenges to use, the preferred one first; when empty, what the gateway's ports allow.
    pub challenges: Vec<Challenge>,
    /// How TXT records are published, for dns-01.
    pub dns01: Option<Dns01>,
    /// Kind of the certificates' keys.
    pub key_type: KeyType,
}

/// `Issuer.externalAccount`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ExternalAccount {
    /// The CA's name for the account. Required.
    #[serde(rename = "keyID")]
    #[schemars(extend("x-required" = true))]
    pub key_id: String,
    /// Secret of the same namespace that holds the MAC key, as the CA's base64url text, under `key`, `hmac-key` or
    /// `secret`. Required.
    #[schemars(extend("x-required" = true))]
    pub secret_name: String,
}

/// `Issuer.dns01`: either `rfc2136` or `exec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Dns01 {
    /// Wait after publishing, before the CA is told to look; 0s when unset.
    pub propagation_delay: Option<ProtoDuration>,
    /// By dynamic updates of a name server.
    pub rfc2136: Option<Rfc2136>,
    /// By a program.
    pub exec: Option<Exec>,
}

/// `Issuer.dns01.rfc2136`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Rfc2136 {
    /// `host` or `host:port` of the primary name server; port 53 when unset. Required.
    #[schemars(extend("x-required" = true))]
    pub nameserver: String,
    /// The zone to update; asked of the name server when unset.
    #[serde(deserialize_with = "non_empty")]
    pub zone: Option<String>,
    /// Name of the key that signs updates (TSIG); unsigned when unset.
    #[serde(deserialize_with = "non_empty")]
    pub tsig_key_name: Option<String>,
    /// HMAC-SHA256 (default), HMAC-SHA384 or HMAC-SHA512.
    pub tsig_algorithm: Option<TsigAlgorithm>,
    /// Secret of the same namespace that holds that key, as base64 text, under `key`, `secret` or `tsig-secret-key`.
    #[serde(deserialize_with = "non_empty")]
    pub tsig_secret_name: Option<String>,
}

impl Rfc2136 {
    /// `host:port`, with brackets around an IPv6 address; `None` = the text is no such thing.
    pub fn authority(&self) -> Option<String> {
        const DNS: u16 = 53;
        let text = self.nameserver.as_str();
        if text.parse::<Ipv6Addr>().is_ok() {
            return Some(format!("[{text}]:{DNS}"));
        }
        let (host, port) = match text.rsplit_once(':') {
            _ if text.ends_with(']') => (text, DNS),
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
            None => (text, DNS),
        };
        let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let good = match address {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => is_host_name(host),
        };
        good.then(|| format!("{host}:{port}"))
    }
}

/// `Issuer.dns01.exec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Exec {
    /// Name of a file in the gateway's folder of hooks; never a path. Required.
    #[schemars(extend("x-required" = true))]
    pub command: String,
    /// It is ended after this time; 2m when unset.
    pub timeout: Option<ProtoDuration>,
}

/// How a CA checks that a host is ours.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, JsonSchema)]
pub enum Challenge {
    /// A file on port 80 (RFC 8555 section 8.3).
    #[serde(rename = "http-01")]
    Http01,
    /// A certificate on port 443 under an ALPN of its own (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// A TXT record (RFC 8555 section 8.4).
    #[serde(rename = "dns-01")]
    Dns01,
}

impl Challenge {
    /// As in RFC 8555: `http-01`, `tls-alpn-01`, `dns-01`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
        }
    }
}

/// Kind of a certificate's key.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Deserialize, JsonSchema)]
pub enum KeyType {
    /// ECDSA with the curve P-256: small, fast, understood everywhere.
    #[default]
    #[serde(rename = "ECDSA-P256")]
    EcdsaP256,
    /// ECDSA with the curve P-384.
    #[serde(rename = "ECDSA-P384")]
    EcdsaP384,
    /// RSA with 2048 bits, for clients that know no ECDSA.
    #[serde(rename = "RSA-2048")]
    Rsa2048,
    /// RSA with 3072 bits.
    #[serde(rename = "RSA-3072")]
    Rsa3072,
    /// RSA with 4096 bits: each handshake costs many times more.
    #[serde(rename = "RSA-4096")]
    Rsa4096,
}

impl KeyType {
    /// As in `spec.keyType`.
    pub fn name(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ECDSA-P256",
            Self::EcdsaP384 => "ECDSA-P384",
            Self::Rsa2048 => "RSA-2048",
            Self::Rsa3072 => "RSA-3072",
            Self::Rsa4096 => "RSA-4096",
        }
    }
}

/// RFC 8945 section 6, as far as it is not obsolete.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TsigAlgorithm {
    /// `hmac-sha256`.
    #[default]
    HmacSha256,
    /// `hmac-sha384`.
    HmacSha384,
    /// `hmac-sha512`.
    HmacSha512,
}

/// Directory of Let's Encrypt.
const LETSENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Directory of its test environment, which nobody trusts and which has room for mistakes.
const LETSENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// Names of the issuers that need no object.
pub const BUILT_IN: [&str; 2] = ["letsencrypt", "letsencrypt-staging"];

/// The directory of an issuer that needs no object; `None` = there is none of this name.
pub fn built_in(name: &str) -> Option<&'static str> {
    match name {
        "letsencrypt" => Some(LETSENCRYPT),
        "letsencrypt-staging" => Some(LETSENCRYPT_STAGING),
        _ => None,
    }
}

/// PEM out of `caBundle`, which is PEM itself or base64 of it; `None` = neither, or without a certificate.
pub fn ca_bundle_pem(text: &str) -> Option<Vec<u8>> {
    let packed = || text.split_ascii_whitespace().collect::<String>();
    let pem = match text.contains(BEGIN) {
        true => text.to_owned(),
        false => String::from_utf8(STANDARD.decode(packed()).ok()?).ok()?,
    };
    let mut blocks = pem.split(BEGIN).skip(1).peekable();
    blocks.peek()?;
    let whole = |block: &str| {
        let body: String = block.split_once(END)?.0.split_ascii_whitespace().collect();
        STANDARD.decode(body).ok().filter(|der| !der.is_empty())
    };
    blocks.all(|block| whole(block).is_some()).then(|| pem.into_bytes())
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

impl Issuer {
    /// The Secrets of its own namespace that it names.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        let account = self.external_account.as_ref().map(|account| account.secret_name.as_str());
        let rfc2136 = self.dns01.as_ref().and_then(|dns01| dns01.rfc2136.as_ref());
        let tsig = rfc2136.and_then(|update| update.tsig_secret_name.as_deref());
        account.into_iter().chain(tsig)
    }
}

/// In any case, with or without `-`, as BIND and cert-manager write it.
impl<'de> Deserialize<'de> for TsigAlgorithm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.to_ascii_lowercase().replace('-', "").as_str() {
            "hmacsha256" => Ok(Self::HmacSha256),
            "hmacsha384" => Ok(Self::HmacSha384),
            "hmacsha512" => Ok(Self::HmacSha512),
            _ => Err(de::Error::custom(format!(
                "`{text}` is not one of HMAC-SHA256 (default), HMAC-SHA384, HMAC-SHA512"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

    #[test]
    fn a_ca_bundle_is_pem_or_base64_of_pem() {
        assert_eq!(ca_bundle_pem(PEM).unwrap(), PEM.as_bytes());
        let packed = STANDARD.encode(PEM);
        assert_eq!(ca_bundle_pem(&packed).unwrap(), PEM.as_bytes());
        let (begin, end) = packed.split_at(16);
        assert_eq!(ca_bundle_pem(&format!("{begin}\n  {end}\n")).unwrap(), PEM.as_bytes());
    }

    #[test]
    fn a_ca_bundle_without_a_whole_certificate_is_none() {
        let cut = PEM.replace("-----END CERTIFICATE-----", "");
        for text in
            ["", "MAA=", "no", &cut, &PEM.replace("MAA=", "%%"), &PEM.replace("MAA=", ""), &STANDARD.encode("x")]
        {
            assert_eq!(ca_bundle_pem(text), None, "{text}");
        }
        assert_eq!(ca_bundle_pem(&format!("{PEM}{cut}")), None);
    }

    #[test]
    fn every_built_in_issuer_has_its_directory() {
        assert!(BUILT_IN.iter().all(|name| built_in(name).is_some_and(|url| url.starts_with("https://"))));
        assert_eq!(built_in("zerossl"), None);
    }

    #[test]
    fn a_name_server_gets_its_port_and_brackets() {
        let authority = |text: &str| Rfc2136 { nameserver: text.to_owned(), ..Rfc2136::default() }.authority();
        assert_eq!(authority("ns1.example.com").unwrap(), "ns1.example.com:53");
        assert_eq!(authority("ns1:5353").unwrap(), "ns1:5353");
        assert_eq!(authority("192.0.2.53").unwrap(), "192.0.2.53:53");
        assert_eq!(authority("2001:db8::53").unwrap(), "[2001:db8::53]:53");
        assert_eq!(authority("[2001:db8::53]").unwrap(), "[2001:db8::53]:53");
        assert_eq!(authority("[2001:db8::53]:5353").unwrap(), "[2001:db8::53]:5353");
        for bad in ["", ":53", "ns1:", "ns1:0", "ns1:dns", "udp://ns1", "[ns1]:53", "a b"] {
            assert_eq!(authority(bad), None, "{bad}");
        }
    }

    #[test]
    fn tsig_algorithms_are_read_as_bind_and_cert_manager_write_them() {
        let read = |text: &str| serde_json::from_value::<TsigAlgorithm>(text.into()).ok();
        assert_eq!(read("HMAC-SHA256"), Some(TsigAlgorithm::HmacSha256));
        assert_eq!(read("hmac-sha384"), Some(TsigAlgorithm::HmacSha384));
        assert_eq!(read("HMACSHA512"), Some(TsigAlgorithm::HmacSha512));
        assert_eq!(read("HMAC-MD5"), None);
    }
}
