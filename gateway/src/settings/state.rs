//! Where a gateway that reads files keeps what it orders, when nobody says.

use std::{ffi::OsString, os::unix::ffi::OsStrExt as _, path::PathBuf};

/// `$XDG_STATE_HOME/sluice/...`, else `~/.local/state/sluice/...`: one folder for each configuration, so that gateways
/// with different ones never meet in it and replicas with the same one do. Links are not followed, since a new release behind
/// the same link is the same gateway. `None` when no home folder is known.
pub(crate) fn default_folder(namespace: &str, name: &str, config: &[PathBuf]) -> Option<PathBuf> {
    folder(|variable| std::env::var_os(variable), namespace, name, config)
}

fn folder(
    variable: impl Fn(&str) -> Option<OsString>,
    namespace: &str,
    name: &str,
    config: &[PathBuf],
) -> Option<PathBuf> {
    let absolute = |variable: Option<OsString>| variable.map(PathBuf::from).filter(|path| path.is_absolute());
    // Relative values are to be ignored (XDG Base Directory Specification).
    let base = absolute(variable("XDG_STATE_HOME"))
        .or_else(|| absolute(variable("HOME")).map(|home| home.join(".local/state")))?;
    let mut paths: Vec<PathBuf> =
        config.iter().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone())).collect();
    paths.sort_unstable();
    let hash = paths.iter().fold(FNV, |hash, path| fnv(fnv(hash, path.as_os_str().as_bytes()), b"\n"));
    Some(base.join("sluice").join(format!("{namespace}-{name}-{hash:08x}")))
}

/// FNV-1a, the same in every version of every library: another folder would mean that all is ordered again.
fn fnv(hash: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

const FNV: u32 = 0x811c_9dc5;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)], config: &[&str]) -> Option<PathBuf> {
        let find = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into());
        let config: Vec<PathBuf> = config.iter().map(PathBuf::from).collect();
        folder(find, "ns", "gw", &config)
    }

    #[test]
    fn each_configuration_has_a_folder_of_its_own() {
        let home = [("HOME", "/home/a")];
        let folder = of(&home, &["/etc/a"]).unwrap();
        assert!(folder.starts_with("/home/a/.local/state/sluice"), "{}", folder.display());
        assert_eq!(folder, PathBuf::from("/home/a/.local/state/sluice/ns-gw-b69bd38e"), "the same for ever");
        assert_eq!(of(&home, &["/etc/a", "/etc/b"]), of(&home, &["/etc/b", "/etc/a"]));
        assert_ne!(of(&home, &["/etc/b"]).unwrap(), folder);
        let xdg = of(&[("HOME", "/home/a"), ("XDG_STATE_HOME", "/state")], &["/etc/a"]).unwrap();
        assert!(xdg.starts_with("/state/sluice"));
        assert!(of(&[("HOME", "/home/a"), ("XDG_STATE_HOME", "state")], &[]).unwrap().starts_with("/home/a"));
        assert_eq!(of(&[], &["/etc/a"]), None);
        assert_eq!(of(&[("HOME", "")], &["/etc/a"]), None);
    }
}
