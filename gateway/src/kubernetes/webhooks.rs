//! What the webhooks need of their API server, and what that has to know of them: the roots of their certificate.

use std::time::Duration;
use tracing::debug;

use anyhow::{Context as _, Result};
use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        core::v1::{ConfigMap, Node},
    },
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use routing::{
    api::ProxyConfig,
    resources::{Kind, Store, Table},
};
use tokio::time::timeout;

use super::{objects::UNKNOWN_KIND, once};

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Names of the configurations, without their revision.
const INJECTOR: &str = "sluice-sidecar-injector";
const VALIDATOR: &str = "sluice-validator";
/// Nodes of one page: with names and versions alone they would be small, but a Node tells its images, too.
const PAGE: u32 = 200;

/// Where the mesh configuration of a revision may be, the first that is there.
pub(super) fn mesh_maps(revision: &str) -> Vec<String> {
    let own = (revision != "default").then(|| format!("istio-{revision}"));
    own.into_iter().chain(["istio".to_owned()]).collect()
}

/// The text of the mesh configuration; empty where there is none.
///
/// # Errors
/// It cannot be had: nobody knows whether there is none.
pub(crate) async fn mesh(client: &Client, namespace: &str, revision: &str) -> Result<String> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    for name in mesh_maps(revision) {
        let what = || format!("reading the mesh configuration, ConfigMap {namespace}/{name}");
        if let Some(map) = timeout(ANSWER, maps.get_opt(&name)).await.with_context(what)?.with_context(what)? {
            return Ok(map.data.unwrap_or_default().remove("mesh").unwrap_or_default());
        }
    }
    Ok(String::new())
}

/// ProxyConfigs of every namespace; `None`: they cannot be had now.
pub(crate) async fn proxy_configs(client: &Client) -> Option<Table<ProxyConfig>> {
    match timeout(ANSWER, once::list(client, Kind::ProxyConfig)).await {
        Ok(Ok(parsed)) => {
            let documents = parsed.into_iter().map(|parsed| (String::new(), parsed)).collect();
            // What is wrong with one is told by who validates it; the others hold.
            Some(Store::default().replace(documents).0.proxy_configs)
        }
        Ok(Err(failure)) if failure.code == UNKNOWN_KIND => Some(Table::default()),
        Ok(Err(failure)) => {
            debug!(why = failure.message, "ProxyConfigs cannot be read");
            None
        }
        Err(_) => {
            debug!("ProxyConfigs were not told in time");
            None
        }
    }
}

/// The minor version of the oldest kubelet, as far as it is told.
pub(crate) async fn oldest_kubelet(client: &Client) -> Option<u32> {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut page = ListParams::default().limit(PAGE);
    let mut oldest: Option<u32> = None;
    loop {
        let list = timeout(ANSWER, nodes.list(&page)).await.ok()?.ok()?;
        for node in list.items {
            // A Node that is only just made has not said it yet.
            let version = node.status.and_then(|it| it.node_info).map(|it| it.kubelet_version);
            let Some(minor) = version.and_then(|version| minor(&version)) else { continue };
            oldest = Some(oldest.map_or(minor, |before| before.min(minor)));
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page.continue_token = Some(token),
            None => return oldest,
        }
    }
}

/// Of `v1.33.2-gke.1`: 33.
fn minor(version: &str) -> Option<u32> {
    version.trim_start_matches('v').split('.').nth(1)?.parse().ok()
}

/// Has the configurations of this revision name these roots; gives those that were changed. One that is not there is not made.
///
/// # Errors
/// The API server refuses, or does not answer.
pub(crate) async fn present(client: &Client, revision: &str, roots: &str) -> Result<Vec<String>> {
    let suffix = if revision == "default" { String::new() } else { format!("-{revision}") };
    let (mut changed, how) = (Vec::new(), PostParams::default());
    let name = format!("{INJECTOR}{suffix}");
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let what = || format!("MutatingWebhookConfiguration {name}");
    if let Some(mut found) = timeout(ANSWER, api.get_opt(&name)).await.with_context(what)?.with_context(what)? {
        let bundles = found.webhooks.iter_mut().flatten().map(|it| &mut it.client_config.ca_bundle);
        if write(bundles, roots) {
            let put = api.replace(&name, &how, &found);
            timeout(ANSWER, put).await.with_context(what)?.with_context(what)?;
            changed.push(name.clone());
        }
    }
    let name = format!("{VALIDATOR}{suffix}");
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let what = || format!("ValidatingWebhookConfiguration {name}");
    if let Some(mut found) = timeout(ANSWER, api.get_opt(&name)).await.with_context(what)?.with_context(what)? {
        let bundles = found.webhooks.iter_mut().flatten().map(|it| &mut it.client_config.ca_bundle);
        if write(bundles, roots) {
            let put = api.replace(&name, &how, &found);
            timeout(ANSWER, put).await.with_context(what)?.with_context(what)?;
            changed.push(name.clone());
        }
    }
    Ok(changed)
}

/// True when one of them was different.
fn write<'b>(bundles: impl Iterator<Item = &'b mut Option<ByteString>>, roots: &str) -> bool {
    let mut changed = false;
    for bundle in bundles {
        if bundle.as_ref().is_none_or(|before| before.0 != roots.as_bytes()) {
            *bundle = Some(ByteString(roots.as_bytes().to_vec()));
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_kubelets_are_read_as_clouds_write_them() {
        assert_eq!(minor("v1.33.2"), Some(33));
        assert_eq!(minor("v1.31.7-eks-473151a"), Some(31));
        assert_eq!(minor("1.29+"), None);
        assert_eq!(minor(""), None);
    }

    #[test]
    fn a_bundle_is_written_where_it_is_another() {
        let mut bundles = [None, Some(ByteString(b"old".to_vec())), Some(ByteString(b"new".to_vec()))];
        assert!(write(bundles.iter_mut(), "new"));
        assert!(bundles.iter().all(|it| it.as_ref().is_some_and(|it| it.0 == b"new")));
        assert!(!write(bundles.iter_mut(), "new"));
    }
}
