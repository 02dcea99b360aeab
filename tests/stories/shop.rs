//! The scene of most stories: a gateway for shop.example.com in front of the workload `reviews`.

use harness::{gateway::Proxy, mesh::Mesh, workload::Workload};

/// Gateway and workload, everything routed to `reviews`.
pub(crate) struct Shop {
    pub(crate) mesh: Mesh,
    pub(crate) gateway: Proxy,
    pub(crate) reviews: Workload,
}

impl Shop {
    /// `reviews` without a sidecar: what happens at the edge is the same.
    pub(crate) async fn open() -> Self {
        Self::with(&[]).await
    }

    /// The same with more flags for the gateway.
    pub(crate) async fn with(flags: &[&str]) -> Self {
        let mesh = Mesh::with_edge();
        let reviews = mesh.workload("reviews").start().await;
        mesh.route_all_to("reviews");
        let gateway = mesh.gateway_with(flags).await;
        Self { mesh, gateway, reviews }
    }

    /// `reviews` behind a sidecar that takes mutual TLS only.
    pub(crate) async fn in_mesh() -> Self {
        Self::strict(Mesh::with_edge()).await
    }

    /// The same, all of it read from an API server.
    pub(crate) async fn in_cluster() -> Self {
        Self::strict(Mesh::with_edge_in_cluster().await).await
    }

    async fn strict(mesh: Mesh) -> Self {
        mesh.write("strict.yaml", &harness::yaml::peer_authentication("shop", "STRICT"));
        let reviews = mesh.workload("reviews").sidecar().start().await;
        mesh.route_all_to("reviews");
        let gateway = mesh.gateway().await;
        Self { mesh, gateway, reviews }
    }
}
