//! The authorities and certificates of a case.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;
use tempfile::TempDir;
use tls::authority::{Authority, Issued};

use super::case::{Case, Certificate};
use crate::{
    mesh::Mesh,
    pki::{DAY, authority},
};

/// Everything that was issued, in a folder, too: `NAME.pem`, `NAME.key`, and `CA.ca.pem` of each authority.
pub(super) struct Certificates {
    folder: TempDir,
    issued: BTreeMap<String, Issued>,
    authorities: Mutex<BTreeMap<String, Authority>>,
}

impl Certificates {
    /// Issues what the case asks for and writes its Secrets into the mesh.
    pub(super) fn issue(case: &Case, mesh: &Mesh) -> Result<Self, String> {
        let known = [("edge", &mesh.pki.edge), ("mesh", &mesh.pki.mesh)];
        let authorities = known.map(|(name, authority)| (name.to_owned(), authority.clone())).into();
        let folder = TempDir::with_prefix("sluice-certificates-").map_err(|error| error.to_string())?;
        let mut this = Self { folder, issued: BTreeMap::new(), authorities: Mutex::new(authorities) };
        for (name, wanted) in &case.certificates {
            let issued = this.issue_one(name, wanted)?;
            if let Some(secret) = &wanted.secret {
                mesh.write(&format!("secret-{name}.yaml"), &this.secret(secret, wanted, issued.as_ref())?);
            }
            if let Some(issued) = issued {
                this.write(&format!("{name}.pem"), &issued.chain_pem)?;
                this.write(&format!("{name}.key"), &issued.key_pem)?;
                this.issued.insert(name.clone(), issued);
            }
        }
        let known: Vec<String> =
            this.authorities.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        for name in known {
            this.root(&name)?;
        }
        Ok(this)
    }

    /// Where the files are.
    pub(super) fn folder(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// The certificate of this name.
    pub(super) fn get(&self, name: &str) -> Result<&Issued, String> {
        self.issued.get(name).ok_or_else(|| format!("there is no certificate `{name}`"))
    }

    /// The root of this authority, which is made when it is asked for first.
    pub(super) fn root(&self, ca: &str) -> Result<String, String> {
        let pem = self.authority(ca).root_pem().to_owned();
        self.write(&format!("{ca}.ca.pem"), &pem)?;
        Ok(pem)
    }

    fn authority(&self, name: &str) -> Authority {
        let mut all = self.authorities.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(name.to_owned()).or_insert_with(|| authority(&format!("CA {name} of a case"))).clone()
    }

    /// `None`: only a CA is wanted.
    fn issue_one(&self, name: &str, wanted: &Certificate) -> Result<Option<Issued>, String> {
        let names = |list: &[String]| -> Vec<String> { list.to_vec() };
        let default = if wanted.workload.is_some() { "mesh" } else { "edge" };
        let ca = self.authority(wanted.ca.as_deref().unwrap_or(default));
        let issued = match (&wanted.server, &wanted.client, &wanted.workload) {
            (Some(list), None, None) => ca.issue_server(&refs(&names(list)), DAY),
            (None, Some(list), None) => ca.issue_client(name, &refs(&names(list))),
            (None, None, Some(spiffe)) => ca.issue_workload(spiffe, DAY),
            (None, None, None) if wanted.trusts.is_some() => return Ok(None),
            _ => return Err(format!("certificate `{name}` has one of server, client and workload")),
        };
        issued.map(Some).map_err(|error| error.to_string())
    }

    fn secret(&self, place: &str, wanted: &Certificate, issued: Option<&Issued>) -> Result<String, String> {
        let (namespace, name) = place.split_once('/').ok_or("a secret is NAMESPACE/NAME")?;
        let mut data = serde_json::Map::new();
        if let Some(issued) = issued {
            data.insert("tls.crt".into(), BASE64_STANDARD.encode(&issued.chain_pem).into());
            data.insert("tls.key".into(), BASE64_STANDARD.encode(&issued.key_pem).into());
        }
        if let Some(ca) = &wanted.trusts {
            data.insert("ca.crt".into(), BASE64_STANDARD.encode(self.root(ca)?).into());
        }
        let kind = if issued.is_some() { "kubernetes.io/tls" } else { "Opaque" };
        let object = json!({
            "apiVersion": "v1", "kind": "Secret", "type": kind,
            "metadata": {"name": name, "namespace": namespace}, "data": data,
        });
        Ok(format!("{object}\n"))
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.folder.path().join(name);
        fs::write(&path, text).map_err(|error| error.to_string())?;
        Ok(path)
    }
}

fn refs(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}
