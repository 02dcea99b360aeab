//! What the mesh trusts already, and whom not, as it was handed out last: a replica that starts and finds another CA, or none, must not sign
//! beside those that still have the one of the mesh.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tls::authority::{
    lists::{Lists, Untrusted},
    roots::Roots,
    signer::Signer,
};

use super::{material::CRL, succession};
use crate::kubernetes::{
    client::Client,
    roots::{self, NAME},
};

/// Where the roots are.
pub(crate) enum Trusted {
    /// The ConfigMap of the control plane's own namespace.
    Cluster { client: Client, namespace: String },
    /// A file.
    Machine(PathBuf),
}

impl fmt::Display for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster { namespace, .. } => write!(f, "ConfigMap {namespace}/{NAME}"),
            Self::Machine(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Trusted {
    /// Whether what signs (`None`: a root that nobody has yet) may begin, called `whose`.
    ///
    /// # Errors
    /// A sentence: it would cut the mesh in two, or nobody can say.
    pub(crate) async fn allows(&self, whose: &str, signer: Option<&Signer>) -> Result<(), String> {
        let now = SystemTime::now();
        let text = self.read().await?;
        if !text.is_some_and(|text| cuts_off(text.as_bytes(), signer, now)) {
            let Some(signer) = signer else { return Ok(()) };
            let place = self.place_of_lists();
            return match signer.is_trusted(signer.roots(), &self.lists().await?, now) {
                Err(Untrusted::Revoked) => Err(format!("{whose}: {}", succession::revoked(&place))),
                Err(Untrusted::Unlisted) => Err(format!("{whose}: {}", succession::unlisted(&place, signer.serial()))),
                // That was seen to when it was read.
                Ok(()) | Err(Untrusted::Otherwise(_)) => Ok(()),
            };
        }
        Err(format!(
            "{whose} is not taken, as the mesh trusts another CA by {self}, and other replicas may still sign with that; put \
             that CA back where it was kept, or stop every replica, delete {self} and start them, which cuts off whoever has \
             a certificate until it is renewed"
        ))
    }

    /// Whether exactly these roots were handed out last.
    ///
    /// # Errors
    /// A sentence: nobody can say.
    pub(crate) async fn are(&self, roots: &Roots) -> Result<bool, String> {
        let text = self.read().await?.unwrap_or_default();
        Ok(Roots::read(text.as_bytes()).is_ok_and(|trusted| trusted.hold(roots) && roots.hold(&trusted)))
    }

    /// The revocation lists that were handed out last, by a control plane of ours; none: nobody looks at any.
    ///
    /// # Errors
    /// A sentence: nobody can say.
    pub(crate) async fn lists(&self) -> Result<Lists, String> {
        let text = match self {
            Self::Cluster { client, namespace } => roots::told(client, namespace, roots::CRL).await?,
            Self::Machine(path) => read(&path.with_file_name(CRL))?.map(|text| (text, true)),
        };
        let Some((text, true)) = text else { return Ok(Lists::default()) };
        let place = self.place_of_lists();
        Lists::read(text.as_bytes())
            .map_err(|why| format!("{place}: {why}; nobody can say who is revoked until it is put right or deleted"))
    }

    /// Where they are.
    pub(crate) fn place_of_lists(&self) -> String {
        match self {
            Self::Cluster { namespace, .. } => format!("ConfigMap {namespace}/{}", roots::CRL.name),
            Self::Machine(path) => path.with_file_name(CRL).display().to_string(),
        }
    }

    async fn read(&self) -> Result<Option<String>, String> {
        match self {
            Self::Cluster { client, namespace } => {
                Ok(roots::told(client, namespace, roots::ROOTS).await?.map(|(text, _)| text))
            }
            Self::Machine(path) => read(path),
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

/// Whether those who trust these roots and those who trust the signer's refuse one another.
fn cuts_off(trusted: &[u8], signer: Option<&Signer>, now: SystemTime) -> bool {
    let Ok(roots) = Roots::read(trusted) else {
        // What is no certificate was written by somebody else; that there was a CA is known all the same.
        return signer.is_none() && !trusted.trim_ascii().is_empty();
    };
    let ended = |end: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(end).unwrap_or(0)) <= now;
    if roots.facts().iter().all(|root| ended(root.not_after)) {
        return false;
    }
    // With the old roots beside its own it is the next step of a rotation.
    signer
        .is_none_or(|signer| !signer.roots().hold(&roots) && signer.is_trusted(&roots, &Lists::default(), now).is_err())
}

#[cfg(test)]
mod tests {
    use tls::authority::signer::{Material, self_signed};

    use super::*;

    const LIFE: Duration = Duration::from_secs(3600);

    fn root(key: Option<&[u8]>, now: SystemTime) -> (String, String) {
        self_signed("td", key, LIFE, now).unwrap()
    }

    fn signer((certificate, key): &(String, String), more: &str, now: SystemTime) -> Signer {
        let roots = format!("{certificate}{more}").into_bytes();
        let (certificate, key) = (certificate.clone().into_bytes(), key.clone().into_bytes());
        Signer::load(&Material { certificate, key, chain: Vec::new(), crl: Vec::new(), roots }, now).unwrap()
    }

    #[test]
    fn a_ca_that_is_not_the_one_of_the_mesh_does_not_begin() {
        let now = SystemTime::now();
        let (mesh, other) = (root(None, now), root(None, now));
        let (own, strange) = (signer(&mesh, "", now), signer(&other, "", now));
        let trusted = mesh.0.as_bytes();
        assert!(!cuts_off(trusted, Some(&own), now));
        assert!(cuts_off(trusted, Some(&strange), now));
        assert!(cuts_off(trusted, None, now), "a new root would be a second one");
        // The same key for longer; and both roots, whichever of them signs.
        let renewed = signer(&root(Some(mesh.1.as_bytes()), now), "", now);
        assert!(!cuts_off(trusted, Some(&renewed), now));
        assert!(!cuts_off(trusted, Some(&signer(&other, &mesh.0, now)), now));
        assert!(!cuts_off(format!("{}{}", mesh.0, other.0).as_bytes(), Some(&strange), now));
    }

    #[test]
    fn what_nobody_trusts_any_more_holds_nothing_up() {
        let now = SystemTime::now();
        let (mesh, later) = (root(None, now), now + 2 * LIFE);
        let other = signer(&root(None, later), "", later);
        assert!(!cuts_off(mesh.0.as_bytes(), Some(&other), later), "it has ended");
        assert!(!cuts_off(mesh.0.as_bytes(), None, later));
        assert!(!cuts_off(b"nonsense", Some(&other), later) && !cuts_off(b" \n", None, later));
        assert!(cuts_off(b"nonsense", None, now), "there was a CA");
    }
}
