//! Tells the API server how this proxy is doing: a Lease of each replica, and conditions and events by the one that leads.
//! On a thread of its own, so that a long compilation never costs the leadership, and telling never delays a change.

use std::{sync::Arc, thread, time::Duration};

use anyhow::{Context as _, Result};
use kube::{Api, Client};
use tokio::{
    runtime,
    sync::{oneshot, watch},
    time::timeout,
};
use tracing::error;

use super::{
    client,
    events::Events,
    lease::{self, Election},
    publish::Publisher,
    replicas,
    vault::SecretVault,
};
use crate::{
    acme::{Acme, replicas::Replicas, vault::Vault},
    applied::Latest,
    settings::{KubernetesSettings, RoleSettings, Settings, SourceSettings},
};

/// Longest wait for the API server when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The running thread. Ends by [`Reporting::end`], or with the process.
pub(crate) struct Reporting {
    stop: oneshot::Sender<()>,
    done: oneshot::Receiver<()>,
}

impl Reporting {
    /// Of a gateway that reads from an API server and keeps Leases there; `None` for everybody else.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(
        settings: &Settings,
        applied: watch::Receiver<Latest>,
        acme: Arc<Acme>,
    ) -> Result<Option<Self>> {
        let (SourceSettings::Kubernetes(kubernetes), RoleSettings::Gateway) = (&settings.source, &settings.role) else {
            return Ok(None);
        };
        if !kubernetes.leases {
            return Ok(None);
        }
        let runtime = runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
        let (stop, stopped) = oneshot::channel();
        let (tell, done) = oneshot::channel();
        let (settings, kubernetes) = (settings.clone(), kubernetes.clone());
        let work = move || {
            let desk = Desk { settings, write_status: kubernetes.write_status, applied, acme };
            if let Err(error) = runtime.block_on(run(&desk, &kubernetes, stopped)) {
                error!(error = format!("{error:#}"), "nothing is reported to the API server");
            }
            // Nobody waits when the process ends at once.
            tell.send(()).ok();
        };
        thread::Builder::new().name("report".to_owned()).spawn(work).context("starting a thread")?;
        Ok(Some(Self { stop, done }))
    }

    /// Hands the leadership over and takes this replica off the list. Waits 2 s at most.
    pub(crate) async fn end(self) {
        // Both fail only when the thread has ended already.
        self.stop.send(()).ok();
        timeout(LAST_WORDS, self.done).await.ok();
    }
}

/// What is told, and what about.
struct Desk {
    settings: Settings,
    write_status: bool,
    applied: watch::Receiver<Latest>,
    acme: Arc<Acme>,
}

async fn run(desk: &Desk, kubernetes: &KubernetesSettings, stopped: oneshot::Receiver<()>) -> Result<()> {
    let client = client::connect(kubernetes).await?;
    let settings = &desk.settings;
    let name = lease::name_of(&settings.name);
    let mut election = Election::new(client.clone(), &settings.namespace, name, settings.replica.clone());
    let own = replicas::Own::new(client.clone(), settings);
    let (mut told, mut answered, leading) = (desk.applied.clone(), desk.acme.answered(), election.leading());
    let vault = Vault::Kubernetes(Arc::new(SecretVault::new(client.clone(), &settings.namespace)));
    tokio::select! {
        () = own.publish(&mut told, &mut answered) => {}
        () = election.run() => {}
        () = desk.acme.follow(&vault) => {}
        () = lead(&client, desk, &vault, leading) => {}
        _ = stopped => {}
    }
    tokio::join!(election.release(), own.delete());
    Ok(())
}

/// Does what only the leader does, whenever this replica is it.
async fn lead(client: &Client, desk: &Desk, vault: &Vault, mut leading: watch::Receiver<bool>) {
    let Desk { settings, write_status, applied, acme } = desk;
    let leases = Api::namespaced(client.clone(), &settings.namespace);
    while leading.wait_for(|it| *it).await.is_ok() {
        let alive = watch::Sender::new(None);
        let mut publisher = Publisher::new(client.clone(), &settings.namespace, &settings.name);
        let mut events = Events::new(client.clone(), settings);
        let answering = Replicas::by_leases(acme.answered(), alive.subscribe());
        tokio::select! {
            () = replicas::follow(&leases, &settings.name, &alive) => {}
            () = publisher.run(applied.clone(), alive.subscribe()), if *write_status => {}
            () = events.run(applied.clone()) => {}
            () = acme.lead(vault, answering) => {}
            _ = leading.wait_for(|it| !*it) => {}
        }
    }
}
