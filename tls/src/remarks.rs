//! What an operator should know of a certificate that serves all the same.

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use crate::Error;
use crate::anchors::{Anchors, bounded};
use crate::pem::{self, Bundle};

/// Who will look at a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// It is a server's.
    ToClients,
    /// It is a client's.
    ToServers,
}

/// Of a chain that is shown to peers: parts that are not used, and versions that many peers refuse.
pub(crate) fn own(chain: &Bundle, shown: Shown) -> Vec<String> {
    let mut remarks = chain.remarks.clone();
    for (index, certificate) in chain.certificates.iter().enumerate() {
        let version = X509Certificate::from_der(certificate).map(|(_, parsed)| parsed.version());
        let old = match (version, index, shown) {
            (Err(_), ..) => "is not a valid X.509 certificate; peers that need it refuse the chain",
            (Ok(X509Version::V3), ..) => continue,
            (Ok(_), 0, Shown::ToClients) => {
                "is of X.509 version 1, which has no subjectAltName: browsers and most libraries refuse it; sign it with an \
                 extension file (`openssl x509 -req -extfile`) that has subjectAltName"
            }
            (Ok(_), 0, Shown::ToServers) => {
                "is of X.509 version 1, which cannot say that it is for clients only: many servers refuse it; sign it with \
                 an extension file (`openssl x509 -req -extfile`)"
            }
            (Ok(_), ..) => "is of X.509 version 1, which no peer accepts in the middle of a chain",
        };
        remarks.push(format!("certificate {} of the chain {old}", index + 1));
    }
    bounded(remarks)
}

/// Of the CAs in a file, as a server or a client would use them.
///
/// # Errors
/// When they cannot be used.
pub fn authorities(roots_pem: &[u8]) -> Result<Vec<String>, Error> {
    Anchors::new(pem::bundle(roots_pem)?).map(|anchors| anchors.remarks)
}
