//! Where the CA's material is looked for: a folder, the Secret of a plug-in CA, that of a self-signed one.

use std::path::Path;

use tls::authority::signer::Material;

use super::{
    in_force::Origin,
    record::{Record, SELF_SIGNED},
};
use crate::{
    acme::vault::Vault,
    source::bounded,
    stored::{Stored, VaultError},
};

/// Secret of a plug-in CA.
pub(crate) const PLUG_IN: &str = "cacerts";
/// No file of a CA is larger.
const LARGEST: u64 = 1 << 20;

/// What was found.
#[derive(Debug)]
pub(crate) enum Found {
    /// Somebody's CA.
    PlugIn(Origin, Material),
    /// Ours, and the Secret that it is in.
    SelfSigned(Box<Record>, Box<Stored>),
    /// Nothing.
    Nothing,
}

/// Looks.
///
/// # Errors
/// A sentence: nobody can say what is there, or it is not whole.
pub(crate) async fn find(folder: Option<&Path>, vault: &Vault) -> Result<Found, String> {
    if let Some(folder) = folder {
        let origin = Origin::PlugIn(folder.display().to_string());
        return of_folder(folder).map(|material| Found::PlugIn(origin, material));
    }
    let text = |error: VaultError| error.to_string();
    if let Vault::Kubernetes(_) = vault
        && let Some(stored) = vault.get(PLUG_IN).await.map_err(text)?
    {
        let material = of_secret(&stored).map_err(|why| format!("Secret {PLUG_IN}: {why}"))?;
        return Ok(Found::PlugIn(Origin::PlugIn(format!("Secret {PLUG_IN}")), material));
    }
    match vault.get(SELF_SIGNED).await.map_err(text)? {
        None => Ok(Found::Nothing),
        Some(stored) => match Record::read(&stored) {
            Some(record) => Ok(Found::SelfSigned(Box::new(record), Box::new(stored))),
            None => Err(format!(
                "Secret {SELF_SIGNED} has no ca-cert.pem with its ca-key.pem; delete it, and a new root is made"
            )),
        },
    }
}

fn of_folder(folder: &Path) -> Result<Material, String> {
    let file = |name: &str| {
        let path = folder.join(name);
        bounded::read(&path, LARGEST).map_err(|error| format!("{} cannot be read: {error}", path.display()))
    };
    let perhaps = |name: &str| if folder.join(name).exists() { file(name) } else { Ok(Vec::new()) };
    if !folder.join(NAMES[0]).exists() && folder.join("tls.crt").exists() {
        let chain = file("tls.crt")?;
        let (key, roots) = (file("tls.key")?, file("ca.crt")?);
        return Ok(Material { certificate: chain.clone(), key, chain, roots, crl: perhaps(CRL)? });
    }
    Ok(Material {
        certificate: file(NAMES[0])?,
        key: file(NAMES[1])?,
        roots: file(NAMES[2])?,
        // A root that signs itself has none.
        chain: perhaps(NAMES[3])?,
        crl: perhaps(CRL)?,
    })
}

/// Which CAs are revoked, by Istio's name.
pub(crate) const CRL: &str = "ca-crl.pem";
/// Istio's names.
const NAMES: [&str; 4] = ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"];

fn of_secret(stored: &Stored) -> Result<Material, String> {
    let bytes = |key: &str| stored.data.get(key).filter(|value| !value.is_empty()).cloned();
    let wanted = |key: &str| bytes(key).ok_or_else(|| format!("`{key}` is missing"));
    if bytes(NAMES[0]).is_none() && stored.data.contains_key("tls.crt") {
        let chain = wanted("tls.crt")?;
        let (key, roots) = (wanted("tls.key")?, wanted("ca.crt")?);
        return Ok(Material { certificate: chain.clone(), key, chain, roots, crl: bytes(CRL).unwrap_or_default() });
    }
    Ok(Material {
        certificate: wanted(NAMES[0])?,
        key: wanted(NAMES[1])?,
        roots: wanted(NAMES[2])?,
        chain: bytes(NAMES[3]).unwrap_or_default(),
        crl: bytes(CRL).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(pairs: &[(&str, &str)]) -> Stored {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
        Stored { data, ..Stored::default() }
    }

    #[test]
    fn istios_names_and_those_of_cert_manager_are_read() {
        let istio =
            secret(&[("ca-cert.pem", "c"), ("ca-key.pem", "k"), ("root-cert.pem", "r"), ("cert-chain.pem", "x")]);
        let read = of_secret(&istio).unwrap();
        assert_eq!(
            (read.certificate, read.key, read.roots, read.chain),
            (b"c".into(), b"k".into(), b"r".into(), b"x".into())
        );
        let tls = secret(&[("tls.crt", "c"), ("tls.key", "k"), ("ca.crt", "r")]);
        let read = of_secret(&tls).unwrap();
        assert_eq!((read.certificate, read.roots, read.chain), (b"c".into(), b"r".into(), b"c".into()));
        assert_eq!(of_secret(&secret(&[("ca-cert.pem", "c")])).unwrap_err(), "`ca-key.pem` is missing");
        assert_eq!(of_secret(&secret(&[])).unwrap_err(), "`ca-cert.pem` is missing");
    }

    #[test]
    fn a_folder_is_read_by_the_same_names() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| std::fs::write(folder.path().join(name), name).unwrap();
        assert!(of_folder(folder.path()).unwrap_err().contains("ca-cert.pem cannot be read"));
        ["ca-cert.pem", "ca-key.pem", "root-cert.pem"].into_iter().for_each(write);
        let read = of_folder(folder.path()).unwrap();
        assert_eq!((read.roots.as_slice(), read.chain.as_slice()), (b"root-cert.pem".as_slice(), b"".as_slice()));
    }
}
