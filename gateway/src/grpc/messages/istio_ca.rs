//! `istio.v1.auth.IstioCertificateService`: a workload's request for its certificate, and the answer.

use std::collections::HashMap;

use prost::{Message, Oneof};

/// The method that is called.
pub(crate) const CREATE_CERTIFICATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// Key of the metadata: whom a node agent asks for instead of itself.
pub(crate) const IMPERSONATED_IDENTITY: &str = "ImpersonatedIdentity";
/// Key of the metadata: which of several external signers is to sign.
pub(crate) const CERT_SIGNER: &str = "CertSigner";

/// `IstioCertificateRequest`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct IstioCertificateRequest {
    /// PEM of a PKCS#10 request.
    #[prost(string, tag = "1")]
    pub(crate) csr: String,
    /// Seconds that the certificate is wished to last; 0 leaves it to the CA.
    #[prost(int64, tag = "3")]
    pub(crate) validity_duration: i64,
    /// What else is asked for.
    #[prost(message, optional, tag = "4")]
    pub(crate) metadata: Option<Struct>,
}

/// `IstioCertificateResponse`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct IstioCertificateResponse {
    /// PEM, one certificate each: the leaf, then the intermediates. The last element is the root bundle.
    #[prost(string, repeated, tag = "1")]
    pub(crate) cert_chain: Vec<String>,
}

/// `google.protobuf.Struct`, as deep as it is read.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Struct {
    /// By key.
    #[prost(map = "string, message", tag = "1")]
    pub(crate) fields: HashMap<String, Value>,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Value {
    /// `None`: of a kind that is not read.
    #[prost(oneof = "Kind", tags = "3")]
    pub(crate) kind: Option<Kind>,
}

/// The kinds of values that are read.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Kind {
    /// `string_value`.
    #[prost(string, tag = "3")]
    String(String),
}

impl IstioCertificateRequest {
    /// Whether something stands in the metadata under this key. Empty text is nothing, as Istio sees it; what is no text
    /// is something.
    pub(crate) fn asks(&self, key: &str) -> bool {
        let value = self.metadata.as_ref().and_then(|metadata| metadata.fields.get(key));
        value.is_some_and(|value| !matches!(&value.kind, Some(Kind::String(text)) if text.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{csr: "x", validity_duration: 60, metadata: {ImpersonatedIdentity: "y", n: 1.0}}`, as protoc writes it.
    const WIRE: &[u8] = b"\x0a\x01x\x18\x3c\x22\x2d\
        \x0a\x1b\x0a\x14ImpersonatedIdentity\x12\x03\x1a\x01y\
        \x0a\x0e\x0a\x01n\x12\x09\x11\0\0\0\0\0\0\xf0\x3f";

    #[test]
    fn a_request_is_read_by_its_public_field_numbers() {
        let request = IstioCertificateRequest::decode(WIRE).unwrap();
        assert_eq!((request.csr.as_str(), request.validity_duration), ("x", 60));
        assert!(request.asks(IMPERSONATED_IDENTITY));
        assert!(request.asks("n"), "a number is something");
        assert!(!request.asks(CERT_SIGNER));
    }

    #[test]
    fn an_answer_is_a_list_of_texts() {
        let answer = IstioCertificateResponse { cert_chain: vec!["a".into(), "b".into()] };
        assert_eq!(answer.encode_to_vec(), b"\x0a\x01a\x0a\x01b");
    }
}
