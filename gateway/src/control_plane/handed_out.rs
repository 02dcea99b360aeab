//! What workloads of the same machine trust, and whom not, as files: `root-cert.pem` and, beside it, `ca-crl.pem`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::sleep;
use tracing::warn;

use super::{
    ca::{in_force::Current, material::CRL},
    place::ROOTS,
};

/// When a file could not be written; twice as long each time.
const AGAIN: Duration = Duration::from_secs(1);
/// As long as that at most.
const AT_MOST: Duration = Duration::from_secs(60);

/// The files of a machine.
pub(super) struct HandedOut {
    /// In the state folder, which nobody else writes to.
    own: PathBuf,
    /// The roots again, where everybody can read them.
    public: Option<PathBuf>,
    /// Lists that are ours: an operator's own file of that name is not emptied.
    ours: BTreeSet<PathBuf>,
    /// Why a file could not be written, as it was said last.
    told: BTreeMap<PathBuf, String>,
}

impl HandedOut {
    /// Those of this state folder.
    pub(super) fn new(folder: &Path, public: Option<PathBuf>) -> Self {
        let own = folder.join(ROOTS);
        let ours = BTreeSet::from([own.with_file_name(CRL)]);
        Self { own, public, ours, told: BTreeMap::new() }
    }

    /// Keeps them current, until dropped.
    pub(super) async fn keep(mut self, current: &Current) {
        let mut in_force = current.follow();
        let mut pause = AGAIN;
        loop {
            let now = in_force.borrow_and_update().clone();
            // Before anything signs nobody knows what is to stand there, and what does is the last that was right.
            let failed = now.map_or(0, |now| self.write(&now.roots, &now.crl()));
            if failed == 0 && in_force.borrow().is_some() {
                current.hand_out();
            }
            tokio::select! {
                changed = in_force.changed() => match changed {
                    Ok(()) => pause = AGAIN,
                    Err(_) => return,
                },
                () = sleep(pause), if failed > 0 => pause = (2 * pause).min(AT_MOST),
            }
        }
    }

    /// Writes both everywhere. Gives how many files are not as they should be.
    fn write(&mut self, roots: &str, lists: &str) -> usize {
        let own = self.own.with_file_name(CRL);
        let before = std::fs::read(&own).unwrap_or_default();
        let files: Vec<PathBuf> = std::iter::once(&self.own).chain(&self.public).cloned().collect();
        let mut failed = 0;
        // The public ones first: what they are compared with is the last to change.
        for file in files.iter().rev() {
            let target = file.with_file_name(CRL);
            let is_ours = self.ours.contains(&target)
                || (!before.is_empty() && std::fs::read(&target).is_ok_and(|there| there == before));
            let due = !lists.is_empty() || (is_ours && target.exists());
            if due && self.told(&target, lists.as_bytes(), "the revocation lists") {
                self.ours.insert(target);
            } else if due {
                failed += 1;
            }
        }
        for file in &files {
            failed += usize::from(!self.told(file, roots.as_bytes(), "the roots"));
        }
        failed
    }

    /// Writes a file; true when it is there.
    fn told(&mut self, file: &Path, bytes: &[u8], what: &str) -> bool {
        let written = file.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| write(file, bytes));
        let Err(error) = written else {
            self.told.remove(file);
            return true;
        };
        let error = error.to_string();
        if self.told.get(file) != Some(&error) {
            warn!(error, file = %file.display(), "{what} cannot be written; it is tried again, later and later");
            self.told.insert(file.to_owned(), error);
        }
        false
    }
}

/// In one step: who reads it sees the old content or the new one.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if std::fs::read(path).is_ok_and(|before| before == bytes) {
        return Ok(());
    }
    let draft = path.with_extension(format!("{:08x}.new", fastrand::u32(..)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&draft)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&draft, path));
    if written.is_err() {
        // It may hold half of it, and nobody looks for it by that name.
        std::fs::remove_file(&draft).ok();
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state folder and a public one.
    fn folders() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (state, public) = (folder.path().join("state"), folder.path().join("public"));
        for folder in [&state, &public] {
            std::fs::create_dir(folder).unwrap();
        }
        (folder, state, public)
    }

    fn files(state: &Path, public: &Path) -> HandedOut {
        HandedOut::new(state, Some(public.join("mesh.pem")))
    }

    fn read(folder: &Path, name: &str) -> Option<String> {
        std::fs::read_to_string(folder.join(name)).ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_leaves_the_lists_until_a_ca_signs() {
        let (_folder, state, public) = folders();
        assert_eq!(files(&state, &public).write("roots", "lists"), 0);
        let current = Current::new(Duration::from_secs(60));
        let kept = tokio::time::timeout(Duration::from_secs(300), files(&state, &public).keep(&current)).await;
        assert!(kept.is_err() && !current.is_handed_out());
        for folder in [&state, &public] {
            assert_eq!(read(folder, CRL).as_deref(), Some("lists"), "{}", folder.display());
        }
    }

    #[test]
    fn lists_are_emptied_where_they_are_ours_alone() {
        let (_folder, state, public) = folders();
        std::fs::write(public.join(CRL), "an operator's").unwrap();
        assert_eq!(files(&state, &public).write("roots", ""), 0);
        assert_eq!((read(&state, CRL), read(&public, CRL).as_deref()), (None, Some("an operator's")));
        assert_eq!(files(&state, &public).write("roots", "lists"), 0);
        // By another process, which finds them to be those of the state folder.
        assert_eq!(files(&state, &public).write("roots", ""), 0);
        assert_eq!((read(&state, CRL).as_deref(), read(&public, CRL).as_deref()), (Some(""), Some("")));
        assert_eq!(
            (read(&state, ROOTS).as_deref(), read(&public, "mesh.pem").as_deref()),
            (Some("roots"), Some("roots"))
        );
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_leaves_nothing_behind() {
        let (_folder, state, public) = folders();
        for name in ["mesh.pem", CRL] {
            std::fs::create_dir(public.join(name)).unwrap();
        }
        let mut files = files(&state, &public);
        assert_eq!((files.write("roots", "lists"), files.write("roots", "lists")), (2, 2));
        assert_eq!(files.told.len(), 2);
        assert_eq!(std::fs::read_dir(&public).unwrap().count(), 2, "no drafts");
        assert_eq!(read(&state, CRL).as_deref(), Some("lists"));
    }
}
