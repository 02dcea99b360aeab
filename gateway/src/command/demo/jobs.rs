//! The command line of every process of a demo. Each can be copied and run by hand.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use super::{
    addresses::{Addresses, ports},
    authorities::{CHAIN, KEY, TRUST_DOMAIN, identity_folder},
    plan::{GatewayPlan, Plan, PodPlan},
    processes::{Inside, Job, Ready},
    state::State,
};

/// Applications first, then their sidecars, then the gateways: what is in front starts last.
pub(crate) fn jobs(directory: &Path, state: &State, plan: &Plan, addresses: &Addresses) -> Vec<Job> {
    let site = Site { directory, state, addresses };
    let pods = plan.pods.iter().enumerate();
    let mut jobs: Vec<Job> = pods.clone().filter_map(|(index, pod)| site.app(index, pod)).collect();
    jobs.extend(pods.filter(|(_, pod)| pod.sidecar).map(|(index, pod)| site.sidecar(index, pod)));
    jobs.extend(plan.gateways.iter().enumerate().map(|(index, gateway)| site.gateway(index, gateway)));
    jobs
}

struct Site<'a> {
    directory: &'a Path,
    state: &'a State,
    addresses: &'a Addresses,
}

impl Site<'_> {
    /// A pod without ports has no application that could answer.
    fn app(&self, index: usize, pod: &PodPlan) -> Option<Job> {
        let address = if pod.sidecar { self.addresses.app(index) } else { self.addresses.pod(index) };
        let (_, first) = pod.ports.first()?;
        let mut arguments =
            Arguments::new("echo").with("--address", address).with("--service", &pod.service).with("--pod", &pod.name);
        if let Some(version) = pod.labels.get("version") {
            arguments = arguments.with("--app-version", version);
        }
        for (_, port) in &pod.ports {
            let flag = if pod.application.bytes.contains(port) { "--tcp-port" } else { "--port" };
            arguments = arguments.with(flag, port);
        }
        if let Some(tls) = &pod.application.tls {
            let folder = self.state.path(pod.tls_folder());
            arguments = arguments.with("--tls-cert", folder.join(CHAIN).display());
            arguments = arguments.with("--tls-key", folder.join(KEY).display());
            if tls.mutual {
                arguments = arguments.with("--client-ca", self.state.path("ca.pem").display());
            }
        }
        let at = SocketAddr::new(address, *first);
        let inside = self.addresses.namespace(index).map(|process| Inside { process, group: None });
        // Only plain HTTP can be asked.
        let speaks_http = pod.application.tls.is_none() && !pod.application.bytes.contains(first);
        Some(Job {
            name: format!("app-{}-{}", pod.namespace, pod.name),
            arguments: arguments.all,
            ready: match &inside {
                // The sidecar would answer.
                Some(inside) => Ready::ListensIn(inside.process, *first),
                None if speaks_http => Ready::Answers(at, "/"),
                None => Ready::Listens(at),
            },
            inside,
        })
    }

    fn sidecar(&self, index: usize, pod: &PodPlan) -> Job {
        let address = self.addresses.pod(index);
        let at = |port: u16| SocketAddr::new(address, port);
        let inside = self.addresses.namespace(index).map(|process| Inside { process, group: Some(PROXY) });
        let mut arguments = self
            .proxy("sidecar", address)
            .with("--workload", format!("{}/{}", pod.namespace, pod.name))
            .with("--identity-dir", self.state.path(identity_folder(&pod.namespace, &pod.name)).display())
            .with("--workers", 1);
        if inside.is_none() {
            arguments = arguments
                .with("--app-address", self.addresses.app(index))
                .with("--inbound", at(ports::INBOUND))
                .with("--outbound", at(ports::OUTBOUND));
        }
        Job {
            name: format!("sidecar-{}-{}", pod.namespace, pod.name),
            arguments: arguments.all,
            inside,
            ready: Ready::Answers(at(ports::STATUS), READY),
        }
    }

    fn gateway(&self, index: usize, gateway: &GatewayPlan) -> Job {
        let own = self.addresses.gateway(index);
        let labels: Vec<String> = gateway.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let map: Vec<String> = self.addresses.edge[index].iter().map(|(from, to)| format!("{from}={to}")).collect();
        let mut arguments = self
            .proxy("gateway", own)
            .with("--name", &gateway.name)
            .with("--namespace", &gateway.namespace)
            .with("--labels", labels.join(","))
            .with("--service-account", &gateway.service_account)
            .with("--identity-dir", self.state.path(gateway.identity_folder()).display())
            .with("--state-dir", self.state.path("ordered").join(gateway.identity_folder()).display())
            .with("--bind", self.addresses.bind(gateway));
        if !map.is_empty() {
            arguments = arguments.with("--port-map", map.join(","));
        }
        Job {
            name: format!("gateway-{}-{}", gateway.namespace, gateway.name),
            arguments: arguments.all,
            inside: None,
            ready: Ready::Answers(SocketAddr::new(own, ports::STATUS), READY),
        }
    }

    /// What both roles share.
    fn proxy(&self, role: &str, own: IpAddr) -> Arguments {
        let at = |port: u16| SocketAddr::new(own, port);
        Arguments::new(role)
            .with("--config", self.directory.display())
            .with("--config", self.state.path("config").display())
            .with("--trust-domain", TRUST_DOMAIN)
            .with("--admin", at(ports::ADMIN))
            .with("--status", at(ports::STATUS))
            .with("--stats", at(ports::STATS))
            .with("--access-log", "text")
            .with("--drain-delay", "0s")
    }
}

struct Arguments {
    all: Vec<String>,
}

impl Arguments {
    fn new(command: &str) -> Self {
        Self { all: vec![command.to_owned()] }
    }

    fn with(mut self, flag: &str, value: impl ToString) -> Self {
        self.all.extend([flag.to_owned(), value.to_string()]);
        self
    }
}

/// The group whose connections are not captured. The user is that of the demo: who else could read its keys?
const PROXY: u32 = 1337;

/// Istio's readiness path.
const READY: &str = "/healthz/ready";
