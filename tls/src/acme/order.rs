//! One order: what the CA wants to be proved, and the certificate in the end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{AuthorizationState, ChallengeStatus};

use super::authorization::{Authorization, ChallengeKind, name};
use super::error::{Error, Problem};
use super::transport::Attempts;
use crate::pem;

/// An order at a CA, as the last answer told it (RFC 8555 section 7.1.3).
pub struct Order {
    inner: instant_acme::Order,
    host: Arc<str>,
    /// Of the account's key: half of each key authorization.
    thumbprint: Arc<str>,
    status: OrderStatus,
    error: Option<Problem>,
    retry_after: Option<Duration>,
    /// The authorizations have been read since the order was: a new look at them starts with the order.
    looked: bool,
}

/// RFC 8555 section 7.1.6.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OrderStatus {
    /// Hosts are to be proved.
    Pending,
    /// All hosts are proved: to be finalized.
    Ready,
    /// The CA issues the certificate.
    Processing,
    /// The certificate is there.
    Valid,
    /// The order failed or ran out of time.
    Invalid,
}

impl OrderStatus {
    /// As in RFC 8555: `pending`, `ready`, `processing`, `valid`, `invalid`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Processing => "processing",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
        }
    }
}

impl Order {
    pub(super) fn new(
        inner: instant_acme::Order,
        host: &Arc<str>,
        thumbprint: &str,
        retry_after: Option<Duration>,
    ) -> Self {
        let mut order = Self {
            inner,
            host: Arc::clone(host),
            thumbprint: thumbprint.into(),
            status: OrderStatus::Pending,
            error: None,
            retry_after: None,
            looked: false,
        };
        order.told(retry_after);
        order
    }

    /// The order's URL at the CA: what [`Account::resume`](super::Account::resume) takes.
    pub fn url(&self) -> &str {
        self.inner.url()
    }

    /// How far it was when the CA was last asked.
    pub fn status(&self) -> OrderStatus {
        self.status
    }

    /// What the CA's last answer about the order asked to wait before the next look.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Why the order is invalid, as a sentence. Failed challenges have reasons of their own:
    /// [`Authorization::error`].
    pub fn error(&self) -> Option<String> {
        self.error.as_ref().map(Problem::to_string)
    }

    /// Asks the CA how far the order is.
    pub async fn refresh(&mut self) -> Result<OrderStatus, Error> {
        let mut attempts = Attempts::at(&self.host);
        let ((), wait) = loop {
            if let Some(done) = attempts.make(async { self.inner.refresh().await.map(drop) }).await? {
                break done;
            }
        };
        Ok(self.told(wait))
    }

    /// What is to be proved, and how far that is: asked of the CA at each call. Refreshes the order, too.
    pub async fn authorizations(&mut self) -> Result<Vec<Authorization>, Error> {
        if self.looked {
            self.refresh().await?;
        }
        self.look().await?;
        let mut found = Vec::new();
        let mut all = self.inner.authorizations();
        while let Some(next) = all.next().await {
            let state = next.map_err(|error| Error::from_acme(error, &self.host, None))?;
            found.push(Authorization::new(&state, &self.thumbprint));
        }
        Ok(found)
    }

    /// Tells the CA that this host's challenge can be looked at; nothing happens when it was told before, or
    /// the host is proved already. Whether the challenge succeeds shows in the [`authorizations`](Self::authorizations).
    pub async fn begin(&mut self, host: &str, wildcard: bool, challenge: ChallengeKind) -> Result<(), Error> {
        let wanted = Wanted { host, wildcard, challenge };
        self.look().await?;
        let Err(error) = self.set_ready(&wanted).await else {
            return Ok(());
        };
        if !matches!(error, Error::Refused { .. }) {
            return Err(error);
        }
        // CAs refuse what is no longer pending: told by an earlier call, or by somebody else since we looked.
        self.refresh().await?;
        self.look().await?;
        let begun = self.challenge_status(&wanted).await?.is_some_and(|status| status != ChallengeStatus::Pending);
        if begun { Ok(()) } else { Err(error) }
    }

    async fn set_ready(&mut self, wanted: &Wanted<'_>) -> Result<(), Error> {
        if self.challenge_status(wanted).await?.ok_or_else(|| wanted.not_offered())? != ChallengeStatus::Pending {
            return Ok(());
        }
        let mut attempts = Attempts::at(&self.host);
        while attempts.make(wanted.set_ready(&mut self.inner)).await?.is_none() {}
        Ok(())
    }

    /// As far as the authorizations have been read.
    async fn challenge_status(&mut self, wanted: &Wanted<'_>) -> Result<Option<ChallengeStatus>, Error> {
        let mut all = self.inner.authorizations();
        while let Some(next) = all.next().await {
            let handle = next.map_err(|error| Error::from_acme(error, &self.host, None))?;
            if let Some(status) = wanted.status(&handle) {
                return Ok(Some(status));
            }
        }
        Ok(None)
    }

    /// Reads the authorizations that were not read since the order was; instant-acme keeps them with it.
    async fn look(&mut self) -> Result<(), Error> {
        self.looked = true;
        for position in 0..self.inner.state().authorizations.len() {
            let mut attempts = Attempts::at(&self.host);
            let ((), wait) = loop {
                if let Some(done) = attempts.make(read_until(&mut self.inner, position)).await? {
                    break done;
                }
            };
            self.retry_after = self.retry_after.max(wait);
        }
        Ok(())
    }

    /// Sends the request for the certificate (DER of a CSR with the order's hosts). The order must be
    /// [`Ready`](OrderStatus::Ready).
    pub async fn finalize(&mut self, csr_der: &[u8]) -> Result<OrderStatus, Error> {
        let mut attempts = Attempts::at(&self.host);
        let ((), wait) = loop {
            if let Some(done) = attempts.make(self.inner.finalize_csr(csr_der)).await? {
                break done;
            }
        };
        Ok(self.told(wait))
    }

    /// The certificate of a [`Valid`](OrderStatus::Valid) order: PEM, the server's own first, then its issuers.
    pub async fn certificate(&mut self) -> Result<String, Error> {
        if self.status != OrderStatus::Valid {
            return Err(Error::NoCertificate(self.status));
        }
        let mut attempts = Attempts::at(&self.host);
        let chain = loop {
            if let Some((chain, _)) = attempts.make(self.inner.certificate()).await? {
                break chain;
            }
        };
        let protocol = |what: String| Error::Protocol { host: self.host.to_string(), what };
        let chain = chain.ok_or_else(|| protocol("it takes back that the certificate is there".to_owned()))?;
        match pem::certificates(chain.as_bytes()) {
            Ok(_) => Ok(chain),
            Err(error) => Err(protocol(format!("what it gives as certificate cannot be read: {error}"))),
        }
    }

    /// Takes over what an answer about the order said.
    fn told(&mut self, retry_after: Option<Duration>) -> OrderStatus {
        let state = self.inner.state();
        self.status = match state.status {
            instant_acme::OrderStatus::Pending => OrderStatus::Pending,
            instant_acme::OrderStatus::Ready => OrderStatus::Ready,
            instant_acme::OrderStatus::Processing => OrderStatus::Processing,
            instant_acme::OrderStatus::Valid => OrderStatus::Valid,
            instant_acme::OrderStatus::Invalid => OrderStatus::Invalid,
        };
        self.error = state.error.as_ref().map(Problem::from);
        self.retry_after = retry_after;
        self.looked = false;
        self.status
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order").field("url", &self.url()).field("status", &self.status).finish_non_exhaustive()
    }
}

/// Reads the authorizations up to this one, as far as they have not been.
async fn read_until(order: &mut instant_acme::Order, position: usize) -> Result<(), instant_acme::Error> {
    let mut all = order.authorizations();
    for _ in 0..=position {
        all.next().await.transpose()?;
    }
    Ok(())
}

/// One challenge of an order.
struct Wanted<'a> {
    host: &'a str,
    wildcard: bool,
    challenge: ChallengeKind,
}

impl Wanted<'_> {
    /// `None` when the authorization is another host's, or does not offer it. A host that is proved needs no challenge,
    /// and CAs then show only the one that proved it.
    fn status(&self, state: &AuthorizationState) -> Option<ChallengeStatus> {
        let (host, wildcard) = name(state);
        if host != self.host || wildcard != self.wildcard {
            return None;
        }
        if state.status == instant_acme::AuthorizationStatus::Valid {
            return Some(ChallengeStatus::Valid);
        }
        let kind = self.challenge.to_acme();
        state.challenges.iter().find(|challenge| challenge.r#type == kind).map(|challenge| challenge.status)
    }

    async fn set_ready(&self, order: &mut instant_acme::Order) -> Result<(), instant_acme::Error> {
        let mut all = order.authorizations();
        while let Some(next) = all.next().await {
            let mut handle = next?;
            if self.status(&handle).is_none() {
                continue;
            }
            if let Some(mut challenge) = handle.challenge(self.challenge.to_acme()) {
                return challenge.set_ready().await;
            }
        }
        Ok(())
    }

    fn not_offered(&self) -> Error {
        let host = if self.wildcard { format!("*.{}", self.host) } else { self.host.to_owned() };
        Error::NotOffered { host, challenge: self.challenge }
    }
}
