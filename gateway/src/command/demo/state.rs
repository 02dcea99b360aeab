//! The folder that holds what a demo makes. Without `--state-dir` it is temporary and goes with the demo.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

/// The folder; dropping it removes a temporary one.
#[derive(Debug)]
pub(crate) struct State {
    root: PathBuf,
    temporary: bool,
}

impl State {
    /// Makes the folder, readable by its owner only: it holds private keys.
    ///
    /// # Errors
    /// A sentence about the folder.
    pub(crate) fn create(wanted: Option<&Path>, config: &Path) -> anyhow::Result<Self> {
        let (path, temporary) = match wanted {
            Some(path) => (path.to_owned(), false),
            None => (std::env::temp_dir().join(format!("sluice-demo-{}", std::process::id())), true),
        };
        // A temporary name that exists already may be a trap somebody else laid: it must be new.
        let made = DirBuilder::new().recursive(!temporary).mode(0o700).create(&path);
        made.with_context(|| format!("cannot make the state folder {}", path.display()))?;
        let root = path.canonicalize().with_context(|| format!("cannot read the state folder {}", path.display()))?;
        if root.starts_with(config) {
            bail!("the state folder {} is inside of the demo's folder; name one outside of it", root.display());
        }
        let state = Self { root, temporary };
        for folder in ["config", "hosts", "identities", "logs"] {
            state.folder(folder)?;
        }
        // Scripts wait for this file; an old one would tell them the ports of an earlier demo.
        match fs::remove_file(state.path("demo.json")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot replace {}", state.path("demo.json").display()))
            }
            _ => Ok(state),
        }
    }

    /// Absolute path of something in it.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// Whether it outlives the demo.
    pub(crate) fn is_kept(&self) -> bool {
        !self.temporary
    }

    /// Makes a folder in it, unless it exists.
    pub(crate) fn folder(&self, name: impl AsRef<Path>) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(path)
    }

    /// Writes a file in one step: whoever watches the folder sees the old content or the new one.
    pub(crate) fn write(&self, name: impl AsRef<Path>, content: &str, access: Access) -> anyhow::Result<()> {
        let path = self.path(name);
        // Hidden, so that no proxy takes the half-written file for configuration.
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let draft = path.with_file_name(format!(".{file_name}.new"));
        let mode = match access {
            Access::Public => 0o644,
            Access::Private => 0o600,
        };
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&draft)
            .and_then(|mut file| file.write_all(content.as_bytes()))
            .and_then(|()| fs::rename(&draft, &path));
        written.with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if self.temporary {
            // Nothing is left to tell it to, and the folder for temporary files is emptied at the next start anyway.
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

/// Who may read a file, apart from the folder it is in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    /// Everybody.
    Public,
    /// The user of the demo: private keys.
    Private,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_for_their_owner_only() {
        let scratch = tempfile::tempdir().unwrap();
        let state = State::create(Some(&scratch.path().join("state")), Path::new("/nonexistent")).unwrap();
        state.write("key.pem", "secret", Access::Private).unwrap();
        let mode = fs::metadata(state.path("key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_temporary_folder_goes_with_the_demo_and_a_named_one_stays() {
        let state = State::create(None, Path::new("/nonexistent")).unwrap();
        let path = state.path("");
        drop(state);
        assert!(!path.exists());

        let scratch = tempfile::tempdir().unwrap();
        let state = State::create(Some(scratch.path()), Path::new("/nonexistent")).unwrap();
        drop(state);
        assert!(scratch.path().join("logs").is_dir());
    }

    #[test]
    fn what_the_demo_makes_must_not_become_the_users_configuration() {
        let scratch = tempfile::tempdir().unwrap();
        let config = scratch.path().canonicalize().unwrap();
        let error = State::create(Some(&config.join("state")), &config).unwrap_err();
        assert!(error.to_string().contains("inside of the demo's folder"), "{error}");
    }

    #[test]
    fn an_old_demo_json_is_gone_before_the_new_demo_starts() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("demo.json"), "{}").unwrap();
        State::create(Some(scratch.path()), Path::new("/nonexistent")).unwrap();
        assert!(!scratch.path().join("demo.json").exists());
    }
}
