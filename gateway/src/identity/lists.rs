//! The revocation lists that come with an identity or are mounted beside it, and what becomes of it by them.

use std::{fmt::Display, io, path::Path};

use tls::workload::{WorkloadIdentity, read_revocation_lists};
use tracing::{error, info};

use super::board::now;
use crate::source::bounded;

/// Larger lists are none.
const LARGEST: u64 = 4 << 20;

/// See the module.
pub(super) struct Lists {
    /// Where they come from, for people.
    place: String,
    /// The last good ones, as PEM; empty: there were none.
    good: Vec<u8>,
    /// Why those of now are not looked at; `None`: they are.
    trouble: Option<String>,
}

impl Lists {
    /// Nothing was read yet.
    pub(super) fn of(place: &impl Display) -> Self {
        Self { place: place.to_string(), good: Vec::new(), trouble: None }
    }

    /// Takes what is there now, PEM or why it cannot be read. Broken lists, or unreadable ones, leave those of before.
    ///
    /// # Errors
    /// There are none of before, and nobody can say who is revoked. `in_use`: there is an identity without lists already, which
    /// goes on, as ending it would help nobody.
    pub(super) fn take(&mut self, found: Result<Vec<u8>, String>, in_use: bool) -> Result<(), String> {
        let place = &self.place;
        let checked = found.and_then(|found| match read_revocation_lists(&found) {
            _ if found.trim_ascii().is_empty() => Ok(Vec::new()),
            Ok(()) => Ok(found),
            Err(error) => Err(format!("the revocation lists are broken: {error}")),
        });
        match checked {
            Ok(found) => {
                self.good = found;
                if self.trouble.take().is_some() {
                    info!(place, "the revocation lists are right again");
                }
                Ok(())
            }
            Err(why) => {
                let words = match (self.good.is_empty(), in_use) {
                    (false, _) => format!("{why} ({place}); those of before are looked at"),
                    (true, true) => format!("{why} ({place}); NOBODY IS FOUND TO BE REVOKED until they are right"),
                    // Who waits for an identity says why.
                    (true, false) => {
                        return Err(format!("{why} ({place}); without them nobody can say who is revoked"));
                    }
                };
                if self.trouble.as_ref() != Some(&words) {
                    error!("{words}");
                    self.trouble = Some(words);
                }
                Ok(())
            }
        }
    }

    /// The last good ones.
    pub(super) fn good(&self) -> Option<&[u8]> {
        Some(self.good.as_slice()).filter(|good| !good.is_empty())
    }

    /// The identity that looks at the last good ones.
    ///
    /// # Errors
    /// They cannot be read; they were good before.
    pub(super) fn on(&self, identity: WorkloadIdentity) -> Result<WorkloadIdentity, tls::Error> {
        match self.good() {
            None => Ok(identity),
            Some(good) => identity.with_revocation_lists(good),
        }
    }

    /// What an operator has to know of them, and of an identity that looks at them.
    pub(super) fn remarks(&self, identity: Option<&WorkloadIdentity>) -> Vec<String> {
        let own = identity.and_then(|identity| identity.is_listed(now() / 1000).err());
        let own = own.map(|why| {
            format!("whoever looks at the revocation lists of {} refuses this proxy, too: {why}", self.place)
        });
        self.trouble.clone().into_iter().chain(own).collect()
    }
}

/// What is in a file. No file, or an empty one, is no lists: that is how a control plane says that there are none.
pub(super) fn in_file(path: &Path) -> Result<Vec<u8>, String> {
    match bounded::read(path, LARGEST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|error| format!("the revocation lists cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use tls::authority::Authority;

    use super::*;

    /// One that revokes nobody.
    const LIST: &str = "-----BEGIN X509 CRL-----
MIHDMGwCAQEwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBchcNMjYxMTMwMTUxODUy
WhcNMjYxMjIwMTUxODUyWqAvMC0wHwYDVR0jBBgwFoAUEfDRZ1QEbKgJtQOma4y4
vtJITMkwCgYDVR0UBAMCAQEwCgYIKoZIzj0EAwIDRwAwRAIgN/yR0t9ejCNBfUVN
3qh7Ryqj53U05t5Ttlx2BtnVbWsCIGz/WkYogdEZNQNukgAyYH8pzU/MhpqdZfra
ZTbTjZYx
-----END X509 CRL-----\n";

    fn lists() -> (tempfile::TempDir, Lists, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca-crl.pem");
        (folder, Lists::of(&path.display()), path)
    }

    impl Lists {
        fn look(&mut self, path: &Path, in_use: bool) -> Result<(), String> {
            self.take(in_file(path), in_use)
        }

        fn trouble(&self) -> Option<&str> {
            self.trouble.as_deref()
        }
    }

    #[test]
    fn without_lists_there_are_none() {
        let (_folder, mut lists, path) = lists();
        lists.look(&path, false).unwrap();
        std::fs::write(&path, " \n").unwrap();
        lists.look(&path, false).unwrap();
        assert_eq!((lists.good(), lists.trouble()), (None, None));
    }

    #[test]
    fn what_cannot_be_read_or_is_broken_begins_nothing_and_ends_nothing() {
        let (_folder, mut lists, path) = lists();
        let both = |lists: &mut Lists, word: &str| {
            let why = lists.look(&path, false).unwrap_err();
            assert!(why.contains(word), "{why}");
            lists.look(&path, true).unwrap();
            assert_eq!(lists.good(), None);
            assert!(lists.trouble().unwrap().contains("NOBODY IS FOUND TO BE REVOKED"));
        };
        std::fs::write(&path, "nonsense").unwrap();
        both(&mut lists, "are broken");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        both(&mut lists, "cannot be read");
        std::fs::remove_dir(&path).unwrap();
        lists.look(&path, true).unwrap();
        assert_eq!(lists.trouble(), None);
    }

    #[test]
    fn broken_lists_leave_those_of_before() {
        let (_folder, mut lists, path) = lists();
        std::fs::write(&path, LIST).unwrap();
        lists.look(&path, false).unwrap();
        std::fs::write(&path, "nonsense").unwrap();
        for in_use in [false, true] {
            lists.look(&path, in_use).unwrap();
            assert_eq!(lists.good(), Some(LIST.as_bytes()));
            assert!(lists.trouble().unwrap().contains("those of before"));
        }
        std::fs::write(&path, "").unwrap();
        lists.look(&path, false).unwrap();
        assert_eq!((lists.good(), lists.trouble()), (None, None));
    }

    #[test]
    fn an_identity_that_the_lists_revoke_or_do_not_know_is_told() {
        let (mesh, other) = (Authority::new("mesh").unwrap(), Authority::new("another").unwrap());
        let issued = mesh.issue_workload("spiffe://td/ns/a/sa/b", Duration::from_secs(3600)).unwrap();
        let (chain, key) = (issued.chain_pem.as_bytes(), issued.key_pem.as_bytes());
        let own = WorkloadIdentity::from_pem(chain, key, mesh.root_pem().as_bytes()).unwrap();
        let mut lists = Lists::of(&"a socket");
        let mut said = |list: String| {
            lists.take(Ok(list.into_bytes()), true).unwrap();
            lists.remarks(Some(&lists.on(own.clone()).unwrap())).concat()
        };
        assert_eq!(said(String::new()), "");
        assert_eq!(said(mesh.revocation_list(&[]).unwrap()), "");
        let told = "whoever looks at the revocation lists of a socket refuses this proxy, too: the certificate is ";
        assert_eq!(said(mesh.revocation_list(&[&issued.chain_pem]).unwrap()), format!("{told}revoked"));
        let strange = said(other.revocation_list(&[]).unwrap());
        assert_eq!(strange, format!("{told}covered by no certificate revocation list of its issuer"));
    }
}
