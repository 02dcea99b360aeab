//! The control loop: a change arrives, is compiled, joined with certificates, and put in force; sockets follow.

use std::{
    collections::{BTreeMap, HashSet},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use routing::{
    compile::{Compiler, Proxy},
    problem::{Problem, Severity},
    reach,
    resources::{Resources, UNREADABLE_FILE},
    snapshot::Snapshot,
    unix,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tracing::{error, info, warn};

use crate::{
    acme::{self, Acme},
    applied::{self, Applied},
    assembly,
    identity::Identities,
    keys,
    net::{
        holder,
        listen::{Door, Standing, bind},
        standing,
    },
    problem_log, selectors,
    settings::{Settings, SourceSettings},
    source::{Source, audit::Audit, identity::FileWatch},
    status::Status,
    telemetry::{
        Telemetry,
        metrics::{CertificateValue, Reload},
    },
    trust::{Complaint, Served, Trust},
    upstream::names::{Resolved, Resolver},
    worker::{Listen, Shared},
};

/// Between tries to bind an address that could not be had.
const BIND_AGAIN: Duration = Duration::from_secs(1);
/// Between tries to read what could not be read at the start.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// Certificates end without any change of configuration: how often they are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
/// Complaints about certificates in one install that are told one by one.
const MOST_COMPLAINTS: usize = 50;

/// A socket in use, on every worker.
struct Open {
    door: Door,
    standing: watch::Sender<Standing>,
}

/// See the module.
pub(crate) struct Control {
    settings: Settings,
    shared: Shared,
    status: Arc<Status>,
    workers: Vec<mpsc::Sender<Listen>>,
    source: Source,
    audit: Audit,
    identities: Identities,
    /// Of certificates that Gateways and DestinationRules name.
    files: FileWatch,
    trust: Trust,
    compiler: Compiler,
    resources: Resources,
    source_problems: Vec<Problem>,
    resolver: Resolver,
    resolved: Resolved,
    generation: u64,
    digest: Option<(u64, u64, u64)>,
    open: BTreeMap<SocketAddr, Open>,
    complaints: Vec<Complaint>,
    certificates: Vec<Served>,
    applied: watch::Sender<applied::Latest>,
    acme: Arc<Acme>,
    /// What the configuration in force was compiled for, and what was found on the way: kept to be told again.
    compiled: (Proxy, Vec<Problem>),
    bind_failures: BTreeMap<SocketAddr, String>,
    /// What could not be read yet, from the start until everything was read once. Who may do what may stand in it, so until
    /// then no socket opens.
    unread: Option<String>,
}

impl Control {
    /// Ready to [`Self::run`].
    ///
    /// # Errors
    /// When the configuration paths cannot be reached, or no API server can be found.
    pub(crate) async fn new(
        settings: Settings,
        shared: Shared,
        status: Arc<Status>,
        workers: Vec<mpsc::Sender<Listen>>,
    ) -> Result<Self> {
        let source = Source::new(&settings).await?;
        let identities = Identities::start(&settings.identity, Arc::clone(shared.telemetry.metrics()));
        let acme = Acme::new(&settings, Arc::clone(&shared.live), Arc::clone(shared.telemetry.metrics()));
        Ok(Self {
            settings,
            shared,
            status,
            workers,
            source,
            audit: Audit::default(),
            identities,
            files: FileWatch::new(Vec::new()),
            trust: Trust::default(),
            compiler: Compiler::default(),
            resources: Resources::default(),
            source_problems: Vec::new(),
            resolver: Resolver::start(),
            resolved: Resolved::default(),
            generation: 0,
            digest: None,
            open: BTreeMap::new(),
            complaints: Vec::new(),
            certificates: Vec::new(),
            applied: watch::Sender::default(),
            acme: Arc::new(acme),
            compiled: (Proxy::default(), Vec::new()),
            bind_failures: BTreeMap::new(),
            unread: Some(String::new()),
        })
    }

    /// Applies the configuration, then every change of it, until dropped.
    ///
    /// # Errors
    /// When a worker has died.
    pub(crate) async fn run(&mut self) -> Result<()> {
        let status = Arc::clone(&self.status);
        self.source.synced(|awaited| status.set_awaited(awaited)).await;
        self.load().await;
        self.take_identity();
        self.apply(true).await?;
        let mut orders = self.acme.progress();
        let mut keys = self.shared.live.keys.changes();
        let mut look = Instant::now() + LOOK_AGAIN;
        // Points in time and not pauses, which other changes would begin anew.
        let (mut bind_at, mut read_at) = (Instant::now() + BIND_AGAIN, Instant::now() + READ_AGAIN);
        loop {
            let retry_read = self.unread.is_some();
            let retry_bind = !self.bind_failures.is_empty();
            tokio::select! {
                () = self.source.changed() => {
                    self.load().await;
                    self.apply(false).await?;
                }
                () = self.files.changed() => self.apply(true).await?,
                () = self.identities.changed() => {
                    if self.take_identity() {
                        self.apply(true).await?;
                    }
                }
                () = sleep_until(bind_at), if retry_bind => {
                    bind_at = Instant::now() + BIND_AGAIN;
                    self.follow_sockets().await?;
                }
                () = sleep_until(read_at), if retry_read => {
                    read_at = Instant::now() + READ_AGAIN;
                    self.load().await;
                    self.apply(false).await?;
                }
                () = sleep_until(look) => {
                    look = Instant::now() + LOOK_AGAIN;
                    self.load().await;
                    self.apply(false).await?;
                }
                changed = orders.changed() => {
                    // The sender is here.
                    changed?;
                    orders.borrow_and_update();
                    self.tell_all();
                }
                changed = keys.changed() => {
                    // The book is here.
                    changed?;
                    self.tell_all();
                }
                resolved = self.resolver.changed() => {
                    self.resolved = resolved;
                    self.apply(false).await?;
                }
            }
        }
    }

    async fn load(&mut self) {
        let (resources, mut problems) = self.source.load().await;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        problems.extend(self.audit.run(&resources, i64::try_from(now).unwrap_or(i64::MAX)));
        self.look_for_unread(&problems);
        (self.resources, self.source_problems) = (resources, problems);
    }

    /// Whether everything has been read once. Later the last good versions stand for what cannot be read.
    fn look_for_unread(&mut self, problems: &[Problem]) {
        let Some(before) = &self.unread else { return };
        let found = problems.iter().find(|problem| problem.code == UNREADABLE_FILE);
        let unread = found.map(|problem| format!("no port opens before this is read, or gone: {}", problem.line()));
        match &unread {
            Some(unread) if unread != before => error!("{unread}"),
            Some(_) => {}
            // What was held back is due, even if nothing else has changed.
            None => self.digest = None,
        }
        self.unread = unread;
    }

    /// Takes over what there is of the workload's identity, and tells how it is doing. True when it is a new one.
    fn take_identity(&mut self) -> bool {
        let Some(standing) = self.identities.standing() else { return false };
        self.status.set_identity(Arc::clone(&standing));
        let Some(identity) = standing.identity.as_ref() else { return false };
        if self.trust.identity().is_some_and(|held| held.generation == identity.generation) {
            return false;
        }
        self.trust.set_identity(Arc::clone(identity));
        true
    }

    /// Compiles what was read and puts it in force.
    async fn apply(&mut self, trust_changed: bool) -> Result<()> {
        let started = Instant::now();
        let proxy = assembly::proxy(&self.settings, &self.resources, Arc::clone(&self.resolved));
        let mut compiled = self.compiler.compile(&self.resources, &proxy);
        let identity = self.trust.identity().map_or(0, |identity| identity.generation);
        let digest = (compiled.snapshot.digest, self.resources.order(), identity);
        let mut problems = self.source_problems.clone();
        problems.extend(compiled.problems);
        if let SourceSettings::Files(_) = self.settings.source
            && proxy.is_gateway()
        {
            problems.extend(selectors::left_out(&self.resources, &proxy.labels));
        }
        if proxy.is_gateway() && self.settings.labels.is_none() && proxy.labels != self.compiled.0.labels {
            info!(labels = %selectors::text(&proxy.labels), "Gateways that select these labels are served; --labels sets others");
        }
        self.compiled = (proxy, problems);
        self.identities.expect(&compiled.snapshot.workload.principal);
        if self.digest == Some(digest) && !trust_changed {
            self.shared.telemetry.metrics().reload(Reload::Unchanged, started.elapsed());
            self.tell_all();
            return Ok(());
        }
        self.digest = Some(digest);
        self.generation += 1;
        compiled.snapshot.workload.cluster = Arc::clone(&self.settings.cluster);
        let ordered = compiled.snapshot.ordered.clone();
        self.resolver.want(&compiled.snapshot.names, compiled.snapshot.mesh.dns_refresh());
        self.want_keys(&compiled.snapshot).await;
        assembly::install(&self.settings, &self.shared.live, &mut self.trust, self.generation, compiled.snapshot);
        let findings = self.trust.finish();
        self.files.set_paths(findings.files);
        self.complain(findings.complaints);
        self.tell_metrics(&findings.certificates, digest.0);
        self.shared.telemetry.metrics().reload(Reload::Installed, started.elapsed());
        self.certificates = findings.certificates;
        self.status.set_certificates(self.certificates.clone());
        self.tell_all();
        self.follow_sockets().await?;
        // Not before: the CA is going to look.
        if self.unread.is_none() {
            self.acme.want(ordered);
        }
        info!(snapshot = self.generation, duration_ms = started.elapsed().as_millis() as u64, "snapshot installed");
        Ok(())
    }

    /// Issuers that nobody here has asked yet are asked before their tokens come.
    async fn want_keys(&self, snapshot: &Snapshot) {
        let allows = match self.settings.source {
            SourceSettings::Files(_) => reach::is_askable,
            SourceSettings::Kubernetes(_) => reach::is_askable_elsewhere,
        };
        let asking = keys::Asking { allows, more_cas: self.settings.jwks_ca.clone() };
        self.shared.live.keys.want(snapshot, &asking, self.shared.telemetry.metrics()).await;
    }

    /// What is in force, for whoever reports it to an API server.
    pub(crate) fn applied(&self) -> watch::Receiver<applied::Latest> {
        self.applied.subscribe()
    }

    /// The orders of certificates.
    pub(crate) fn acme(&self) -> Arc<Acme> {
        Arc::clone(&self.acme)
    }

    /// Tells everybody what is wrong now, with the configuration and with the orders of certificates.
    fn tell_all(&self) {
        let (proxy, compiled) = &self.compiled;
        let installed = self.shared.live.pin();
        let (ordered, progress) = (&installed.snapshot.ordered, self.acme.progress());
        let mut problems = compiled.clone();
        problems.extend(acme::report::problems(ordered, &progress.borrow(), &self.resources));
        problems.extend(keys::report::problems(&installed, &self.resources));
        self.report(&problems);
        self.count(&problems);
        self.shared.telemetry.metrics().set_acme_failing(acme::report::failing(ordered, &progress.borrow()));
        self.status.set_orders(acme::report::told(&proxy.namespace, ordered, &progress.borrow()));
        self.tell(proxy, &problems);
        self.status.set_problems(problems);
    }

    fn tell(&self, proxy: &Proxy, problems: &[Problem]) {
        if let SourceSettings::Kubernetes(_) = self.settings.source {
            self.applied.send_replace(Some(Arc::new(Applied {
                content: proxy.configuration(&self.resources),
                snapshot: self.shared.live.pin().snapshot.digest,
                proxy: proxy.clone(),
                resources: self.resources.clone(),
                problems: problems.to_vec(),
                certificates: self.certificates.clone(),
            })));
        }
    }

    fn tell_metrics(&self, certificates: &[Served], digest: u64) {
        let telemetry: &Telemetry = &self.shared.telemetry;
        telemetry.installed(&self.shared.live.pin().snapshot);
        telemetry.redirect(&self.shared.live.pin());
        let metrics = telemetry.metrics();
        metrics.set_snapshot(self.generation, digest);
        let installed = self.shared.live.pin();
        let policies = installed.snapshot.guard.as_ref().and_then(|guard| guard.authorization.as_ref());
        metrics.set_policies(&policies.map(|policies| policies.named()).unwrap_or_default());
        metrics.set_certificates(certificates.iter().map(|it| CertificateValue {
            server: &it.server,
            hosts: &it.hosts,
            secret: &it.secret,
            not_after: it.not_after,
            kept: it.kept.is_some(),
        }));
    }

    /// Problems come and go without a new snapshot too, as when the API server is away.
    fn count(&self, problems: &[Problem]) {
        let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
        self.shared.telemetry.metrics().set_problems(&[
            ("error", count(Severity::Error)),
            ("warning", count(Severity::Warning)),
            ("info", count(Severity::Info)),
        ]);
    }

    /// Says every problem once, when it appears, as far as anybody would read it.
    fn report(&self, problems: &[Problem]) {
        let lines = problem_log::lines(&self.status.unknown(problems));
        for problem in lines.told {
            let line = problem.line();
            match problem.severity {
                Severity::Error => error!("{line}"),
                Severity::Warning => warn!("{line}"),
                Severity::Info => info!("{line}"),
            }
        }
        if let Some(rest) = lines.rest {
            warn!("{rest}");
        }
    }

    fn complain(&mut self, complaints: Vec<Complaint>) {
        let known: HashSet<&Complaint> = self.complaints.iter().collect();
        let mut told = HashSet::new();
        let new: Vec<&Complaint> =
            complaints.iter().filter(|complaint| !known.contains(complaint) && told.insert(*complaint)).collect();
        for complaint in new.iter().take(MOST_COMPLAINTS) {
            warn!(subject = %complaint.subject, "{}", complaint.message);
        }
        if let more @ 1.. = new.len().saturating_sub(MOST_COMPLAINTS) {
            warn!("the same kind of trouble with {more} more certificates; `sluice certs` lists them");
        }
        self.complaints = complaints;
    }

    /// Opens the sockets that the snapshot asks for and closes the others.
    async fn follow_sockets(&mut self) -> Result<()> {
        let installed = self.shared.live.pin();
        let wanted = match self.unread {
            None => assembly::doors(&self.settings, &installed.snapshot),
            Some(_) => BTreeMap::new(),
        };
        self.open.retain(|address, open| {
            let stays = wanted.get(address) == Some(&open.door);
            if !stays {
                info!(listener = %unix::shown(*address), "listener closes");
                crate::unix::unlink(*address);
                open.standing.send_modify(|standing| standing.closing = true);
            }
            stays
        });
        for open in self.open.values() {
            let rules = standing::rules(&installed, open.door);
            open.standing.send_if_modified(|standing| std::mem::replace(&mut standing.rules, rules) != rules);
        }
        self.bind_failures.retain(|address, _| wanted.contains_key(address));
        for (address, door) in wanted {
            if !self.open.contains_key(&address) {
                self.open_socket(address, door).await?;
            }
        }
        self.status.set_bound(self.unread.iter().chain(self.bind_failures.values()).cloned().collect());
        Ok(())
    }

    async fn open_socket(&mut self, address: SocketAddr, door: Door) -> Result<()> {
        let all_of_ipv4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
        let beside = self.open.contains_key(&all_of_ipv4) || self.bind_failures.contains_key(&all_of_ipv4);
        let sockets = match bind(address, self.workers.len(), beside) {
            Ok(sockets) => sockets,
            Err(cause) => {
                let text = format!("{} cannot be bound: {cause}", unix::shown(address));
                // Who has it is found out once, since it is tried every second.
                if !self.bind_failures.get(&address).is_some_and(|known| known.starts_with(&text)) {
                    let text = text + &holder::hint(&cause, address);
                    error!("{text}");
                    self.bind_failures.insert(address, text);
                }
                return Ok(());
            }
        };
        let rules = standing::rules(&self.shared.live.pin(), door);
        let (standing, stands) = watch::channel(Standing { rules, ..Standing::default() });
        let open = Arc::new(());
        for (worker, listener) in self.workers.iter().zip(sockets) {
            let listen = Listen { listener, address, door, standing: stands.clone(), open: Arc::clone(&open) };
            worker.send(listen).await.ok().context("a worker thread has ended")?;
        }
        info!(listener = %unix::shown(address), ?door, "listening");
        self.bind_failures.remove(&address);
        self.open.insert(address, Open { door, standing });
        Ok(())
    }

    /// Closes every socket, or those that others than the sidecar's application come by; what is in flight goes on, however long
    /// when it is `patient`.
    pub(crate) fn close(&mut self, all: bool, patient: bool) {
        for (address, open) in self.open.iter().filter(|(_, open)| all || open.door.is_for_others()) {
            crate::unix::unlink(*address);
            open.standing.send_modify(|standing| (standing.closing, standing.patient) = (true, patient));
        }
    }
}
