//! Everything a story owns: addresses, configuration, authorities, and what it starts from them.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU8, Ordering},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    apiserver::ApiServer,
    client::Client,
    cluster::Cluster,
    cluster_config::ClusterConfig,
    config_dir::ConfigDir,
    control_plane::ProxiesCa,
    gateway::{Addresses, Proxy},
    istio_ca::{self, IstioCa},
    loopback::Loopback,
    pki::{Pki, spiffe},
    tls_peer::TlsClient,
    workload, yaml,
};

/// A mesh of one story.
pub struct Mesh {
    /// Its addresses: `.1` is the gateway, `.2` and so on are its other replicas, workloads follow from `.11`.
    pub block: Loopback,
    /// What every proxy in it reads, unless there is a `cluster`.
    pub config: ConfigDir,
    /// An API server that every proxy reads instead.
    pub cluster: Option<ClusterConfig>,
    /// Its authorities.
    pub pki: Pki,
    /// A CA that every proxy asks for its identity, instead of finding one in its folder.
    pub ca: Option<IstioCa>,
    /// `sluice control` in that place.
    pub control: Option<ProxiesCa>,
    /// A socket that gives every proxy its identity.
    pub socket: Option<String>,
    identities: TempDir,
    state: TempDir,
    slots: AtomicU8,
}

impl Mesh {
    /// An empty mesh.
    pub fn new() -> Self {
        Self {
            block: Loopback::claim(),
            config: ConfigDir::new(),
            cluster: None,
            pki: Pki::new(),
            ca: None,
            control: None,
            socket: None,
            identities: TempDir::with_prefix("sluice-identities-").expect("a temporary folder can be made"),
            state: TempDir::with_prefix("sluice-state-").expect("a temporary folder can be made"),
            slots: AtomicU8::new(FIRST_SLOT),
        }
    }

    /// A mesh with the Gateway `edge` for [`HOST`], its certificate, and the Services `reviews` and `ratings`.
    pub fn with_edge() -> Self {
        Self::new().edged()
    }

    /// An empty mesh whose configuration is in an API server.
    pub async fn in_cluster() -> Self {
        Self { cluster: Some(ClusterConfig::start().await), ..Self::new() }
    }

    /// As [`Mesh::with_edge`], its configuration in an API server.
    pub async fn with_edge_in_cluster() -> Self {
        Self::in_cluster().await.edged()
    }

    fn edged(self) -> Self {
        self.write("edge.yaml", &yaml::edge_gateway("edge-cert", &["*.example.com"]));
        self.write("edge-cert.yaml", &self.edge_secret(&["*.example.com"]));
        self.write("services.yaml", &(workload::service("reviews") + &workload::service("ratings")));
        self
    }

    /// The API server; panics when this mesh has none.
    pub fn api(&self) -> &Cluster {
        &self.cluster.as_ref().expect("this mesh has an API server").cluster
    }

    /// The in-process API server, for what a real one cannot do (count, fail, forget); `None` = the story is skipped from
    /// here on, and that is said loudly.
    pub fn fake_api(&self) -> Option<&ApiServer> {
        self.cluster.as_ref().and_then(ClusterConfig::in_process)
    }

    /// Puts these roles into the API server; gateways that start from now on are the chart's service account.
    pub async fn obey(&self, roles: Vec<Value>) {
        self.api().insert(roles).await;
        let token = self.api().token("istio-system", "istio-ingressgateway").await;
        self.cluster.as_ref().expect("this mesh has an API server").use_token(&token);
    }

    /// A kubeconfig file with the token of the proxies.
    pub fn kubeconfig(&self) -> PathBuf {
        self.cluster.as_ref().expect("this mesh has an API server").kubeconfig()
    }

    /// What the API server refused so far, as verb, resource and namespace. Of a real one nothing is known: there a
    /// missing right shows in what is served alone.
    pub fn refusals(&self) -> Vec<String> {
        let requests = self.api().requests().unwrap_or_default().0.into_iter().filter(|seen| seen.status == 403);
        requests.map(|seen| format!("{} {} {}", seen.verb, seen.resource, seen.namespace)).collect()
    }

    /// Writes or replaces a file of the configuration, or what it holds in the API server.
    pub fn write(&self, name: &str, text: &str) {
        match &self.cluster {
            Some(cluster) => cluster.write(name, text),
            None => drop(self.config.write(name, text)),
        }
    }

    /// Removes a file of the configuration, or deletes what it held from the API server.
    pub fn remove(&self, name: &str) {
        match &self.cluster {
            Some(cluster) => cluster.remove(name),
            None => self.config.remove(name),
        }
    }

    /// The arguments of a proxy that reads this mesh's configuration.
    pub(crate) fn arguments(&self, command: &str, identity: &Path) -> Vec<OsString> {
        let source = match &self.cluster {
            Some(cluster) => cluster.flags(),
            None => vec!["--config".into(), self.config.path().into()],
        };
        let mut own: Vec<OsString> = vec!["--identity-dir".into(), identity.into()];
        if let Some(ca) = &self.ca {
            let address = ca.address.to_string();
            own = ["--ca-address", &address, "--ca-name", istio_ca::NAME].map(OsString::from).into();
            own.extend(["--ca-token".into(), identity.join("token").into()]);
            own.extend(["--ca-root".into(), self.root_file().into()]);
        }
        if let Some(control) = &self.control {
            own = control.flags(identity);
        }
        if let Some(socket) = &self.socket {
            own = vec!["--workload-api".into(), socket.into()];
        }
        std::iter::once(command.into()).chain(source).chain(own).collect()
    }

    /// The Secret `edge-cert` for these names, freshly issued.
    pub fn edge_secret(&self, names: &[&str]) -> String {
        yaml::tls_secret("istio-system", "edge-cert", &self.pki.server(names))
    }

    /// A VirtualService `routes` for [`HOST`]; `http` is the YAML list of its routes.
    pub fn routes(&self, http: &str) {
        self.write("routes.yaml", &yaml::virtual_service("routes", HOST, http));
    }

    /// Sends everything for [`HOST`] to this service on port 8080.
    pub fn route_all_to(&self, service: &str) {
        self.routes(&format!("- route:\n  - destination:\n      host: {service}\n      port: {{number: 8080}}"));
    }

    /// A workload to start, in namespace `shop`.
    pub fn workload(&self, app: &str) -> workload::Builder<'_> {
        workload::Builder::new(self, app)
    }

    /// The folder where gateways that read files keep what they make: ordered certificates, accounts.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// The file with the roots of the mesh, for who asks a CA.
    pub fn root_file(&self) -> PathBuf {
        self.identities.path().join("roots.pem")
    }

    /// Writes these roots there.
    pub fn mount_roots(&self, roots: &[&str]) {
        let draft = self.identities.path().join("roots.draft");
        fs::write(&draft, roots.concat()).expect("the roots can be written");
        fs::rename(draft, self.root_file()).expect("the roots can be renamed");
    }

    /// As [`Mesh::with_edge`], with a CA that asks nobody to wait: identities last `lifetime` seconds. It is not running yet.
    /// `None`, said loudly, where there is none to run.
    pub fn with_ca(story: &str, lifetime: u32) -> Option<Self> {
        let mut mesh = Self::with_edge();
        mesh.ca = Some(IstioCa::new(story, mesh.block.at(9, 15_012), &mesh.pki.mesh, lifetime)?);
        mesh.mount_roots(&[mesh.pki.mesh.root_pem()]);
        Some(mesh)
    }

    /// The CA; panics when this mesh has none.
    pub fn ca(&mut self) -> &mut IstioCa {
        self.ca.as_mut().expect("this mesh has a CA")
    }

    /// The files of the tokens that proxies show to the CA.
    pub fn tokens(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.identities.path()).expect("the folder can be listed").flatten();
        folders.map(|folder| folder.path().join("token")).filter(|token| token.exists()).collect()
    }

    /// The identity folder `folder` with a certificate for this service account.
    pub fn identity(&self, namespace: &str, account: &str, folder: &str) -> PathBuf {
        let path = self.identities.path().join(folder);
        if let Some(ca) = &self.ca {
            fs::create_dir_all(&path).expect("a folder can be made");
            fs::write(path.join("token"), ca.token(namespace, account)).expect("a token can be written");
            return path;
        }
        if let Some(control) = &self.control {
            fs::create_dir_all(&path).expect("a folder can be made");
            let token = control.folder.token(&format!("{namespace}/{account}"), &Value::Null);
            fs::write(path.join("token"), token).expect("a token can be written");
            return path;
        }
        self.pki.write_identity(&path, &spiffe(namespace, account));
        path
    }

    /// Starts the ingress gateway and waits until it is ready.
    pub async fn gateway(&self) -> Proxy {
        self.gateway_with(&[]).await
    }

    /// The same with more flags.
    pub async fn gateway_with(&self, flags: &[&str]) -> Proxy {
        self.launch_gateway(flags).ready().await
    }

    /// The same with this identity folder.
    pub async fn gateway_of(&self, identity: &str, flags: &[&str]) -> Proxy {
        self.launch((1, Path::new(identity)), flags).ready().await
    }

    /// Starts the ingress gateway without waiting.
    pub fn launch_gateway(&self, flags: &[&str]) -> Proxy {
        self.launch_replica(1, flags)
    }

    /// Starts replica `number` of the ingress gateway, on address `number` of the block, and waits until it is ready. All
    /// replicas share configuration and state.
    pub async fn replica(&self, number: u8, flags: &[&str]) -> Proxy {
        self.launch_replica(number, flags).ready().await
    }

    /// The same without waiting.
    pub fn launch_replica(&self, number: u8, flags: &[&str]) -> Proxy {
        let folder = if number == 1 { "gateway".to_owned() } else { format!("gateway-{number}") };
        self.launch((number, &self.identity("istio-system", "istio-ingressgateway", &folder)), flags)
    }

    /// Starts replica `number` with this identity folder, without waiting.
    pub fn launch(&self, (number, identity): (u8, &Path), flags: &[&str]) -> Proxy {
        let at = |port| self.block.at(number, port);
        let addresses =
            Addresses { main: at(8443), second: at(8080), admin: at(15_000), status: at(15_021), stats: at(15_090) };
        let mut arguments = self.arguments("gateway", identity);
        let bind = self.block.ip(number).to_string();
        arguments.extend(["--bind", &bind, "--port-map", "443=8443,80=8080"].map(OsString::from));
        if self.cluster.is_none() {
            // Without it, stories would share the state folder of whoever runs them.
            arguments.extend(["--state-dir".into(), self.state().into()]);
        }
        if !flags.contains(&"--workers") {
            arguments.extend(["--workers", "2"].map(OsString::from));
        }
        // No balancer has to hear of the end of these.
        if !flags.contains(&"--drain-delay") {
            arguments.extend(["--drain-delay", "0s"].map(OsString::from));
        }
        arguments.extend(addresses.flags());
        arguments.extend(flags.iter().map(Into::into));
        Proxy::launch(&format!("gateway-{number}"), arguments, addresses)
    }

    /// An HTTPS client outside that trusts the edge CA.
    pub fn browser(&self) -> Client {
        Client::https(self.block.at(1, 8443), self.edge_trust())
    }

    /// A plain HTTP client outside.
    pub fn plain_browser(&self) -> Client {
        Client::plain(self.block.at(1, 8080))
    }

    /// TLS that trusts the edge CA.
    pub fn edge_trust(&self) -> TlsClient {
        TlsClient::trusting(self.pki.edge.root_pem())
    }

    /// A mesh client with this service account, offering what Istio's proxies offer for HTTP/1.1 (or HTTP/2).
    pub fn mesh_peer(&self, namespace: &str, account: &str, http: &str) -> TlsClient {
        let identity = self.pki.workload(&spiffe(namespace, account));
        let protocol = format!("istio-{http}");
        TlsClient::for_mesh(self.pki.mesh.root_pem(), Some(&identity)).offering(&[&protocol, "istio", http])
    }

    pub(crate) fn next_slot(&self) -> u8 {
        self.slots.fetch_add(1, Ordering::Relaxed)
    }
}

impl Default for Mesh {
    fn default() -> Self {
        Self::new()
    }
}

/// The host of most stories.
pub const HOST: &str = "shop.example.com";

/// Its HTTPS origin.
pub const SHOP: &str = "https://shop.example.com";

/// The namespace of every workload.
pub const NAMESPACE: &str = "shop";

const FIRST_SLOT: u8 = 11;
