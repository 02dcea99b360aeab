//! The roots of the mesh as a ClusterTrustBundle, which pods mount from whatever namespace they are in.

use std::time::Duration;

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::roots::is_same;

/// Its name, and who signs what it has the roots of: Istio's.
const NAME: &str = "istio.io:istiod-ca:root-cert";
const SIGNER: &str = "istio.io/istiod-ca";
const GROUP: &str = "certificates.k8s.io";
/// The newest first.
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How often it is looked at: somebody may have changed it.
const LOOK: Duration = Duration::from_secs(60);
/// When it could not be written.
const AGAIN: Duration = Duration::from_secs(10);

/// Keeps it current until dropped.
pub(crate) async fn keep(client: &Client, mut roots: watch::Receiver<Option<String>>) {
    let mut told = String::new();
    loop {
        let text = roots.borrow_and_update().clone();
        let mut pause = LOOK;
        if let Some(text) = text {
            let failure = match timeout(ANSWER * 4, write(client, &text)).await {
                Ok(Ok(false)) => String::new(),
                Ok(Ok(true)) => {
                    info!(name = NAME, "the ClusterTrustBundle has the roots");
                    String::new()
                }
                Ok(Err(why)) => why,
                Err(_) => "the API server is silent".to_owned(),
            };
            if !failure.is_empty() {
                pause = AGAIN;
            }
            if failure != told && !failure.is_empty() {
                warn!("the ClusterTrustBundle {NAME} is not written, and the roots are in ConfigMaps alone: {failure}");
            }
            told = failure;
        }
        tokio::select! {
            changed = roots.changed() => if changed.is_err() { return },
            () = sleep(pause) => {}
        }
    }
}

/// Gives whether something was written.
async fn write(client: &Client, roots: &str) -> Result<bool, String> {
    let bundles: Api<DynamicObject> = Api::all_with(client.clone(), &resource(client).await?);
    let text = |error: kube::Error| error.to_string();
    let Some(found) = bundles.get_opt(NAME).await.map_err(text)? else {
        let spec = json!({"signerName": SIGNER, "trustBundle": roots});
        let mut bundle = DynamicObject::new(NAME, &resource(client).await?);
        bundle.data = json!({"spec": spec});
        let params = PostParams { field_manager: Some("sluice-control".to_owned()), ..PostParams::default() };
        return bundles.create(&params, &bundle).await.map(|_| true).map_err(text);
    };
    if is_same(found.data["spec"]["trustBundle"].as_str(), roots) {
        return Ok(false);
    }
    let patch = json!({"spec": {"trustBundle": roots}});
    let params = PatchParams { field_manager: Some("sluice-control".to_owned()), ..PatchParams::default() };
    bundles.patch(NAME, &params, &Patch::Merge(&patch)).await.map(|_| true).map_err(text)
}

/// How the cluster calls them.
async fn resource(client: &Client) -> Result<ApiResource, String> {
    for version in VERSIONS {
        let known = match client.list_api_group_resources(&format!("{GROUP}/{version}")).await {
            Ok(known) => known,
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            Err(error) => return Err(error.to_string()),
        };
        if known.resources.iter().any(|it| it.name == "clustertrustbundles") {
            return Ok(ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, version, "ClusterTrustBundle")));
        }
    }
    Err("the cluster does not know the kind (Kubernetes 1.33 with the feature gate ClusterTrustBundle does)".to_owned())
}
