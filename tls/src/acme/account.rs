//! What an account can do at its CA.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{AccountCredentials, CertificateIdentifier, Identifier, NewOrder, RevocationRequest};
use rustls_pki_types::CertificateDer;

use super::error::Error;
use super::order::Order;
use super::transport::Attempts;
use crate::pem;

/// An account at a CA; cheap to clone.
#[derive(Clone)]
pub struct Account {
    inner: instant_acme::Account,
    credentials: Arc<str>,
    host: Arc<str>,
}

/// What to order.
#[derive(Clone, Copy, Debug)]
pub struct OrderRequest<'a> {
    /// DNS names, wildcards as `*.example.com`; and IP addresses (RFC 8738), for CAs that certify them.
    pub hosts: &'a [String],
    /// Certificate profile, as the CA calls it.
    pub profile: Option<&'a str>,
    /// PEM: the certificate that this one replaces (RFC 9773 section 5). Left out when the CA does not offer renewal
    /// information, or does not take it for a replacement.
    pub replaces: Option<&'a [u8]>,
}

/// When a CA would like a certificate to be renewed (RFC 9773 section 4.2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Renewal {
    /// The window's start, in seconds since 1970.
    pub start: i64,
    /// The window's end, in seconds since 1970; after `start`.
    pub end: i64,
    /// A page that tells why the window is where it is.
    pub explanation: Option<String>,
    /// When to ask again, as the CA says; whoever asks sets bounds (RFC 9773 section 4.3.2).
    pub check_again: Duration,
}

/// Why a certificate is revoked, as far as a subscriber may say so (RFC 5280 section 5.3.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RevocationReason {
    /// No reason is given.
    Unspecified,
    /// Somebody else has, or may have, the private key.
    KeyCompromise,
    /// The names in it changed owner.
    AffiliationChanged,
    /// Another certificate took its place.
    Superseded,
    /// The hosts are served no longer.
    CessationOfOperation,
}

impl Account {
    pub(super) fn new(
        inner: instant_acme::Account,
        credentials: &AccountCredentials,
        host: &Arc<str>,
    ) -> Result<Self, Error> {
        let text = serde_json::to_string(credentials).map_err(|error| Error::Credentials(error.to_string()))?;
        Ok(Self { inner, credentials: text.into(), host: Arc::clone(host) })
    }

    /// What [`Client::account`](super::Client::account) makes this account of again: JSON, secret.
    pub fn credentials(&self) -> String {
        self.credentials.to_string()
    }

    /// The account's URL at the CA.
    pub fn url(&self) -> &str {
        self.inner.id()
    }

    /// Makes an order. A CA may answer with one it already has.
    pub async fn order(&self, request: &OrderRequest<'_>) -> Result<Order, Error> {
        let identifiers: Vec<Identifier> = request.hosts.iter().map(|host| identifier(host)).collect();
        let plain = || match request.profile {
            Some(profile) => NewOrder::new(&identifiers).profile(profile),
            None => NewOrder::new(&identifiers),
        };
        if let Some(replaced) = request.replaces {
            let certificate = first(replaced)?;
            if let Ok(id) = CertificateIdentifier::try_from(&certificate) {
                match self.place(&plain().replaces(id)).await {
                    Err(error) if is_about_replacing(&error) => {}
                    placed => return placed,
                }
            }
        }
        self.place(&plain()).await
    }

    async fn place(&self, wanted: &NewOrder<'_>) -> Result<Order, Error> {
        let mut attempts = Attempts::at(&self.host);
        loop {
            if let Some((order, wait)) = attempts.make(self.inner.new_order(wanted)).await? {
                return Ok(Order::new(order, &self.host, self.inner.key_thumbprint(), wait));
            }
        }
    }

    /// The order with this URL as it is now; it must be this account's.
    pub async fn resume(&self, url: &str) -> Result<Order, Error> {
        let mut attempts = Attempts::at(&self.host);
        loop {
            if let Some((order, wait)) = attempts.make(self.inner.order(url.to_owned())).await? {
                return Ok(Order::new(order, &self.host, self.inner.key_thumbprint(), wait));
            }
        }
    }

    /// Revokes the first certificate of the PEM text. One that is revoked already gives the problem `alreadyRevoked`.
    pub async fn revoke(&self, certificate_pem: &[u8], reason: RevocationReason) -> Result<(), Error> {
        let certificate = first(certificate_pem)?;
        let request = RevocationRequest { certificate: &certificate, reason: Some(reason.to_acme()) };
        let mut attempts = Attempts::at(&self.host);
        while attempts.make(self.inner.revoke(&request)).await?.is_none() {}
        Ok(())
    }

    /// When the CA would like the first certificate of the PEM text to be renewed.
    ///
    /// `None` when the CA does not offer that (RFC 9773), or the certificate names no issuer key to ask it by.
    pub async fn renewal(&self, certificate_pem: &[u8]) -> Result<Option<Renewal>, Error> {
        let certificate = first(certificate_pem)?;
        let Ok(id) = CertificateIdentifier::try_from(&certificate) else {
            return Ok(None);
        };
        // A plain GET: there is no nonce to reject.
        let ask = async {
            match self.inner.renewal_info(&id).await {
                Err(instant_acme::Error::Unsupported(_)) => Ok(None),
                answer => answer.map(Some),
            }
        };
        let Some((Some((info, wait)), _)) = Attempts::at(&self.host).make(ask).await? else {
            return Ok(None);
        };
        let (start, end) = (info.suggested_window.start.unix_timestamp(), info.suggested_window.end.unix_timestamp());
        if end <= start {
            let what = "the renewal window it suggests ends before it starts".to_owned();
            return Err(Error::Protocol { host: self.host.to_string(), what });
        }
        let explanation = info.explanation_url.map(|url| super::error::clean(&url));
        Ok(Some(Renewal { start, end, explanation, check_again: wait }))
    }

    /// Gives the account a new key (RFC 8555 section 7.3.5). Afterwards [`credentials`](Self::credentials) are the new
    /// ones, and the old ones worthless: keep them at once.
    ///
    /// The key is made here. When this fails with [`Error::Unreachable`], the CA may have taken it all the same: the
    /// account is lost when the next call with it gives `unauthorized` or `malformed`, and is to be
    /// registered anew.
    pub async fn change_key(&mut self) -> Result<(), Error> {
        let mut changed = self.inner.clone();
        let mut attempts = Attempts::at(&self.host);
        let credentials = loop {
            if let Some((credentials, _)) = attempts.make(changed.update_key()).await? {
                break credentials;
            }
        };
        *self = Self::new(changed, &credentials, &self.host)?;
        Ok(())
    }

    /// Replaces the address that the CA may write to; `None` takes it away.
    pub async fn update_email(&self, email: Option<&str>) -> Result<(), Error> {
        let contact = email.map(mailto);
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let mut attempts = Attempts::at(&self.host);
        while attempts.make(self.inner.update_contacts(&contact)).await?.is_none() {}
        Ok(())
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl RevocationReason {
    fn to_acme(self) -> instant_acme::RevocationReason {
        match self {
            Self::Unspecified => instant_acme::RevocationReason::Unspecified,
            Self::KeyCompromise => instant_acme::RevocationReason::KeyCompromise,
            Self::AffiliationChanged => instant_acme::RevocationReason::AffiliationChanged,
            Self::Superseded => instant_acme::RevocationReason::Superseded,
            Self::CessationOfOperation => instant_acme::RevocationReason::CessationOfOperation,
        }
    }
}

pub(super) fn mailto(email: &str) -> String {
    format!("mailto:{email}")
}

fn identifier(host: &str) -> Identifier {
    host.parse::<IpAddr>().map_or_else(|_| Identifier::Dns(host.to_owned()), Identifier::Ip)
}

fn first(pem: &[u8]) -> Result<CertificateDer<'static>, Error> {
    let chain = pem::certificates(pem).map_err(|error| Error::Certificate(Box::new(error)))?;
    chain.into_iter().next().ok_or_else(|| Error::Certificate(Box::new(crate::Error::NoCertificate)))
}

/// The order may be welcome without `replaces`.
///
/// The CA has no renewal information, does not repeat the field (instant-acme gives up then, although the order is
/// made), or does not accept the certificate as one that this order replaces: replaced already, of another account or
/// CA, or without a host in common.
fn is_about_replacing(error: &Error) -> bool {
    match error {
        Error::Protocol { .. } => true,
        Error::Refused { problem, .. } => {
            REPLACING.contains(&problem.kind.as_str()) || matches!(problem.status, Some(404 | 409))
        }
        _ => false,
    }
}

const REPLACING: [&str; 5] = ["alreadyReplaced", "conflict", "malformed", "notFound", "unauthorized"];
