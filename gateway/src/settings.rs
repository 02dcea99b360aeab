//! What one process is told at start, and how single values are written.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use routing::api::ending::Ending;

pub(crate) mod downward;
mod identity;
mod parse;
pub(crate) mod state;
use downward::Downward;
pub(crate) use downward::pod_address;
pub(crate) use identity::{
    CaSettings, HostPort, IdentitySettings, SOCKET as IDENTITY_SOCKET, parse_host_port, parse_key_kind, parse_lifetime,
};
pub(crate) use parse::{
    Address, LabelList, PortMap, Ranges, WorkloadName, parse_address, parse_duration, parse_ip, parse_labels,
    parse_locality, parse_long_duration, parse_name, parse_object, parse_port_map, parse_ranges, parse_share,
    parse_size, parse_trust_domain, parse_workers, parse_workload, private_ranges,
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
    /// Where the proxy is. `None`: what its pod or its Node says.
    pub(crate) locality: Option<routing::locality::Locality>,
    /// Which network it is in. `None`: what its label or its WorkloadEntry says.
    pub(crate) network: Option<String>,
    /// Istio's name of its cluster (`ISTIO_META_CLUSTER_ID`); empty = `Kubernetes`.
    pub(crate) cluster: Arc<str>,
    /// `None`: what the mesh configuration says, else `cluster.local`.
    pub(crate) trust_domain: Option<String>,
    /// CAs besides the system's for fetching keys of tokens; exists when given.
    pub(crate) jwks_ca: Option<PathBuf>,
    /// Where its identity in the mesh comes from.
    pub(crate) identity: IdentitySettings,
    /// Address for listeners without an own one. Default 0.0.0.0.
    pub(crate) bind: IpAddr,
    /// Port a Gateway names -> port to bind.
    pub(crate) port_map: BTreeMap<u16, u16>,
    /// Admin pages. Default 127.0.0.1:15000.
    pub(crate) admin: SocketAddr,
    /// Who may ask them. Default: this machine.
    pub(crate) admin_peers: AdminPeers,
    /// Readiness. Default: all addresses, port 15021.
    pub(crate) status: SocketAddr,
    /// Metrics. Default: all addresses, port 15090.
    pub(crate) stats: SocketAddr,
    /// Probes and metrics of the application; `None` = there is no such server.
    pub(crate) probes: Option<SocketAddr>,
    /// Data threads, at least 1. Default: one per core.
    pub(crate) workers: usize,
    /// `None`: what the mesh configuration says, else text.
    pub(crate) access_log: Option<AccessLogFormat>,
    /// Of [`routing::telemetry::tracing::SHARES`] requests so many are traced where the configuration says nothing; `None`: as in
    /// Istio.
    pub(crate) trace_share: Option<u32>,
    /// Longest drain after SIGTERM. `None`: what the mesh configuration says, else 45 s.
    pub(crate) drain_time: Option<Duration>,
    /// Time after SIGTERM in which connections are still accepted. `None`: what the mesh configuration says, else 5 s.
    pub(crate) drain_delay: Option<Duration>,
    /// What the environment says of the end.
    pub(crate) ending: Ending,
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
    /// Where balancers may be whose PROXY headers are read. Default: [`private_ranges`].
    pub(crate) balancers: Vec<IpNet>,
    /// `POD_UID`, so that what belongs to this process alone is deleted with its pod.
    pub(crate) pod_uid: Option<String>,
}

/// Who may ask the admin pages, where their address can be reached from other machines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum AdminPeers {
    /// This machine (in a pod: this pod).
    #[default]
    Local,
    /// Others may read, too.
    Read,
    /// Others may change and end it, too.
    All,
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
    /// Whether this replica keeps Leases: it may be elected, and is seen. Default for gateways: yes.
    pub(crate) leases: bool,
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
pub(crate) const GATEWAY: [&str; 2] = ["istio-ingressgateway", "istio-system"];

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
