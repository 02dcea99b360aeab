//! `sluice control`: the mesh by itself. Every replica answers; one of them, by a Lease or the lock of the state folder, does
//! what must be done once.
//!
//! ```text
//!  serve (TLS, HTTP/2) ── ca::service ── ca::callers ── token_review, keys
//!         |                    `── ca::in_force <── ca::keeper <── Secret, folder
//!         `── ca::server_certificate          `── roots: a ConfigMap in each namespace, or a file
//! ```

pub(crate) mod ca;
mod handed_out;
pub(crate) mod place;
pub(crate) mod serve;
pub(crate) mod settings;
pub(crate) mod shares;
pub(crate) mod status;
mod webhooks;

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result};
use tls::{identity::SpiffeId, server::ServerTls};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, watch},
    task::JoinSet,
    time::sleep,
};
use tracing::{info, warn};

use self::{
    ca::{
        callers::Callers, in_force::Current, keeper::Keeper, server_certificate, service::Service, succession::Memory,
    },
    place::Place,
    serve::Door,
    settings::ControlSettings,
    status::ControlStatus,
    webhooks::Webhooks,
};
use crate::{
    admin::{Admin, Figures, Servers},
    kubernetes::client::Client,
    settings::SourceSettings,
    source::files::FileSource,
    telemetry::{ca::CaMetrics, log::LogLevel},
};

/// Runs the control plane until it is told to end.
///
/// # Errors
/// When it cannot start.
pub(crate) fn run(settings: &ControlSettings, log: LogLevel) -> Result<ExitCode> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(serve(settings, log))
}

async fn serve(settings: &ControlSettings, log: LogLevel) -> Result<ExitCode> {
    let mut ends = Ends::new()?;
    let metrics = Arc::new(CaMetrics::new());
    let current = Arc::new(Current::new(settings.lifetimes.propagation));
    let status = Arc::new(ControlStatus::new(Arc::clone(&current)));
    let servers = Servers::bind(settings.pages)?;
    let admin = Admin {
        view: Arc::clone(&status) as _,
        figures: Figures::Ca(Arc::clone(&metrics)),
        log: Some(log),
        peers: settings.admin_peers,
    };
    let (stop_admin, admin_stops) = watch::channel(false);
    tokio::spawn(servers.serve(Arc::new(admin), admin_stops));

    let doors = Doors::bind(settings, &metrics)?;
    let webhooks = Hooks::bind(settings, &metrics)?;
    let revision = match (&settings.revision, &webhooks) {
        (Some(revision), _) => revision.clone(),
        (None, Some(hooks)) => hooks.webhooks.revision(),
        (None, None) => webhooks::DEFAULT.to_owned(),
    };
    let mut place = Place::open(settings, &revision).await?;
    let trust_domain = place.trust_domain(settings, &revision).await?;
    is_a_trust_domain(&trust_domain)?;
    info!(trust_domain, namespace = settings.namespace, revision, "the mesh");
    let callers = Callers::new(trust_domain.clone(), place.judge(settings));
    let keeper = Arc::new(keeper(settings, &place, trust_domain, (&current, &metrics)));
    let service = Arc::new(Service::new(callers, Arc::clone(&keeper)));
    let (certificate, certified) = watch::channel(None);
    let (stop, stops) = watch::channel(false);
    let names = server_certificate::names(settings, &revision);
    let mut served = JoinSet::new();
    if let Some(hooks) = webhooks {
        let cluster = (place.client(), place.presents(), Arc::clone(&current));
        served.spawn(hooks.serve(settings.clone(), cluster, certified.clone(), stops.clone()));
    }
    served.spawn(doors.serve(Arc::clone(&current), certified, service, stops));

    let person = tokio::select! {
        () = work(settings, &keeper, &mut place, &names, &certificate) => false,
        person = ends.first(&status) => person,
    };
    crate::admin::View::drain(&*status);
    if !person {
        // Balancers go on sending until they have heard that this one is not ready any more.
        info!(delay_s = settings.drain_delay.as_secs(), "not ready any more; connections are still accepted");
        tokio::select! {
            () = work(settings, &keeper, &mut place, &names, &certificate) => {}
            () = sleep(settings.drain_delay) => {}
            () = ends.second() => warn!("told twice, ending at once"),
        }
    }
    stop.send_replace(true);
    // Another replica should lead at once.
    place.release().await;
    tokio::select! {
        () = async { while served.join_next().await.is_some() {} } => {}
        () = ends.second() => warn!("told twice, ending at once"),
    }
    stop_admin.send_replace(true);
    info!("ended");
    Ok(ExitCode::SUCCESS)
}

fn keeper(
    settings: &ControlSettings,
    place: &Place,
    trust_domain: String,
    (current, metrics): (&Arc<Current>, &Arc<CaMetrics>),
) -> Keeper {
    Keeper {
        current: Arc::clone(current),
        folder: settings.ca_dir.clone(),
        vault: place.vault(),
        trusted: place.trusted(),
        trust_domain,
        lifetimes: settings.lifetimes,
        leading: place.leads(),
        look: Arc::new(Notify::new()),
        metrics: Arc::clone(metrics),
        memory: Memory::default(),
    }
}

/// # Errors
/// No identity can have it.
fn is_a_trust_domain(name: &str) -> Result<()> {
    SpiffeId::workload(name, "probe", "probe").with_context(|| format!("the trust domain `{name}`")).map(drop)
}

/// Everything that goes on beside the answers, for ever.
async fn work(
    settings: &ControlSettings,
    keeper: &Keeper,
    place: &mut Place,
    names: &[String],
    certificate: &watch::Sender<Option<ServerTls>>,
) {
    tokio::join!(
        keeper.run(),
        server_certificate::keep(&keeper.current, names, certificate),
        place.follow(settings, keeper),
    );
}

/// The CA's ports.
struct Doors {
    tls: Door,
    plain: Option<Door>,
}

impl Doors {
    fn bind(settings: &ControlSettings, metrics: &Arc<CaMetrics>) -> Result<Self> {
        let plain = match settings.ca_plain {
            Some(address) => Some(Door::bind("--ca-plain", address)?.counted(metrics, "ca-plain")),
            None => None,
        };
        Ok(Self { tls: Door::bind("--ca", settings.ca)?.counted(metrics, "ca"), plain })
    }

    /// Serves as soon as there is a CA.
    async fn serve(
        self,
        current: Arc<Current>,
        certificate: serve::Certificate,
        service: Arc<Service>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut in_force = current.follow();
        let ready = tokio::select! {
            ready = in_force.wait_for(Option::is_some) => ready.is_ok(),
            _ = stop.wait_for(|stop| *stop) => false,
        };
        if !ready {
            return;
        }
        let plain = async {
            if let Some(door) = self.plain {
                door.serve(None, Arc::clone(&service), stop.clone()).await;
            }
        };
        tokio::join!(self.tls.serve(Some(certificate), Arc::clone(&service), stop.clone()), plain);
    }
}

/// The webhooks' port, and what answers there.
struct Hooks {
    door: Door,
    webhooks: Arc<Webhooks>,
    /// Without an API server: the configuration.
    files: Option<FileSource>,
}

impl Hooks {
    fn bind(settings: &ControlSettings, metrics: &Arc<CaMetrics>) -> Result<Option<Self>> {
        let Some(address) = settings.webhooks else { return Ok(None) };
        let webhooks = Arc::new(Webhooks::open(settings, Arc::clone(metrics))?);
        let door = Door::bind("--webhooks", address)?.counted(metrics, "webhooks").sized(webhooks::SIZE);
        let files = match &settings.source {
            SourceSettings::Files(paths) => Some(FileSource::new(paths.clone(), None)?),
            SourceSettings::Kubernetes(_) => None,
        };
        Ok(Some(Self { door, webhooks, files }))
    }

    /// Serves, with the certificate of the CA's own listener, until `stop` becomes true. What goes on beside it ends with the
    /// process.
    async fn serve(
        self,
        settings: ControlSettings,
        (client, leads, current): (Option<Client>, watch::Receiver<bool>, Arc<Current>),
        certificate: serve::Certificate,
        mut stop: watch::Receiver<bool>,
    ) {
        let (followed, cluster) = (Arc::clone(&self.webhooks), client.clone());
        tokio::spawn(async move {
            match (cluster, self.files) {
                (Some(client), _) => followed.follow_cluster(&settings, &client).await,
                (None, Some(files)) => followed.follow_files(&settings, files).await,
                (None, None) => {}
            }
        });
        if let Some(client) = client {
            let presented = Arc::clone(&self.webhooks);
            tokio::spawn(async move { presented.present(&client, leads, &current).await });
        }
        let looked = tokio::select! {
            () = self.webhooks.looked() => true,
            _ = stop.wait_for(|stop| *stop) => false,
        };
        if looked {
            self.door.serve(Some(certificate), self.webhooks, stop).await;
        }
    }
}

/// What tells the process to end.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    fn new() -> Result<Self> {
        let of = |kind| signal(kind).context("listening for signals");
        Ok(Self { terminate: of(SignalKind::terminate())?, interrupt: of(SignalKind::interrupt())? })
    }

    /// `true`: it was a person at the keyboard, and no balancer has to hear of it first.
    async fn first(&mut self, status: &ControlStatus) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => false,
            _ = self.interrupt.recv() => true,
            () = status.quit_asked.notified() => false,
        }
    }

    async fn second(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
