//! Istio `Gateway` (networking.istio.io).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::protocol::Protocol;
use super::scalar::non_empty;

/// Istio `Gateway`: which ports and hosts a gateway workload serves.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Gateway {
    /// The servers; at least one.
    pub servers: Vec<Server>,
    /// Labels of the workloads that serve this gateway, in any namespace; empty selects every gateway.
    pub selector: BTreeMap<String, String>,
}

/// Istio `Server`: one port with its hosts and its TLS settings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Server {
    /// The port that clients connect to. Required.
    #[schemars(extend("x-required" = true))]
    pub port: Option<Port>,
    /// `[namespace/]host`, where namespace is `*`, `.` or a name, and host may be `*` or `*.suffix`; at least one.
    #[schemars(extend("x-required" = true))]
    pub hosts: Vec<String>,
    /// TLS settings; required for HTTPS and TLS ports.
    pub tls: Option<ServerTls>,
    /// IP address or `unix:` path to listen on; every address when unset.
    #[serde(deserialize_with = "non_empty")]
    pub bind: Option<String>,
    /// Istio `Server.defaultEndpoint`, which Istio itself does not implement.
    #[serde(deserialize_with = "non_empty")]
    pub default_endpoint: Option<String>,
    /// A name unique in the gateway, used for statistics.
    #[serde(deserialize_with = "non_empty")]
    pub name: Option<String>,
}

/// Istio `Port`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Port {
    /// 1 to 65535; 0 only together with a unix socket in `bind`.
    #[schemars(extend("x-required" = true))]
    pub number: u16,
    /// What is spoken on the port. Required.
    #[schemars(extend("x-required" = true))]
    pub protocol: Option<Protocol>,
    /// Required.
    #[schemars(extend("x-required" = true))]
    pub name: String,
    /// Deprecated in Istio and refused by its validation.
    pub target_port: u32,
}

/// Istio `ServerTLSSettings`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ServerTls {
    /// Answer 301 to https for every host of a plaintext server.
    pub https_redirect: bool,
    /// What happens to the handshake. Istio's default is PASSTHROUGH, not SIMPLE.
    pub mode: ServerTlsMode,
    /// Path of the certificate chain file.
    #[serde(deserialize_with = "non_empty")]
    pub server_certificate: Option<String>,
    /// Path of the private key file.
    #[serde(deserialize_with = "non_empty")]
    pub private_key: Option<String>,
    /// Path of the file with the CA certificates that client certificates are checked against.
    #[serde(deserialize_with = "non_empty")]
    pub ca_certificates: Option<String>,
    /// Path of a certificate revocation list.
    #[serde(deserialize_with = "non_empty")]
    pub ca_crl: Option<String>,
    /// Names of which a client certificate must hold one; any when empty.
    pub subject_alt_names: Vec<String>,
    /// Name of the Secret with certificate and key, in the gateway's own namespace.
    #[serde(deserialize_with = "non_empty")]
    pub credential_name: Option<String>,
    /// One or two Secret names, for certificates of different key types.
    pub credential_names: Vec<String>,
    /// Secret or `configmap://namespace/name` that holds the CA certificates for client certificates.
    #[serde(deserialize_with = "non_empty")]
    pub ca_cert_credential_name: Option<String>,
    /// One or two certificates given by files.
    pub tls_certificates: Vec<TlsCertificate>,
    /// Base64 SHA-256 digests of the public keys that clients may show.
    pub verify_certificate_spki: Vec<String>,
    /// Hex SHA-256 digests of the certificates that clients may show, colons allowed.
    pub verify_certificate_hash: Vec<String>,
    /// Lowest version; TLS 1.2 when automatic.
    pub min_protocol_version: TlsVersion,
    /// Highest version; TLS 1.3 when automatic.
    pub max_protocol_version: TlsVersion,
    /// OpenSSL names of the TLS 1.2 cipher suites to offer; the proxy's defaults when empty.
    pub cipher_suites: Vec<String>,
    /// Names of the key exchange curves; the proxy's defaults when empty.
    pub ecdh_curves: Vec<String>,
    /// Ask for a client certificate and accept any.
    pub insecure_skip_verify: bool,
}

/// Istio `ServerTLSSettings.TLSCertificate`: one certificate given by files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsCertificate {
    /// Path of the certificate chain file.
    #[serde(deserialize_with = "non_empty")]
    pub server_certificate: Option<String>,
    /// Path of the private key file.
    #[serde(deserialize_with = "non_empty")]
    pub private_key: Option<String>,
    /// Path of the CA certificates file.
    #[serde(deserialize_with = "non_empty")]
    pub ca_certificates: Option<String>,
}

/// Istio `ServerTLSSettings.TLSmode`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServerTlsMode {
    /// Forward the encrypted bytes, chosen by SNI.
    #[default]
    Passthrough,
    /// Terminate with a server certificate.
    Simple,
    /// Terminate and demand a client certificate.
    Mutual,
    /// Forward the encrypted bytes to the service that SNI encodes.
    AutoPassthrough,
    /// Terminate with the workload's mesh certificate and demand one of the mesh.
    IstioMutual,
    /// Terminate, ask for a client certificate and verify it when there is one.
    OptionalMutual,
}

/// Istio `ServerTLSSettings.TLSProtocol`; variants in the order of their protobuf numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// The proxy's default.
    #[default]
    #[serde(rename = "TLS_AUTO")]
    Auto,
    /// TLS 1.0.
    #[serde(rename = "TLSV1_0")]
    V1_0,
    /// TLS 1.1.
    #[serde(rename = "TLSV1_1")]
    V1_1,
    /// TLS 1.2.
    #[serde(rename = "TLSV1_2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "TLSV1_3")]
    V1_3,
}
