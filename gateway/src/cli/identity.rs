//! The flags that say where a proxy's identity comes from.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use tls::request::KeyKind;

use crate::settings::{self, HostPort};

/// Without any of them: a socket or files that are mounted, else the CA that a pod's environment names.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct IdentityFlags {
    /// Folder with cert-chain.pem, key.pem and root-cert.pem, watched: the proxy's mesh identity
    #[arg(long, value_name = "DIR", conflicts_with_all = ["ca_address", "workload_api"])]
    pub(crate) identity_dir: Option<PathBuf>,
    /// CA that the identity is asked of (istio.v1.auth over TLS) [with --kubernetes: $CA_ADDR]
    #[arg(long, value_name = "HOST:PORT", value_parser = settings::parse_host_port, conflicts_with = "workload_api")]
    pub(crate) ca_address: Option<HostPort>,
    /// Socket of the SPIFFE Workload API, or of Envoy's secret discovery, that gives the identity
    /// [/var/run/secrets/workload-spiffe-uds/socket where that is mounted]
    #[arg(long, value_name = "SOCKET")]
    pub(crate) workload_api: Option<PathBuf>,
    /// Roots of the mesh, watched: the CA's certificate is checked against them [/var/run/secrets/istio/root-cert.pem]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_root: Option<PathBuf>,
    /// Revocation lists of the mesh's CAs, watched; there need not be any [/var/run/secrets/istio/crl/ca-crl.pem]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_crl: Option<PathBuf>,
    /// Token that the CA is shown, read anew for each request [/var/run/secrets/tokens/istio-token]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_token: Option<PathBuf>,
    /// Name in the CA's certificate [the host of its address]
    #[arg(long, value_name = "NAME")]
    pub(crate) ca_name: Option<String>,
    /// How long certificates are wished to last [with --kubernetes: $SECRET_TTL; else 24h]
    #[arg(long, value_name = "TIME", value_parser = settings::parse_lifetime)]
    pub(crate) certificate_lifetime: Option<Duration>,
    /// Kind of the key: ECDSA-P256, ECDSA-P384, RSA-2048, RSA-3072, RSA-4096 [ECDSA-P256]
    #[arg(long, value_name = "KIND", value_parser = settings::parse_key_kind)]
    pub(crate) certificate_key: Option<KeyKind>,
}

impl IdentityFlags {
    /// A flag that is given and has no meaning without a CA.
    pub(crate) fn about_a_ca(&self) -> Option<&'static str> {
        let given = [
            ("--ca-root", self.ca_root.is_some()),
            ("--ca-crl", self.ca_crl.is_some()),
            ("--ca-token", self.ca_token.is_some()),
            ("--ca-name", self.ca_name.is_some()),
            ("--certificate-lifetime", self.certificate_lifetime.is_some()),
            ("--certificate-key", self.certificate_key.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }
}
