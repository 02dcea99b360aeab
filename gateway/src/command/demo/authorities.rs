//! The two certificate authorities of a demo, and what they sign.
//!
//! The mesh CA signs the identities of the workloads; the edge CA signs what browsers and curl see. In a cluster the
//! first is the mesh's own, the second is a public one.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use tls::authority::{Authority, Issued};

use super::{
    plan::{Credential, GatewayPlan, OwnTls, Plan, PodPlan},
    state::{Access, State},
};

/// Both authorities.
pub(crate) struct Authorities {
    mesh: Authority,
    edge: Authority,
}

impl Authorities {
    /// New ones, with their certificates as `mesh-root.pem` and `ca.pem`. Their keys stay in memory.
    pub(crate) fn create(state: &State) -> anyhow::Result<Self> {
        let mesh = Authority::new("Sluice demo mesh CA").context("making the mesh CA")?;
        let edge = Authority::new("Sluice demo edge CA").context("making the edge CA")?;
        state.write("mesh-root.pem", mesh.root_pem(), Access::Public)?;
        state.write("ca.pem", edge.root_pem(), Access::Public)?;
        Ok(Self { mesh, edge })
    }

    /// Writes the identity of every proxy, new or again, under Istio's file names.
    pub(crate) fn issue_identities(&self, state: &State, plan: &Plan) -> anyhow::Result<()> {
        let gateways = plan.gateways.iter().map(|it| (&it.namespace, &it.name, &it.service_account));
        let pods = plan.pods.iter().filter(|it| it.sidecar).map(|it| (&it.namespace, &it.name, &it.service_account));
        for (namespace, name, account) in gateways.chain(pods) {
            let spiffe = format!("spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{account}");
            let issued = self.mesh.issue_workload(&spiffe, LIFETIME);
            let issued = issued.with_context(|| format!("issuing the identity {spiffe}"))?;
            let folder = identity_folder(namespace, name);
            state.folder(&folder)?;
            let folder = Path::new(&folder);
            state.write(folder.join("root-cert.pem"), self.mesh.root_pem(), Access::Public)?;
            state.write(folder.join("key.pem"), &issued.key_pem, Access::Private)?;
            state.write(folder.join("cert-chain.pem"), &issued.chain_pem, Access::Public)?;
        }
        Ok(())
    }

    /// Signs one of the certificates that a gateway lacks.
    pub(crate) fn issue_server(&self, credential: &Credential) -> anyhow::Result<Issued> {
        let hosts: Vec<&str> = credential.hosts.iter().map(String::as_str).collect();
        self.edge
            .issue_server(&hosts, SERVER_LIFETIME)
            .with_context(|| format!("issuing a certificate for {} ({})", credential.name, hosts.join(", ")))
    }

    /// A client certificate for servers that demand one, as `client.pem` and `client-key.pem`.
    pub(crate) fn issue_client(&self, state: &State) -> anyhow::Result<()> {
        let issued = self.client("demo.client")?;
        state.write("client.pem", &issued.chain_pem, Access::Public)?;
        state.write("client-key.pem", &issued.key_pem, Access::Private)
    }

    /// A client certificate of this name.
    pub(crate) fn client(&self, name: &str) -> anyhow::Result<Issued> {
        self.edge.issue_client("demo", &[name]).with_context(|| format!("issuing a client certificate for {name}"))
    }

    /// Writes chain and key of every application that ends TLS itself, into the folders of [`PodPlan::tls_folder`].
    pub(crate) fn issue_applications(&self, state: &State, plan: &Plan) -> anyhow::Result<()> {
        for (pod, OwnTls { hosts, .. }) in plan.pods.iter().filter_map(|pod| Some((pod, pod.application.tls.as_ref()?)))
        {
            let mut hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            hosts.push(&pod.service);
            let issued = self.edge.issue_server(&hosts, SERVER_LIFETIME);
            let issued = issued.with_context(|| format!("issuing a certificate for pod {}", pod.name))?;
            let folder = pod.tls_folder();
            state.folder(&folder)?;
            let folder = Path::new(&folder);
            state.write(folder.join(KEY), &issued.key_pem, Access::Private)?;
            state.write(folder.join(CHAIN), &issued.chain_pem, Access::Public)?;
        }
        Ok(())
    }

    /// PEM: what servers check clients against.
    pub(crate) fn edge_root(&self) -> &str {
        self.edge.root_pem()
    }
}

/// Folder of an identity, below the state folder.
pub(crate) fn identity_folder(namespace: &str, name: &str) -> String {
    format!("identities/{namespace}-{name}")
}

impl GatewayPlan {
    /// Folder of its identity, below the state folder.
    pub(crate) fn identity_folder(&self) -> String {
        identity_folder(&self.namespace, &self.name)
    }
}

impl PodPlan {
    /// Folder of its application's own certificate, below the state folder.
    pub(crate) fn tls_folder(&self) -> String {
        format!("applications/{}-{}", self.namespace, self.name)
    }
}

/// Chain of an application, in its folder.
pub(crate) const CHAIN: &str = "cert-chain.pem";

/// Its key.
pub(crate) const KEY: &str = "key.pem";

/// Istio's default.
pub(crate) const TRUST_DOMAIN: &str = "cluster.local";

/// Of identities, as in Istio; they are issued again at half of it.
pub(crate) const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Of server certificates, as public authorities grant it.
const SERVER_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
