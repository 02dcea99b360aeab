//! Everything on the way from a path to its file: each place where a rename or a new link would make the path mean
//! another file. The kubelet changes mounted ConfigMaps and Secrets that way: `tls.crt -> ..data/tls.crt`,
//! `..data -> ..2026_01_31/`, and an update swaps `..data`.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    path::{Component, Path, PathBuf},
};

/// As many links as Linux follows before it says ELOOP.
const MAX_LINKS: usize = 40;

/// One name in one folder that a path goes through.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Step {
    /// The folder, without links in its path.
    pub(crate) folder: PathBuf,
    /// The name in it: a link, or the end of the path.
    pub(crate) name: OsString,
}

/// The links that `path` goes through and its last name, in the order they are met. A part that does not exist ends the
/// trail: when it appears, it is seen as a change of that part.
pub(crate) fn trail(path: &Path) -> Vec<Step> {
    let mut todo: VecDeque<OsString> = parts(&absolute(path));
    let mut folder = PathBuf::from("/");
    let mut steps = Vec::new();
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == OsStr::new("..") {
            folder.pop();
            continue;
        }
        let next = folder.join(&name);
        if let Ok(target) = std::fs::read_link(&next) {
            links += 1;
            steps.push(Step { folder: folder.clone(), name });
            if links > MAX_LINKS {
                return steps;
            }
            if target.is_absolute() {
                folder = PathBuf::from("/");
            }
            let mut rest = parts(&target);
            rest.append(&mut todo);
            todo = rest;
        } else if todo.is_empty() || !next.exists() {
            steps.push(Step { folder, name });
            return steps;
        } else {
            folder = next;
        }
    }
    steps
}

/// The path from the root; the working folder is read once per call because a demo may have moved.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Names of a path, `..` included, root and `.` left out.
fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn names(steps: &[Step], root: &Path) -> Vec<String> {
        let root = root.canonicalize().unwrap();
        steps.iter().map(|it| it.folder.join(&it.name).strip_prefix(&root).unwrap().display().to_string()).collect()
    }

    #[test]
    fn a_plain_file_is_one_step() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.yaml"), "").unwrap();
        assert_eq!(names(&trail(&root.path().join("a.yaml")), root.path()), ["a.yaml"]);
    }

    #[test]
    fn a_mounted_secret_goes_through_its_data_link() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("..2026")).unwrap();
        fs::write(at("..2026/tls.crt"), "").unwrap();
        symlink("..2026", at("..data")).unwrap();
        symlink("..data/tls.crt", at("tls.crt")).unwrap();

        assert_eq!(names(&trail(&at("tls.crt")), root.path()), ["tls.crt", "..data", "..2026/tls.crt"]);
    }

    #[test]
    fn links_may_climb_and_be_absolute() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("x/y")).unwrap();
        fs::write(at("x/file"), "").unwrap();
        symlink("../file", at("x/y/up")).unwrap();
        symlink(root.path().canonicalize().unwrap().join("x/y/up"), at("far")).unwrap();

        assert_eq!(names(&trail(&at("far")), root.path()), ["far", "x/y/up", "x/file"]);
    }

    #[test]
    fn a_missing_part_ends_the_trail() {
        let root = tempfile::tempdir().unwrap();
        symlink("nowhere/file", root.path().join("link")).unwrap();
        assert_eq!(names(&trail(&root.path().join("link")), root.path()), ["link", "nowhere"]);
    }

    #[test]
    fn a_loop_of_links_ends() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        assert_eq!(trail(&root.path().join("a")).len(), MAX_LINKS + 1);
    }
}
