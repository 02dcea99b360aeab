//! The revocation lists that are mounted (`--ca-crl`), and what becomes of an identity by them.

use std::{io, path::PathBuf};

use tls::workload::{WorkloadIdentity, read_revocation_lists};
use tracing::{error, info};

use crate::source::bounded;

/// Larger lists are none.
const LARGEST: u64 = 4 << 20;

/// See the module.
pub(super) struct Lists {
    path: PathBuf,
    /// The last good ones, as PEM; empty: there were none.
    good: Vec<u8>,
    /// Why those of the file are not looked at; `None`: they are.
    trouble: Option<String>,
}

impl Lists {
    /// Nothing was read yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, good: Vec::new(), trouble: None }
    }

    /// Reads the file. Broken lists, or unreadable ones, leave those of before.
    ///
    /// # Errors
    /// There are none of before, and nobody can say who is revoked. `in_use`: there is an identity without lists already, which
    /// goes on, as ending it would help nobody.
    pub(super) fn look(&mut self, in_use: bool) -> Result<(), String> {
        match self.read() {
            Ok(found) => {
                self.good = found;
                if self.trouble.take().is_some() {
                    info!(file = %self.path.display(), "the revocation lists are right again");
                }
                Ok(())
            }
            Err(why) => {
                let file = self.path.display();
                let (none, words) = match (self.good.is_empty(), in_use) {
                    (false, _) => (false, format!("{why} ({file}); those of before are looked at")),
                    (true, true) => {
                        (false, format!("{why} ({file}); NOBODY IS FOUND TO BE REVOKED until they are right"))
                    }
                    (true, false) => (true, format!("{why} ({file}); without them nobody can say who is revoked")),
                };
                if none {
                    // Who waits for an identity says why.
                    return Err(words);
                }
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

    /// What an operator has to know of them.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
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

    /// What is in the file. No file, or an empty one, is no lists: that is how a control plane says that there are none.
    fn read(&self) -> Result<Vec<u8>, String> {
        match bounded::read(&self.path, LARGEST) {
            Ok(bytes) if bytes.trim_ascii().is_empty() => Ok(Vec::new()),
            Ok(bytes) => match read_revocation_lists(&bytes) {
                Ok(()) => Ok(bytes),
                Err(error) => Err(format!("the revocation lists are broken: {error}")),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(format!("the revocation lists cannot be read: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
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
        (folder, Lists::new(path.clone()), path)
    }

    #[test]
    fn without_lists_there_are_none() {
        let (_folder, mut lists, path) = lists();
        lists.look(false).unwrap();
        std::fs::write(&path, " \n").unwrap();
        lists.look(false).unwrap();
        assert_eq!((lists.good(), lists.trouble()), (None, None));
    }

    #[test]
    fn what_cannot_be_read_or_is_broken_begins_nothing_and_ends_nothing() {
        let (_folder, mut lists, path) = lists();
        let both = |lists: &mut Lists, word: &str| {
            let why = lists.look(false).unwrap_err();
            assert!(why.contains(word), "{why}");
            lists.look(true).unwrap();
            assert_eq!(lists.good(), None);
            assert!(lists.trouble().unwrap().contains("NOBODY IS FOUND TO BE REVOKED"));
        };
        std::fs::write(&path, "nonsense").unwrap();
        both(&mut lists, "are broken");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        both(&mut lists, "cannot be read");
        std::fs::remove_dir(&path).unwrap();
        lists.look(true).unwrap();
        assert_eq!(lists.trouble(), None);
    }

    #[test]
    fn broken_lists_leave_those_of_before() {
        let (_folder, mut lists, path) = lists();
        std::fs::write(&path, LIST).unwrap();
        lists.look(false).unwrap();
        std::fs::write(&path, "nonsense").unwrap();
        for in_use in [false, true] {
            lists.look(in_use).unwrap();
            assert_eq!(lists.good(), Some(LIST.as_bytes()));
            assert!(lists.trouble().unwrap().contains("those of before"));
        }
        std::fs::write(&path, "").unwrap();
        lists.look(false).unwrap();
        assert_eq!((lists.good(), lists.trouble()), (None, None));
    }
}
