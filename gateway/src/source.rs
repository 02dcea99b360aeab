//! Where configuration comes from: files and folders, or an API server. A source says when something changed and loads
//! it; it never decides what the configuration means (that is `routing::compile`).

pub(crate) mod audit;
pub(crate) mod bounded;
pub(crate) mod files;
pub(crate) mod identity;
mod trail;
mod watch;

use anyhow::Result;
use routing::{problem::Problem, resources::Resources};

use crate::{
    acme::vault::FileVault,
    assembly,
    kubernetes::{client, once, source::KubernetesSource},
    settings::{Settings, SourceSettings},
};
use files::FileSource;

/// What is there now, and what is wrong with it, without following it. Secrets of an API server are left out: whoever only
/// wants to look at routes and policies needs no permission to read keys. Blocks.
///
/// # Errors
/// The paths cannot be reached, no API server can be found, or it does not answer.
pub(crate) fn once(settings: &SourceSettings) -> Result<(Resources, Vec<Problem>)> {
    match settings {
        SourceSettings::Files(paths) => Ok(FileSource::once(paths.clone())?.load()),
        SourceSettings::Kubernetes(kubernetes) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { once::read(&client::connect(kubernetes).await?).await })
        }
    }
}

/// Either source.
pub(crate) enum Source {
    /// Files and folders.
    Files(Box<FileSource>),
    /// An API server.
    Kubernetes(Box<KubernetesSource>),
}

impl Source {
    /// The source that the settings name.
    ///
    /// # Errors
    /// The paths cannot be reached, or no API server can be found.
    pub(crate) async fn new(settings: &Settings) -> Result<Self> {
        Ok(match &settings.source {
            SourceSettings::Files(paths) => {
                let ordered = settings.state_dir.as_deref().map(FileVault::certificates);
                Self::Files(Box::new(FileSource::new(paths.clone(), ordered)?))
            }
            SourceSettings::Kubernetes(kubernetes) => {
                let client = client::connect(kubernetes).await?;
                Self::Kubernetes(Box::new(KubernetesSource::new(client, assembly::itself(settings))))
            }
        })
    }

    /// Waits until there is something to load. `tell` is called with a sentence about what is waited for.
    pub(crate) async fn synced(&mut self, tell: impl Fn(&str)) {
        match self {
            Self::Files(_) => {}
            Self::Kubernetes(source) => source.synced(tell).await,
        }
    }

    /// What is there now, and what is wrong with it. Last good versions of broken objects are among the resources.
    pub(crate) async fn load(&mut self) -> (Resources, Vec<Problem>) {
        match self {
            Self::Files(source) => source.load(),
            Self::Kubernetes(source) => source.load().await,
        }
    }

    /// Resolves after a burst of changes that may matter. Cancel safe. Needs one [`Source::load`] before.
    pub(crate) async fn changed(&mut self) {
        match self {
            Self::Files(source) => source.changed().await,
            Self::Kubernetes(source) => source.changed().await,
        }
    }
}
