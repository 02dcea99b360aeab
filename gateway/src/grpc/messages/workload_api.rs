//! `SpiffeWorkloadAPI` of SPIFFE: who a workload is, with key and roots, as long as the call lasts. All of it is DER.

use std::collections::HashMap;

use prost::Message;

/// The method that is called.
pub(crate) const FETCH_X509_SVID: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
/// Without this, a browser or a proxy might be asking for somebody else (SPIFFE Workload Endpoint section 4).
pub(crate) const SECURITY_HEADER: (&str, &str) = ("workload.spiffe.io", "true");

/// `X509SVIDRequest`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct X509SvidRequest {}

/// `X509SVIDResponse`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct X509SvidResponse {
    /// Every identity that the workload has; the first is the usual one.
    #[prost(message, repeated, tag = "1")]
    pub(crate) svids: Vec<X509Svid>,
    /// Revocation lists.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(crate) crl: Vec<Vec<u8>>,
    /// Roots of other trust domains, by those.
    #[prost(map = "string, bytes", tag = "3")]
    pub(crate) federated_bundles: HashMap<String, Vec<u8>>,
}

/// `X509SVID`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct X509Svid {
    /// Who it is.
    #[prost(string, tag = "1")]
    pub(crate) spiffe_id: String,
    /// The certificate and its issuers, one behind the other.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) x509_svid: Vec<u8>,
    /// PKCS#8.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) x509_svid_key: Vec<u8>,
    /// The roots of its trust domain, one behind the other.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) bundle: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As protoc writes it: an identity, a revocation list, a bundle of `other`, and a field of the future.
    const WIRE: &[u8] =
        b"\x0a\x0f\x0a\x01a\x12\x01b\x1a\x01c\x22\x01d\x2a\x01h\x12\x01l\x1a\x0a\x0a\x05other\x12\x01r\x22\x01f";

    #[test]
    fn identities_are_read_by_their_public_field_numbers() {
        let read = X509SvidResponse::decode(WIRE).unwrap();
        let svid = X509Svid {
            spiffe_id: "a".into(),
            x509_svid: b"b".to_vec(),
            x509_svid_key: b"c".to_vec(),
            bundle: b"d".to_vec(),
        };
        assert_eq!(read.svids, [svid]);
        assert_eq!(read.crl, [b"l".to_vec()]);
        assert_eq!(read.federated_bundles["other"], b"r");
    }
}
