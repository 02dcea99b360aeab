//! What a case plays on: its endpoints, certificates, objects and proxies.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::{
    case::{Case, Endpoint, Problem, ProxySpec},
    certificates::Certificates,
    peer::Peer,
};
use crate::{
    binary,
    eventually::eventually,
    gateway::{Addresses, Proxy},
    mesh::{HOST, Mesh},
    pki::spiffe,
    tls_peer, yaml,
};

/// Everything of one case that runs.
pub(super) struct Stage {
    pub(super) mesh: Mesh,
    pub(super) certificates: Certificates,
    pub(super) peers: BTreeMap<String, Peer>,
    pub(super) proxies: BTreeMap<String, Running>,
    /// Where pods are: of an endpoint with a sidecar, the sidecar.
    pods: BTreeMap<String, IpAddr>,
    words: Vec<(String, String)>,
    /// Of endpoints that listen at a unix socket.
    _sockets: TempDir,
}

/// A proxy and where it is.
pub(super) struct Running {
    pub(super) proxy: Proxy,
    pub(super) ip: IpAddr,
    pub(super) is_sidecar: bool,
}

impl Stage {
    /// Starts endpoints and writes all objects; proxies do not run yet.
    pub(super) async fn build(case: &Case, objects: &str) -> Result<Self, String> {
        let mesh = Mesh::new();
        let certificates = Certificates::issue(case, &mesh)?;
        let mut words = vec![("${certificates}".to_owned(), certificates.folder())];
        let sockets = tempfile::tempdir().expect("a folder for sockets");
        words.push(("${sockets}".to_owned(), format!("unix://{}", sockets.path().display())));
        let (mut pods, mut peers) = (BTreeMap::new(), BTreeMap::new());
        let proxies = proxies_of(case);
        let guarded: Vec<&String> = proxies.values().filter_map(|spec| spec.sidecar.as_ref()).collect();
        for (name, spec) in &case.endpoints {
            let slot = mesh.next_slot();
            let behind = guarded.contains(&name);
            let ip = mesh.block.ip(slot);
            let app = if behind { mesh.block.ip(slot + BEHIND) } else { ip };
            let addresses = spec.ports().into_iter().map(|port| SocketAddr::new(app, port)).collect();
            let tls = server_tls(name, spec, &mesh, &certificates)?;
            let socket = spec.socket.then(|| sockets.path().join(format!("{name}.sock")));
            if let Some(path) = &socket {
                words.push((format!("${{socket.{name}}}"), format!("unix://{}", path.display())));
            }
            peers.insert(name.clone(), Peer::start(name, spec, addresses, socket, tls).await);
            if spec.pod != Some(false) {
                mesh.write(&format!("pod-{name}.yaml"), &pod(name, spec, ip, behind));
            }
            words.push((format!("${{ip.{name}}}"), ip.to_string()));
            pods.insert(name.clone(), ip);
        }
        for name in proxies.iter().filter(|(_, spec)| spec.sidecar.is_none()).map(|(name, _)| name) {
            let ip = mesh.block.ip(mesh.next_slot());
            words.push((format!("${{ip.{name}}}"), ip.to_string()));
            pods.insert(name.clone(), ip);
        }
        let stage = Self { mesh, certificates, peers, proxies: BTreeMap::new(), pods, words, _sockets: sockets };
        stage.mesh.write("services.yaml", &services(&case.endpoints));
        stage.write_edge(case);
        stage.write("objects.yaml", objects);
        Ok(stage)
    }

    /// Writes objects of the case, with addresses for the words that stand for them.
    pub(super) fn write(&self, name: &str, objects: &str) {
        if !objects.trim().is_empty() {
            self.mesh.write(name, &self.spelled(objects));
        }
    }

    /// `text` with addresses and folders for the words that stand for them.
    pub(super) fn spelled(&self, text: &str) -> String {
        self.words.iter().fold(text.to_owned(), |text, (word, meaning)| text.replace(word, meaning))
    }

    /// The Gateway and the VirtualService that most cases have.
    fn write_edge(&self, case: &Case) {
        let hosts = match (&case.edge, &case.http) {
            (Some(hosts), _) => hosts.clone(),
            (None, Some(_)) => vec!["*.example.com".to_owned()],
            (None, None) => return,
        };
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        self.mesh.write("edge.yaml", &yaml::edge_gateway("edge-cert", &hosts));
        self.mesh.write("edge-cert.yaml", &self.mesh.edge_secret(&["*.example.com", "example.com"]));
        if let Some(http) = &case.http {
            let object = json!({
                "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
                "metadata": {"name": "routes", "namespace": crate::mesh::NAMESPACE},
                "spec": {"hosts": [HOST], "gateways": ["istio-system/edge"], "http": http},
            });
            self.mesh.write("routes.yaml", &self.spelled(&object.to_string()));
        }
    }

    /// What `sluice check` says otherwise than these.
    pub(super) async fn check(&self, expected: &[Problem]) -> Vec<String> {
        let arguments = ["check".as_ref(), "--complete".as_ref(), "--output".as_ref(), "json".as_ref()];
        let mut command = Command::new(binary::sluice());
        command.args::<_, &std::ffi::OsStr>(arguments).arg(self.mesh.config.path()).env("NO_COLOR", "1");
        let output = command.output().await.expect("sluice can be started");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut found: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let mut faults = Vec::new();
        for problem in expected {
            match found.iter().position(|line| is_like(line, problem)) {
                Some(at) => drop(found.remove(at)),
                None => faults.push(format!("  `sluice check` does not say {problem:?}")),
            }
        }
        // Certificates of a case live for a day.
        let unexpected =
            found.iter().filter(|line| line["severity"] != "info" && line["code"] != "expiring-certificate");
        faults.extend(unexpected.map(|line| format!("  `sluice check` says unexpectedly: {line}")));
        if !faults.is_empty() && !output.stderr.is_empty() {
            faults.push(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        faults
    }

    /// Starts the proxies and waits until they are ready.
    pub(super) async fn launch(&mut self, case: &Case) -> Result<(), Vec<String>> {
        for (name, spec) in proxies_of(case) {
            let place = spec.sidecar.as_ref().unwrap_or(&name);
            let Some(ip) = self.pods.get(place).copied() else {
                return Err(vec![format!("  there is no endpoint `{place}`")]);
            };
            let at = |port| SocketAddr::new(ip, port);
            let (main, second) = if spec.sidecar.is_some() { (15_001, 15_006) } else { (8443, 8080) };
            let addresses = Addresses {
                main: at(main),
                second: at(second),
                admin: at(15_000),
                status: at(15_021),
                stats: at(15_090),
            };
            let arguments = match &spec.sidecar {
                Some(endpoint) => self.sidecar(case, endpoint, addresses),
                None => self.gateway(&name, &spec, ip),
            };
            let arguments = [arguments, addresses.flags(), spec.flags.iter().map(Into::into).collect()].concat();
            let proxy = Proxy::launch(&name, arguments, addresses).ready().await;
            self.proxies.insert(name, Running { proxy, ip, is_sidecar: spec.sidecar.is_some() });
        }
        Ok(())
    }

    fn gateway(&self, name: &str, spec: &ProxySpec, ip: IpAddr) -> Vec<OsString> {
        let account = spec.account.as_deref().unwrap_or("istio-ingressgateway");
        let identity = self.mesh.identity("istio-system", account, name);
        let mut arguments = self.mesh.arguments("gateway", &identity);
        let bind = ip.to_string();
        arguments
            .extend(["--bind", &bind, "--port-map", "443=8443,80=8080", "--service-account", account].map(Into::into));
        arguments.extend(["--state-dir".into(), self.mesh.state().into()]);
        arguments.extend(QUICK.map(OsString::from));
        arguments
    }

    fn sidecar(&self, case: &Case, endpoint: &str, addresses: Addresses) -> Vec<OsString> {
        let spec = &case.endpoints[endpoint];
        let identity = self.mesh.identity(spec.namespace(), &app(endpoint, spec), endpoint);
        let mut arguments = self.mesh.arguments("sidecar", Path::new(&identity));
        let workload = format!("{}/{endpoint}", spec.namespace());
        let behind = match addresses.main.ip() {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                IpAddr::from([a, b, c, d + BEHIND])
            }
            IpAddr::V6(_) => unreachable!("pods of a case have addresses of IPv4"),
        };
        let (inbound, outbound) = (addresses.second.to_string(), addresses.main.to_string());
        let own = [
            "--workload",
            &workload,
            "--app-address",
            &behind.to_string(),
            "--inbound",
            &inbound,
            "--outbound",
            &outbound,
        ];
        arguments.extend(own.map(Into::into));
        arguments.extend(QUICK.map(OsString::from));
        arguments
    }

    /// The proxy of this name; without a name the only one.
    pub(super) fn proxy(&self, name: Option<&str>) -> Result<&Running, String> {
        match name {
            Some(name) => self.proxies.get(name).ok_or_else(|| format!("there is no proxy `{name}`")),
            None if self.proxies.len() == 1 => self.proxies.values().next().ok_or_else(String::new),
            None => Err(format!("`at` says which of {:?}", self.proxies.keys().collect::<Vec<_>>())),
        }
    }

    /// Writes objects and waits until every proxy has them in force.
    pub(super) async fn apply(&self, objects: &str) -> Result<(), String> {
        let mut before = BTreeMap::new();
        for (name, running) in &self.proxies {
            before.insert(name.clone(), running.proxy.admin_json("/config_dump").await["generation"].clone());
        }
        self.write("objects.yaml", objects);
        for (name, running) in &self.proxies {
            let newer = async || running.proxy.admin_json("/config_dump").await["generation"] != before[name];
            eventually("the new objects are in force", newer).await;
        }
        Ok(())
    }

    /// The end of each proxy's log, for reports.
    pub(super) fn logs(&self) -> Vec<String> {
        let end = |text: String| text.lines().rev().take(6).map(|line| format!("\n      {line}")).collect::<String>();
        let log = |(name, running): (&String, &Running)| {
            let (log, access) = (end(running.proxy.log()), end(running.proxy.access_log()));
            format!("    log of {name}, newest first:{log}\n    its access log:{access}")
        };
        self.proxies.iter().map(log).collect()
    }
}

/// The proxies of a case; the only one is called `gateway` or `sidecar`.
fn proxies_of(case: &Case) -> BTreeMap<String, ProxySpec> {
    if !case.proxies.is_empty() {
        return case.proxies.clone();
    }
    let name = if case.sidecar.is_some() { "sidecar" } else { "gateway" };
    let spec = ProxySpec { sidecar: case.sidecar.clone(), flags: case.flags.clone(), account: None };
    BTreeMap::from([(name.to_owned(), spec)])
}

fn app(name: &str, spec: &Endpoint) -> String {
    spec.app.clone().unwrap_or_else(|| named(name).0.to_owned())
}

/// App and version of `reviews-v2`.
fn named(name: &str) -> (&str, &str) {
    match name.rsplit_once("-v") {
        Some((app, number)) if number.chars().all(|digit| digit.is_ascii_digit()) => (app, &name[app.len() + 1..]),
        _ => (name, "v1"),
    }
}

fn pod(name: &str, spec: &Endpoint, ip: IpAddr, behind: bool) -> String {
    let app = app(name, spec);
    let mut labels = json!({"app": app, "version": named(name).1});
    if spec.mesh || behind {
        labels["security.istio.io/tlsMode"] = "istio".into();
    }
    for (label, value) in &spec.labels {
        labels[label] = value.clone().into();
    }
    let ports: Vec<Value> = spec.ports().into_iter().map(|port| json!({"containerPort": port})).collect();
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": spec.namespace(), "labels": labels},
        "spec": {"serviceAccountName": app, "containers": [{"name": "app", "image": "echo", "ports": ports}]},
        "status": {
            "phase": "Running", "podIP": ip.to_string(), "podIPs": [{"ip": ip.to_string()}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    object.to_string()
}

/// One Service for all endpoints of an app, with the ports of the first.
fn services(endpoints: &BTreeMap<String, Endpoint>) -> String {
    let mut written = BTreeMap::new();
    for (name, spec) in endpoints.iter().filter(|(_, spec)| spec.pod != Some(false) && spec.service != Some(false)) {
        let ports: Vec<(u16, String)> =
            spec.ports().into_iter().map(|port| (port, spec.protocol.port_name(port))).collect();
        let ports: Vec<(u16, &str)> = ports.iter().map(|(port, name)| (*port, name.as_str())).collect();
        let key = (spec.namespace().to_owned(), app(name, spec));
        written.entry(key.clone()).or_insert_with(|| yaml::service(&key.0, &key.1, &ports));
    }
    written.into_values().collect()
}

type ServerTls = Option<std::sync::Arc<rustls::ServerConfig>>;

fn server_tls(name: &str, spec: &Endpoint, mesh: &Mesh, certificates: &Certificates) -> Result<ServerTls, String> {
    let refs = |list: &'static [&'static str]| list.to_vec();
    if spec.mesh {
        let identity = mesh.pki.workload(&spiffe(spec.namespace(), &app(name, spec)));
        let alpn = match spec.plays() {
            super::case::Plays::Http => refs(&["h2", "http/1.1"]),
            _ => refs(&["istio-peer-exchange", "h2", "http/1.1"]),
        };
        return Ok(Some(tls_peer::server(&identity, Some(mesh.pki.mesh.root_pem()), &alpn)));
    }
    let Some(tls) = &spec.tls else { return Ok(None) };
    let clients = tls.clients.as_ref().map(|ca| certificates.root(ca)).transpose()?;
    let alpn: Vec<&str> = match &tls.alpn {
        Some(list) => list.iter().map(String::as_str).collect(),
        None if spec.plays() == super::case::Plays::Http => refs(&["h2", "http/1.1"]),
        None => Vec::new(),
    };
    Ok(Some(tls_peer::server(certificates.get(&tls.certificate)?, clients.as_deref(), &alpn)))
}

fn is_like(line: &Value, problem: &Problem) -> bool {
    let fits = |text: &Option<super::text::Text>, member: &str| {
        let value = line[member].as_str().map(str::to_owned);
        text.as_ref().is_none_or(|text| text.fault(member, &value.into_iter().collect::<Vec<_>>()).is_none())
    };
    fits(&Some(problem.code.clone()), "code")
        && fits(&problem.severity, "severity")
        && fits(&problem.kind, "kind")
        && fits(&problem.name, "name")
        && fits(&problem.field, "field")
        && fits(&problem.message, "message")
}

/// What makes a proxy of a case small, and its log readable.
const QUICK: [&str; 6] = ["--workers", "1", "--drain-delay", "0s", "--access-log", "json"];

/// The app of a pod with a sidecar listens so many addresses further.
const BEHIND: u8 = 100;
