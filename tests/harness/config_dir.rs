//! The folder of YAML a proxy watches, changed the ways people and kubelets change it.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use tempfile::TempDir;

/// A folder of YAML; removed when dropped.
#[derive(Debug)]
pub struct ConfigDir {
    folder: TempDir,
    published: AtomicUsize,
}

impl ConfigDir {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            folder: TempDir::with_prefix("sluice-config-").expect("a temporary folder can be made"),
            published: AtomicUsize::new(0),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes or replaces a file in one step: the text goes into a hidden file which is then renamed.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        let folder = path.parent().expect("a file lies in a folder");
        fs::create_dir_all(folder).expect("the folder can be made");
        let draft = folder.join(format!(".{}.draft", path.file_name().unwrap_or_default().display()));
        fs::write(&draft, text).expect("the file can be written");
        fs::rename(&draft, &path).expect("the file can be renamed");
        path
    }

    /// Rewrites a file in place, as an editor without safe-write does.
    pub fn overwrite(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("the file can be written");
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path().join(name)).expect("the file was there");
    }

    /// Publishes files the way the kubelet updates a mounted ConfigMap or Secret: a new time-stamped folder, and
    /// `..data` swapped to it with a rename; the visible names are symlinks through `..data`.
    pub fn publish(&self, mount: &str, files: &[(&str, &str)]) {
        let mount = self.path().join(mount);
        fs::create_dir_all(&mount).expect("the mount folder can be made");
        let stamped = format!("..2026_01_01_00_00_00.{}", self.published.fetch_add(1, Ordering::Relaxed));
        fs::create_dir(mount.join(&stamped)).expect("the stamped folder is new");
        for (name, text) in files {
            fs::write(mount.join(&stamped).join(name), text).expect("the file can be written");
            if !mount.join(name).is_symlink() {
                symlink(Path::new("..data").join(name), mount.join(name)).expect("the symlink can be made");
            }
        }
        let old = fs::read_link(mount.join("..data")).ok();
        symlink(&stamped, mount.join("..data_tmp")).expect("the symlink can be made");
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).expect("the symlink can be swapped");
        if let Some(old) = old {
            fs::remove_dir_all(mount.join(old)).expect("the old stamped folder can be removed");
        }
    }
}

impl Default for ConfigDir {
    fn default() -> Self {
        Self::new()
    }
}
