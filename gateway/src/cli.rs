//! The command line: what can be typed, and the one sentence a mistake is answered with.

use std::{ffi::OsString, net::IpAddr, path::PathBuf, process::ExitCode};

use clap::{
    Args, CommandFactory, Parser, Subcommand, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    control_plane::settings::ControlSettings,
    settings::{self, AccessLogFormat, Settings, SourceSettings},
};

pub(crate) mod certs;
pub(crate) mod control;
pub(crate) mod dashboard;
mod echo;
mod given;
mod identity;
mod init;
mod inject;
pub(crate) mod output;
mod resolve;
mod status;
#[cfg(test)]
mod tests;

use certs::{CertsCommand, CertsFlags};
use control::{CaCommand, CaFlags, ControlFlags};
use dashboard::DashboardFlags;
pub(crate) use echo::EchoFlags;
pub(crate) use identity::IdentityFlags;
use init::InitFlags;
pub(crate) use inject::InjectFlags;
use output::Output;
pub(crate) use status::StatusAction;

/// What the user asked for, checked: flags are valid and named files exist.
#[derive(Debug)]
pub(crate) enum Command {
    /// `sluice gateway`; the role is [`settings::RoleSettings::Gateway`].
    Gateway(Box<Settings>),
    /// `sluice sidecar`; the role is [`settings::RoleSettings::Sidecar`].
    Sidecar(Box<Settings>),
    /// `sluice check`.
    Check(CheckFlags),
    /// `sluice describe`.
    Describe(DescribeFlags, SourceSettings),
    /// `sluice dashboard`.
    Dashboard(DashboardFlags),
    /// `sluice demo`.
    Demo(DemoFlags),
    /// `sluice crds`.
    Crds,
    /// `sluice inject`.
    Inject(InjectFlags),
    /// `sluice init`.
    Init(Box<crate::capture::Orders>),
    /// `sluice status`.
    Status(StatusFlags),
    /// `sluice certs`.
    Certs(CertsCommand),
    /// `sluice control`.
    Control(Box<ControlSettings>),
    /// `sluice ca`.
    Ca(CaCommand),
    /// `sluice echo`, the workload of the demo and of the tests.
    Echo(EchoFlags),
}

/// The process ends here: what to print and which code to exit with.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct ExitMessage {
    /// Printed as it is, without a newline at the end.
    pub(crate) text: String,
    /// 0 goes to stdout (help, version), everything else to stderr. 2 = bad usage.
    pub(crate) code: u8,
}

impl ExitMessage {
    /// A mistake on the command line: exit code 2.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 2 }
    }

    /// Prints the text where it belongs and gives the exit code for `main`.
    pub(crate) fn print(&self) -> ExitCode {
        if self.code == 0 {
            println!("{}", self.text);
        } else {
            eprintln!("sluice: {}", self.text);
        }
        ExitCode::from(self.code)
    }
}

/// Reads the command line (the first argument is the program's name).
///
/// # Errors
/// Help and version (code 0), or one sentence that says what to do (code 2).
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, ExitMessage> {
    let args: Vec<OsString> = args.into_iter().collect();
    let subcommand = args.get(1).and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let line = Line::try_parse_from(args).map_err(|error| sentence(&error, &subcommand))?;
    let Some(verb) = line.verb else {
        return Err(ExitMessage { text: Line::command().render_help().to_string().trim_end().to_owned(), code: 0 });
    };
    check(verb).map_err(|problem| ExitMessage::usage(format!("{problem}{}", hint(&subcommand))))
}

/// What clap cannot know: whether files exist and which defaults follow from other flags.
fn check(verb: Verb) -> Result<Command, String> {
    match verb {
        Verb::Gateway(flags) => Settings::gateway(flags).map(|it| Command::Gateway(Box::new(it))),
        Verb::Sidecar(flags) => Settings::sidecar(flags).map(|it| Command::Sidecar(Box::new(it))),
        Verb::Check(flags) => given::existing("PATH", &flags.paths).map(|()| Command::Check(flags)),
        Verb::Describe(flags) => SourceSettings::new(flags.source.clone()).map(|it| Command::Describe(flags, it)),
        Verb::Dashboard(flags) => flags.check().map(Command::Dashboard),
        Verb::Demo(flags) => given::existing_folder("DIR", &flags.directory).map(|()| Command::Demo(flags)),
        Verb::Crds => Ok(Command::Crds),
        Verb::Inject(flags) => flags.check().map(Command::Inject),
        Verb::Init(flags) => flags.orders(&|name| std::env::var(name).ok()).map(|it| Command::Init(Box::new(it))),
        Verb::Status(flags) => {
            given::existing("--kubeconfig", flags.kubeconfig.as_slice()).map(|()| Command::Status(flags))
        }
        Verb::Certs(flags) => flags.check().map(Command::Certs),
        Verb::Control(flags) => flags.check().map(|it| Command::Control(Box::new(it))),
        Verb::Ca(flags) => flags.check().map(Command::Ca),
        Verb::Echo(flags) => Ok(Command::Echo(flags)),
    }
}

const AFTER_HELP: &str = "\
First steps:
  sluice demo examples/cloud-cargo      a whole mesh on this machine, with curl commands to try
  sluice check my-yaml/                 what Sluice would make of your YAML
  sluice gateway --config my-yaml/      serve it
  sluice gateway --kubernetes           serve what `kubectl apply` put into a cluster
  sluice describe service shop/cart --config my-yaml/
                                        what applies to a service

The logs' level comes from SLUICE_LOG (or RUST_LOG), as in SLUICE_LOG=debug.";

/// An ingress gateway and sidecar proxy that speaks Istio's API.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, after_help = AFTER_HELP, disable_colored_help = true)]
struct Line {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve the Gateways whose selector matches --labels
    Gateway(GatewayFlags),
    /// Stand in front of one workload: mutual TLS in and out
    Sidecar(SidecarFlags),
    /// Be the CA of a mesh
    Control(ControlFlags),
    /// Say what is wrong with YAML, without serving it
    Check(CheckFlags),
    /// Say what applies to a service or pod: policies, TLS, gateways, routes
    Describe(DescribeFlags),
    /// List the replicas of gateways: versions, what is in force, whether they agree
    Status(StatusFlags),
    /// List certificates: where they come from, when they end and are renewed; renew or revoke one
    Certs(CertsFlags),
    /// Say what signs the mesh's certificates and which roots are trusted; replace a root
    Ca(CaFlags),
    /// Serve a page for browsers that shows all proxies of a mesh: traffic, routes, certificates, problems
    Dashboard(DashboardFlags),
    /// Run a folder of YAML as a whole mesh on this machine
    Demo(DemoFlags),
    /// Put sidecars into the pods of YAML files
    Inject(InjectFlags),
    /// Print the CustomResourceDefinitions of the kinds that are read
    Crds,
    /// Lead a pod's connections through its sidecar, by rules of the kernel
    Init(Box<InitFlags>),
    /// Answer every request with what it saw
    #[command(hide = true)]
    Echo(EchoFlags),
}

/// `sluice gateway`.
#[derive(Args, Debug)]
pub(crate) struct GatewayFlags {
    /// With --kubernetes: whether the elected replica writes conditions to the status of Gateways, VirtualServices,
    /// DestinationRules, ServiceEntries, policies and RateLimits; `false` where istiod does [true]
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(crate) write_status: Option<bool>,
    /// With --kubernetes: whether this replica keeps Leases, by which one is elected that orders certificates and writes status, and
    /// by which `sluice status` knows it; `false` where it has no right to [true]
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(crate) leases: Option<bool>,
    /// With --config: folder for ordered certificates, accounts and orders; gateways that share it take turns
    /// [below $XDG_STATE_HOME or ~/.local/state, one for each --config]
    #[arg(long, value_name = "DIR", conflicts_with = "kubernetes")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Where balancers may be that begin each connection with a PROXY header, as the mesh's gatewayTopology.proxyProtocol says;
    /// connections from elsewhere are refused [private networks]
    #[arg(long, value_name = "CIDR,...", value_parser = settings::parse_ranges)]
    pub(crate) proxy_protocol_from: Option<settings::Ranges>,
    /// Folder of programs that an Issuer's spec.dns01.exec may run
    #[arg(long, value_name = "DIR")]
    pub(crate) acme_hooks: Option<PathBuf>,
    /// What both roles share.
    #[command(flatten)]
    pub(crate) common: CommonFlags,
}

/// `sluice sidecar`.
#[derive(Args, Debug)]
pub(crate) struct SidecarFlags {
    /// The Pod, WorkloadEntry or Deployment this proxy belongs to
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = settings::parse_workload)]
    pub(crate) workload: settings::WorkloadName,
    /// Where the application listens, when not where its clients connect to
    #[arg(long, value_name = "IP", value_parser = settings::parse_ip)]
    pub(crate) app_address: Option<IpAddr>,
    /// Where captured inbound connections arrive
    #[arg(long, value_name = "ADDR:PORT", value_parser = settings::parse_address)]
    pub(crate) inbound: Option<settings::Address>,
    /// Where the workload's own connections arrive
    #[arg(long, value_name = "ADDR:PORT", value_parser = settings::parse_address)]
    pub(crate) outbound: Option<settings::Address>,
    /// Probes of the application, its metrics with ours, /quitquitquit: what the injection writes [none]
    #[arg(long, value_name = "ADDR:PORT", value_parser = settings::parse_address)]
    pub(crate) probes: Option<settings::Address>,
    /// What both roles share.
    #[command(flatten)]
    pub(crate) common: CommonFlags,
}

/// Flags of every proxy role.
#[derive(Args, Debug)]
pub(crate) struct CommonFlags {
    /// Where the configuration is.
    #[command(flatten)]
    pub(crate) source: SourceFlags,
    /// Name of this proxy's workload [gateway: istio-ingressgateway]
    #[arg(long, value_name = "NAME", value_parser = settings::parse_name)]
    pub(crate) name: Option<String>,
    /// Namespace of this proxy: where its Secrets are looked up [gateway: istio-system]
    #[arg(long, value_name = "NS", value_parser = settings::parse_name)]
    pub(crate) namespace: Option<String>,
    /// Labels of this proxy, which Gateway selectors are compared with [gateway: istio=ingressgateway; with --config also
    /// what the Gateways there select]
    #[arg(long, value_name = "K=V,...", value_parser = settings::parse_labels)]
    pub(crate) labels: Option<settings::LabelList>,
    /// Service account of this proxy [gateway: istio-ingressgateway]
    #[arg(long, value_name = "SA", value_parser = settings::parse_name)]
    pub(crate) service_account: Option<String>,
    /// Where this proxy is, as europe-west1/europe-west1-b [what its pod or its Node says]
    #[arg(long, value_name = "REGION/ZONE/SUBZONE", value_parser = settings::parse_locality)]
    pub(crate) locality: Option<routing::locality::Locality>,
    /// Network of this proxy [its label topology.istio.io/network]: endpoints of others are reached through their gateways
    #[arg(long, value_name = "NAME", value_parser = settings::parse_name)]
    pub(crate) network: Option<String>,
    /// Trust domain of the mesh [the mesh configuration's, else cluster.local]
    #[arg(long, value_name = "DOMAIN", value_parser = settings::parse_trust_domain)]
    pub(crate) trust_domain: Option<String>,
    /// CAs besides the system's that the servers of a jwksUri may have (PEM), read at each fetch
    #[arg(long, value_name = "FILE")]
    pub(crate) jwks_ca: Option<PathBuf>,
    /// Where its identity comes from.
    #[command(flatten)]
    pub(crate) identity: IdentityFlags,
    /// Address that listeners without an own one bind
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0", value_parser = settings::parse_ip)]
    pub(crate) bind: IpAddr,
    /// Bind another port than the one a Gateway names, as in 443=8443,80=8080
    #[arg(long, value_name = "PORT=PORT,...", value_parser = settings::parse_port_map)]
    pub(crate) port_map: Option<settings::PortMap>,
    /// Admin pages [127.0.0.1:15000]; :PORT keeps the address
    #[arg(long, value_name = "ADDR:PORT", value_parser = settings::parse_address)]
    pub(crate) admin: Option<settings::Address>,
    /// Who may ask the admin pages, where --admin can be reached from other machines
    #[arg(long, value_name = "WHO", value_enum, default_value_t)]
    pub(crate) admin_peers: settings::AdminPeers,
    /// Readiness, /healthz/ready [all addresses, port 15021]
    #[arg(long, value_name = "ADDR:PORT", value_parser = settings::parse_address)]
    pub(crate) status: Option<settings::Address>,
    /// Metrics, /stats/prometheus [all addresses, port 15090]
    #[arg(long, value_name = "ADDR:PORT", value_parser = settings::parse_address)]
    pub(crate) stats: Option<settings::Address>,
    /// Data threads [one per core]
    #[arg(long, value_name = "N", value_parser = settings::parse_workers)]
    pub(crate) workers: Option<usize>,
    /// What to write on stdout for each request [the mesh configuration's, else text]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) access_log: Option<AccessLogFormat>,
    /// Percentage of requests that are traced where neither Telemetry nor the mesh configuration says it [$PILOT_TRACE_SAMPLING,
    /// else 1]
    #[arg(long, value_name = "PERCENT", value_parser = settings::parse_share)]
    pub(crate) trace_sampling: Option<u32>,
    /// How long SIGTERM waits for requests and streams to finish, at most [the mesh configuration's, else 45s]
    #[arg(long, value_name = "TIME", value_parser = settings::parse_duration)]
    pub(crate) drain_time: Option<std::time::Duration>,
    /// How long after SIGTERM connections are still accepted, so that balancers can hear of it [the mesh configuration's,
    /// else 5s]
    #[arg(long, value_name = "TIME", value_parser = settings::parse_duration)]
    pub(crate) drain_delay: Option<std::time::Duration>,
    /// Memory that may be used before requests are answered with 503, then connections closed [the control group's limit]
    #[arg(long, value_name = "SIZE", value_parser = settings::parse_size)]
    pub(crate) memory_limit: Option<u64>,
    /// Connections from clients at once; more are closed
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    pub(crate) connections: usize,
    /// The same, of one listener
    #[arg(long, value_name = "N", default_value_t = 40_000)]
    pub(crate) listener_connections: usize,
    /// Age at which a connection from a client is to end after its next answers [never]
    #[arg(long, value_name = "TIME", value_parser = settings::parse_duration)]
    pub(crate) connection_age: Option<std::time::Duration>,
}

/// Where configuration is read from: files, or an API server.
#[derive(Args, Clone, Debug)]
pub(crate) struct SourceFlags {
    /// File or folder of YAML or JSON, watched; may be given several times
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "kubernetes", required_unless_present = "kubernetes")]
    pub(crate) config: Vec<PathBuf>,
    /// Read the same objects from a Kubernetes API server: that of the pod, of $KUBECONFIG or of ~/.kube/config
    #[arg(long)]
    pub(crate) kubernetes: bool,
    /// With --kubernetes: kubeconfig file to use
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// With --kubernetes: context of the kubeconfig [its current one]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

/// `sluice check`.
#[derive(Args, Debug)]
pub(crate) struct CheckFlags {
    /// Files or folders of YAML or JSON
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// The files are all there is: a Secret, host, subset or Gateway that is named and not in them is an error
    #[arg(long)]
    pub(crate) complete: bool,
    /// How problems are printed
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    pub(crate) output: CheckOutput,
}

/// How `sluice check` prints problems.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum CheckOutput {
    /// For people, with a summary at the end.
    Text,
    /// One JSON object per line.
    Json,
}

/// `sluice describe`.
#[derive(Args, Debug)]
pub(crate) struct DescribeFlags {
    /// What to describe
    #[arg(value_name = "KIND", value_enum)]
    pub(crate) kind: DescribeKind,
    /// The Service; or the Pod, WorkloadEntry, Deployment, StatefulSet or DaemonSet
    #[arg(value_name = "NAMESPACE/NAME", value_parser = settings::parse_object)]
    pub(crate) object: settings::WorkloadName,
    /// Where the configuration is.
    #[command(flatten)]
    pub(crate) source: SourceFlags,
    /// How the description is printed
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    pub(crate) output: Output,
}

/// `sluice status`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct StatusFlags {
    /// What to do about it.
    #[command(subcommand)]
    pub(crate) action: Option<StatusAction>,
    /// Kubeconfig file to use [that of the pod, of $KUBECONFIG or ~/.kube/config]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [its current one]
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) context: Option<String>,
    /// Only gateways of this namespace
    #[arg(long, value_name = "NS", global = true, value_parser = settings::parse_name)]
    pub(crate) namespace: Option<String>,
    /// Ask the admin pages of these running proxies instead of an API server; may be given several times
    #[arg(long, value_name = "ADDR:PORT", value_parser = settings::parse_address, conflicts_with_all = ["kubeconfig", "context", "namespace"])]
    pub(crate) admin: Vec<settings::Address>,
    /// How replicas are printed
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    pub(crate) output: Output,
}

/// What `sluice describe` can describe.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum DescribeKind {
    /// A Kubernetes Service.
    #[value(alias = "svc")]
    Service,
    /// A workload: one Pod, or all that are made from one template.
    #[value(alias = "po")]
    Pod,
}

/// `sluice demo`.
#[derive(Args, Debug)]
pub(crate) struct DemoFlags {
    /// The folder to run, such as examples/cloud-cargo
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Keep what the demo makes here: ca.pem, logs, identities, demo.json
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Give every pod a network namespace and lead its traffic through its sidecar, as in a cluster (root, iproute2, util-linux)
    #[arg(long)]
    pub(crate) captured: bool,
}

/// Turns clap's several lines into one sentence; help and version stay as they are.
fn sentence(error: &clap::Error, subcommand: &str) -> ExitMessage {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return ExitMessage { text: error.to_string().trim_end().to_owned(), code: 0 };
    }
    ExitMessage::usage(format!("{}{}", describe(error), hint(subcommand)))
}

/// What is wrong, from the parts clap gives.
fn describe(error: &clap::Error) -> String {
    let argument = text(error, ContextKind::InvalidArg);
    let value = text(error, ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::UnknownArgument => match text(error, ContextKind::SuggestedArg) {
            Some(near) => format!("there is no flag `{}`; did you mean `{near}`?", argument.unwrap_or_default()),
            None => format!("`{}` does not belong here", argument.unwrap_or_default()),
        },
        ErrorKind::InvalidSubcommand => format!(
            "there is no command `{}`; there are gateway, sidecar, control, check, describe, status, certs, ca, dashboard, demo, crds, inject, init and help",
            text(error, ContextKind::InvalidSubcommand).unwrap_or_default()
        ),
        ErrorKind::MissingRequiredArgument => match argument.unwrap_or_default() {
            config if config.starts_with("--config") => format!("`{config}` or `--kubernetes` is missing"),
            other => format!("`{other}` is missing"),
        },
        ErrorKind::ArgumentConflict => {
            match text(error, ContextKind::PriorArg).filter(|it| Some(it) != argument.as_ref()) {
                Some(other) => format!("`{}` and `{other}` exclude each other", argument.unwrap_or_default()),
                None => format!("`{}` may be given once", argument.unwrap_or_default()),
            }
        }
        ErrorKind::InvalidValue if value.as_deref().is_none_or(str::is_empty) => {
            format!("`{}` needs a value", argument.unwrap_or_default())
        }
        ErrorKind::InvalidValue => format!(
            "`{}` cannot be `{}`; it can be {}",
            argument.unwrap_or_default(),
            value.unwrap_or_default(),
            text(error, ContextKind::ValidValue).unwrap_or_default()
        ),
        ErrorKind::ValueValidation => format!(
            "`{}` cannot be `{}`: {}",
            argument.unwrap_or_default(),
            value.unwrap_or_default(),
            std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
        ),
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}

/// One part of clap's explanation.
fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(one) => Some(one.clone()),
        ContextValue::Strings(many) => Some(many.join(", ")),
        other => Some(other.to_string()),
    }
}

/// Where to read on.
fn hint(subcommand: &str) -> String {
    let known = Line::command().get_subcommands().any(|it| it.get_name() == subcommand && !it.is_hide_set());
    if known { format!(" (try `sluice help {subcommand}`)") } else { " (try `sluice help`)".to_owned() }
}
