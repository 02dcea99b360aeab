//! Who this proxy is in the mesh: an identity from files, from a CA that is asked for it, or from a socket that gives it; and
//! the next one, before the one that is held ends.
//!
//! ```text
//!  files.rs ---------.
//!  ca.rs ------------+--> board.rs --> Standing --> control.rs: trust, what is told
//!  workload_api.rs --'       ^
//!   or discovery.rs          '-- who it has to be, as the configuration says
//! ```
//!
//! What a source gives is checked (`tls/src/unfit.rs`) before it is used, and what is held stays until there is something
//! better: a source that is away costs nothing before the certificate has ended.

mod board;
mod ca;
mod discovery;
mod files;
mod lists;
mod schedule;
mod workload_api;

use std::{future::pending, sync::Arc};

use tls::identity::SpiffeId;
use tokio::{sync::watch, task::JoinHandle};

pub(crate) use board::Standing;

use crate::{settings::IdentitySettings, telemetry::metrics::Metrics};
use board::Board;

/// The source of a proxy's identity at work. It ends with this.
pub(crate) struct Identities {
    /// `None`: there is no source.
    source: Option<Source>,
}

struct Source {
    told: watch::Receiver<Arc<Standing>>,
    expected: watch::Sender<Option<SpiffeId>>,
    task: JoinHandle<()>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Identities {
    /// Begins. What is in files is there when this returns.
    pub(crate) fn start(settings: &IdentitySettings, metrics: Arc<Metrics>) -> Self {
        let (expected, expects) = watch::channel(None);
        let board = |kind, place: String| Board::new(kind, &place, expects.clone(), metrics.clone());
        let (told, task) = match settings {
            IdentitySettings::Nowhere => return Self { source: None },
            IdentitySettings::Files(folder) => {
                let board = board("files", folder.display().to_string());
                let mut files = files::Files::new(folder.clone(), board);
                files.load();
                (files.board.told(), tokio::spawn(files.run()))
            }
            IdentitySettings::Ca(settings) => {
                let board = board("ca", settings.address.to_string());
                (board.told(), tokio::spawn(ca::Ca::new(settings.clone(), board).run()))
            }
            IdentitySettings::WorkloadApi(socket) => {
                crate::unix::keep(socket.clone());
                let board = board("workload-api", socket.display().to_string());
                (board.told(), tokio::spawn(workload_api::Api::new(socket.clone(), board).run()))
            }
        };
        Self { source: Some(Source { told, expected, task }) }
    }

    /// Says who the proxy has to be; what is no SPIFFE id of a workload means that it is not known yet.
    pub(crate) fn expect(&self, principal: &str) {
        let Some(source) = &self.source else { return };
        let id = SpiffeId::parse(principal).ok();
        source.expected.send_if_modified(|expected| std::mem::replace(expected, id.clone()) != id);
    }

    /// Resolves when there is something new. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        let Some(source) = &mut self.source else { return pending().await };
        // Its task is gone only with this.
        if source.told.changed().await.is_err() {
            pending::<()>().await;
        }
    }

    /// What is held and how it is doing; `None`: there is no source.
    pub(crate) fn standing(&mut self) -> Option<Arc<Standing>> {
        self.source.as_mut().map(|source| Arc::clone(&source.told.borrow_and_update()))
    }
}
