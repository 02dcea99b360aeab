//! The executable under test.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    time::SystemTime,
};

/// The `sluice` executable: `SLUICE_BIN` when it is set, else the one in the target folder of this test run.
///
/// It is built first when it is missing or older than the sources; stories run as separate processes, so a lock file
/// lets one of them build while the others wait.
pub fn sluice() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match env::var_os("SLUICE_BIN") {
        Some(path) => PathBuf::from(path),
        None => built(),
    })
}

/// Runs `sluice` to its end.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(sluice()).args(arguments).env("NO_COLOR", "1").output().expect("sluice can be started")
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests folder lies in the repository")
}

/// An executable of somebody else: the one that the variable names, else what `make deps` put below `target/peers`.
pub fn peer(variable: &str, name: &str) -> Option<PathBuf> {
    let named = env::var_os(variable).map(PathBuf::from);
    let path = named.unwrap_or_else(|| repository().join("target/peers/tools").join(name));
    Some(path).filter(|path| path.is_file())
}

fn built() -> PathBuf {
    let profile = profile_folder();
    let path = profile.join("sluice");
    let lock = fs::File::create(profile.join(".sluice-build.lock")).expect("the target folder is writable");
    lock.lock().expect("the lock file can be locked");
    if is_stale(&path) {
        let target = profile.parent().expect("a profile folder lies in a target folder");
        let began = SystemTime::now();
        let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--quiet", "-p", "sluice-gateway", "--target-dir"])
            .arg(target)
            .current_dir(repository())
            .status()
            .expect("cargo can be started");
        assert!(status.success(), "`cargo build -p sluice-gateway` failed: fix the build, or set SLUICE_BIN");
        // Cargo leaves an executable alone when a source changed in time but not in content.
        let built = fs::File::options().append(true).open(&path).expect("cargo built the executable");
        built.set_modified(began).expect("the time of the executable can be set");
    }
    path
}

/// `target/debug`: test executables run from `target/debug/deps`.
fn profile_folder() -> PathBuf {
    let test = env::current_exe().expect("a running test knows its path");
    let folder = test.parent().expect("an executable lies in a folder");
    let profile = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    profile.to_path_buf()
}

fn is_stale(binary: &Path) -> bool {
    let Ok(built) = fs::metadata(binary).and_then(|data| data.modified()) else {
        return true;
    };
    ["Cargo.toml", "Cargo.lock", "routing", "tls", "gateway"]
        .iter()
        .any(|part| newest(&repository().join(part)) > built)
}

/// When the newest manifest or Rust file at or below `path` was changed.
fn newest(path: &Path) -> SystemTime {
    if path.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        return entries.map(|entry| newest(&entry.path())).max().unwrap_or(SystemTime::UNIX_EPOCH);
    }
    let is_source = path.extension().is_some_and(|ending| ending == "rs" || ending == "toml" || ending == "lock");
    let modified = fs::metadata(path).and_then(|data| data.modified()).ok().filter(|_| is_source);
    modified.unwrap_or(SystemTime::UNIX_EPOCH)
}
