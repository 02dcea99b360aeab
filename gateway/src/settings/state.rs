//! Where a gateway that reads files keeps what it orders, when nobody says.

use std::{
    ffi::OsString,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
};

/// `$XDG_STATE_HOME/sluice/...`, else `~/.local/state/sluice/...`: one folder for each configuration, so that gateways
/// with different ones never meet in it and replicas with the same one do. `None` when no home folder is known.
pub(super) fn default_folder(namespace: &str, name: &str, config: &[PathBuf]) -> Option<PathBuf> {
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
    let mut hasher = DefaultHasher::new();
    for path in config {
        path.canonicalize().unwrap_or_else(|_| path.clone()).hash(&mut hasher);
    }
    Some(base.join("sluice").join(format!("{namespace}-{name}-{:08x}", hasher.finish() >> 32)))
}

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
        assert_eq!(of(&home, &["/etc/a"]).unwrap(), folder);
        assert_ne!(of(&home, &["/etc/b"]).unwrap(), folder);
        let xdg = of(&[("HOME", "/home/a"), ("XDG_STATE_HOME", "/state")], &["/etc/a"]).unwrap();
        assert!(xdg.starts_with("/state/sluice"));
        assert!(of(&[("HOME", "/home/a"), ("XDG_STATE_HOME", "state")], &[]).unwrap().starts_with("/home/a"));
        assert_eq!(of(&[], &["/etc/a"]), None);
        assert_eq!(of(&[("HOME", "")], &["/etc/a"]), None);
    }
}
