//! Certificates from a CA by ACME (RFC 8555): accounts, orders, renewal information (RFC 9773).
//!
//! ```text
//!  Client --register, account--> Account --order, resume--> Order: authorizations, begin, finalize, certificate
//!                                   `-- revoke, renewal, change_key, update_email
//! ```
//!
//! Nothing here waits for a CA's work or repeats what it refused, except for rejected nonces: callers keep an order's
//! URL, look again when it is time, and decide by [`Error::is_transient`] and [`Error::retry_after`].
//!
//! instant-acme is named here only. What it leaves out is in `transport` (waits, error answers, limits).

mod account;
mod authorization;
mod error;
mod key;
mod order;
mod transport;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use http::Uri;
use instant_acme::{AccountBuilder, AccountCredentials, ExternalAccountKey, NewAccount};

use self::transport::{Attempts, Transport};
use crate::anchors::Anchors;
use crate::client::{Names, system_anchors};
use crate::pem;
use crate::verify::ServerVerifier;

pub use self::account::{Account, OrderRequest, Renewal, RevocationReason};
pub use self::authorization::{Authorization, AuthorizationStatus, ChallengeKind, Offer};
pub use self::error::{Error, Problem, Subproblem};
pub use self::key::AccountKey;
pub use self::order::{Order, OrderStatus};

/// One CA; cheap to clone. Its connections are shared by all accounts made from it.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    server: Arc<str>,
    host: Arc<str>,
}

/// Who wants an account.
pub struct Registration<'a> {
    /// The account's key.
    pub key: &'a AccountKey,
    /// Where the CA may write to.
    pub email: Option<&'a str>,
    /// An account that exists at the CA outside of ACME: the CA's name for it, and the MAC key, decoded (RFC 8555
    /// section 7.3.4).
    pub external: Option<(&'a str, &'a [u8])>,
}

impl Client {
    /// `server` is the directory's URL, https; `roots_pem` what the CA's HTTPS certificate chains to, `None` for the
    /// system's roots. Asks the CA nothing yet.
    pub fn new(server: &str, roots_pem: Option<&[u8]>) -> Result<Self, Error> {
        let uri: Uri = server.parse().map_err(|_| Error::Server(server.to_owned()))?;
        if !transport::is_https(server) {
            return Err(Error::Server(server.to_owned()));
        }
        let anchors = match roots_pem {
            Some(pem) => pem::bundle(pem).and_then(Anchors::new).map(Arc::new),
            None => system_anchors(),
        };
        let anchors = anchors.map_err(|error| Error::Roots(Box::new(error)))?;
        let verifier = ServerVerifier::new(Some(anchors), roots_pem.is_some(), Names::Host, Vec::new());
        Ok(Self {
            server: server.into(),
            host: transport::host(&uri).into(),
            transport: Transport::new(uri, verifier)?,
        })
    }

    /// Registers an account and agrees to the CA's terms of service; the same key gives the same account again.
    ///
    /// The key is kept by the caller before this call, so that a crash loses nothing. The e-mail address follows in a
    /// second request, which is made again when this is called again. With `external` the account gets
    /// a key of its own, which only the result's [`credentials`](Account::credentials) hold: a crash before they are
    /// kept costs the binding, and a CA that takes each key id once wants a new one then.
    pub async fn register(&self, registration: &Registration<'_>) -> Result<Account, Error> {
        if let Some((id, mac)) = registration.external {
            return self.register_external(registration.email, &ExternalAccountKey::new(id.to_owned(), mac)).await;
        }
        let mut attempts = Attempts::at(&self.host);
        let account = loop {
            let create = self.builder().create_from_key(registration.key.to_acme()?, self.server.to_string());
            if let Some(((account, credentials), _)) = attempts.make(create).await? {
                break Account::new(account, &credentials, &self.host)?;
            }
        };
        if registration.email.is_some() {
            account.update_email(registration.email).await?;
        }
        Ok(account)
    }

    async fn register_external(&self, email: Option<&str>, external: &ExternalAccountKey) -> Result<Account, Error> {
        let contact = email.map(account::mailto);
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let mut attempts = Attempts::at(&self.host);
        loop {
            let create = self.builder().create(&wanted, self.server.to_string(), Some(external));
            if let Some(((account, credentials), _)) = attempts.make(create).await? {
                return Account::new(account, &credentials, &self.host);
            }
        }
    }

    /// An account kept earlier: what [`Account::credentials`] gave. Reads the CA's directory, and does not ask whether
    /// the account still exists: the first call with it tells (`accountDoesNotExist` or `unauthorized`).
    pub async fn account(&self, credentials: &str) -> Result<Account, Error> {
        let bad = |error: serde_json::Error| Error::Credentials(format!("it is not what was stored ({error})"));
        let directory = serde_json::from_str::<serde_json::Value>(credentials).map_err(bad)?;
        let directory = directory["directory"].as_str().unwrap_or_default();
        if *directory != *self.server {
            return Err(Error::Credentials(format!("it is registered at `{directory}`, not at {}", self.server)));
        }
        let parse = || serde_json::from_str::<AccountCredentials>(credentials);
        let mut attempts = Attempts::at(&self.host);
        loop {
            let restore = self.builder().from_credentials(parse().map_err(bad)?);
            if let Some((account, _)) = attempts.make(restore).await? {
                return Account::new(account, &parse().map_err(bad)?, &self.host);
            }
        }
    }

    fn builder(&self) -> AccountBuilder {
        instant_acme::Account::builder_with_http(Box::new(self.transport.clone()))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.server).finish_non_exhaustive()
    }
}

impl fmt::Debug for Registration<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let external = self.external.map(|(id, _)| id);
        f.debug_struct("Registration").field("email", &self.email).field("external", &external).finish_non_exhaustive()
    }
}
