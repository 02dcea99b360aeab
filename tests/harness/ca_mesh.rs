//! A mesh that lives by `sluice control`: a gateway and a sidecar in front of `reviews`, under STRICT, whose identities last some
//! seconds.

use std::time::Duration;

use crate::{
    control_plane::{ControlPlane, Folder, ProxiesCa},
    eventually::within,
    gateway::Proxy,
    mesh::{Mesh, SHOP},
    workload::Workload,
};

/// See the module.
pub struct CaMesh {
    /// The control plane.
    pub control: ControlPlane,
    /// The ingress gateway.
    pub gateway: Proxy,
    /// What it leads to.
    pub reviews: Workload,
    /// All of it.
    pub mesh: Mesh,
}

impl CaMesh {
    /// A mesh by the control plane of this folder, with more flags for that, once a request has passed through it.
    pub async fn start(folder: Folder, lifetime: &'static str, more: &[&str]) -> Self {
        let mut mesh = Mesh::with_edge();
        let flags = [&["--default-lifetime", lifetime], more].concat();
        let control = folder.start(&mesh.block, 9, &flags).await;
        mesh.control = Some(ProxiesCa { folder, address: control.ca, lifetime });
        mesh.write("strict.yaml", STRICT);
        let reviews = mesh.workload("reviews").sidecar().start().await;
        mesh.route_all_to("reviews.shop.svc.cluster.local");
        let gateway = mesh.gateway().await;
        assert_eq!(mesh.browser().status(SHOP).await, 200);
        Self { control, gateway, reviews, mesh }
    }

    /// Where the control plane keeps everything.
    pub fn folder(&self) -> &Folder {
        &self.mesh.control.as_ref().expect("it was started with one").folder
    }

    /// Those who have identities.
    pub fn proxies(&self) -> [&Proxy; 2] {
        [&self.gateway, self.reviews.proxy()]
    }

    /// Waits until each proxy has been given so many more identities.
    pub async fn renewed(&self, more: f64) {
        for proxy in self.proxies() {
            let met = given(proxy).await;
            within(Duration::from_secs(60), &format!("{more} more identities are given"), async || {
                given(proxy).await >= met + more
            })
            .await;
        }
    }
}

/// How many identities a proxy has been given since it started.
async fn given(proxy: &Proxy) -> f64 {
    proxy.metrics().await.sum("sluice_identity_attempts_total", &[("result", "given")])
}

/// Nobody without a certificate of the mesh is served.
pub const STRICT: &str = "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";
