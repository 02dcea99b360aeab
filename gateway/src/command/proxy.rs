//! `sluice gateway` and `sluice sidecar`: start the parts, serve, and end in order.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::{Instant, sleep},
};
use tracing::{debug, info, warn};

use crate::{
    acme::{Acme, local, vault::FileVault},
    admin::{Admin, Figures, Servers},
    assembly,
    control::Control,
    drain::{Drain, Whose},
    kubernetes::report::Reporting,
    live::Live,
    overload::Overload,
    pages::Code,
    probes,
    settings::{RoleSettings, Settings, SourceSettings},
    status::Status,
    telemetry::{Telemetry, access_log::files, log::LogLevel},
    worker::{self, Bounds, Shared},
};

/// Longest wait for a slow reader of the access log at the end, and for collectors.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Runs a proxy until it is told to end.
///
/// # Errors
/// When it cannot start, or a part of it died.
pub(crate) fn run(settings: Settings, log: LogLevel) -> Result<ExitCode> {
    raise_file_limit();
    keep_memory_small();
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(serve(settings, log))
}

async fn serve(settings: Settings, log: LogLevel) -> Result<ExitCode> {
    let code = Code::find();
    let mut ends = Ends::new()?;
    follow_rotation()?;
    let telemetry = Arc::new(Telemetry::start(settings.access_log).context("starting the access log")?);
    let (live, drain) = (Arc::new(Live::default()), Arc::new(Drain::default()));
    let status = Arc::new(Status::new(Arc::clone(&live), Arc::clone(&drain)));
    let servers = Servers::bind([settings.status, settings.stats, settings.admin])?;
    let figures = Figures::Proxy(Arc::clone(telemetry.metrics()));
    let admin =
        Arc::new(Admin { view: Arc::clone(&status) as _, figures, log: Some(log), peers: settings.admin_peers });
    let (stop_admin, admin_stops) = watch::channel(false);
    probes::start(&settings, &admin, &admin_stops)?;
    tokio::spawn(servers.serve(admin, admin_stops));

    let tended = Arc::clone(&live);
    tokio::spawn(async move { tended.endpoints.tend().await });
    match code {
        Ok(code) => drop(tokio::spawn(code.tend())),
        Err(error) => debug!(%error, "the program's code stays mapped"),
    }
    let shared = share(&settings, Arc::clone(&live), Arc::clone(&telemetry), Arc::clone(&drain));
    let mut workers = Vec::new();
    for index in 0..settings.workers {
        workers.push(worker::start(index, shared.clone()).await?);
    }
    let mut control = Control::new(settings.clone(), shared, Arc::clone(&status), workers).await?;
    let acme = control.acme();
    let reporting = Reporting::start(&settings, control.applied(), Arc::clone(&acme))?;
    let mut in_a_hurry = false;
    tokio::select! {
        failed = control.run() => failed?,
        () = orders(&settings, &acme) => {}
        hurry = ends.first(&status, &drain) => in_a_hurry = hurry,
    }
    let mut end = End::new(&settings, &live, in_a_hurry);
    if !in_a_hurry {
        // Balancers go on sending until they have heard that this one is not ready any more.
        info!(delay_s = end.delay.as_secs(), "not ready any more; connections are still accepted");
        tokio::select! {
            failed = control.run() => failed?,
            () = sleep(end.delay) => {}
            () = ends.second() => end.at_once = true,
        }
    }
    control.close(false, end.limit.is_none());
    // Another replica should lead at once; connections drain meanwhile.
    let handed_over = reporting.map(|reporting| tokio::spawn(reporting.end()));
    end.drain(&mut control, &drain, &mut ends).await?;
    if let Some(handed_over) = handed_over {
        handed_over.await.context("handing the leadership over")?;
    }
    let lost = telemetry.exports.finish(LAST_LINES).await;
    if lost > 0 {
        warn!(lost, "collectors have not taken the last spans and lines in time, these are lost");
    }
    stop_admin.send_replace(true);
    telemetry.flush(LAST_LINES);
    info!("ended");
    Ok(ExitCode::SUCCESS)
}

/// Opens files of the access log anew whenever somebody says that he has moved them away: also while the last connections end.
fn follow_rotation() -> Result<()> {
    let mut rotated = signal(SignalKind::user_defined1()).context("listening for signals")?;
    tokio::spawn(async move {
        while rotated.recv().await.is_some() {
            info!("files of the access log are opened anew");
            files::reopen();
        }
    });
    Ok(())
}

/// What all workers share; memory is watched from here on.
fn share(settings: &Settings, live: Arc<Live>, telemetry: Arc<Telemetry>, drain: Arc<Drain>) -> Shared {
    let overload = Arc::new(Overload::default());
    if let Some(limit) = settings.memory_limit {
        let overload = Arc::clone(&overload);
        tokio::spawn(async move { overload.watch(limit).await });
    }
    let (connections, listener_connections) = (settings.connections, settings.listener_connections);
    Shared {
        live,
        telemetry,
        drain,
        app_address: assembly::app_address(settings),
        own_ports: assembly::own_ports(settings),
        balancers: settings.balancers.clone().into(),
        overload,
        bounds: Bounds { connections, listener_connections, age: settings.connection_age, drain: settings.drain_time },
        workers: settings.workers,
    }
}

/// Orders certificates, where that is not the business of whoever reports to an API server.
async fn orders(settings: &Settings, acme: &Acme) {
    match (&settings.source, &settings.state_dir) {
        (SourceSettings::Files(_), Some(folder)) => {
            local::run(acme, FileVault::new(folder.clone(), settings.namespace.clone())).await;
        }
        (SourceSettings::Files(_), None) => acme.nowhere().await,
        (SourceSettings::Kubernetes(_), _) => std::future::pending().await,
    }
}

/// How the last connections end.
struct End {
    /// New ones are accepted for so long.
    delay: Duration,
    /// `None`: they may take as long as they will.
    limit: Option<Instant>,
    /// A sidecar's application may need others to answer the last requests, so its own connections come last.
    sidecar: bool,
    /// Told twice.
    at_once: bool,
}

impl End {
    fn new(settings: &Settings, live: &Live, hurried: bool) -> Self {
        let drain_time = live.drain_time(settings.drain_time);
        let (delay, limit) = match settings.ending.or(live.ending()).at_zero().filter(|_| !hurried) {
            Some(minimum) => (minimum, None),
            None => (live.drain_delay(settings.drain_delay).min(drain_time), Some(Instant::now() + drain_time)),
        };
        Self { delay, limit, sidecar: settings.role != RoleSettings::Gateway, at_once: false }
    }

    /// Waits for those that came in, then for the rest.
    async fn drain(&mut self, control: &mut Control, drain: &Drain, ends: &mut Ends) -> Result<()> {
        let left = self.limit.map(|limit| limit.saturating_duration_since(Instant::now()).as_secs());
        info!(connections = drain.connections(), limit_s = left, "draining");
        for whose in [Whose::Others, Whose::All] {
            if whose == Whose::All && self.limit.is_some() {
                control.close(true, false);
            }
            tokio::select! {
                biased;
                () = std::future::ready(()), if self.at_once => {}
                left = drain.finished(whose, self.limit) => if left > 0 && whose == Whose::All {
                    warn!(connections = left, "the drain limit has passed, these are cut");
                },
                // Where the application goes may change meanwhile.
                failed = control.run(), if self.sidecar => failed?,
                () = ends.second() => self.at_once = true,
            }
        }
        if self.at_once {
            warn!("told twice, ending at once");
        }
        Ok(())
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

    /// Resolves when the process has to end, with the drain begun. `POST /drain` alone only begins it. `true`: it was a
    /// person at the keyboard, and no balancer has to hear of it first.
    async fn first(&mut self, status: &Status, drain: &Drain) -> bool {
        let person = loop {
            tokio::select! {
                _ = self.terminate.recv() => break false,
                _ = self.interrupt.recv() => break true,
                () = status.quit_asked.notified() => break false,
                () = status.drain_asked.notified() => drain.begin(),
            }
        };
        drain.begin();
        person
    }

    async fn second(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Each connection needs a descriptor, and so does each kept one: take what the system allows.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        warn!(%error, "the limit on open files stays where it is");
    }
}

/// With transparent huge pages an idle proxy holds 2 MiB for each page of the heap that it has touched.
fn keep_memory_small() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        debug!(%error, "huge pages stay allowed");
    }
}
