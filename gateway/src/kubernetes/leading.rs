//! Which replica of the control plane does what only one should, and what it reads of the cluster at start.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use routing::resources::Resources;
use tokio::{sync::watch, time::timeout};

use super::{
    lease::{Election, name_of},
    webhooks,
};

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// One candidate for a Lease: `sluice-control` for the CA, which all revisions share, `sluice-control-REVISION` for the webhooks
/// of one.
pub(crate) struct Leading(Election);

impl Leading {
    /// Of this namespace; `replica` is this process.
    pub(crate) fn new(client: Client, (namespace, name): (&str, &str), replica: &str) -> Self {
        Self(Election::new(client, namespace, name_of(name), replica.to_owned()))
    }

    /// Whether this replica leads.
    pub(crate) fn leads(&self) -> watch::Receiver<bool> {
        self.0.leading()
    }

    /// Takes part until dropped.
    pub(crate) async fn run(&mut self) {
        self.0.run().await;
    }

    /// Gives the Lease back.
    pub(crate) async fn release(&mut self) {
        // Who does not answer lets the Lease end by itself.
        timeout(ANSWER, self.0.release()).await.ok();
    }
}

/// The mesh configuration: ConfigMap `istio-REVISION` of this namespace, else `istio`; nothing where there is none.
///
/// # Errors
/// A sentence: it cannot be read.
pub(crate) async fn mesh(client: &Client, namespace: &str, revision: &str) -> Result<Resources, String> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    for name in webhooks::mesh_maps(revision) {
        let told =
            |why: String| format!("ConfigMap {namespace}/{name}, which names the trust domain, cannot be read: {why}");
        let found =
            timeout(ANSWER, maps.get_opt(&name)).await.map_err(|_| told("the API server is silent".to_owned()))?;
        let Some(map) = found.map_err(|error| told(error.to_string()))? else { continue };
        let mut object = serde_json::to_value(map).map_err(|error| told(error.to_string()))?;
        object["apiVersion"] = "v1".into();
        object["kind"] = "ConfigMap".into();
        return Ok(Resources::read([(name.as_str(), object.to_string().as_str())]).0);
    }
    Ok(Resources::default())
}
