//! Seeing that a workload identity or a certificate file changed. What is in them is read by whoever needs it.

use std::path::PathBuf;

use super::watch::Watch;

/// Tells that something in some folders, or one of some files, changed: `--identity-dir`, and the certificate files that
/// Gateways and DestinationRules name.
#[derive(Debug)]
pub(crate) struct FileWatch {
    watch: Watch,
}

impl FileWatch {
    /// Watches files and folders; they need not exist yet.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        let mut watch = Watch::new(paths, |_| true);
        watch.survey();
        Self { watch }
    }

    /// Watches these from now on, because a new configuration names other files.
    pub(crate) fn set_paths(&mut self, paths: Vec<PathBuf>) {
        if self.watch.roots() != paths {
            self.watch.set_roots(paths);
            self.watch.survey();
        }
    }

    /// Resolves after a change, once it has been quiet for 50 ms (or 500 ms after the first change). Cancel safe.
    pub(crate) async fn changed(&mut self) {
        self.watch.changed().await;
        self.watch.survey();
    }
}
