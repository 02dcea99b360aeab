//! The chain that a client has shown, which is judged again while its connection lasts.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls_pki_types::{CertificateDer, UnixTime};

use crate::Error;
use crate::server::ServerTls;

/// What a client has shown in a handshake.
pub struct ClientChain(pub(crate) Box<[CertificateDer<'static>]>);

impl ClientChain {
    /// Whether a server of this configuration takes it at this time.
    ///
    /// # Errors
    /// Why not, as in a handshake.
    pub fn stands(&self, tls: &ServerTls, now: SystemTime) -> Result<(), Error> {
        let (own, above) = self.0.split_first().ok_or(Error::CertificateRequired)?;
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        tls.clients().verify_client_cert(own, above, now).map(drop).map_err(Error::from_handshake)
    }
}

impl fmt::Debug for ClientChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientChain").field(&self.0.len()).finish()
    }
}
