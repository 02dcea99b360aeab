//! Configuration in an API server, written by the names of files: what a file held and holds no more is deleted.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use serde_json::Value;

use crate::{
    apiserver::{ADMIN, ApiServer, documents},
    cluster::Cluster,
};

/// An API server that holds what would else be files.
pub struct ClusterConfig {
    /// The API server.
    pub cluster: Cluster,
    kubeconfig: Mutex<PathBuf>,
    written: Mutex<BTreeMap<String, Vec<[String; 3]>>>,
}

impl ClusterConfig {
    /// An empty one.
    pub async fn start() -> Self {
        let cluster = Cluster::from_env().await;
        let kubeconfig = Mutex::new(cluster.kubeconfig(ADMIN));
        Self { cluster, kubeconfig, written: Mutex::default() }
    }

    /// Proxies that start from now on use this token.
    pub fn use_token(&self, token: &str) {
        *self.kubeconfig.lock().unwrap_or_else(PoisonError::into_inner) = self.cluster.kubeconfig(token);
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
        self.insert(objects);
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
            let was_there = match &self.cluster {
                Cluster::InProcess(api) => api.delete(kind, namespace, name),
                real @ Cluster::Real(_) => apart(real.delete(kind, namespace, name)),
            };
            assert!(was_there, "{kind} {namespace}/{name} was there");
        }
    }

    /// At once, of the in-process server: its watches see all of it together.
    fn insert(&self, objects: Vec<Value>) {
        match &self.cluster {
            Cluster::InProcess(api) => api.insert(objects),
            real @ Cluster::Real(_) => apart(real.insert(objects)),
        }
    }

    /// The in-process server, for what a real one cannot do; says loudly that the rest of the story is skipped when there
    /// is none.
    pub fn in_process(&self) -> Option<&ApiServer> {
        self.cluster.in_process("of the in-process API server")
    }

    /// The flags of a proxy that reads it.
    pub fn flags(&self) -> Vec<OsString> {
        vec!["--kubernetes".into(), "--kubeconfig".into(), self.kubeconfig().into()]
    }
}

/// Stories write their configuration between two lines, wherever it is kept: this waits for a real API server without
/// making each of them wait.
fn apart<T: Send>(work: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        scope.spawn(move || runtime.block_on(work)).join().expect("the API server took it")
    })
}
