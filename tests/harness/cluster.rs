//! The API server of a Kubernetes story: a real one when `KUBEBUILDER_ASSETS` names one, else the harness's own.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{
    apiserver::{ADMIN, ApiServer, Requests, documents, path_named},
    client::Client,
    envtest::Envtest,
    reply::Reply,
    rest::Rest,
};

/// What every Kubernetes story runs against, unchanged.
pub enum Cluster {
    /// In the test itself.
    InProcess(Box<ApiServer>),
    /// kube-apiserver and etcd.
    Real(Box<Envtest>),
}

impl Cluster {
    /// Starts one with Istio's kinds and RBAC on.
    pub async fn from_env() -> Self {
        if let Some(real) = Envtest::from_env().await {
            return Self::Real(Box::new(real));
        }
        let server = ApiServer::start().await;
        server.rbac(true);
        Self::InProcess(Box::new(server))
    }

    /// The in-process server, for what a real one cannot do (counting, failing); says loudly that the story is skipped
    /// when there is none.
    pub fn in_process(&self, story: &str) -> Option<&ApiServer> {
        match self {
            Self::InProcess(server) => Some(server),
            Self::Real(_) => {
                eprintln!("SKIPPED story {story}: a real API server does not do this on demand");
                None
            }
        }
    }

    /// A kubeconfig file with this bearer token.
    pub fn kubeconfig(&self, token: &str) -> PathBuf {
        match self {
            Self::InProcess(server) => server.kubeconfig(token),
            Self::Real(real) => real.kubeconfig(token),
        }
    }

    /// A kubeconfig file of one who may do everything.
    pub fn admin(&self) -> PathBuf {
        self.kubeconfig(ADMIN)
    }

    /// A new token of a service account.
    pub async fn token(&self, namespace: &str, service_account: &str) -> String {
        match self {
            Self::InProcess(server) => server.token(namespace, service_account),
            Self::Real(real) => real.token(namespace, service_account).await,
        }
    }

    /// Creates or replaces every object of these documents, with their namespaces and status; panics when one is refused.
    pub async fn apply(&self, yaml: &str) {
        self.insert(documents(yaml)).await;
    }

    /// As [`Cluster::apply`], of objects.
    pub async fn insert(&self, objects: Vec<Value>) {
        match self {
            Self::InProcess(server) => server.insert(objects),
            Self::Real(real) => {
                for object in &objects {
                    real.apply(object).await;
                }
            }
        }
    }

    /// Merges into an object; panics when it is refused.
    pub async fn patch(&self, kind: &str, [namespace, name]: [&str; 2], patch: &Value) {
        match self {
            Self::InProcess(server) => server.patch(kind, [namespace, name], patch),
            Self::Real(real) => real.patch(&path_named(kind, namespace, name), patch).await,
        }
    }

    /// Merges into the status of an object; `patch` is what stands below `status`.
    pub async fn patch_status(&self, kind: &str, [namespace, name]: [&str; 2], patch: &Value) {
        match self {
            Self::InProcess(server) => server.patch_status(kind, [namespace, name], patch),
            Self::Real(real) => {
                let path = format!("{}/status", path_named(kind, namespace, name));
                real.patch(&path, &json!({"status": patch})).await;
            }
        }
    }

    /// Deletes an object; false = it was not there.
    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let path = path_named(kind, namespace, name);
        self.rest().call("DELETE", &path, &Value::Null).await.status.is_success()
    }

    /// An object in its preferred version.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let reply = self.rest().get(&path_named(kind, namespace, name)).await;
        if reply.code() == 404 { None } else { Some(done(&reply)) }
    }

    /// Every object of a kind.
    pub async fn list(&self, kind: &str) -> Vec<Value> {
        let reply = self.rest().get(&path_named(kind, "", "")).await;
        done(&reply)["items"].as_array().cloned().unwrap_or_default()
    }

    /// A plain HTTP client that may do everything.
    pub fn rest(&self) -> Rest {
        match self {
            Self::InProcess(server) => Rest::new(Client::plain(server.address()), &server.url(), ADMIN),
            Self::Real(real) => real.rest(ADMIN),
        }
    }

    /// Kills the API server; its objects are kept.
    pub async fn stop(&self) {
        match self {
            Self::InProcess(server) => server.stop().await,
            Self::Real(real) => real.stop().await,
        }
    }

    /// Starts it again at the same address.
    pub async fn start_again(&self) {
        match self {
            Self::InProcess(server) => server.start_again().await,
            Self::Real(real) => real.start_again().await,
        }
    }

    /// The requests so far; `None` = a real server counts nothing that stories could read.
    pub fn requests(&self) -> Option<Requests> {
        match self {
            Self::InProcess(server) => Some(server.requests()),
            Self::Real(_) => None,
        }
    }
}

fn done(reply: &Reply) -> Value {
    assert!(reply.status.is_success(), "{} {}", reply.code(), reply.text());
    reply.json()
}
