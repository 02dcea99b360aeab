//! What a request to a CA is about.

/// A step of an ACME client, told by pebble's paths.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Step {
    /// The directory (RFC 8555 section 7.1.1).
    Directory,
    /// A fresh nonce.
    Nonce,
    /// An account is made, or found by its key.
    NewAccount,
    /// An account is read or changed.
    Account,
    /// An account gets another key.
    KeyChange,
    /// An order is made.
    NewOrder,
    /// An order is looked at.
    Order,
    /// An authorization is looked at.
    Authorization,
    /// The CA is told to look at a challenge, or a challenge is looked at.
    Challenge,
    /// An order gets its signing request.
    Finalize,
    /// A certificate is fetched.
    Certificate,
    /// A certificate is revoked.
    Revoke,
    /// When to renew a certificate (RFC 9773): answered by the proxy itself.
    RenewalInfo,
    /// Anything else.
    Other,
}

impl Step {
    pub(crate) fn of(path: &str) -> Self {
        let starts = |(prefix, _): &&(&str, Self)| path.starts_with(prefix);
        PATHS.iter().find(starts).map_or(Self::Other, |(_, step)| *step)
    }
}

/// Where the proxy answers for certificates.
pub(crate) const RENEWAL_INFO: &str = "/renewal-info";

/// The paths of pebble 2.4, and one of our own.
const PATHS: [(&str, Step); 13] = [
    ("/dir", Step::Directory),
    ("/nonce-plz", Step::Nonce),
    ("/sign-me-up", Step::NewAccount),
    ("/my-account/", Step::Account),
    ("/rollover-account-key", Step::KeyChange),
    ("/order-plz", Step::NewOrder),
    ("/my-order/", Step::Order),
    ("/authZ/", Step::Authorization),
    ("/chalZ/", Step::Challenge),
    ("/finalize-order/", Step::Finalize),
    ("/certZ/", Step::Certificate),
    ("/revoke-cert", Step::Revoke),
    (RENEWAL_INFO, Step::RenewalInfo),
];
