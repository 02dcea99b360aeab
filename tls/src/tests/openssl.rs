//! The `openssl` command, which makes certificates as people do, and judges ours.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder in which `openssl` works.
pub(crate) struct Workshop(tempfile::TempDir);

impl Workshop {
    /// `None`, said loudly, where there is no `openssl`.
    pub(crate) fn open() -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            eprintln!("SKIPPED: there is no `openssl` here to judge certificates");
            return None;
        }
        Some(Self(tempfile::tempdir().expect("a folder")))
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    pub(crate) fn write(&self, file: &str, bytes: &[u8]) {
        std::fs::write(self.path(file), bytes).expect("writes");
    }

    pub(crate) fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// Runs a command line of words without quotes; it must succeed.
    pub(crate) fn run(&self, line: &str) {
        let output = self.output(line);
        assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Whether a certificate that was made without extensions is of version 1; said loudly when it is not.
    pub(crate) fn is_version_1(&self, file: &str) -> bool {
        use x509_parser::prelude::{FromDer as _, X509Certificate};
        let certificates = crate::pem::certificates(&self.read(file)).expect("is a certificate");
        let (_, parsed) = X509Certificate::from_der(&certificates[0]).expect("is a certificate");
        let old = parsed.version().0 == 0;
        if !old {
            eprintln!("SKIPPED: this `openssl` writes no certificates of version 1");
        }
        old
    }

    /// Whether `openssl` is content.
    pub(crate) fn agrees(&self, line: &str) -> bool {
        self.output(line).status.success()
    }

    fn output(&self, line: &str) -> Output {
        let folder: &Path = self.0.path();
        let words = line.split_whitespace();
        Command::new("openssl").args(words).current_dir(folder).output().expect("openssl runs")
    }
}
