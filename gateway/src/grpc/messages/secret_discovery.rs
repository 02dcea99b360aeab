//! `envoy.service.secret.v3.SecretDiscoveryService`: Envoy's way to be given certificates, which Istio's socket for workload
//! identities speaks. All of it is PEM.

use prost::{Message, Oneof};

/// The method that is called.
pub(crate) const STREAM_SECRETS: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
/// The type of everything that is asked for.
pub(crate) const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// Istio's name of the workload's certificate and key.
pub(crate) const DEFAULT: &str = "default";
/// Istio's name of the roots.
pub(crate) const ROOTCA: &str = "ROOTCA";

/// A message, as prost declares it.
macro_rules! message {
    ($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Message)]
        pub(crate) struct $name { $($(#[$attr])* pub(crate) $field: $type,)* }
    };
}

message! {
    /// `DiscoveryRequest`; with a nonce it says what became of an answer.
    DiscoveryRequest {
        /// Version of what was taken last.
        #[prost(string, tag = "1")] version_info: String,
        /// Who asks.
        #[prost(message, optional, tag = "2")] node: Option<Node>,
        /// What is asked for.
        #[prost(string, repeated, tag = "3")] resource_names: Vec<String>,
        /// [`SECRET`].
        #[prost(string, tag = "4")] type_url: String,
        /// Which answer this is about.
        #[prost(string, tag = "5")] response_nonce: String,
        /// Why that was refused.
        #[prost(message, optional, tag = "6")] error_detail: Option<Refusal>,
    }
}
message! {
    /// `config.core.v3.Node`.
    Node {
        /// Istio's form of it.
        #[prost(string, tag = "1")] id: String,
    }
}
message! {
    /// `google.rpc.Status`.
    Refusal {
        /// gRPC's number.
        #[prost(int32, tag = "1")] code: i32,
        /// In words.
        #[prost(string, tag = "2")] message: String,
    }
}
message! {
    /// `DiscoveryResponse`.
    DiscoveryResponse {
        /// Version of what is in it.
        #[prost(string, tag = "1")] version_info: String,
        /// The secrets.
        #[prost(message, repeated, tag = "2")] resources: Vec<Any>,
        /// To be said when it is taken or refused.
        #[prost(string, tag = "5")] nonce: String,
    }
}
message! {
    /// `google.protobuf.Any`.
    Any {
        /// [`SECRET`].
        #[prost(string, tag = "1")] type_url: String,
        /// The message.
        #[prost(bytes = "vec", tag = "2")] value: Vec<u8>,
    }
}
message! {
    /// `Secret`.
    Secret {
        /// As it was asked for.
        #[prost(string, tag = "1")] name: String,
        /// Of [`DEFAULT`].
        #[prost(message, optional, tag = "2")] tls_certificate: Option<TlsCertificate>,
        /// Of [`ROOTCA`].
        #[prost(message, optional, tag = "4")] validation_context: Option<ValidationContext>,
    }
}
message! {
    /// `TlsCertificate`.
    TlsCertificate {
        /// Own certificate first.
        #[prost(message, optional, tag = "1")] certificate_chain: Option<DataSource>,
        /// Its key.
        #[prost(message, optional, tag = "2")] private_key: Option<DataSource>,
    }
}
message! {
    /// `CertificateValidationContext`.
    ValidationContext {
        /// The roots.
        #[prost(message, optional, tag = "1")] trusted_ca: Option<DataSource>,
        /// Revocation lists.
        #[prost(message, optional, tag = "7")] crl: Option<DataSource>,
    }
}
message! {
    /// `config.core.v3.DataSource`.
    DataSource {
        /// `None`: neither of those that are read.
        #[prost(oneof = "Inline", tags = "2, 3")] inline: Option<Inline>,
    }
}

/// What stands in the message itself. Files and environment variables of the peer's choice are not read.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Inline {
    /// `inline_bytes`.
    #[prost(bytes, tag = "2")]
    Bytes(Vec<u8>),
    /// `inline_string`.
    #[prost(string, tag = "3")]
    Text(String),
}

impl Any {
    /// What is in it; `None`: it cannot be read.
    pub(crate) fn secret(&self) -> Option<Secret> {
        Secret::decode(&*self.value).ok()
    }

    /// Of a secret.
    #[cfg(test)]
    pub(crate) fn of(secret: &Secret) -> Self {
        Self { type_url: SECRET.to_owned(), value: secret.encode_to_vec() }
    }
}

impl DataSource {
    /// What is in it.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self.inline.as_ref()? {
            Inline::Bytes(bytes) => Some(bytes),
            Inline::Text(text) => Some(text.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_by_their_public_field_numbers() {
        let read = Secret::decode(&b"\x0a\x07default\x12\x0a\x0a\x03\x12\x01c\x12\x03\x1a\x01k"[..]).unwrap();
        let certificate = read.tls_certificate.unwrap();
        assert_eq!(certificate.certificate_chain.unwrap().bytes(), Some(&b"c"[..]));
        assert_eq!(certificate.private_key.unwrap().bytes(), Some(&b"k"[..]));
        let roots = b"\x0a\x06ROOTCA\x22\x0a\x0a\x03\x12\x01r\x3a\x03\x12\x01l";
        let roots = Secret::decode(&roots[..]).unwrap().validation_context.unwrap();
        assert_eq!(roots.trusted_ca.unwrap().bytes(), Some(&b"r"[..]));
        assert_eq!(roots.crl.unwrap().bytes(), Some(&b"l"[..]));
    }

    #[test]
    fn a_file_of_the_peers_choice_is_not_read() {
        let read = DataSource::decode(&b"\x0a\x0b/etc/passwd"[..]).unwrap();
        assert_eq!(read.bytes(), None);
    }
}
