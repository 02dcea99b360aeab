//! Whether what flags name is there, and whether they go together.

use std::path::{Path, PathBuf};

/// That a flag which is about an API server is given with --kubernetes only: clap lets such a flag pass when what it
/// requires is excluded by another one.
///
/// # Errors
/// A sentence that names the flag.
pub(crate) fn only_with_kubernetes(flag: &str, given: bool) -> Result<(), String> {
    if given { Err(format!("{flag} is about an API server; give --kubernetes instead of --config")) } else { Ok(()) }
}

/// That all of these paths can be reached.
///
/// # Errors
/// A sentence that names the flag and the path.
pub(crate) fn existing(flag: &str, paths: &[PathBuf]) -> Result<(), String> {
    paths.iter().try_for_each(|path| reach(flag, path).map(drop))
}

/// That this path is a folder.
///
/// # Errors
/// A sentence that names the flag and the path.
pub(crate) fn existing_folder(flag: &str, path: &Path) -> Result<(), String> {
    if reach(flag, path)?.is_dir() {
        return Ok(());
    }
    Err(format!("{flag} names `{}`, which is a file; name the folder it is in", path.display()))
}

fn reach(flag: &str, path: &Path) -> Result<std::fs::Metadata, String> {
    std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("{flag} names `{}`, which does not exist; name an existing file or folder", path.display())
        }
        _ => format!("{flag} names `{}`, which cannot be read: {error}", path.display()),
    })
}
