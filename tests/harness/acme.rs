//! A mesh whose gateway orders its certificates from pebble.
//!
//! ```text
//! gateway .1 (.2 ...) ──ACME──> CaProxy .202 ──> Pebble .201 ──> Challtest .200: every host is at .1
//!         ^──────────── http-01 (8080), tls-alpn-01 (8443) ───────'
//! ```

use std::{io, time::Duration};

use serde_json::{Value, json};
use tls::facts::{Facts, facts};

use crate::{
    balancer::Balancer,
    ca_proxy::CaProxy,
    challtest::Challtest,
    client::Client,
    eventually::within,
    gateway::Proxy,
    mesh::Mesh,
    origin::Origin,
    pebble::{Options, Pebble, executables},
    tls_peer::TlsClient,
    workload, yaml,
};

/// A CA, its DNS, and a mesh with a Gateway whose certificate comes from it. No gateway runs yet.
pub struct AcmeMesh {
    /// Addresses, configuration, gateways.
    pub mesh: Mesh,
    /// Whom gateways ask.
    pub ca: CaProxy,
    /// The CA behind it.
    pub pebble: Pebble,
    /// What the CA knows of the hosts.
    pub dns: Challtest,
    /// What all routes lead to: it answers 200.
    pub app: Origin,
    hosts: Vec<String>,
}

/// What a story may want otherwise.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// How pebble behaves.
    pub pebble: Options,
    /// Configuration and state in an API server, instead of files.
    pub in_cluster: bool,
}

/// A certificate that a server showed.
#[derive(Clone, Debug)]
pub struct Served {
    /// PEM: the chain as it was sent.
    pub chain_pem: String,
    /// Certificates in the chain.
    pub length: usize,
    /// Of the first one.
    pub facts: Facts,
}

impl AcmeMesh {
    /// One for these hosts, configured by files; `None` = there is no pebble, and that was said loudly.
    pub async fn start(story: &str, hosts: &[&str]) -> Option<Self> {
        Self::with(story, hosts, Setting::default()).await
    }

    /// The same with other settings.
    pub async fn with(story: &str, hosts: &[&str], setting: Setting) -> Option<Self> {
        let programs = executables(story)?;
        let mesh = if setting.in_cluster { Mesh::in_cluster().await } else { Mesh::new() };
        let block = &mesh.block;
        let dns = Challtest::start(&programs.challtestsrv, (block, DNS), block.ip(1)).await;
        let pebble = Pebble::start(&programs.pebble, (block, PEBBLE), dns.dns(), setting.pebble).await;
        let ca = CaProxy::start(block.at(PROXY, 14_000), &pebble).await;
        let app = Origin::plain(mesh.workload("app").declare()).await;
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        let this = Self { mesh, ca, pebble, dns, app, hosts };
        this.write("issuer.yaml", &this.issuer());
        this.write("edge.yaml", &this.gateway_object());
        this.mesh.write("app.yaml", &workload::service("app"));
        this.mesh.write("routes.yaml", &this.hosts.iter().map(|host| route(host)).collect::<String>());
        Some(this)
    }

    /// Writes or replaces a file of the configuration that holds this object.
    pub fn write(&self, name: &str, object: &Value) {
        self.mesh.write(name, &format!("{object}\n---\n"));
    }

    /// The Issuer `pebble`, in `issuer.yaml`; a story that wants more changes this and writes it again.
    pub fn issuer(&self) -> Value {
        json!({
            "apiVersion": "acme.sluice.dev/v1alpha1", "kind": "Issuer",
            "metadata": {"name": ISSUER, "namespace": NAMESPACE},
            "spec": {
                "server": self.ca.directory(), "caBundle": self.ca.ca_bundle(),
                "email": "ops@example.com", "termsOfServiceAgreed": true,
            },
        })
    }

    /// The Gateway `edge`, in `edge.yaml`: HTTPS on 443 with a certificate of [`ISSUER`] in [`SECRET`], and HTTP on 80, which
    /// redirects. A story that wants more changes this and writes it again.
    pub fn gateway_object(&self) -> Value {
        let server = |number: u16, name: &str, protocol: &str, tls: Value| json!({"port": {"number": number, "name": name, "protocol": protocol}, "hosts": self.hosts, "tls": tls});
        let https = server(443, "https", "HTTPS", json!({"mode": "SIMPLE", "credentialName": SECRET}));
        let http = server(80, "http", "HTTP", json!({"httpsRedirect": true}));
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": NAMESPACE, "annotations": {"acme.sluice.dev/issuer": ISSUER}},
            "spec": {"selector": {"istio": "ingressgateway"}, "servers": [https, http]},
        })
    }

    /// Starts the gateway and waits until it is ready, which it is before it has a certificate.
    pub async fn gateway(&self) -> Proxy {
        self.mesh.gateway().await
    }

    /// Starts replica `number`, from 1 on, at address `number` of the block.
    pub async fn replica(&self, number: u8) -> Proxy {
        self.mesh.replica(number, &["--workers", "1"]).await
    }

    /// Puts balancers for HTTP and HTTPS before these replicas, and their address into the DNS: the CA, and whoever
    /// connects to them, reaches any replica.
    pub async fn balance(&self, replicas: &[u8]) -> [Balancer; 2] {
        let block = &self.mesh.block;
        let before = async |port: u16| {
            let backends: Vec<_> = replicas.iter().map(|number| block.at(*number, port)).collect();
            Balancer::start(block.at(BALANCER, port), &backends).await
        };
        let balancers = [before(HTTP).await, before(HTTPS).await];
        for host in &self.hosts {
            self.dns.set_a(host.trim_start_matches("*."), &[block.ip(BALANCER)]).await;
        }
        balancers
    }

    /// What the admin page `/certs` of a gateway tells about the certificate in [`SECRET`]; null = nothing.
    pub async fn told(&self, gateway: &Proxy) -> Value {
        let (certs, secret) = (gateway.admin_json("/certs").await, format!("{NAMESPACE}/{SECRET}"));
        certs["certificates"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|row| row["secret"] == secret.as_str())
            .cloned()
            .unwrap_or_default()
    }

    /// The flags of `sluice certs` that name where gateways of this mesh keep certificates.
    pub fn place(&self) -> [&str; 2] {
        ["--state-dir", self.mesh.state().to_str().expect("temporary folders have plain names")]
    }

    /// An HTTPS client of replica `number` that trusts the CA's root.
    pub fn browser(&self, number: u8) -> Client {
        Client::https(self.mesh.block.at(number, HTTPS), TlsClient::trusting(self.pebble.roots()))
    }

    /// A plain HTTP client of replica `number`.
    pub fn plain_browser(&self, number: u8) -> Client {
        Client::plain(self.mesh.block.at(number, HTTP))
    }

    /// The certificate that replica `number` shows for this host; it chains to the CA's root.
    ///
    /// # Errors
    /// When the handshake fails or the certificate is another's; the alert is in the text.
    pub async fn served(&self, number: u8, host: &str) -> io::Result<Served> {
        self.shown(number, host, &TlsClient::trusting(self.pebble.roots())).await
    }

    /// The certificate that replica `number` shows to this client.
    ///
    /// # Errors
    /// When the handshake fails; the alert is in the text.
    pub async fn shown(&self, number: u8, host: &str, client: &TlsClient) -> io::Result<Served> {
        let stream = client.connect(self.mesh.block.at(number, HTTPS), host).await?;
        let chain = stream.get_ref().1.peer_certificates().expect("a server shows a certificate");
        let chain_pem: String = chain.iter().map(|certificate| yaml::pem("CERTIFICATE", certificate)).collect();
        let facts = facts(chain_pem.as_bytes()).expect("a certificate that was just used can be read");
        Ok(Served { length: chain.len(), chain_pem, facts })
    }

    /// Waits until replica `number` serves a certificate of the CA for this host.
    pub async fn served_within(&self, deadline: Duration, number: u8, host: &str) -> Served {
        let mut last = None;
        within(deadline, &format!("replica {number} serves a certificate of pebble for {host}"), async || {
            last = self.served(number, host).await.ok();
            last.is_some()
        })
        .await;
        last.expect("it was just served")
    }

    /// Waits until replica `number` serves another certificate of the CA than this one.
    pub async fn renewed_within(&self, deadline: Duration, number: u8, old: &Served) -> Served {
        let host = old.facts.dns_names.first().expect("a served certificate has a name").replace('*', "any");
        let mut last = None;
        within(deadline, &format!("replica {number} serves a new certificate for {host}"), async || {
            last = self.served(number, &host).await.ok().filter(|new| new.facts.serial != old.facts.serial);
            last.is_some()
        })
        .await;
        last.expect("it was just served")
    }
}

/// A VirtualService for this host that leads to the app.
fn route(host: &str) -> String {
    let name = host.replace("*.", "any-").replace('.', "-");
    yaml::virtual_service(&name, host, "- route:\n  - destination:\n      host: app\n      port: {number: 8080}")
}

/// Name of the Issuer.
pub const ISSUER: &str = "pebble";
/// Name of the Secret that the ordered certificate goes to.
pub const SECRET: &str = "edge-cert";
/// Namespace of both, and of the gateway.
pub const NAMESPACE: &str = "istio-system";

/// Ports 80 and 443 of gateways and balancers.
const HTTP: u16 = 8080;
const HTTPS: u16 = 8443;

/// Last bytes of addresses, away from those of replicas and workloads.
const DNS: u8 = 200;
const PEBBLE: u8 = 201;
const PROXY: u8 = 202;
const BALANCER: u8 = 203;
