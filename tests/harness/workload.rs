//! A workload of the mesh: a pod with the echo app, with a sidecar in front of it or without.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use tokio::net::TcpStream;

use crate::{
    binary,
    eventually::eventually,
    gateway::{Addresses, Proxy},
    mesh::{Mesh, NAMESPACE},
    pki::spiffe,
    process::Process,
    yaml::{self, Pod},
};

/// A running workload in namespace `shop`.
#[derive(Debug)]
pub struct Workload {
    /// The pod's object.
    pub pod: Pod,
    /// Where the pod listens.
    pub address: SocketAddr,
    /// Where the app itself listens: behind the sidecar, or the same as `address`.
    pub app: SocketAddr,
    /// Its identity folder.
    pub identity: PathBuf,
    /// The sidecar, when there is one.
    pub sidecar: Option<Proxy>,
    echo: Process,
}

impl Workload {
    /// The sidecar; panics when the workload has none.
    pub fn proxy(&self) -> &Proxy {
        self.sidecar.as_ref().expect("this workload was started with a sidecar")
    }

    /// Where its app sends requests that should go through its sidecar.
    pub fn outbound(&self) -> SocketAddr {
        self.proxy().addresses().main
    }

    /// Its SPIFFE id.
    pub fn spiffe(&self) -> String {
        spiffe(&self.pod.namespace, &self.pod.app)
    }

    /// The app process.
    pub fn app_process(&self) -> &Process {
        &self.echo
    }
}

/// What to start; made by [`Mesh::workload`].
pub struct Builder<'a> {
    mesh: &'a Mesh,
    pod: Pod,
    flags: Vec<String>,
    published: bool,
    lines: bool,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(mesh: &'a Mesh, app: &str) -> Self {
        let pod = Pod {
            namespace: NAMESPACE.into(),
            name: format!("{app}-v1"),
            app: app.into(),
            version: "v1".into(),
            ip: String::new(),
            ports: vec![PORT],
            sidecar: false,
        };
        Self { mesh, pod, flags: Vec::new(), published: true, lines: false }
    }

    /// Label `version`, and the end of the pod's name.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.pod.version = version.into();
        self.pod.name = format!("{}-{version}", self.pod.app);
        self
    }

    /// In another namespace than `shop`.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.pod.namespace = namespace.into();
        self
    }

    /// With a sidecar in front.
    #[must_use]
    pub fn sidecar(mut self) -> Self {
        self.pod.sidecar = true;
        self
    }

    /// Container ports other than 8080 alone.
    #[must_use]
    pub fn ports(mut self, ports: &[u16]) -> Self {
        self.pod.ports = ports.to_vec();
        self
    }

    /// Its ports carry no HTTP: the app greets, then answers every line.
    #[must_use]
    pub fn lines(mut self) -> Self {
        self.lines = true;
        self
    }

    /// More flags for the sidecar.
    #[must_use]
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Runs, but its pod is in no file yet: nobody sends it anything.
    #[must_use]
    pub fn unpublished(mut self) -> Self {
        self.published = false;
        self
    }

    /// Writes the pod without starting anything; the story itself listens at the address this gives.
    pub fn declare(mut self) -> SocketAddr {
        let ip = self.mesh.block.ip(self.mesh.next_slot());
        self.pod.ip = ip.to_string();
        self.mesh.write(&format!("pod-{}.yaml", self.pod.name), &self.pod.yaml());
        SocketAddr::new(ip, self.pod.ports[0])
    }

    /// Starts app and sidecar, writes the pod, and waits until both are there.
    pub async fn start(mut self) -> Workload {
        let slot = self.mesh.next_slot();
        let block = &self.mesh.block;
        let (pod_ip, app_ip) = (block.ip(slot), if self.pod.sidecar { block.ip(slot + 100) } else { block.ip(slot) });
        self.pod.ip = pod_ip.to_string();
        let echo = echo(&self.pod, app_ip, self.lines).await;
        if self.published {
            self.mesh.write(&format!("pod-{}.yaml", self.pod.name), &self.pod.yaml());
        }
        let identity = self.mesh.identity(&self.pod.namespace, &self.pod.app, &self.pod.name);
        let sidecar = match self.pod.sidecar {
            true => Some(self.launch(slot, app_ip, &identity).ready().await),
            false => None,
        };
        let port = self.pod.ports[0];
        let (address, app) = (SocketAddr::new(pod_ip, port), SocketAddr::new(app_ip, port));
        Workload { pod: self.pod, address, app, identity, sidecar, echo }
    }

    fn launch(&self, slot: u8, app_ip: IpAddr, identity: &std::path::Path) -> Proxy {
        let at = |port| self.mesh.block.at(slot, port);
        let addresses = Addresses {
            main: at(15_001),
            second: at(15_006),
            admin: at(15_000),
            status: at(15_021),
            stats: at(15_090),
        };
        let mut flags = self.mesh.arguments("sidecar", identity);
        let workload = format!("{}/{}", self.pod.namespace, self.pod.name);
        let (inbound, outbound, app_ip) =
            (addresses.second.to_string(), addresses.main.to_string(), app_ip.to_string());
        let own = ["--workload", &workload, "--app-address", &app_ip, "--inbound", &inbound, "--outbound", &outbound];
        flags.extend(own.map(Into::into));
        flags.extend(["--workers", "1", "--drain-delay", "0s"].map(Into::into));
        flags.extend(addresses.flags());
        flags.extend(self.flags.iter().map(Into::into));
        Proxy::launch(&self.pod.name, flags, addresses)
    }
}

/// Starts the app of a pod and waits until it listens.
async fn echo(pod: &Pod, ip: IpAddr, lines: bool) -> Process {
    let mut flags = vec!["echo".to_owned(), "--address".into(), ip.to_string()];
    flags.extend(["--service".into(), pod.app.clone(), "--pod".into(), pod.name.clone()]);
    let speaks = if lines { "--tcp-port" } else { "--port" };
    flags.extend(pod.ports.iter().flat_map(|port| [speaks.into(), port.to_string()]));
    let process = Process::start(&format!("echo {}", pod.name), binary::sluice(), flags);
    for port in &pod.ports {
        let address = SocketAddr::new(ip, *port);
        eventually("the echo app listens", async || TcpStream::connect(address).await.is_ok()).await;
    }
    process
}

/// The YAML of a Service for a workload of this name, on port 8080, HTTP.
pub fn service(name: &str) -> String {
    yaml::service(NAMESPACE, name, &[(PORT, "http")])
}

/// The port of every app, if a story says nothing else.
pub const PORT: u16 = 8080;
