//! The one error type of this crate: configuration that cannot be used, and handshakes that failed.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

use crate::san::printable;
use crate::verify::{Refused, WRONG_IDENTITY};

/// What went wrong: one variant per thing a caller does, says or counts differently.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the workload identity cannot be read.
    #[error("{} cannot be read ({})", path.display(), source.kind())]
    File {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// Something in the named file is wrong.
    #[error("{}: {error}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong in it; part of the message, therefore not a `source`.
        error: Box<Error>,
    },
    /// PEM text is missing or malformed; the text says how.
    #[error("{0}")]
    BadPem(Cow<'static, str>),
    /// The private key needs a passphrase, and there is nobody to ask.
    #[error("the private key is encrypted; store it without a passphrase (openssl pkey -in key.pem)")]
    EncryptedKey,
    /// The private key is of a kind rustls cannot use, or damaged.
    #[error("the private key cannot be used: RSA from 2048 bits, ECDSA on P-256, P-384 or P-521, and Ed25519 can")]
    UnusableKey(#[source] rustls::Error),
    /// Certificate and key are not a pair.
    #[error("the private key does not belong to the certificate; the server's own certificate must be the first one")]
    KeyMismatch,
    /// A certificate is PEM but not a usable X.509 certificate.
    #[error("the certificate is not a valid X.509 certificate")]
    BadCertificate(#[source] Option<rustls::Error>),
    /// A server was described without any certificate.
    #[error("a TLS server needs a certificate and its private key")]
    NoCertificate,
    /// Mesh TLS was asked for before the workload identity is there.
    #[error("mutual TLS in the mesh needs the workload identity, which is not available")]
    NoIdentity,
    /// A CA bundle holds certificates, but none of them can be a trust anchor.
    #[error("the CA bundle holds no certificate that can be used as a trust anchor")]
    NoRoots,
    /// As [`Error::NoRoots`], with what is wrong with the first of them.
    #[error("the CA bundle holds no certificate that can be used as a trust anchor: {0}")]
    NoUsableRoot(String),
    /// The operating system's trust store is empty or unreadable.
    #[error("the system's trust store holds no certificate; install the package ca-certificates or name a CA")]
    NoSystemRoots,
    /// The certificate revocation list cannot be used.
    #[error("the certificate revocation list is malformed or of an unsupported kind")]
    BadRevocationList(#[source] rustls::Error),
    /// The lowest TLS version allowed is above the highest.
    #[error("the minimum TLS version is above the maximum")]
    NoVersion,
    /// rustls refused the configuration for a reason that has no variant of its own.
    #[error("the TLS configuration is inconsistent")]
    Config(#[source] rustls::Error),
    /// The text cannot be sent as SNI and is not an IP address.
    #[error("`{0}` is neither a DNS name nor an IP address")]
    BadServerName(String),
    /// The server's name must be verified, and there is none.
    #[error("the server's certificate must be checked against its host name, and no name was given")]
    NoServerName,
    /// The CA could not make a certificate.
    #[error("the certificate could not be issued")]
    Issue(#[source] rcgen::Error),

    /// What somebody handed out as the workload's identity is not that; the text says why.
    #[error("{0}")]
    Unfit(String),

    /// The peer went away before the handshake was complete.
    #[error("the peer closed the connection during the handshake")]
    PeerClosed,
    /// The transport failed.
    #[error("the connection failed ({})", .0.kind())]
    Io(#[source] io::Error),
    /// The first bytes are not a TLS record: plain HTTP on a TLS port, or the reverse.
    #[error("the peer does not speak TLS")]
    NotTls,
    /// The server requires a client certificate, and none came.
    #[error("the client sent no certificate, and one is required")]
    CertificateRequired,
    /// The peer's certificate did not pass chain verification.
    #[error("the peer's certificate {}", certificate_words(.0))]
    BadPeerCertificate(CertificateFault),
    /// The chain is good, but the identity in the certificate is not an expected one; the text names both.
    #[error("{0}")]
    WrongIdentity(String),
    /// The peer's certificate is refused for a reason that has no variant of its own; the text is a sentence.
    #[error("{text}")]
    UnfitCertificate {
        /// As [`reason`](Self::reason) gives it.
        reason: &'static str,
        /// What is wrong with it.
        text: String,
    },
    /// The peer refused us and said why by a TLS alert.
    #[error("the peer refused the handshake: {}", alert(.0.0).1)]
    Alert(Alert),
    /// No TLS version, cipher suite, group or signature scheme in common.
    #[error("the peer offers no TLS version, cipher suite or key exchange this side accepts")]
    NothingInCommon(#[source] rustls::Error),
    /// Anything else the TLS library objected to.
    #[error("the TLS handshake failed")]
    Handshake(#[source] rustls::Error),
}

/// Why a chain was refused; opaque, shown through [`Error`] and its [`reason`](Error::reason).
#[derive(Debug)]
pub struct CertificateFault(CertificateError);

/// The alert a peer sent; opaque, shown through [`Error`] and its [`reason`](Error::reason).
#[derive(Debug)]
pub struct Alert(AlertDescription);

impl Error {
    /// A constant token for access logs and metric labels, such as `CertificateRequired` or `UnknownCa`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::File { .. } => "FileUnreadable",
            Self::InFile { error, .. } => error.reason(),
            Self::BadPem(_) => "BadPem",
            Self::EncryptedKey => "EncryptedKey",
            Self::UnusableKey(_) => "UnusableKey",
            Self::KeyMismatch => "KeyMismatch",
            Self::BadCertificate(_) => "BadCertificate",
            Self::NoCertificate => "NoCertificate",
            Self::NoIdentity => "NoIdentity",
            Self::NoRoots | Self::NoUsableRoot(_) => "NoRoots",
            Self::NoSystemRoots => "NoSystemRoots",
            Self::BadRevocationList(_) => "BadRevocationList",
            Self::NoVersion => "NoVersion",
            Self::Config(_) => "Config",
            Self::BadServerName(_) => "BadServerName",
            Self::NoServerName => "NoServerName",
            Self::Issue(_) => "Issue",
            Self::Unfit(_) => "Unfit",
            Self::PeerClosed => "PeerClosed",
            Self::Io(_) => "Io",
            Self::NotTls => "NotTls",
            Self::CertificateRequired => "CertificateRequired",
            Self::BadPeerCertificate(fault) => certificate_problem(fault).0,
            Self::WrongIdentity(_) => WRONG_IDENTITY,
            Self::UnfitCertificate { reason, .. } => reason,
            Self::Alert(received) => alert(received.0).0,
            Self::NothingInCommon(_) => "NothingInCommon",
            Self::Handshake(_) => "Handshake",
        }
    }

    /// Classify an error of a TLS stream: in TLS 1.3 a server's refusal of the client certificate
    /// arrives only with the first read after the handshake.
    pub fn from_io(error: io::Error) -> Self {
        match error.downcast::<rustls::Error>() {
            Ok(error) => Self::from_handshake(error),
            Err(error) => match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe => Self::PeerClosed,
                _ => Self::Io(error),
            },
        }
    }

    /// As [`from_io`](Self::from_io) for an error one only has by reference; `None` when it is not about TLS.
    pub fn of_io(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(Self::from_handshake(error.clone()))
    }

    pub(crate) fn in_file(self, path: PathBuf) -> Self {
        Self::InFile { path, error: Box::new(self) }
    }

    /// The peer presented a certificate that was good once and is expired now (resumed sessions only).
    pub(crate) fn expired_peer() -> Self {
        Self::BadPeerCertificate(CertificateFault(CertificateError::Expired))
    }

    /// The peer's certificate passed the chain check, and cannot be read all the same.
    pub(crate) fn unreadable_peer() -> Self {
        Self::BadPeerCertificate(CertificateFault(CertificateError::BadEncoding))
    }

    /// A chain that is no peer's did not pass verification.
    pub(crate) fn unfit(error: rustls::Error) -> Self {
        Self::Unfit(match Self::from_handshake(error) {
            Self::BadPeerCertificate(fault) => format!("the certificate {}", certificate_words(&fault)),
            other => other.to_string().replacen("the peer's ", "the ", 1),
        })
    }

    pub(crate) fn from_handshake(error: rustls::Error) -> Self {
        match error {
            rustls::Error::NoCertificatesPresented => Self::CertificateRequired,
            rustls::Error::InvalidCertificate(problem) => match refusal(&problem) {
                Some(refused) if refused.reason == WRONG_IDENTITY => Self::WrongIdentity(refused.to_string()),
                Some(refused) => Self::UnfitCertificate { reason: refused.reason, text: refused.to_string() },
                None => Self::BadPeerCertificate(CertificateFault(problem)),
            },
            rustls::Error::AlertReceived(received) => Self::Alert(Alert(received)),
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            error @ rustls::Error::PeerIncompatible(_) => Self::NothingInCommon(error),
            error => Self::Handshake(error),
        }
    }
}

fn refusal(problem: &CertificateError) -> Option<&Refused> {
    match problem {
        CertificateError::Other(other) => other.0.downcast_ref(),
        _ => None,
    }
}

fn certificate_words(fault: &CertificateFault) -> Cow<'static, str> {
    const SHOWN: usize = 4;
    let words = certificate_problem(fault).1;
    let CertificateError::NotValidForNameContext { expected, presented } = &fault.0 else { return words.into() };
    let names: Vec<String> = presented.iter().take(SHOWN).map(|name| printable(bare(name))).collect();
    let more = if presented.len() > SHOWN { ", ..." } else { "" };
    format!("{words} {}; it names {}{more}", printable(&expected.to_str()), names.join(", ")).into()
}

/// `a.example` of `DnsName("a.example")`, as webpki writes it.
fn bare(name: &str) -> &str {
    name.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"')).map_or(name, |(name, _)| name)
}

fn certificate_problem(fault: &CertificateFault) -> (&'static str, &'static str) {
    match &fault.0 {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            ("UnknownCa", "was not issued by a trusted CA")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => ("CertificateExpired", "is expired"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("CertificateNotYetValid", "is not valid yet")
        }
        CertificateError::Revoked => ("CertificateRevoked", "is revoked"),
        CertificateError::UnknownRevocationStatus => {
            ("RevocationUnknown", "is covered by no certificate revocation list of its issuer")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            ("WrongName", "is not valid for the host name")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            ("WrongPurpose", "may not be used for this side of TLS (extended key usage)")
        }
        CertificateError::BadEncoding => ("BadPeerCertificate", "is not a valid X.509 certificate"),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            ("SignatureAlgorithm", "or one of its chain is signed by an algorithm that is not accepted, such as SHA-1")
        }
        CertificateError::InvalidOcspResponse => ("BadOcspResponse", "comes with an OCSP response that cannot be used"),
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            ("RevocationListExpired", "is covered by a certificate revocation list that is out of date")
        }
        CertificateError::Other(other) => other.0.downcast_ref().map_or(UNNAMED, chain_problem),
        _ => UNNAMED,
    }
}

const UNNAMED: (&str, &str) = ("BadPeerCertificate", "did not pass verification");

/// What rustls hands on without a name of its own.
fn chain_problem(problem: &webpki::Error) -> (&'static str, &'static str) {
    match problem {
        webpki::Error::CaUsedAsEndEntity => {
            ("CaAsEndEntity", "is a CA certificate (basic constraints), and not itself among the trusted ones")
        }
        webpki::Error::EndEntityUsedAsCa => {
            ("NoCaInChain", "was issued by a certificate that is no CA (basic constraints)")
        }
        webpki::Error::UnsupportedCertVersion => {
            ("Version1", "or one of its chain is of an X.509 version that cannot stand there: only version 3 can")
        }
        webpki::Error::UnsupportedCriticalExtension => {
            ("CriticalExtension", "or one of its chain has a critical extension that nobody here knows")
        }
        webpki::Error::NameConstraintViolation => {
            ("NameConstraints", "has a name that its CA may not give (name constraints)")
        }
        webpki::Error::PathLenConstraintViolated => {
            ("ChainTooLong", "comes with a longer chain than one of its CAs allows (path length)")
        }
        webpki::Error::MaximumPathDepthExceeded
        | webpki::Error::MaximumPathBuildCallsExceeded
        | webpki::Error::MaximumSignatureChecksExceeded
        | webpki::Error::MaximumNameConstraintComparisonsExceeded => {
            ("ChainTooLong", "comes with a chain that is too long or too tangled to be followed")
        }
        webpki::Error::EmptyEkuExtension => ("WrongPurpose", "has an empty extended key usage"),
        webpki::Error::InvalidSerialNumber => ("BadPeerCertificate", "has a malformed serial number"),
        webpki::Error::SignatureAlgorithmMismatch => {
            ("BadPeerCertificate", "names two different algorithms for its signature")
        }
        webpki::Error::MalformedExtensions | webpki::Error::ExtensionValueInvalid => {
            ("BadPeerCertificate", "or one of its chain has malformed extensions")
        }
        webpki::Error::MalformedDnsIdentifier => ("BadPeerCertificate", "has a DNS name that is none"),
        _ => UNNAMED,
    }
}

fn alert(alert: AlertDescription) -> (&'static str, &'static str) {
    match alert {
        AlertDescription::HandshakeFailure => ("AlertHandshakeFailure", "handshake failure"),
        AlertDescription::BadCertificate => ("AlertBadCertificate", "bad certificate"),
        AlertDescription::UnsupportedCertificate => ("AlertUnsupportedCertificate", "unsupported certificate"),
        AlertDescription::CertificateRevoked => ("AlertCertificateRevoked", "certificate revoked"),
        AlertDescription::CertificateExpired => ("AlertCertificateExpired", "certificate expired"),
        AlertDescription::CertificateUnknown => ("AlertCertificateUnknown", "certificate not acceptable"),
        AlertDescription::UnknownCA => ("AlertUnknownCa", "unknown CA"),
        AlertDescription::AccessDenied => ("AlertAccessDenied", "access denied"),
        AlertDescription::DecryptError => ("AlertDecryptError", "decrypt error"),
        AlertDescription::ProtocolVersion => ("AlertProtocolVersion", "unsupported TLS version"),
        AlertDescription::InsufficientSecurity => ("AlertInsufficientSecurity", "insufficient security"),
        AlertDescription::InternalError => ("AlertInternalError", "internal error"),
        AlertDescription::UserCanceled => ("AlertUserCanceled", "cancelled by the user"),
        AlertDescription::UnrecognisedName => ("AlertUnrecognizedName", "unrecognized name"),
        AlertDescription::CertificateRequired => ("AlertCertificateRequired", "certificate required"),
        AlertDescription::NoApplicationProtocol => ("AlertNoApplicationProtocol", "no application protocol"),
        _ => ("AlertOther", "an alert without a name of its own"),
    }
}
