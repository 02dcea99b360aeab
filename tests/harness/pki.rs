//! Two authorities: the one browsers trust at the edge, and the one of the mesh.

use std::{fs, path::Path, time::Duration};

use tls::authority::{Authority, Issued};

/// The edge CA and the mesh CA of a story.
pub struct Pki {
    /// Signs what clients outside see.
    pub edge: Authority,
    /// Signs workload identities.
    pub mesh: Authority,
}

impl Pki {
    /// Two fresh authorities.
    pub fn new() -> Self {
        Self { edge: authority("Edge CA of a story"), mesh: authority("Mesh CA of a story") }
    }

    /// A server certificate for these names, signed by the edge CA.
    pub fn server(&self, names: &[&str]) -> Issued {
        self.edge.issue_server(names, DAY).expect("a server certificate can be issued")
    }

    /// A workload certificate of the mesh for `spiffe`.
    pub fn workload(&self, spiffe: &str) -> Issued {
        self.mesh.issue_workload(spiffe, DAY).expect("a workload certificate can be issued")
    }

    /// Writes an identity folder with Istio's three file names; an existing one is rotated in place, file by file.
    pub fn write_identity(&self, folder: &Path, spiffe: &str) {
        let issued = self.workload(spiffe);
        fs::create_dir_all(folder).expect("the identity folder can be made");
        let root = self.mesh.root_pem();
        let files: [(&str, &str); 3] =
            [("key.pem", &issued.key_pem), ("cert-chain.pem", &issued.chain_pem), ("root-cert.pem", root)];
        for (name, text) in files {
            let draft = folder.join(format!(".{name}"));
            fs::write(&draft, text).expect("the identity can be written");
            fs::rename(draft, folder.join(name)).expect("the identity can be renamed");
        }
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

/// A fresh authority of this name.
pub fn authority(name: &str) -> Authority {
    Authority::new(name).expect("an authority can be made")
}

/// `spiffe://cluster.local/ns/NAMESPACE/sa/ACCOUNT`.
pub fn spiffe(namespace: &str, account: &str) -> String {
    format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
}

/// Validity of everything a story issues.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
