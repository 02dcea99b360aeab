//! Where the workload's identity comes from: what the flags say, else what is mounted, else what the pod's environment says,
//! in the order of Istio's agent.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use routing::api::ProtoDuration;
use tls::request::KeyKind;

use super::downward::Downward;
use crate::cli::IdentityFlags;

#[cfg(test)]
mod tests;

/// Where a socket of workload identities is mounted.
pub(crate) const SOCKET: &str = "/var/run/secrets/workload-spiffe-uds/socket";
/// Where files of somebody else's identities are mounted.
const CREDENTIALS: &str = "/var/run/secrets/workload-spiffe-credentials";
/// Where the roots of the mesh are mounted: the ConfigMap `istio-ca-root-cert`.
const ROOT: &str = "/var/run/secrets/istio/root-cert.pem";
/// Where revocation lists are mounted: the ConfigMap `istio-ca-crl`.
const CRL: &str = "/var/run/secrets/istio/crl/ca-crl.pem";
/// Where the token for the CA is mounted.
const TOKEN: &str = "/var/run/secrets/tokens/istio-token";
/// Istio's default of `SECRET_TTL`.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Istio's name of a cluster that nobody has named.
const CLUSTER: &str = "Kubernetes";

/// Where the workload's identity comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum IdentitySettings {
    /// It has none.
    Nowhere,
    /// A folder with `cert-chain.pem`, `key.pem` and `root-cert.pem`; exists.
    Files(PathBuf),
    /// A CA that is asked for it.
    Ca(CaSettings),
    /// A socket of SPIFFE's Workload API, or of Envoy's secret discovery.
    WorkloadApi(PathBuf),
}

/// Which CA, and how it is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CaSettings {
    /// Where it is.
    pub(crate) address: HostPort,
    /// Which name its certificate has to have.
    pub(crate) name: String,
    /// PEM of the roots of the mesh: what the CA's own certificate chains to, and what is trusted beside what the CA says.
    pub(crate) root: PathBuf,
    /// PEM of revocation lists; there need not be any.
    pub(crate) crl: PathBuf,
    /// A service account's token, for the audience `istio-ca`.
    pub(crate) token: PathBuf,
    /// How long certificates are wished to last.
    pub(crate) lifetime: Duration,
    /// Of which kind keys are.
    pub(crate) key: KeyKind,
    /// The cluster that the token is of.
    pub(crate) cluster: String,
}

/// `HOST:PORT`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct HostPort {
    /// A name or an address.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl IdentitySettings {
    /// From flags and from what the pod knows.
    ///
    /// # Errors
    /// One sentence about the flag or variable that is wrong.
    pub(crate) fn new(flags: IdentityFlags, pod: &Downward) -> Result<Self, String> {
        Self::choose(flags, pod, &|path| path.exists())
    }

    fn choose(flags: IdentityFlags, pod: &Downward, exists: &dyn Fn(&Path) -> bool) -> Result<Self, String> {
        let about_a_ca = flags.about_a_ca();
        let no_ca = |source: Self| match about_a_ca {
            Some(flag) => Err(format!("{flag} is about a CA; give --ca-address and no other source of the identity")),
            None => Ok(source),
        };
        if let Some(folder) = flags.identity_dir {
            return no_ca(Self::Files(folder));
        }
        if let Some(socket) = flags.workload_api {
            return no_ca(Self::WorkloadApi(socket));
        }
        if flags.ca_address.is_none() && about_a_ca.is_none() {
            if exists(Path::new(SOCKET)) {
                return Ok(Self::WorkloadApi(SOCKET.into()));
            }
            if exists(Path::new(CREDENTIALS)) {
                return Ok(Self::Files(CREDENTIALS.into()));
            }
        }
        let of_pod = || pod.ca_address.as_deref().map(parse_host_port).transpose();
        let address = match &flags.ca_address {
            Some(address) => Some(address.clone()),
            None => of_pod().map_err(|sentence| format!("CA_ADDR is no address of a CA: {sentence}"))?,
        };
        let Some(address) = address else { return no_ca(Self::Nowhere) };
        let of_pod = pod.secret_ttl.as_deref().map(parse_lifetime).transpose();
        let of_pod = of_pod.map_err(|sentence| format!("SECRET_TTL is no lifetime of a certificate: {sentence}"))?;
        Ok(Self::Ca(CaSettings {
            name: flags.ca_name.or_else(|| pod.ca_name.clone()).unwrap_or_else(|| address.host.clone()),
            address,
            root: flags.ca_root.unwrap_or_else(|| ROOT.into()),
            crl: flags.ca_crl.unwrap_or_else(|| CRL.into()),
            token: flags.ca_token.unwrap_or_else(|| TOKEN.into()),
            lifetime: flags.certificate_lifetime.or(of_pod).unwrap_or(LIFETIME),
            key: flags.certificate_key.unwrap_or(KeyKind::EcdsaP256),
            cluster: pod.cluster.clone().unwrap_or_else(|| CLUSTER.to_owned()),
        }))
    }
}

/// Reads `istiod.istio-system.svc:15012`.
///
/// # Errors
/// A sentence.
pub(crate) fn parse_host_port(text: &str) -> Result<HostPort, String> {
    let sentence = || "write a host and a port, as in istiod.istio-system.svc:15012".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(sentence)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_good = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.len() <= 253 && host.bytes().all(allowed),
    };
    let port = port.parse().ok().filter(|port| *port != 0 && is_good).ok_or_else(sentence)?;
    Ok(HostPort { host: bare.unwrap_or(host).to_ascii_lowercase(), port })
}

/// Reads `24h0m0s`, as Istio writes it, or a number of seconds: from one second to Istio's 90 days.
///
/// # Errors
/// A sentence.
pub(crate) fn parse_lifetime(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let lifetime = seconds.or_else(|| text.parse::<ProtoDuration>().ok().map(Duration::from));
    lifetime
        .filter(|it| (Duration::from_secs(1)..=Duration::from_secs(90 * 24 * 3600)).contains(it))
        .ok_or_else(|| "write a time from 1s to 2160h (90 days), as in 24h or 12h30m".to_owned())
}

/// Reads the kind of a key, as ACME's Issuers name it.
///
/// # Errors
/// A sentence.
pub(crate) fn parse_key_kind(text: &str) -> Result<KeyKind, String> {
    match text.to_ascii_uppercase().as_str() {
        "ECDSA-P256" => Ok(KeyKind::EcdsaP256),
        "ECDSA-P384" => Ok(KeyKind::EcdsaP384),
        "RSA-2048" => Ok(KeyKind::Rsa2048),
        "RSA-3072" => Ok(KeyKind::Rsa3072),
        "RSA-4096" => Ok(KeyKind::Rsa4096),
        _ => Err("write ECDSA-P256, ECDSA-P384, RSA-2048, RSA-3072 or RSA-4096".to_owned()),
    }
}
