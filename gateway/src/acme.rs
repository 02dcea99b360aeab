//! Certificates that the gateway orders by itself (ACME, RFC 8555).
//!
//! ```text
//!  Gateway, Issuer --routing--> wanted --lead (plan)--> tend: is it time? --order--> tls::acme --> CA
//!                                                 |                  |                      |
//!                          vault: Secrets, or manifests of them:     |                      |
//!                          certificate, account, record of the order |                      |
//!                                                 |                  '--dns--> TXT          |
//!          every replica --follow--> challenges --+--> http/admit, net/accept <-------------'
//!                              '---> progress: problems, admin pages, `sluice certs`
//! ```
//!
//! One replica leads: in Kubernetes by its Lease, with files by a lock. Whatever it reaches is in the vault before the
//! next step, so that another one goes on from there.

pub(crate) mod accounts;
pub(crate) mod dns;
mod failure;
mod follow;
mod lead;
mod leadership;
pub(crate) mod local;
mod order;
mod plan;
mod progress;
pub(crate) mod record;
pub(crate) mod replicas;
pub(crate) mod report;
mod schedule;
mod tend;
pub(crate) mod vault;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use routing::acme::Ordered;
use tokio::sync::watch;

use crate::{live::Live, settings::Settings, telemetry::metrics::Metrics};
use record::Record;

/// The certificates to order, of the configuration in force.
pub(crate) type Wanted = Vec<Arc<Ordered>>;

/// How orders are doing, by the name of the certificate's Secret.
pub(crate) type Progress = BTreeMap<String, Record>;

/// What the parts share.
pub(crate) struct Acme {
    /// Workload name of this gateway.
    gateway: String,
    /// Folder of DNS hooks.
    hooks: Option<PathBuf>,
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    wanted: watch::Sender<Wanted>,
    /// Tokens that this process answers, shortened.
    answered: watch::Sender<BTreeSet<String>>,
    progress: progress::Gathered,
}

impl Acme {
    /// Nothing is wanted yet.
    pub(crate) fn new(settings: &Settings, live: Arc<Live>, metrics: Arc<Metrics>) -> Self {
        Self {
            gateway: settings.name.clone(),
            hooks: settings.acme_hooks.clone(),
            live,
            metrics,
            wanted: watch::Sender::default(),
            answered: watch::Sender::default(),
            progress: progress::Gathered::default(),
        }
    }

    /// These certificates are to be ordered and kept fresh from now on.
    pub(crate) fn want(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|before| {
            let news = *before != wanted;
            *before = wanted;
            news
        });
    }

    /// How orders are doing.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Tokens that this process answers, shortened as [`replicas::short`] does.
    pub(crate) fn answered(&self) -> watch::Receiver<BTreeSet<String>> {
        self.answered.subscribe()
    }

    /// Says that nothing can be ordered, once something should be; for ever.
    pub(crate) async fn nowhere(&self) {
        self.something_wanted().await;
        tracing::warn!(
            "certificates cannot be ordered: no home folder is known to keep them in; name one with --state-dir"
        );
        std::future::pending().await
    }

    async fn something_wanted(&self) {
        // It ends with the process only.
        self.wanted.subscribe().wait_for(|wanted| !wanted.is_empty()).await.ok();
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
