//! Certificates that the gateway orders by itself (ACME, RFC 8555): which, from whom, and how a CA may check that the
//! hosts are ours. Decided here; ordered by whoever may wait.

use std::{fmt, sync::Arc, time::Duration};

pub use crate::api::issuer::{Challenge, KeyType, TsigAlgorithm};

use crate::{problem::ObjectRef, snapshot::CertificateSecret};

/// One certificate to order: it is stored in the Secret that `credentialName` names, from where it is served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ordered {
    /// Name of the Secret, in the proxy's own namespace.
    pub secret: String,
    /// The names it has to have: lower case, sorted, wildcards as `*.example.com`, without those that such a wildcard of
    /// the same certificate covers. Never empty.
    pub hosts: Vec<String>,
    /// Who is asked for it.
    pub issuer: Arc<Issuer>,
    /// The Gateways that ask for it, in the order of the configuration. Never empty.
    pub gateways: Vec<ObjectRef>,
    /// What the CA can reach of this proxy.
    pub reach: Reach,
    /// Whether a self-signed certificate serves until the first ordered one is there.
    pub placeholder: bool,
    /// What the Secret holds now.
    pub current: Current,
}

/// What is in the Secret of an ordered certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Current {
    /// There is no such Secret, or no certificate in it.
    Nothing,
    /// A certificate that was ordered: the Secret carries the annotation [`ISSUER`].
    Ordered(CertificateSecret),
    /// A certificate that somebody else put there. It is served and never overwritten.
    Foreign(CertificateSecret),
}

/// What a CA can reach of a proxy, as far as the configuration tells.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reach {
    /// A plain HTTP server listens on port 80 (RFC 8555 section 8.3).
    pub http: bool,
    /// A server that terminates TLS listens on port 443 (RFC 8737 section 3).
    pub tls: bool,
}

/// A challenge that can work for a host, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Way {
    /// The challenge.
    pub challenge: Challenge,
    /// Why it can work, as a part of a sentence: `port 80 is open here`.
    pub reason: &'static str,
}

impl Ordered {
    /// The challenges that can work for a host of this certificate, best first; empty = none can. The issuer's own order
    /// holds where it names challenges, else HTTP goes before TLS and both before DNS, which needs somebody else's help.
    pub fn ways(&self, host: &str) -> Vec<Way> {
        const ALL: [Challenge; 3] = [Challenge::Http01, Challenge::TlsAlpn01, Challenge::Dns01];
        let allowed: &[Challenge] = if self.issuer.challenges.is_empty() { &ALL } else { &self.issuer.challenges };
        let reason = |challenge| Some(Way { challenge, reason: self.reason(challenge, host)? });
        allowed.iter().filter_map(|challenge| reason(*challenge)).collect()
    }

    /// Why a challenge can work for a host; `None` = it cannot.
    fn reason(&self, challenge: Challenge, host: &str) -> Option<&'static str> {
        let wildcard = host.starts_with("*.");
        let publisher = self.issuer.dns01.as_ref().map(|dns01| &dns01.publisher);
        match (challenge, publisher) {
            (Challenge::Http01, _) => (self.reach.http && !wildcard).then_some("port 80 is open here"),
            (Challenge::TlsAlpn01, _) => (self.reach.tls && !wildcard).then_some("port 443 terminates TLS here"),
            // RFC 8555 section 7.1.3 leaves it to the CA; every public one wants DNS.
            (Challenge::Dns01, Some(_)) if wildcard => Some("only a TXT record proves a wildcard"),
            (Challenge::Dns01, Some(Publisher::Rfc2136(_))) => Some("a name server takes updates (RFC 2136)"),
            (Challenge::Dns01, Some(Publisher::Exec(_))) => Some("a hook publishes TXT records"),
            (Challenge::Dns01, None) => None,
        }
    }
}

/// A CA and how to talk to it: an Issuer object, or one of the built-in ones, with its Secrets looked up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Issuer {
    /// As the annotation [`ISSUER`] names it.
    pub name: String,
    /// URL of the directory (RFC 8555 section 7.1.1).
    pub server: String,
    /// Where the CA may write to.
    pub email: Option<String>,
    /// PEM: what the CA's own HTTPS certificate has to chain to; `None` = what the system trusts.
    pub ca_bundle: Option<Arc<[u8]>>,
    /// An account that exists at the CA outside of ACME (RFC 8555 section 7.3.4).
    pub external_account: Option<ExternalAccount>,
    /// Certificate profile, as the CA calls it.
    pub profile: Option<String>,
    /// Challenges allowed, in order of preference; empty = all, chosen by what is reachable.
    pub challenges: Vec<Challenge>,
    /// How TXT records are published.
    pub dns01: Option<Dns01>,
    /// Kind of the certificate's key.
    pub key_type: KeyType,
}

/// `spec.externalAccount` with its Secret read.
#[derive(Clone, Eq, PartialEq)]
pub struct ExternalAccount {
    /// The CA's name for the account.
    pub key_id: String,
    /// The MAC key, decoded.
    pub key: Arc<[u8]>,
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalAccount").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// `spec.dns01`: who publishes TXT records, and how long they need to be seen everywhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dns01 {
    /// How they are published.
    pub publisher: Publisher,
    /// Wait after publishing, before the CA is told to look.
    pub propagation: Duration,
}

/// Publishes and withdraws TXT records.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Publisher {
    /// Dynamic update (RFC 2136).
    Rfc2136(Rfc2136),
    /// A program of the folder that the gateway was started with, run as lego runs its exec provider.
    Exec(Exec),
}

/// `spec.dns01.rfc2136`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rfc2136 {
    /// `host:port` of the primary name server; port 53 when none was written.
    pub nameserver: String,
    /// The zone, without a dot at its end; `None` = asked of the name server (SOA).
    pub zone: Option<String>,
    /// Key that updates are signed with (RFC 8945).
    pub tsig: Option<Tsig>,
}

/// `spec.dns01.rfc2136.tsig*` with its Secret read.
#[derive(Clone, Eq, PartialEq)]
pub struct Tsig {
    /// The key's name, as the name server knows it.
    pub key_name: String,
    /// The MAC.
    pub algorithm: TsigAlgorithm,
    /// The key, decoded.
    pub key: Arc<[u8]>,
}

impl fmt::Debug for Tsig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key_name, algorithm, key: _ } = self;
        f.debug_struct("Tsig").field("key_name", key_name).field("algorithm", algorithm).finish_non_exhaustive()
    }
}

/// `spec.dns01.exec`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exec {
    /// File name in the folder of hooks; never a path.
    pub command: String,
    /// It is ended after this time.
    pub timeout: Duration,
}

/// Annotation of a Gateway: the issuer to order its certificates from. Also of the Secrets that hold them.
pub const ISSUER: &str = "acme.sluice.dev/issuer";
/// Annotation of a Gateway: `"true"` agrees to the terms of service of a built-in issuer.
pub const TERMS_AGREED: &str = "acme.sluice.dev/terms-of-service-agreed";
/// Annotation of a Gateway: `"true"` serves a self-signed certificate until the first ordered one is there.
pub const PLACEHOLDER: &str = "acme.sluice.dev/placeholder";

#[cfg(test)]
mod tests;
