//! The flags of `sluice control` and of `sluice ca`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};

use super::{SourceFlags, given, output::Output};
use crate::{
    control_plane::settings::{ControlSettings, Lifetimes},
    net::everywhere::any,
    settings::{self, KubernetesSettings, SourceSettings, downward::Downward, state},
};

/// `sluice control`.
#[derive(Args, Debug)]
pub(crate) struct ControlFlags {
    /// Where the configuration is.
    #[command(flatten)]
    source: SourceFlags,
    /// Namespace of the control plane: where its Secrets are [that of the pod, istio-system]
    #[arg(long, value_name = "NS", value_parser = settings::parse_name)]
    namespace: Option<String>,
    /// Revision of this control plane: which mesh configuration is read (ConfigMap istio-NAME, else istio), whose webhooks are kept
    /// current, and by which names it is reached (istiod-NAME) [that of --injection-values, else default]
    #[arg(long, value_name = "NAME", value_parser = settings::parse_name)]
    revision: Option<String>,
    /// Trust domain of the mesh [the mesh configuration's, else cluster.local]
    #[arg(long, value_name = "DOMAIN", value_parser = settings::parse_trust_domain)]
    trust_domain: Option<String>,
    /// The mesh CA by gRPC over TLS [all addresses, port 15012]
    #[arg(long, value_name = "ADDR:PORT", value_parser = settings::parse_address)]
    ca: Option<settings::Address>,
    /// The same in plain text, for this machine alone: a loopback address
    #[arg(long, value_name = "ADDR:PORT", value_parser = settings::parse_address)]
    ca_plain: Option<settings::Address>,
    /// Webhooks of the API server over TLS: /inject, /validate [with --kubernetes all addresses, port 15017; else none]
    #[arg(long, value_name = "ADDR:PORT", value_parser = settings::parse_address)]
    webhooks: Option<settings::Address>,
    /// YAML of values by which pods are injected, named as in Istio's charts, watched
    #[arg(long, value_name = "FILE")]
    injection_values: Option<PathBuf>,
    /// A plug-in CA: folder with ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem, watched [the Secret cacerts]
    #[arg(long, value_name = "DIR")]
    ca_dir: Option<PathBuf>,
    /// With --kubernetes: the roots are the ClusterTrustBundle istio.io:istiod-ca:root-cert, too, where the cluster knows that
    /// kind [$ENABLE_CLUSTER_TRUST_BUNDLE_API, else not]
    #[arg(long)]
    cluster_trust_bundle: bool,
    /// With --config: folder for the self-signed CA, and for root-cert.pem, which workloads trust
    /// [below $XDG_STATE_HOME or ~/.local/state, one for each --config]
    #[arg(long, value_name = "DIR", conflicts_with = "kubernetes")]
    state_dir: Option<PathBuf>,
    /// With --config: root-cert.pem again, where other users of this machine can read it: the state folder is its owner's alone
    #[arg(long, value_name = "FILE", conflicts_with = "kubernetes")]
    root_file: Option<PathBuf>,
    /// With --config: the keys (a JSON Web Key Set, or public keys as PEM) that sign the tokens of workloads
    #[arg(long, value_name = "FILE", conflicts_with = "kubernetes")]
    token_keys: Option<PathBuf>,
    /// Audiences of which a token must have one
    #[arg(long, value_name = "AUD,...", value_delimiter = ',', default_value = "istio-ca")]
    jwt_audiences: Vec<String>,
    /// More names and addresses by which the control plane is reached: its certificate is for them too
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    hosts: Vec<String>,
    /// Lifetime of certificates whose request names none
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = settings::parse_long_duration)]
    default_lifetime: Duration,
    /// Requests for longer certificates are refused
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = settings::parse_long_duration)]
    max_lifetime: Duration,
    /// Lifetime of a root that is made here
    #[arg(long, value_name = "TIME", default_value = "3650d", value_parser = settings::parse_long_duration)]
    root_lifetime: Duration,
    /// How long a change of roots may take to reach every replica and workload: a rotation waits for it, and a replica that
    /// has not read the CA's Secret for so long signs nothing
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = settings::parse_long_duration)]
    propagation: Duration,
    /// Admin pages [127.0.0.1:15000]; :PORT keeps the address
    #[arg(long, value_name = "ADDR:PORT", value_parser = settings::parse_address)]
    admin: Option<settings::Address>,
    /// Who may ask the admin pages, where --admin can be reached from other machines
    #[arg(long, value_name = "WHO", value_enum, default_value_t)]
    admin_peers: settings::AdminPeers,
    /// Readiness, /healthz/ready [all addresses, port 15021]
    #[arg(long, value_name = "ADDR:PORT", value_parser = settings::parse_address)]
    status: Option<settings::Address>,
    /// Metrics, /metrics and /stats/prometheus [all addresses, port 15014]
    #[arg(long, value_name = "ADDR:PORT", value_parser = settings::parse_address)]
    stats: Option<settings::Address>,
    /// How long after SIGTERM connections are still accepted
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = settings::parse_duration)]
    drain_delay: Duration,
}

impl ControlFlags {
    /// # Errors
    /// One sentence about the flag that is wrong.
    pub(super) fn check(self) -> Result<ControlSettings, String> {
        let lifetimes = self.lifetimes()?;
        let source = SourceSettings::new(self.source)?;
        let pod = Downward::read()?;
        let namespace = self.namespace.or(pod.namespace).unwrap_or_else(|| settings::GATEWAY[1].to_owned());
        if let Some(folder) = &self.ca_dir {
            given::existing_folder("--ca-dir", folder)?;
        }
        given::existing("--token-keys", self.token_keys.as_slice())?;
        given::existing("--injection-values", self.injection_values.as_slice())?;
        let usual = matches!(source, SourceSettings::Kubernetes(_)).then_some(SocketAddr::new(any(), 15017));
        let ca_plain = self.ca_plain.map(|it| it.or(LOOPBACK));
        if let Some(address) = ca_plain.filter(|address| !address.ip().is_loopback()) {
            return Err(format!(
                "--ca-plain {address} is no loopback address: tokens would cross the network in plain text; use --ca"
            ));
        }
        if self.jwt_audiences.iter().any(String::is_empty) {
            return Err("--jwt-audiences names an empty audience, which any token without one would have".to_owned());
        }
        let state_dir = match &source {
            SourceSettings::Kubernetes(_) => None,
            SourceSettings::Files(paths) => {
                let usual = || state::default_folder(&namespace, "control", paths);
                Some(self.state_dir.or_else(usual).ok_or("no home folder is known; name one with --state-dir")?)
            }
        };
        let targets = [("--state-dir", state_dir.as_deref()), ("--root-file", self.root_file.as_deref())];
        apart(self.ca_dir.as_deref(), targets)?;
        let of_istio = std::env::var(TRUST_BUNDLE).is_ok_and(|value| value.eq_ignore_ascii_case("true"));
        let in_cluster = matches!(source, SourceSettings::Kubernetes(_));
        given::only_with_kubernetes("--cluster-trust-bundle", self.cluster_trust_bundle && !in_cluster)?;
        Ok(ControlSettings {
            source,
            namespace,
            revision: self.revision,
            trust_domain: self.trust_domain,
            ca: self.ca.map_or(SocketAddr::new(any(), 15012), |it| it.or(any())),
            ca_plain,
            webhooks: self.webhooks.map(|it| it.or(any())).or(usual),
            injection_values: self.injection_values,
            pages: [
                self.status.map_or(SocketAddr::new(any(), 15021), |it| it.or(any())),
                self.stats.map_or(SocketAddr::new(any(), 15014), |it| it.or(any())),
                self.admin.map_or(SocketAddr::new(LOOPBACK, 15000), |it| it.or(LOOPBACK)),
            ],
            admin_peers: self.admin_peers,
            ca_dir: self.ca_dir,
            trust_bundle: in_cluster && (self.cluster_trust_bundle || of_istio),
            state_dir,
            root_file: self.root_file,
            token_keys: self.token_keys,
            audiences: self.jwt_audiences,
            hosts: self.hosts,
            lifetimes,
            drain_delay: self.drain_delay,
            replica: pod.name.unwrap_or_else(|| format!("sluice-control-{:016x}", fastrand::u64(..))),
        })
    }

    fn lifetimes(&self) -> Result<Lifetimes, String> {
        if self.default_lifetime > self.max_lifetime {
            return Err("--default-lifetime is longer than --max-lifetime".to_owned());
        }
        if self.root_lifetime < SHORTEST_ROOT {
            return Err(format!(
                "--root-lifetime {}s is too short: a root is renewed in the last fifth of its life, which begins two minutes \
                 before it is made; give a minute or more",
                self.root_lifetime.as_secs()
            ));
        }
        Ok(Lifetimes {
            usual: self.default_lifetime,
            longest: self.max_lifetime,
            root: self.root_lifetime,
            propagation: self.propagation,
        })
    }
}

/// What is written must not be what a plug-in CA is read from: its lists and roots would be ours from then on.
fn apart(ca_dir: Option<&Path>, [state, root]: [(&str, Option<&Path>); 2]) -> Result<(), String> {
    if let (flag, Some(file)) = root
        && file.is_dir()
    {
        return Err(format!(
            "{flag} {} is a folder; name the file that is written, such as {0}/root-cert.pem",
            file.display()
        ));
    }
    let known = |folder: &Path| std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let here = |folder: &Path| known(if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let Some(ca_dir) = ca_dir else { return Ok(()) };
    for ((flag, given), folder) in [(state, state.1), (root, root.1.and_then(Path::parent))] {
        if let (Some(given), Some(folder)) = (given, folder)
            && here(folder) == here(ca_dir)
        {
            return Err(format!(
                "{flag} {} is in --ca-dir, whose root-cert.pem and ca-crl.pem would be written over; name another folder",
                given.display()
            ));
        }
    }
    Ok(())
}

/// Istio's variable.
const TRUST_BUNDLE: &str = "ENABLE_CLUSTER_TRUST_BUNDLE_API";
/// A root is backdated, and one of less than 30 s would be due for its renewal as soon as it is made.
const SHORTEST_ROOT: Duration = Duration::from_secs(60);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// `sluice ca`.
#[derive(Args, Debug)]
pub(crate) struct CaFlags {
    #[command(subcommand)]
    action: CaAction,
    /// The files or folders that the control plane was started with: its state folder is found by them
    #[arg(long, value_name = "PATH", num_args = 1.., global = true)]
    config: Vec<PathBuf>,
    /// The control plane's state folder
    #[arg(long, value_name = "DIR", global = true, conflicts_with = "config")]
    state_dir: Option<PathBuf>,
    /// The folder of a plug-in CA that the control plane was started with
    #[arg(long, value_name = "DIR", global = true, conflicts_with_all = ["config", "state_dir", "kubernetes"])]
    ca_dir: Option<PathBuf>,
    /// The Secrets of a Kubernetes API server: that of the pod, of $KUBECONFIG or of ~/.kube/config
    #[arg(long, global = true, conflicts_with_all = ["config", "state_dir"])]
    kubernetes: bool,
    /// With --kubernetes: kubeconfig file to use
    #[arg(long, value_name = "FILE", global = true)]
    kubeconfig: Option<PathBuf>,
    /// With --kubernetes: context of the kubeconfig [its current one]
    #[arg(long, value_name = "NAME", global = true)]
    context: Option<String>,
    /// Namespace of the control plane
    #[arg(long, value_name = "NS", default_value = "istio-system", global = true, value_parser = settings::parse_name)]
    namespace: String,
    /// How the CA is printed
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum, global = true)]
    output: Output,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Subcommand)]
pub(crate) enum CaAction {
    /// What signs, which roots are trusted, and where a rotation stands
    Status,
    /// Begin to replace a self-signed root by one with a new key: it is handed out, then signs, then the old one leaves
    Rotate,
}

/// `sluice ca`, checked.
#[derive(Debug)]
pub(crate) struct CaCommand {
    /// What to do.
    pub(crate) action: CaAction,
    /// Where the CA is kept.
    pub(crate) place: CaPlace,
    /// Namespace of the control plane.
    pub(crate) namespace: String,
    /// How to print.
    pub(crate) output: Output,
}

/// Where a CA is kept.
#[derive(Debug)]
pub(crate) enum CaPlace {
    /// A state folder.
    Folder(PathBuf),
    /// The folder of a plug-in CA.
    PlugIn(PathBuf),
    /// An API server.
    Kubernetes(KubernetesSettings),
}

impl CaFlags {
    /// # Errors
    /// One sentence about the flag that is wrong.
    pub(super) fn check(self) -> Result<CaCommand, String> {
        given::existing("--kubeconfig", self.kubeconfig.as_slice())?;
        let (action, namespace, output) = (self.action, self.namespace, self.output);
        if self.kubernetes {
            let (kubeconfig, context) = (self.kubeconfig, self.context);
            let settings = KubernetesSettings { kubeconfig, context, ..KubernetesSettings::default() };
            return Ok(CaCommand { action, place: CaPlace::Kubernetes(settings), namespace, output });
        }
        given::only_with_kubernetes("--kubeconfig", self.kubeconfig.is_some())?;
        given::only_with_kubernetes("--context", self.context.is_some())?;
        if let Some(folder) = self.ca_dir {
            given::existing_folder("--ca-dir", &folder)?;
            return Ok(CaCommand { action, place: CaPlace::PlugIn(folder), namespace, output });
        }
        let folder = match self.state_dir {
            Some(folder) => folder,
            None if self.config.is_empty() => {
                return Err("say where the CA is kept: --kubernetes, --config, --state-dir or --ca-dir".to_owned());
            }
            None => {
                given::existing("--config", &self.config)?;
                state::default_folder(&namespace, "control", &self.config)
                    .ok_or("no home folder is known; name the control plane's state folder with --state-dir")?
            }
        };
        given::existing_folder("--state-dir", &folder)?;
        Ok(CaCommand { action, place: CaPlace::Folder(folder), namespace, output })
    }
}
