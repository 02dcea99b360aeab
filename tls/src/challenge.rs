//! The answer to a CA that checks a host over TLS (`tls-alpn-01`, RFC 8737).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};

use crate::request::unnamed;
use crate::{Error, pem, provider};

/// The protocol that a validator offers, and no other (RFC 8737 section 6.2).
pub const ALPN: &[u8] = b"acme-tls/1";

/// The certificate that proves one host; cheap to clone.
#[derive(Clone)]
pub struct ChallengeTls(pub(crate) Arc<ServerConfig>);

impl ChallengeTls {
    /// A new self-signed certificate for exactly `host`, with the key authorization's hash in it (RFC 8737 section 3).
    pub fn new(host: &str, key_authorization: &str) -> Result<Self, Error> {
        let mut params = unnamed(&[host.to_owned()])?;
        let hash = digest(&SHA256, key_authorization.as_bytes());
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(hash.as_ref())];
        let now = SystemTime::now();
        params.not_before = (now - DAY).into();
        params.not_after = (now + 30 * DAY).into();
        let key = KeyPair::generate().map_err(Error::Issue)?;
        let certificate = params.self_signed(&key).map_err(Error::Issue)?;
        let key = pem::private_key(key.serialize_pem().as_bytes())?;
        // Not compared with the certificate: rustls reads none with a critical extension that it does not know.
        let provider = provider::provider();
        let key = provider.key_provider.load_private_key(key).map_err(Error::UnusableKey)?;
        let certified = CertifiedKey::new(vec![certificate.der().clone()], key);

        let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(Error::Config)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A validator must see the certificate each time: nothing is resumed.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(Arc::new(config)))
    }
}

impl fmt::Debug for ChallengeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChallengeTls").finish_non_exhaustive()
    }
}

const DAY: Duration = Duration::from_secs(86_400);
