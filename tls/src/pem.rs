//! What stands in a certificate's or a key's file, as tools and people leave it: PEM in many shapes, or DER. Whatever
//! `openssl x509` and `openssl pkey` read is read; what cannot be is named, and nothing is passed over silently.

use std::borrow::Cow;

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::Error;
use crate::block::{self, Block, first_sequence};

#[cfg(test)]
mod tests;

/// The certificates of a file, and what an operator should know about the rest of it.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// In the file's order.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    /// One sentence for each part that is not used.
    pub(crate) remarks: Vec<String>,
    /// Which of them say themselves what they may be trusted for (OpenSSL's TRUSTED CERTIFICATE), by index.
    pub(crate) restricted: Vec<usize>,
}

/// All certificates of a file, in order. Keys and text between them are passed over.
///
/// # Errors
/// When there is none, or one of them is damaged: a chain or a bundle with a gap is not served.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    bundle(text).map(|bundle| bundle.certificates)
}

/// As [`certificates`], with what else is there.
pub(crate) fn bundle(text: &[u8]) -> Result<Bundle, Error> {
    if let Some(parts) = block::der(text) {
        return of_der(&parts);
    }
    let blocks = block::blocks(text).map_err(Error::BadPem)?;
    let mut bundle = Bundle { certificates: Vec::new(), remarks: Vec::new(), restricted: Vec::new() };
    for block in &blocks {
        match block.label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => bundle.add(block)?,
            // Often in one file with the certificate.
            "EC PARAMETERS" | "DH PARAMETERS" | "DSA PARAMETERS" => {}
            label if is_key(label) => {}
            _ => bundle.remarks.push(format!("{} is no certificate and is not used", block.describe())),
        }
    }
    if bundle.certificates.is_empty() {
        return Err(Error::BadPem(nothing(text, &blocks, Wanted::Certificate)));
    }
    Ok(bundle)
}

impl Bundle {
    fn add(&mut self, block: &Block) -> Result<(), Error> {
        let der = block.der.as_ref().map_err(|why| Error::BadPem(why.clone().into()))?;
        let Some((certificate, rest)) = first_sequence(der) else {
            let why = format!("{} holds no certificate: its content is cut off or something else", block.describe());
            return Err(Error::BadPem(why.into()));
        };
        if block.label == "TRUSTED CERTIFICATE" {
            if restricts(rest) {
                self.restricted.push(self.certificates.len());
            }
        } else if !rest.is_empty() {
            let bytes = rest.len();
            self.remarks
                .push(format!("{} has {bytes} bytes behind its certificate, which are not used", block.describe()));
        }
        self.certificates.push(certificate.to_vec().into());
        Ok(())
    }
}

/// `X509_CERT_AUX` with a list of purposes or of refused purposes: its first field is a SEQUENCE or `[0]`.
fn restricts(aux: &[u8]) -> bool {
    matches!(block::content_of(aux).and_then(<[u8]>::first), Some(0x30 | 0xa0))
}

fn of_der(parts: &block::Der<'_>) -> Result<Bundle, Error> {
    let first = parts.values.first().copied().unwrap_or_default();
    if let Some(what) = block::container(first).or_else(|| block::key_kind(first)) {
        return Err(Error::BadPem(format!("{what} where a certificate is expected").into()));
    }
    let certificates = parts.values.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let rest = parts.rest.len();
    let remarks = match rest {
        0 => Vec::new(),
        _ => vec![format!("{rest} bytes behind the binary (DER) certificate are not used")],
    };
    Ok(Bundle { certificates, remarks, restricted: Vec::new() })
}

/// The first private key of a file: PKCS#8, PKCS#1 (`RSA PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`).
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    Ok(private_keys(text)?.swap_remove(0))
}

/// All private keys of a file that need no passphrase, at least one.
pub(crate) fn private_keys(text: &[u8]) -> Result<Vec<PrivateKeyDer<'static>>, Error> {
    if let Some(parts) = block::der(text) {
        let first = parts.values.first().copied().unwrap_or_default();
        let what = block::container(first).unwrap_or("the file is binary and no private key stands");
        return match PrivateKeyDer::try_from(first.to_vec()) {
            Ok(key) if block::container(first).is_none() => Ok(vec![key]),
            Err(_) if block::is_encrypted_key(first) => Err(Error::EncryptedKey),
            _ => Err(Error::BadPem(format!("{what} where the private key is expected").into())),
        };
    }
    let blocks = block::blocks(text).map_err(Error::BadPem)?;
    let (mut keys, mut refused) = (Vec::new(), None);
    for block in blocks.iter().filter(|block| is_key(&block.label)) {
        match key(block) {
            Ok(key) => keys.push(key),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    match (keys.is_empty(), refused) {
        (false, _) => Ok(keys),
        (true, Some(error)) => Err(error),
        (true, None) => Err(Error::BadPem(nothing(text, &blocks, Wanted::Key))),
    }
}

fn key(block: &Block) -> Result<PrivateKeyDer<'static>, Error> {
    if block.encrypted || block.label == "ENCRYPTED PRIVATE KEY" {
        return Err(Error::EncryptedKey);
    }
    let der = block.der.as_ref().map_err(|why| Error::BadPem(why.clone().into()))?;
    if block.label == "OPENSSH PRIVATE KEY" {
        let why = "the private key is in OpenSSH's own form; `ssh-keygen -p -m PKCS8 -f FILE` rewrites it";
        return Err(Error::BadPem(why.into()));
    }
    let Some((whole, _)) = first_sequence(der) else {
        let why = format!("{} holds no private key: its content is cut off or something else", block.describe());
        return Err(Error::BadPem(why.into()));
    };
    // By content: labels are changed by hand.
    PrivateKeyDer::try_from(whole.to_vec()).map_err(|_| {
        if block::is_encrypted_key(whole) {
            return Error::EncryptedKey;
        }
        let what = block.describe();
        Error::BadPem(format!("{what} holds no private key that can be used: RSA, ECDSA and Ed25519 keys can").into())
    })
}

fn is_key(label: &str) -> bool {
    label.ends_with("PRIVATE KEY")
}

/// All certificate revocation lists of a file.
pub(crate) fn revocation_lists(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    if let Some(parts) = block::der(text) {
        if !parts.rest.is_empty() {
            return Err(Error::BadPem("behind the certificate revocation list there are bytes that are none".into()));
        }
        return Ok(parts.values.iter().map(|der| CertificateRevocationListDer::from(der.to_vec())).collect());
    }
    let blocks = block::blocks(text).map_err(Error::BadPem)?;
    // A list that is passed over would let those pass whom it revokes.
    if let Some(other) = blocks.iter().find(|block| block.label != "X509 CRL") {
        let what = other.describe();
        return Err(Error::BadPem(
            format!("{what} stands where certificate revocation lists are expected (X509 CRL)").into(),
        ));
    }
    let lists: Vec<_> = blocks
        .iter()
        .map(|block| block.der.clone().map(CertificateRevocationListDer::from).map_err(|why| Error::BadPem(why.into())))
        .collect::<Result<_, _>>()?;
    if lists.is_empty() {
        return Err(Error::BadPem("the certificate revocation list has no BEGIN X509 CRL block".into()));
    }
    Ok(lists)
}

/// What was looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Certificate,
    Key,
}

/// Why nothing of what was wanted is there.
fn nothing(text: &[u8], blocks: &[Block], wanted: Wanted) -> Cow<'static, str> {
    let (what, block) = match wanted {
        Wanted::Certificate => ("the certificate", "CERTIFICATE"),
        Wanted::Key => ("the private key", "PRIVATE KEY"),
    };
    let mistaken = blocks.iter().find_map(|found| match (wanted, found.label.as_str()) {
        (Wanted::Certificate, label) if is_key(label) => Some("a private key stands"),
        (Wanted::Key, "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE") => Some("a certificate stands"),
        (_, "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") => Some("a certificate request stands"),
        (_, "PKCS7" | "CMS") => Some("a PKCS#7 bundle stands (`openssl pkcs7 -print_certs` unpacks it)"),
        (_, "PUBLIC KEY" | "RSA PUBLIC KEY") => Some("a public key stands"),
        _ => None,
    });
    if let Some(mistaken) = mistaken {
        let expected = if wanted == Wanted::Certificate { "a certificate" } else { "the private key" };
        return format!("{mistaken} where {expected} is expected (no BEGIN {block} block)").into();
    }
    if let Some(first) = blocks.first() {
        return format!("no BEGIN {block} block; {} is something else", first.describe()).into();
    }
    if text.iter().all(u8::is_ascii_whitespace) {
        return format!("{what} is empty").into();
    }
    match block::disguise(text) {
        Some(why) => format!("{what} {why}").into(),
        None => format!("no BEGIN {block} block").into(),
    }
}
