//! `sluice demo DIR`: plays the cluster for a folder of YAML on one machine. It is kubelet, endpoints controller, CA and
//! Secret store at once: every Deployment becomes pods with an echo application and a real sidecar process, every
//! Gateway a real gateway process, and they find each other through the same files that they would find in a cluster.
//!
//! ```text
//! folder --> plan --> addresses, authorities, manifests (state folder) --> processes --> tour
//! ```

mod addresses;
mod authorities;
mod hosts;
mod jobs;
mod manifests;
mod network;
mod plan;
mod print;
mod processes;
mod state;
mod tour;

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use routing::{api::gateway::ServerTlsMode, problem::Problem, resources::Resources};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::{self, Instant},
};

use self::{
    addresses::{Addresses, ports},
    authorities::{Authorities, LIFETIME},
    network::Network,
    plan::Plan,
    print::{AdminPages, Progress},
    processes::Processes,
    state::{Access, State},
    tour::Guide,
};
use crate::{
    cli::DemoFlags,
    dashboard::{Dashboard, Mesh, Target},
    source::files::FileSource,
};

/// Runs the demo until Ctrl-C or SIGTERM.
///
/// # Errors
/// A sentence for the terminal: the folder cannot be played, or one of the processes failed.
pub(crate) fn run(flags: DemoFlags) -> anyhow::Result<ExitCode> {
    // On this very thread, which lives as long as the process: the kernel ends the children when their parent thread dies.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime of the demo")?
        .block_on(Demo::play(flags))
}

struct Demo {
    /// As the user named it.
    directory: PathBuf,
    state: State,
    plan: Plan,
    addresses: Addresses,
    authorities: Authorities,
}

impl Demo {
    async fn play(flags: DemoFlags) -> anyhow::Result<ExitCode> {
        let mut stop = Stop::listen()?;
        let progress = Progress::start();
        let demo = Self::prepare(&flags, &progress)?;

        let directory = canonical(&demo.directory)?;
        let jobs = jobs::jobs(&directory, &demo.state, &demo.plan, &demo.addresses);
        let mut processes = Processes::start(jobs, &demo.state.path("logs"))?;
        progress.done(&format!("{} processes started", processes.len()));

        let ended = tokio::select! {
            result = demo.run(&mut processes, &progress) => result,
            () = stop.asked() => Ok(()),
        };
        processes.stop().await;
        progress.done("everything ended");
        ended.map(|()| ExitCode::SUCCESS)
    }

    /// Everything that has to be there before the first process starts.
    fn prepare(flags: &DemoFlags, progress: &Progress) -> anyhow::Result<Self> {
        let directory = flags.directory.clone();
        let (resources, _) = read(std::slice::from_ref(&directory))?;
        let plan = Plan::of(&resources)?;
        if plan.gateways.is_empty() && plan.pods.is_empty() {
            anyhow::bail!(
                "{} holds neither a Gateway nor a Deployment, so there is nothing to run; try examples/cloud-cargo",
                directory.display()
            );
        }
        progress.done(&format!(
            "read {}: {} gateway(s), {} pod(s)",
            directory.display(),
            plan.gateways.len(),
            plan.pods.len()
        ));

        Addresses::suffice(&plan)?;
        let state = State::create(flags.state_dir.as_deref(), &canonical(&directory)?)?;
        let network = flags.captured.then(|| captured(&resources, &plan, &state, progress)).flatten();
        let addresses = Addresses::choose(&plan, network)?;
        addresses.notes.iter().for_each(|note| progress.done(note));
        let authorities = Authorities::create(&state)?;
        progress.done(&format!("mesh CA and edge CA ... ok ({})", state.path("ca.pem").display()));
        authorities.issue_identities(&state, &plan)?;
        if demands_client_certificates(&resources) {
            authorities.issue_client(&state)?;
        }
        authorities.issue_applications(&state, &plan)?;
        manifests::write_pods(&state, &plan, &addresses)?;
        manifests::write_gateways(&state, &plan, &addresses)?;
        manifests::write_secrets(&state, &plan, &authorities)?;
        progress.done("identities, pods and server certificates ... ok");
        Ok(Self { directory, state, plan, addresses, authorities })
    }

    /// From started processes to a running demo; comes back only when something failed.
    async fn run(&self, processes: &mut Processes, progress: &Progress) -> anyhow::Result<()> {
        processes.ready().await?;
        progress.done("every process is ready");
        let proxies = self.proxies();
        let target = |proxy: &AdminPages| match proxy.process {
            Some(process) => Target::inside(process, proxy.admin, &*proxy.name),
            None => Target::at(proxy.admin, &*proxy.name),
        };
        let targets = proxies.iter().map(target).collect();
        let dashboard = Dashboard::bind(Mesh::Known(targets), None).await?;
        self.show(&format!("http://{}/", dashboard.address()?), &proxies)?;
        let (_stop, stops) = watch::channel(false);
        // It ends with the runtime, as the demo does.
        tokio::spawn(dashboard.serve(stops));

        let half_life = LIFETIME / 2;
        let mut renewal = time::interval_at(Instant::now() + half_life, half_life);
        loop {
            tokio::select! {
                text = processes.any_ends() => anyhow::bail!(text),
                _ = renewal.tick() => self.renew(progress)?,
            }
        }
    }

    /// Gateways first.
    fn proxies(&self) -> Vec<AdminPages> {
        let at = |namespace: &str, name: &str, ip: IpAddr, process: Option<u32>| AdminPages {
            name: format!("{namespace}/{name}"),
            admin: SocketAddr::new(ip, ports::ADMIN),
            process,
        };
        let gateways = self.plan.gateways.iter().enumerate();
        let gateways = gateways.map(|(index, it)| at(&it.namespace, &it.name, self.addresses.gateway(index), None));
        // The rules of the kernel keep the admin pages of captured pods to the pods.
        let pods = self.plan.pods.iter().enumerate().filter(|(_, pod)| pod.sidecar);
        let pods = pods
            .map(|(index, it)| at(&it.namespace, &it.name, self.addresses.pod(index), self.addresses.namespace(index)));
        gateways.chain(pods).collect()
    }

    fn show(&self, page: &str, proxies: &[AdminPages]) -> anyhow::Result<()> {
        let (resources, found) = read(&[self.directory.clone(), self.state.path("config")])?;
        let guide = Guide { resources: &resources, plan: &self.plan, addresses: &self.addresses, state: &self.state };
        let mut tour = guide.tour();
        tour.problems.extend(found);
        let admin = (!self.plan.gateways.is_empty()).then(|| format!("{}:{}", self.addresses.gateway(0), ports::ADMIN));
        print::problems(&tour, &self.directory);
        print::tour(&tour, &self.directory, &self.state, page);
        self.state.write("demo.json", &print::demo_json(&tour, admin, page, proxies), Access::Public)
    }

    /// The proxies watch these files and take them over without losing a connection.
    fn renew(&self, progress: &Progress) -> anyhow::Result<()> {
        self.authorities.issue_identities(&self.state, &self.plan)?;
        progress.done("identities issued again");
        Ok(())
    }
}

/// Ctrl-C or SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The network of the pods; `None` = not here, which was said.
fn captured(resources: &Resources, plan: &Plan, state: &State, progress: &Progress) -> Option<Network> {
    match Network::create(resources, plan, state) {
        Ok(network) => {
            progress.done(&format!("{} network namespaces, their traffic captured ... ok", plan.pods.len()));
            Some(network)
        }
        Err(why) => {
            progress.done(&format!("traffic is NOT captured: {why}; sidecars listen on ports of their own instead"));
            None
        }
    }
}

fn read(paths: &[PathBuf]) -> anyhow::Result<(Resources, Vec<Problem>)> {
    let mut source = FileSource::once(paths.to_vec()).context("reading the folder")?;
    Ok(source.load())
}

fn canonical(directory: &Path) -> anyhow::Result<PathBuf> {
    directory.canonicalize().with_context(|| format!("cannot read {}", directory.display()))
}

fn demands_client_certificates(resources: &Resources) -> bool {
    let servers = resources.gateways.iter().flat_map(|gateway| &gateway.spec.servers);
    servers.filter_map(|server| server.tls.as_ref()).any(|tls| tls.mode == ServerTlsMode::Mutual)
}
