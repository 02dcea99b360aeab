//! The command line as checked values, with every default applied.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::cli::{CommonFlags, GatewayFlags, SidecarFlags, SourceFlags};

mod downward;
mod parse;
pub(crate) mod state;
use downward::Downward;
pub(crate) use parse::{
    Address, LabelList, PortMap, WorkloadName, parse_address, parse_duration, parse_ip, parse_labels, parse_name,
    parse_object, parse_port_map, parse_size, parse_trust_domain, parse_workers, parse_workload,
};

/// Everything one proxy process is told at start.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Which proxy this is.
    pub(crate) role: RoleSettings,
    /// Where the configuration is.
    pub(crate) source: SourceSettings,
    /// Workload name. Gateway default: `istio-ingressgateway`; sidecar default: the name in `--workload`.
    pub(crate) name: String,
    /// Namespace. Gateway default: `istio-system`; sidecar default: the namespace in `--workload`.
    pub(crate) namespace: String,
    /// Labels that selectors are compared with. `None`: for a gateway with files what the Gateways there select, else
    /// `istio=ingressgateway`; for a sidecar the labels of the workload in the configuration.
    pub(crate) labels: Option<BTreeMap<String, String>>,
    /// Gateway default: `istio-ingressgateway`; sidecar default: empty, which means the service account
    /// of the workload in the configuration.
    pub(crate) service_account: String,
    /// Default `cluster.local`.
    pub(crate) trust_domain: String,
    /// Folder of the mesh identity (`cert-chain.pem`, `key.pem`, `root-cert.pem`); exists when given.
    pub(crate) identity_dir: Option<PathBuf>,
    /// Address for listeners without an own one. Default 0.0.0.0.
    pub(crate) bind: IpAddr,
    /// Port a Gateway names -> port to bind.
    pub(crate) port_map: BTreeMap<u16, u16>,
    /// Admin pages. Default 127.0.0.1:15000.
    pub(crate) admin: SocketAddr,
    /// Readiness. Default 0.0.0.0:15021.
    pub(crate) status: SocketAddr,
    /// Metrics. Default 0.0.0.0:15090.
    pub(crate) stats: SocketAddr,
    /// Data threads, at least 1. Default: one per core.
    pub(crate) workers: usize,
    /// Default text.
    pub(crate) access_log: AccessLogFormat,
    /// Longest drain after SIGTERM. Default 45 s.
    pub(crate) drain_time: Duration,
    /// Time after SIGTERM in which connections are still accepted. Default 5 s (Istio `terminationDrainDuration`).
    pub(crate) drain_delay: Duration,
    /// Bytes of memory before load is shed. Default: what the control group grants; `None` = never.
    pub(crate) memory_limit: Option<u64>,
    /// Connections from clients at once, of the process. Default 50,000 (Envoy's recommendation for an edge proxy).
    pub(crate) connections: usize,
    /// The same, of one listener. Default 40,000: one alone cannot keep clients from the others.
    pub(crate) listener_connections: usize,
    /// Age at which a connection from a client ends in order. Default: never.
    pub(crate) connection_age: Option<Duration>,
    /// Name of this process among its replicas. Default: `POD_NAME`, else one that no other process has.
    pub(crate) replica: String,
    /// Where ordered certificates are kept. A gateway that reads files has one, unless no home folder is known.
    pub(crate) state_dir: Option<PathBuf>,
    /// Folder of DNS hooks; exists when given.
    pub(crate) acme_hooks: Option<PathBuf>,
    /// `POD_UID`, so that what belongs to this process alone is deleted with its pod.
    pub(crate) pod_uid: Option<String>,
}

/// Where configuration is read from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum SourceSettings {
    /// Files and folders; at least one, all of them exist.
    Files(Vec<PathBuf>),
    /// An API server.
    Kubernetes(KubernetesSettings),
}

/// Which API server, and what to write there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct KubernetesSettings {
    /// `None`: the pod's own API server, else `$KUBECONFIG`, else `~/.kube/config`.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// `None`: the current one.
    pub(crate) context: Option<String>,
    /// Whether to write conditions to the status of objects. Default for gateways: yes.
    pub(crate) write_status: bool,
}

impl SourceSettings {
    /// From flags.
    ///
    /// # Errors
    /// One sentence about the flag that is wrong.
    pub(crate) fn new(flags: SourceFlags) -> Result<Self, String> {
        if flags.kubernetes {
            existing("--kubeconfig", flags.kubeconfig.as_slice())?;
            let (kubeconfig, context) = (flags.kubeconfig, flags.context);
            return Ok(Self::Kubernetes(KubernetesSettings { kubeconfig, context, write_status: false }));
        }
        only_with_kubernetes("--kubeconfig", flags.kubeconfig.is_some())?;
        only_with_kubernetes("--context", flags.context.is_some())?;
        existing("--config", &flags.config)?;
        Ok(Self::Files(flags.config))
    }
}

/// What only one of the roles has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum RoleSettings {
    /// Serves Gateways.
    Gateway,
    /// Stands in front of one workload.
    Sidecar {
        /// Its namespace.
        namespace: String,
        /// Its Pod, WorkloadEntry or Deployment.
        workload: String,
        /// Where the application listens; `None` = where the client connected to.
        app_address: Option<IpAddr>,
        /// Inbound capture; `None` = port 15006 of `--bind`.
        inbound: Option<SocketAddr>,
        /// Outbound capture; `None` = 127.0.0.1:15001.
        outbound: Option<SocketAddr>,
    },
}

/// What is written on stdout for each request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum AccessLogFormat {
    /// Nothing.
    Off,
    /// Istio's default text line.
    #[default]
    Text,
    /// Istio's JSON keys.
    Json,
}

/// Name and namespace of the gateway's workload when neither flags nor the pod tell.
const GATEWAY: [&str; 2] = ["istio-ingressgateway", "istio-system"];

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl Settings {
    /// Of `sluice gateway`.
    ///
    /// # Errors
    /// One sentence about the flag that is wrong.
    pub(crate) fn gateway(flags: GatewayFlags) -> Result<Self, String> {
        let defaults = Defaults {
            role: RoleSettings::Gateway,
            name: GATEWAY[0].to_owned(),
            namespace: GATEWAY[1].to_owned(),
            service_account: "istio-ingressgateway".to_owned(),
        };
        if let Some(hooks) = &flags.acme_hooks {
            existing_folder("--acme-hooks", hooks)?;
        }
        let mut settings = Self { acme_hooks: flags.acme_hooks, ..Self::new(flags.common, defaults)? };
        match &mut settings.source {
            SourceSettings::Kubernetes(kubernetes) => kubernetes.write_status = flags.write_status.unwrap_or(true),
            SourceSettings::Files(paths) => {
                only_with_kubernetes("--write-status", flags.write_status.is_some())?;
                settings.state_dir =
                    flags.state_dir.or_else(|| state::default_folder(&settings.namespace, &settings.name, paths));
            }
        }
        Ok(settings)
    }

    /// Of `sluice sidecar`.
    ///
    /// # Errors
    /// One sentence about the flag that is wrong.
    pub(crate) fn sidecar(flags: SidecarFlags) -> Result<Self, String> {
        let bind = flags.common.bind;
        let WorkloadName { namespace, name } = flags.workload;
        let defaults = Defaults {
            name: name.clone(),
            namespace: namespace.clone(),
            service_account: String::new(),
            role: RoleSettings::Sidecar {
                namespace,
                workload: name,
                app_address: flags.app_address,
                inbound: flags.inbound.map(|it| it.or(bind)),
                outbound: flags.outbound.map(|it| it.or(LOOPBACK)),
            },
        };
        Self::new(flags.common, defaults)
    }

    fn new(flags: CommonFlags, defaults: Defaults) -> Result<Self, String> {
        let source = SourceSettings::new(flags.source)?;
        let pod = match &source {
            SourceSettings::Files(_) => Downward::default(),
            SourceSettings::Kubernetes(_) => Downward::read()?,
        };
        if let Some(dir) = &flags.identity_dir {
            existing_folder("--identity-dir", dir)?;
        }
        Ok(Self {
            role: defaults.role,
            source,
            name: flags.name.or(pod.workload).unwrap_or(defaults.name),
            namespace: flags.namespace.or(pod.namespace).unwrap_or(defaults.namespace),
            labels: flags.labels.map(|it| it.0).or(pod.labels),
            service_account: flags.service_account.or(pod.service_account).unwrap_or(defaults.service_account),
            trust_domain: flags.trust_domain,
            identity_dir: flags.identity_dir,
            bind: flags.bind,
            port_map: flags.port_map.map(|it| it.0).unwrap_or_default(),
            admin: flags.admin.map_or(SocketAddr::new(LOOPBACK, 15000), |it| it.or(LOOPBACK)),
            status: flags.status.map_or(SocketAddr::new(ANY, 15021), |it| it.or(ANY)),
            stats: flags.stats.map_or(SocketAddr::new(ANY, 15090), |it| it.or(ANY)),
            workers: flags.workers.unwrap_or_else(cores),
            access_log: flags.access_log,
            drain_time: flags.drain_time,
            drain_delay: flags.drain_delay,
            memory_limit: flags.memory_limit.or_else(crate::overload::granted),
            connections: flags.connections,
            listener_connections: flags.listener_connections,
            connection_age: flags.connection_age,
            state_dir: None,
            acme_hooks: None,
            pod_uid: pod.uid.filter(|_| pod.name.is_some()),
            replica: pod.name.unwrap_or_else(|| format!("sluice-{:016x}", fastrand::u64(..))),
        })
    }
}

/// That a flag which is about an API server is given with --kubernetes only: clap lets such a flag pass when what it
/// requires is excluded by another one.
///
/// # Errors
/// A sentence that names the flag.
pub(crate) fn only_with_kubernetes(flag: &str, given: bool) -> Result<(), String> {
    if given { Err(format!("{flag} is about an API server; give --kubernetes instead of --config")) } else { Ok(()) }
}

/// A gateway whose conditions are taken back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Whose {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its Deployment or DaemonSet.
    pub(crate) workload: String,
    /// Who does it: the name that stands in the Lease meanwhile.
    pub(crate) replica: String,
}

/// Whose conditions are taken back: what the flags name, else what the pod is, else the usual gateway.
///
/// # Errors
/// A sentence about what the downward API tells.
pub(crate) fn whose(namespace: Option<String>, name: Option<String>) -> Result<Whose, String> {
    let pod = Downward::read()?;
    let [usual_name, usual_namespace] = GATEWAY.map(str::to_owned);
    Ok(Whose {
        namespace: namespace.or(pod.namespace).unwrap_or(usual_namespace),
        workload: name.or(pod.workload).unwrap_or(usual_name),
        replica: pod.name.unwrap_or_else(|| format!("withdrawal-{:016x}", fastrand::u64(..))),
    })
}

/// What differs between the roles when a flag is not given.
struct Defaults {
    role: RoleSettings,
    name: String,
    namespace: String,
    service_account: String,
}

/// Cores this process may use, which a container's CPU limit lowers.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// That all of these paths can be reached.
///
/// # Errors
/// A sentence that names the flag and the path.
pub(crate) fn existing(flag: &str, paths: &[PathBuf]) -> Result<(), String> {
    paths.iter().try_for_each(|path| reach(flag, path).map(drop))
}

/// That this path is a folder.
///
/// # Errors
/// A sentence that names the flag and the path.
pub(crate) fn existing_folder(flag: &str, path: &Path) -> Result<(), String> {
    if reach(flag, path)?.is_dir() {
        return Ok(());
    }
    Err(format!("{flag} names `{}`, which is a file; name the folder it is in", path.display()))
}

fn reach(flag: &str, path: &Path) -> Result<std::fs::Metadata, String> {
    std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("{flag} names `{}`, which does not exist; name an existing file or folder", path.display())
        }
        _ => format!("{flag} names `{}`, which cannot be read: {error}", path.display()),
    })
}
