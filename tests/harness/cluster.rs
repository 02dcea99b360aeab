//! Configuration in an API server, written by the names of files: what a file held and holds no more is deleted.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use crate::apiserver::{ADMIN, ApiServer, documents};

/// An API server that holds what would else be files.
#[derive(Debug)]
pub struct Cluster {
    /// The API server.
    pub api: ApiServer,
    kubeconfig: Mutex<PathBuf>,
    written: Mutex<BTreeMap<String, Vec<[String; 3]>>>,
}

impl Cluster {
    /// An empty one.
    pub async fn start() -> Self {
        let api = ApiServer::start().await;
        let kubeconfig = Mutex::new(api.kubeconfig(ADMIN));
        Self { api, kubeconfig, written: Mutex::default() }
    }

    /// Proxies that start from now on use this token.
    pub fn use_token(&self, token: &str) {
        *self.kubeconfig.lock().unwrap_or_else(PoisonError::into_inner) = self.api.kubeconfig(token);
    }

    /// The kubeconfig that proxies use.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Applies the documents of a text; objects that the last text of this name held and this does not are deleted.
    pub fn write(&self, name: &str, text: &str) {
        let objects = documents(text);
        let names: Vec<[String; 3]> = objects
            .iter()
            .map(|object| {
                let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
                let kind = object["kind"].as_str().unwrap_or_default().to_owned();
                let namespace = text("namespace");
                [kind, if namespace.is_empty() { "default".to_owned() } else { namespace }, text("name")]
            })
            .collect();
        self.api.insert(objects);
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let before = written.insert(name.to_owned(), names.clone()).unwrap_or_default();
        drop(written);
        self.delete(before.iter().filter(|one| !names.contains(one)));
    }

    /// Deletes what the text of this name held.
    pub fn remove(&self, name: &str) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let names = written.remove(name).expect("it was written");
        drop(written);
        self.delete(names.iter());
    }

    fn delete<'a>(&self, names: impl Iterator<Item = &'a [String; 3]>) {
        for [kind, namespace, name] in names {
            assert!(self.api.delete(kind, namespace, name), "{kind} {namespace}/{name} was there");
        }
    }

    /// The flags of a proxy that reads it.
    pub fn flags(&self) -> Vec<OsString> {
        vec!["--kubernetes".into(), "--kubeconfig".into(), self.kubeconfig().into()]
    }
}
