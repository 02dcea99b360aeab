//! The webhooks of a cluster, on one port: `/inject` gives pods their sidecar, `/validate` refuses what `sluice check` calls an
//! error.
//!
//! ```text
//! API server ── serve ── injection: routing::injection::admission <── settings: values, mesh configuration
//!                  `──── validation: command::check, on the one object
//! ```

mod serve;
mod settings;
mod validation;

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use routing::injection::Settings;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep, timeout_at},
};
use tracing::{info, warn};

use super::{ca::in_force::Current, serve::Size, settings::ControlSettings};
use crate::{
    kubernetes::{client::Client, webhooks},
    source::{files::FileSource, identity::FileWatch},
    telemetry::ca::CaMetrics,
};
use settings::Sources;

/// How often the cluster is looked at: the mesh configuration, and what was written over in the configurations.
const LOOK: Duration = Duration::from_secs(5);

/// The revision of a control plane without one.
pub(crate) const DEFAULT: &str = "default";
/// How often Nodes are: their kubelets change with days, and each Node is long.
const LOOK_AT_NODES: Duration = Duration::from_secs(5 * 60);
/// Questions that are answered at a time.
const MOST_QUESTIONS: usize = 16;
/// An API server has many questions on one connection, with whole objects in them.
pub(crate) const SIZE: Size = Size { calls: 100, window: 1 << 20 };

/// What answers an API server.
pub(crate) struct Webhooks {
    settings: watch::Sender<Arc<Settings>>,
    /// The cluster has said how pods are to be.
    looked: watch::Sender<bool>,
    /// For questions at once: anybody in the cluster may ask, and each may be long.
    places: Semaphore,
    metrics: Arc<CaMetrics>,
}

impl Webhooks {
    /// With the settings of now.
    ///
    /// # Errors
    /// The file of values cannot be understood.
    pub(crate) fn open(settings: &ControlSettings, metrics: Arc<CaMetrics>) -> Result<Self> {
        let read = Sources::new(settings).read()?;
        let (settings, looked) = (watch::Sender::new(Arc::new(read)), watch::Sender::new(false));
        Ok(Self { settings, looked, places: Semaphore::new(MOST_QUESTIONS), metrics })
    }

    /// Revision of this control plane.
    pub(crate) fn revision(&self) -> String {
        self.settings.borrow().revision.clone()
    }

    /// Waits until the cluster has been looked at: a pod that is made before would not be as the mesh wants it.
    pub(crate) async fn looked(&self) {
        // It fails only when nobody is there any more who waits.
        self.looked.subscribe().wait_for(|looked| *looked).await.ok();
    }

    /// Keeps the settings current by what a cluster says, until dropped. The last good ones stay.
    pub(crate) async fn follow_cluster(&self, control: &ControlSettings, client: &Client) {
        let mut sources = Sources::new(control);
        let mut watch = FileWatch::new(control.injection_values.iter().cloned().collect());
        let mut told = String::new();
        let mut nodes = Instant::now();
        loop {
            let revision = self.revision();
            if nodes <= Instant::now() {
                // Nodes that are not told leave what was known before.
                sources.kubelet = webhooks::oldest_kubelet(client).await.or(sources.kubelet);
                nodes = Instant::now() + LOOK_AT_NODES;
            }
            // Those that were read last hold where they cannot be had.
            sources.proxy_configs = webhooks::proxy_configs(client).await.unwrap_or(sources.proxy_configs);
            let seen = webhooks::mesh(client, &control.namespace, &revision).await.map(|mesh| sources.mesh = mesh);
            self.take(seen.and_then(|()| sources.read()), &mut told);
            // Its end is no different from a change.
            timeout_at(Instant::now() + LOOK, watch.changed()).await.ok();
        }
    }

    /// The same by files, as proxies follow theirs.
    pub(crate) async fn follow_files(&self, control: &ControlSettings, mut files: FileSource) {
        let mut sources = Sources::new(control);
        let mut watch = FileWatch::new(control.injection_values.iter().cloned().collect());
        let mut told = String::new();
        loop {
            // What is wrong with one is told by `sluice check`; the others hold, and of a broken one what it was.
            sources.proxy_configs = files.load().0.proxy_configs;
            self.take(sources.read(), &mut told);
            tokio::select! {
                () = files.changed() => {}
                () = watch.changed() => {}
            }
        }
    }

    fn take(&self, read: Result<Settings>, told: &mut String) {
        match read {
            Ok(read) => {
                self.settings.send_replace(Arc::new(read));
                self.looked.send_replace(true);
                told.clear();
            }
            Err(error) => {
                let words = format!("{error:#}");
                if words != *told {
                    warn!(error = words, "the settings of the injection stay as they were");
                    *told = words;
                }
            }
        }
    }

    /// Has the API server trust the roots of the CA, whenever this replica leads.
    pub(crate) async fn present(&self, client: &Client, mut leads: watch::Receiver<bool>, current: &Current) {
        let mut in_force = current.follow();
        let mut told = String::new();
        while leads.wait_for(|leads| *leads).await.is_ok() {
            let roots = in_force.borrow_and_update().as_ref().map(|now| now.roots.clone());
            if let Some(roots) = roots {
                let failure = match webhooks::present(client, &self.revision(), &roots).await {
                    Ok(changed) => {
                        changed.iter().for_each(|name| info!(name, "the API server trusts the webhooks' certificate"));
                        String::new()
                    }
                    Err(error) => format!("{error:#}"),
                };
                if failure != told && !failure.is_empty() {
                    warn!(error = failure, "the API server is not told which roots the webhooks have");
                }
                told = failure;
            }
            tokio::select! {
                changed = in_force.changed() => if changed.is_err() { return },
                () = sleep(LOOK) => {}
            }
        }
    }
}
