//! Pods with a proxy in them, and the way to their admin pages: a port-forward through the API server, as kubectl's.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::{Api, Client, api::ListParams};
use tokio::io::{AsyncRead, AsyncWrite};

/// The usual port of admin pages.
const ADMIN: u16 = 15000;
/// Pods in one answer.
const PAGE: u32 = 500;
/// Pods that are asked; more make a page that nobody can read.
const MOST: usize = 200;
/// What proxies and control planes are started as.
const VERBS: [&str; 3] = ["gateway", "sidecar", "control"];

/// Running pods with one of our proxies.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    /// Namespace and name of the first of them.
    pub(crate) named: Vec<(String, String)>,
    /// How many more there are.
    pub(crate) left_out: usize,
}

/// Those of one namespace, or of all. One page of the API server's answer is held at a time.
///
/// # Errors
/// The API server refuses, or cannot be reached.
pub(crate) async fn proxies(client: &Client, namespace: Option<&str>) -> Result<Proxies> {
    let pods: Api<Pod> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut params = ListParams::default().limit(PAGE).fields("status.phase=Running");
    let mut found = Proxies::default();
    loop {
        let page = pods.list(&params).await.context("listing pods")?;
        let ours = page
            .items
            .into_iter()
            .filter(is_ours)
            .filter_map(|pod| Some((pod.metadata.namespace?, pod.metadata.name?)));
        for pod in ours {
            if found.named.len() < MOST {
                found.named.push(pod);
            } else {
                found.left_out += 1;
            }
        }
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => params = params.continue_token(&next),
            None => return Ok(found),
        }
    }
}

fn is_ours(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let first = |container: &Container| {
        let words = container.command.iter().chain(&container.args).flatten();
        words.map(String::as_str).find(|word| !word.ends_with("sluice")).map(str::to_owned)
    };
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.filter_map(first).any(|verb| VERBS.contains(&verb.as_str()))
}

/// A connection to the admin pages within a pod.
///
/// # Errors
/// The API server refuses, or the pod is gone.
pub(crate) async fn admin(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static + use<>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut forward =
        pods.portforward(name, &[ADMIN]).await.context("asking for a port-forward (create pods/portforward)")?;
    forward.take_stream(ADMIN).context("the API server gave no stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_known_by_what_they_run() {
        let pod = |spec: serde_json::Value| {
            is_ours(&serde_json::from_value(serde_json::json!({"metadata": {"name": "a"}, "spec": spec})).unwrap())
        };
        let with = |args: &[&str]| serde_json::json!({"containers": [{"name": "c", "args": args}]});
        assert!(pod(with(&["gateway", "--kubernetes"])));
        assert!(pod(serde_json::json!({"containers": [{"name": "c", "command": ["/usr/bin/sluice", "control"]}]})));
        let native = serde_json::json!([{"name": "istio-proxy", "args": ["sidecar", "--kubernetes"]}]);
        assert!(pod(serde_json::json!({"containers": [{"name": "app"}], "initContainers": native})));
        assert!(!pod(with(&["echo", "gateway"])));
        assert!(!pod(serde_json::json!({"containers": [{"name": "app"}]})));
    }
}
