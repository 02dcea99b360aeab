//! Secrets of the own namespace that a process writes itself: certificates that a gateway ordered, accounts, orders; the CA
//! of a mesh.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde_json::json;
use tokio::time::timeout;
use tracing::warn;

use crate::stored::{Stored, VaultError, Version};

/// Longest wait for one answer of the API server.
const ANSWER: Duration = Duration::from_secs(10);
/// Label of everything that is made here.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// See the module.
pub(crate) struct SecretVault {
    secrets: Api<Secret>,
    namespace: String,
    /// Who writes, for `metadata.managedFields`.
    writer: &'static str,
    /// What grants it.
    granted: &'static str,
}

impl SecretVault {
    /// Of this namespace, for a gateway that orders certificates.
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self {
            secrets: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            writer: "sluice-acme",
            granted: "the chart grants it with acme.enabled=true",
        }
    }

    /// The same for the mesh's CA.
    pub(crate) fn of_ca(client: Client, namespace: &str) -> Self {
        Self { writer: "sluice-control", granted: "the chart sluice-control grants it", ..Self::new(client, namespace) }
    }

    /// Tells of every change of one Secret until dropped.
    pub(crate) async fn watch(&self, name: &str, tell: impl Fn()) {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = pin!(watcher(self.secrets.clone(), config).default_backoff());
        while let Some(event) = events.next().await {
            if event.is_ok() {
                tell();
            }
        }
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Option<Stored>, VaultError> {
        let found = self.asked(name, "read", self.secrets.get_opt(name)).await?;
        Ok(found.map(stored))
    }

    pub(crate) async fn put(&self, name: &str, stored: &Stored) -> Result<Version, VaultError> {
        let data = stored.data.iter().map(|(key, value)| (key.clone(), ByteString(value.clone())));
        let data: BTreeMap<String, ByteString> = data.collect();
        let written = match &stored.version {
            None => {
                let mut labels = stored.labels.clone();
                labels.insert(MANAGED_BY.to_owned(), "sluice".to_owned());
                let secret = Secret {
                    metadata: ObjectMeta {
                        name: Some(name.to_owned()),
                        labels: Some(labels),
                        annotations: Some(stored.annotations.clone()),
                        ..ObjectMeta::default()
                    },
                    type_: Some(stored.kind.clone()),
                    data: Some(data),
                    ..Secret::default()
                };
                let params = PostParams { field_manager: Some(self.writer.to_owned()), ..PostParams::default() };
                self.asked(name, "created", self.secrets.create(&params, &secret)).await?
            }
            Some(Version(version)) => {
                // What others have written on it stays.
                let patch = json!({
                    "metadata": {"resourceVersion": version, "labels": stored.labels, "annotations": stored.annotations},
                    "data": data,
                });
                let params = PatchParams { field_manager: Some(self.writer.to_owned()), ..PatchParams::default() };
                self.asked(name, "changed", self.secrets.patch(name, &params, &Patch::Merge(&patch))).await?
            }
        };
        Ok(Version(written.metadata.resource_version.unwrap_or_default()))
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<(), VaultError> {
        let asked = async {
            match self.secrets.delete(name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                other => other.map(drop),
            }
        };
        self.asked(name, "deleted", asked).await
    }

    pub(crate) async fn list(&self, (label, value): (&str, &str)) -> Result<BTreeMap<String, Stored>, VaultError> {
        let params = ListParams::default().labels(&format!("{label}={value}"));
        let listed = self.asked(&format!("{label}={value}"), "listed", self.secrets.list(&params)).await?;
        Ok(listed.items.into_iter().map(named).collect())
    }

    /// Follows the Secrets with a label until dropped: `tell` is given all of them at every change, by name.
    pub(crate) async fn follow(&self, (label, value): (&str, &str), tell: impl Fn(&BTreeMap<String, Stored>)) {
        let config = watcher::Config::default().labels(&format!("{label}={value}"));
        let mut events = pin!(watcher(self.secrets.clone(), config).default_backoff());
        let (mut known, mut listing) = (BTreeMap::new(), BTreeMap::new());
        let mut warned = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listing = BTreeMap::new(),
                Ok(Event::InitApply(secret)) => {
                    listing.extend([named(secret)]);
                    continue;
                }
                Ok(Event::InitDone) => known = std::mem::take(&mut listing),
                Ok(Event::Apply(secret)) => known.extend([named(secret)]),
                Ok(Event::Delete(secret)) => drop(known.remove(&secret.metadata.name.unwrap_or_default())),
                Err(error) => {
                    if !warned {
                        warn!(namespace = self.namespace, %error, "the orders of certificates cannot be followed; it is tried again");
                    }
                    warned = true;
                    continue;
                }
            }
            warned = false;
            tell(&known);
        }
    }

    async fn asked<T>(
        &self,
        name: &str,
        done: &str,
        answer: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, VaultError> {
        let object = format!("{}/{name}", self.namespace);
        match timeout(ANSWER, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(VaultError::Conflict(object)),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(VaultError::Forbidden(format!(
                "Secret `{object}` may not be {done}: {}; {}",
                status.message, self.granted
            ))),
            Ok(Err(error)) => Err(VaultError::Failed(format!("Secret `{object}` cannot be {done}: {error}"))),
            Err(_) => Err(VaultError::Failed(format!("Secret `{object}` cannot be {done}: the API server is silent"))),
        }
    }
}

fn named(secret: Secret) -> (String, Stored) {
    (secret.metadata.name.clone().unwrap_or_default(), stored(secret))
}

fn stored(secret: Secret) -> Stored {
    Stored {
        kind: secret.type_.unwrap_or_default(),
        labels: secret.metadata.labels.unwrap_or_default(),
        annotations: secret.metadata.annotations.unwrap_or_default(),
        data: secret.data.unwrap_or_default().into_iter().map(|(key, ByteString(value))| (key, value)).collect(),
        version: secret.metadata.resource_version.map(Version),
    }
}
