//! Two pods with sidecars and one outside of the mesh.

use std::{fs, net::IpAddr, path::PathBuf, process::Output};

use harness::{
    binary,
    eventually::eventually,
    mesh::Mesh,
    netns::{Network, PROXY, Pod, readable},
    process::Process,
    program::executable,
};
use serde_json::{Value, json};

/// Ports of the server's application.
pub(super) const HTTP: u16 = 8080;
/// Python's own server, of a service without an address.
pub(super) const FILES: u16 = 8081;
/// It has the first word.
pub(super) const LINES: u16 = 9000;
/// In no service.
pub(super) const OTHER: u16 = 8099;

/// See the module.
pub(super) struct Stage {
    /// Namespaces.
    pub(super) network: Network,
    /// Configuration and identities.
    pub(super) mesh: Mesh,
    curl: PathBuf,
    python: PathBuf,
}

impl Stage {
    /// `None`: the story is skipped, and that was said.
    pub(super) fn new(story: &str, six: bool) -> Option<Self> {
        let network = Network::create(story, six)?;
        let stage =
            Self { network, mesh: Mesh::new(), curl: executable(story, "curl")?, python: executable(story, "python")? };
        readable(stage.mesh.config.path());
        stage.services();
        stage.authenticate("shop", "STRICT");
        Some(stage)
    }

    fn services(&self) {
        let service = |name: &str, address: Option<IpAddr>, ports: &[(u16, &str)]| {
            let ports = ports.iter().map(|(port, name)| json!({"name": name, "port": port, "targetPort": port}));
            let address = address.map_or_else(|| "None".to_owned(), |address| address.to_string());
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
                "spec": {"clusterIP": address, "clusterIPs": [address], "selector": {"app": name.trim_end_matches("-headless")},
                    "ports": ports.collect::<Vec<_>>()},
            })
        };
        let reviews = service("reviews", Some(self.reviews()), &[(HTTP, "http"), (LINES, "tcp-lines")]);
        let headless = service("reviews-headless", None, &[(FILES, "http-files")]);
        let ratings = service("ratings", Some(self.network.virtual_ip(2)), &[(HTTP, "http")]);
        let pods = [("reviews", &self.network.server), ("ratings", &self.network.client)];
        let pods = pods.map(|(app, pod)| pod_of(app, pod, true));
        let all = [reviews, headless, ratings].into_iter().chain(pods);
        self.mesh.write("shop.yaml", &all.map(|object| format!("{object}\n---\n")).collect::<String>());
    }

    /// The address of the service `reviews`.
    pub(super) fn reviews(&self) -> IpAddr {
        self.network.virtual_ip(1)
    }

    /// Writes the PeerAuthentication of a namespace; that of `istio-system` is the mesh's.
    pub(super) fn authenticate(&self, namespace: &str, mode: &str) {
        let policy = harness::yaml::peer_authentication(namespace, mode);
        self.mesh.write(&format!("peers-{namespace}.yaml"), &policy);
    }

    /// The sidecar of one of the pods, as user 1337, ready.
    pub(super) async fn sidecar(&self, app: &str, flags: &[&str]) -> Process {
        self.sidecar_in(app, flags, &[]).await
    }

    /// The same with variables in its environment.
    pub(super) async fn sidecar_in(&self, app: &str, flags: &[&str], variables: &[(&str, String)]) -> Process {
        let identity = self.mesh.identity("shop", app, app);
        readable(identity.parent().expect("a folder in a folder"));
        readable(&identity);
        let config = self.mesh.config.path().display().to_string();
        let workload = format!("shop/{app}-v1");
        let identity = identity.display().to_string();
        let own =
            ["sidecar", "--workload", &workload, "--config", &config, "--identity-dir", &identity, "--workers", "1"];
        let arguments = [&own, flags].concat();
        let pod = self.pod(app);
        let mut process =
            pod.start_in(&format!("sidecar of {app}"), Some(PROXY), (binary::sluice(), &arguments), variables);
        eventually("the sidecar is ready", async || {
            assert!(process.ended().is_none(), "the sidecar ended");
            let answer =
                self.curl(pod, &["-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:15021/healthz/ready"]);
            text(&answer) == "200"
        })
        .await;
        process
    }

    /// Whose pod.
    pub(super) fn pod(&self, app: &str) -> &Pod {
        if app == "reviews" { &self.network.server } else { &self.network.client }
    }

    /// The applications of the server: an echo, a greeter and Python's server of files. They are root, as many are.
    pub(super) fn applications(&self) -> Vec<Process> {
        let pod = &self.network.server;
        let ip = pod.ip.to_string();
        let ports = [HTTP, OTHER].map(|port| port.to_string());
        let lines = LINES.to_string();
        let echo = ["echo", "--address", &ip, "--port", &ports[0], "--port", &ports[1], "--tcp-port", &lines];
        let echo = [&echo[..], &["--service", "reviews", "--pod", "reviews-v1"]].concat();
        let folder = self.mesh.state().display().to_string();
        fs::write(self.mesh.state().join("file.txt"), "the file of reviews").expect("the folder is ours");
        let port = FILES.to_string();
        let files = ["-m", "http.server", &port, "--bind", &ip, "--directory", &folder];
        vec![pod.start("application", None, binary::sluice(), &echo), pod.start("files", None, &self.python, &files)]
    }

    /// What curl makes of it, once.
    pub(super) fn curl(&self, pod: &Pod, arguments: &[&str]) -> Output {
        pod.run(&self.curl, &[&["-sS", "-g", "-m", "10"], arguments].concat())
    }

    /// A curl that goes on by itself.
    pub(super) fn start_curl(&self, pod: &Pod, arguments: &[&str]) -> Process {
        pod.start("curl", None, &self.curl, &[&["-sS", "-g", "-m", "60"], arguments].concat())
    }

    /// What it prints when it succeeds, tried until it does.
    pub(super) async fn fetch(&self, pod: &Pod, arguments: &[&str]) -> String {
        let mut last = None;
        eventually(&format!("curl {arguments:?}"), async || {
            let output = self.curl(pod, arguments);
            let succeeded = output.status.success();
            last = Some(output);
            succeeded
        })
        .await;
        last.map(|output| text(&output)).unwrap_or_default()
    }

    /// The status of a GET with this Host; 0: there was no answer.
    pub(super) fn status(&self, pod: &Pod, host: &str, url: &str) -> u16 {
        let host = format!("Host: {host}");
        let output = self.curl(pod, &["-o", "/dev/null", "-w", "%{http_code}", "-H", &host, url]);
        text(&output).parse().unwrap_or_default()
    }

    /// Runs a line of Python.
    pub(super) fn python(&self, pod: &Pod, line: &str) -> Output {
        pod.run(&self.python, &["-c", line])
    }

    /// Starts a line of Python.
    pub(super) fn start_python(&self, pod: &Pod, line: &str) -> Process {
        pod.start("python", None, &self.python, &["-c", line])
    }
}

/// A pod as the API server shows it.
pub(super) fn pod_of(app: &str, pod: &Pod, sidecar: bool) -> Value {
    let mut labels = json!({"app": app, "version": "v1"});
    if sidecar {
        labels["security.istio.io/tlsMode"] = "istio".into();
    }
    let ip = pod.ip.to_string();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{app}-v1"), "namespace": "shop", "labels": labels},
        "spec": {"serviceAccountName": app, "containers": [{"name": "app", "image": "app"}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// Of stdout.
pub(super) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A URL of plain HTTP.
pub(super) fn url(ip: IpAddr, port: u16, path: &str) -> String {
    format!("http://{}{path}", std::net::SocketAddr::new(ip, port))
}
