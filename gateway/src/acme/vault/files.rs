//! Secrets as manifests in a folder, readable by its owner only.
//!
//! ```text
//! <state-dir>/
//!   secrets/NAME.json   certificates: the source reads them like any other configuration
//!   acme/NAME.json      accounts and orders
//!   acme/leader-GATEWAY.lock   held by the process that orders
//!   ca/NAME.json        of a control plane: the mesh's CA
//! ```

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    hash::{Hash as _, Hasher as _},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tracing::warn;

use crate::stored::{Stored, VaultError, Version};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct FileVault {
    root: PathBuf,
    /// `metadata.namespace` of what is written.
    namespace: String,
    /// The folder of what is no certificate.
    others: &'static str,
}

/// `type` of Secrets that hold a certificate.
pub(crate) const TLS: &str = "kubernetes.io/tls";
/// Longest wait for others that write.
const TURN: Duration = Duration::from_secs(1);

impl FileVault {
    /// In this folder, which need not exist yet.
    pub(crate) fn new(root: PathBuf, namespace: String) -> Self {
        Self { root, namespace, others: "acme" }
    }

    /// The same for the mesh's CA, in a folder of its own.
    pub(crate) fn of_ca(root: PathBuf, namespace: String) -> Self {
        Self { root, namespace, others: "ca" }
    }

    /// Where the manifests of certificates are.
    pub(crate) fn certificates(root: &Path) -> PathBuf {
        root.join("secrets")
    }

    /// Where the manifests of orders are.
    pub(crate) fn orders(&self) -> PathBuf {
        self.root.join(self.others)
    }

    /// The whole folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the folders.
    ///
    /// # Errors
    /// A sentence about the folder.
    pub(crate) fn create(&self) -> Result<(), VaultError> {
        for folder in [Self::certificates(&self.root), self.orders()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(|error| failed("the folder", &folder, "made", &error))?;
        }
        Ok(())
    }

    /// The file whose lock the leader of a gateway holds.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn leader_file(&self, gateway: &str) -> Result<File, VaultError> {
        open_private(&self.orders().join(format!("leader-{gateway}.lock")))
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<Stored>, VaultError> {
        for path in self.places(name)? {
            match fs::read(&path) {
                Ok(bytes) => return read(&path, &bytes).map(Some),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("the file", &path, "read", &error)),
            }
        }
        Ok(None)
    }

    pub(super) fn put(&self, name: &str, stored: &Stored) -> Result<Version, VaultError> {
        self.create()?;
        let [certificate, other] = self.places(name)?;
        let path = if stored.kind == TLS { certificate } else { other };
        // Whoever else writes here, as `sluice certs`, takes turns.
        let _turn = self.turn()?;
        if self.get(name)?.and_then(|it| it.version) != stored.version {
            return Err(VaultError::Conflict(name.to_owned()));
        }
        let bytes = self.manifest(name, stored);
        write(&path, &bytes).map_err(|error| failed("the file", &path, "written", &error))?;
        Ok(version(&bytes))
    }

    /// Waits for others that write, but not for one that hangs: this thread has more to do.
    fn turn(&self) -> Result<File, VaultError> {
        let path = self.orders().join("write.lock");
        let file = open_private(&path)?;
        let end = Instant::now() + TURN;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < end => thread::sleep(Duration::from_millis(5)),
                Err(error) => return Err(failed("the file", &path, "locked", &error)),
            }
        }
    }

    pub(super) fn delete(&self, name: &str) -> Result<(), VaultError> {
        for path in self.places(name)? {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("the file", &path, "removed", &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn list(&self, (label, value): (&str, &str)) -> Result<BTreeMap<String, Stored>, VaultError> {
        let mut found = BTreeMap::new();
        let entries = match fs::read_dir(self.orders()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(failed("the folder", &self.orders(), "read", &error)),
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_stem().and_then(|name| name.to_str()).filter(|_| is_manifest(&path));
            let Some(name) = name else { continue };
            // One that cannot be read keeps no other from being followed.
            let read = self.get(name).inspect_err(|error| warn!(%error, "an order or account cannot be read"));
            if let Ok(Some(stored)) = read
                && stored.labels.get(label).is_some_and(|it| it == value)
            {
                found.insert(name.to_owned(), stored);
            }
        }
        Ok(found)
    }

    /// Where a Secret may lie: a certificate, anything else.
    fn places(&self, name: &str) -> Result<[PathBuf; 2], VaultError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if name.is_empty() || name.starts_with('.') || name.len() > 250 || !name.bytes().all(plain) {
            return Err(VaultError::Failed(format!(
                "`{name}` cannot be the name of a Secret; use letters, digits, dots and dashes"
            )));
        }
        let file = format!("{name}.json");
        Ok([Self::certificates(&self.root).join(&file), self.orders().join(&file)])
    }

    fn manifest(&self, name: &str, stored: &Stored) -> Vec<u8> {
        let (mut data, mut text) = (Map::new(), Map::new());
        for (key, value) in &stored.data {
            match std::str::from_utf8(value) {
                Ok(value) => text.insert(key.clone(), value.into()),
                Err(_) => data.insert(key.clone(), STANDARD.encode(value).into()),
            };
        }
        let manifest = json!({
            "apiVersion": "v1", "kind": "Secret", "type": stored.kind,
            "metadata": {
                "name": name, "namespace": self.namespace,
                "labels": stored.labels, "annotations": stored.annotations,
            },
            "data": data, "stringData": text,
        });
        format!("{manifest:#}\n").into_bytes()
    }
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "json")
}

fn read(path: &Path, bytes: &[u8]) -> Result<Stored, VaultError> {
    let manifest: Value =
        serde_json::from_slice(bytes).map_err(|error| failed("the file", path, "understood", &error))?;
    let texts = |value: &Value| -> BTreeMap<String, String> {
        let pairs = value.as_object().into_iter().flatten();
        pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    };
    let mut data = BTreeMap::new();
    for (key, value) in texts(&manifest["data"]) {
        let decoded = STANDARD.decode(value).map_err(|error| failed("the file", path, "understood", &error))?;
        data.insert(key, decoded);
    }
    data.extend(texts(&manifest["stringData"]).into_iter().map(|(key, value)| (key, value.into_bytes())));
    Ok(Stored {
        kind: manifest["type"].as_str().unwrap_or_default().to_owned(),
        labels: texts(&manifest["metadata"]["labels"]),
        annotations: texts(&manifest["metadata"]["annotations"]),
        data,
        version: Some(version(bytes)),
    })
}

fn version(bytes: &[u8]) -> Version {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Version(format!("{:016x}", hasher.finish()))
}

/// In one step: whoever watches the folder sees the old content or the new one. A crash leaves either of them.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Hidden, so that no source takes the half-written file for configuration.
    let draft = path.with_file_name(format!(".{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    // The new name has to outlast a power cut as well.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn open_private(path: &Path) -> Result<File, VaultError> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.map_err(|error| failed("the file", path, "opened", &error))
}

fn failed(what: &str, path: &Path, done: &str, why: &dyn std::fmt::Display) -> VaultError {
    VaultError::Failed(format!("{what} {} cannot be {done}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn vault() -> (tempfile::TempDir, FileVault) {
        let folder = tempfile::tempdir().unwrap();
        let vault = FileVault::new(folder.path().join("state"), "istio-system".to_owned());
        (folder, vault)
    }

    fn secret(kind: &str, value: &[u8]) -> Stored {
        Stored {
            kind: kind.to_owned(),
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            data: BTreeMap::from([("key".to_owned(), value.to_vec())]),
            ..Stored::default()
        }
    }

    #[test]
    fn what_is_put_is_what_is_got_for_nobody_else_to_read() {
        let (_folder, vault) = vault();
        assert_eq!(vault.get("shop").unwrap(), None);
        for value in [b"text".as_slice(), &[0xff, 0, 1]] {
            let before = vault.get("shop").unwrap().and_then(|it| it.version);
            let version = vault.put("shop", &Stored { version: before, ..secret(TLS, value) }).unwrap();
            let got = vault.get("shop").unwrap().unwrap();
            assert_eq!((got.data["key"].as_slice(), got.version), (value, Some(version)));
        }
        let file = FileVault::certificates(vault.root()).join("shop.json");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_source_reads_a_certificate_as_it_is_kept() {
        let (_folder, vault) = vault();
        vault.put("shop", &secret(TLS, b"text")).unwrap();
        let file = FileVault::certificates(vault.root()).join("shop.json");
        let text = fs::read_to_string(file).unwrap();
        let (resources, problems) = routing::resources::Resources::read([("shop.json", text.as_str())]);
        assert_eq!(problems, []);
        let secret = resources.secrets.get("istio-system", "shop").unwrap();
        assert_eq!((secret.spec.kind.as_str(), secret.spec.data["key"].as_slice()), (TLS, b"text".as_slice()));
    }

    #[test]
    fn of_two_writers_only_one_succeeds() {
        let (_folder, vault) = vault();
        vault.put("order", &secret("x", b"1")).unwrap();
        let read = vault.get("order").unwrap().unwrap();
        vault.put("order", &Stored { version: read.version.clone(), ..secret("x", b"2") }).unwrap();
        let late = vault.put("order", &Stored { version: read.version, ..secret("x", b"3") });
        assert!(matches!(late, Err(VaultError::Conflict(_))));
        assert!(matches!(vault.put("order", &secret("x", b"4")), Err(VaultError::Conflict(_))));
        assert_eq!(vault.get("order").unwrap().unwrap().data["key"], b"2");
    }

    #[test]
    fn records_are_found_by_label_and_certificates_are_none() {
        let (_folder, vault) = vault();
        assert!(vault.list(("a", "b")).unwrap().is_empty());
        vault.put("one", &secret("x", b"1")).unwrap();
        vault.put("two", &secret(TLS, b"2")).unwrap();
        assert_eq!(vault.list(("a", "b")).unwrap().into_keys().collect::<Vec<_>>(), ["one"]);
        assert!(vault.list(("a", "c")).unwrap().is_empty());
        vault.delete("one").unwrap();
        vault.delete("one").unwrap();
        assert!(vault.list(("a", "b")).unwrap().is_empty());
    }

    #[test]
    fn a_name_is_never_a_path() {
        let (_folder, vault) = vault();
        for name in ["", ".", "..", "../x", "a/b", ".hidden", "a\0b"] {
            assert!(vault.put(name, &secret("x", b"1")).is_err(), "{name:?}");
        }
    }
}
