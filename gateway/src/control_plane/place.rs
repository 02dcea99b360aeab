//! Where a control plane is: in a cluster, or with files on one machine.

use std::{
    fs::{File, TryLockError},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use routing::{compile::Proxy, resources::Resources};
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use super::{
    ca::{callers::Judge, keeper::Keeper, keys::KeyFile, material::PLUG_IN, record::SELF_SIGNED, trusted::Trusted},
    handed_out::HandedOut,
    settings::ControlSettings,
    webhooks::DEFAULT,
};
use crate::{
    acme::vault::{FileVault, Vault},
    kubernetes::{
        client::{self, Client},
        leading::{self, Leading},
        roots,
        token_review::TokenReviews,
        trust_bundle,
        vault::SecretVault,
    },
    settings::SourceSettings,
    source::{self, identity::FileWatch},
};

/// How often a process that does not lead tries to.
const AGAIN: Duration = Duration::from_secs(1);
/// What workloads on the same machine trust.
pub(crate) const ROOTS: &str = "root-cert.pem";

/// Either place.
pub(crate) enum Place {
    /// An API server.
    Cluster(Box<Cluster>),
    /// A state folder.
    Machine(Machine),
}

/// See [`Place::Cluster`].
pub(crate) struct Cluster {
    client: Client,
    namespace: String,
    vault: Arc<SecretVault>,
    leading: Leading,
    /// Of the replicas of this revision, where it has a name: each revision has webhooks of its own.
    presenting: Option<Leading>,
}

/// See [`Place::Machine`].
pub(crate) struct Machine {
    folder: PathBuf,
    /// The roots again, where everybody can read them.
    public: Option<PathBuf>,
    vault: FileVault,
    leads: watch::Sender<bool>,
    keys: Option<Arc<KeyFile>>,
}

impl Place {
    /// The one that the settings name.
    ///
    /// # Errors
    /// No API server can be found, or a file cannot be read.
    pub(crate) async fn open(settings: &ControlSettings, revision: &str) -> Result<Self> {
        match (&settings.source, &settings.state_dir) {
            (SourceSettings::Kubernetes(kubernetes), _) => {
                let client = client::connect(kubernetes).await?;
                let vault = Arc::new(SecretVault::of_ca(client.clone(), &settings.namespace));
                let candidate =
                    |name: &str| Leading::new(client.clone(), (&settings.namespace, name), &settings.replica);
                let leading = candidate("control");
                let presenting = (revision != DEFAULT).then(|| candidate(&format!("control-{revision}")));
                let namespace = settings.namespace.clone();
                Ok(Self::Cluster(Box::new(Cluster { client, namespace, vault, leading, presenting })))
            }
            (SourceSettings::Files(_), folder) => {
                let folder = folder.clone().context("a folder for the CA; name one with --state-dir")?;
                let vault = FileVault::of_ca(folder.clone(), settings.namespace.clone());
                vault.create().context("keeping the CA")?;
                let file = settings.token_keys.as_deref();
                let keys = file.map(|file| KeyFile::read(file, settings.audiences.clone()).map_err(anyhow::Error::msg));
                if file.is_none() {
                    warn!("tokens prove nothing, as there are no keys for them: name a file with --token-keys");
                }
                let (public, leads) = (settings.root_file.clone(), watch::Sender::new(false));
                Ok(Self::Machine(Machine { folder, public, vault, leads, keys: keys.transpose()? }))
            }
        }
    }

    /// The trust domain of the mesh: the flag's, the mesh configuration's, or the usual one.
    ///
    /// # Errors
    /// The configuration cannot be read.
    pub(crate) async fn trust_domain(&self, settings: &ControlSettings, revision: &str) -> Result<String> {
        if let Some(domain) = &settings.trust_domain {
            return Ok(domain.clone());
        }
        let resources: Resources = match self {
            Self::Cluster(cluster) => {
                leading::mesh(&cluster.client, &settings.namespace, revision).await.map_err(anyhow::Error::msg)?
            }
            Self::Machine(_) => source::once(&settings.source)?.0,
        };
        let namespace = settings.namespace.clone();
        let labels = [("istio.io/rev".to_owned(), revision.to_owned())].into();
        let itself = Proxy { mesh_namespace: namespace.clone(), namespace, labels, ..Proxy::default() };
        Ok(itself.within(&resources).trust_domain)
    }

    /// The API server, where there is one.
    pub(crate) fn client(&self) -> Option<Client> {
        match self {
            Self::Cluster(cluster) => Some(cluster.client.clone()),
            Self::Machine(_) => None,
        }
    }

    /// Where the roots are that workloads trust.
    pub(crate) fn trusted(&self) -> Trusted {
        match self {
            Self::Cluster(cluster) => {
                Trusted::Cluster { client: cluster.client.clone(), namespace: cluster.namespace.clone() }
            }
            Self::Machine(machine) => Trusted::Machine(machine.folder.join(ROOTS)),
        }
    }

    /// Who knows tokens.
    pub(crate) fn judge(&self, settings: &ControlSettings) -> Judge {
        match self {
            Self::Cluster(cluster) => {
                Judge::Kubernetes(Box::new(TokenReviews::new(cluster.client.clone(), settings.audiences.clone())))
            }
            Self::Machine(machine) => machine.keys.clone().map_or(Judge::Nobody, Judge::Keys),
        }
    }

    /// Where a self-signed CA is kept.
    pub(crate) fn vault(&self) -> Vault {
        match self {
            Self::Cluster(cluster) => Vault::Kubernetes(Arc::clone(&cluster.vault)),
            Self::Machine(machine) => Vault::Files(machine.vault.clone()),
        }
    }

    /// Whether this replica leads.
    pub(crate) fn leads(&self) -> watch::Receiver<bool> {
        match self {
            Self::Cluster(cluster) => cluster.leading.leads(),
            Self::Machine(machine) => machine.leads.subscribe(),
        }
    }

    /// Whether this replica keeps the webhooks' configurations of its revision.
    pub(crate) fn presents(&self) -> watch::Receiver<bool> {
        match self {
            Self::Cluster(cluster) => cluster.presenting.as_ref().unwrap_or(&cluster.leading).leads(),
            Self::Machine(machine) => machine.leads.subscribe(),
        }
    }

    /// Takes part in the election, hands the roots out, and tells the keeper what has changed, until dropped.
    pub(crate) async fn follow(&mut self, settings: &ControlSettings, keeper: &Keeper) {
        let look = || keeper.look.notify_one();
        let folder = async {
            let Some(folder) = &settings.ca_dir else { return };
            let mut watch = FileWatch::new(vec![folder.clone()]);
            loop {
                watch.changed().await;
                look();
            }
        };
        match self {
            Self::Cluster(cluster) => {
                // Pods that mount the ConfigMap are not started before it is there.
                keeper.current.hand_out();
                let leads = cluster.leading.leads();
                let presenting = async {
                    if let Some(presenting) = &mut cluster.presenting {
                        presenting.run().await;
                    }
                };
                tokio::join!(
                    folder,
                    cluster.leading.run(),
                    presenting,
                    cluster.vault.watch(PLUG_IN, look),
                    cluster.vault.watch(SELF_SIGNED, look),
                    distribute(&cluster.client, settings.trust_bundle, leads, keeper),
                );
            }
            Self::Machine(machine) => {
                let keys = async {
                    if let Some(keys) = &machine.keys {
                        keys.follow().await;
                    }
                };
                let files = HandedOut::new(&machine.folder, machine.public.clone());
                tokio::join!(folder, keys, machine.lead(), files.keep(&keeper.current));
            }
        }
    }

    /// Lets another replica lead.
    pub(crate) async fn release(&mut self) {
        if let Self::Cluster(cluster) = self {
            let presenting = async {
                if let Some(presenting) = &mut cluster.presenting {
                    presenting.release().await;
                }
            };
            tokio::join!(cluster.leading.release(), presenting);
        }
    }
}

/// Has the roots in every namespace, whenever this replica leads.
async fn distribute(client: &Client, bundled: bool, mut leads: watch::Receiver<bool>, keeper: &Keeper) {
    let mut in_force = keeper.current.follow();
    while leads.wait_for(|leads| *leads).await.is_ok() {
        let now = keeper.current.get();
        let (text, texts) = watch::channel(now.as_ref().map(|now| now.roots.clone()));
        let (crl, lists) = watch::channel(now.map(|now| now.crl()));
        let changes = async {
            while in_force.changed().await.is_ok() {
                let Some(now) = in_force.borrow_and_update().clone() else { continue };
                text.send_replace(Some(now.roots.clone()));
                crl.send_replace(Some(now.crl()));
            }
        };
        let bundle = async {
            match bundled {
                true => trust_bundle::keep(client, texts.clone()).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            () = roots::distribute(client, roots::ROOTS, texts.clone(), &keeper.metrics) => {}
            () = roots::distribute(client, roots::CRL, lists, &keeper.metrics) => {}
            () = bundle => {}
            () = changes => {}
            _ = leads.wait_for(|leads| !*leads) => {}
        }
    }
}

impl Machine {
    /// Holds the lock of the state folder as soon as nobody else does.
    async fn lead(&self) {
        let mut told = false;
        let _held: File = loop {
            match self.vault.leader_file("control").map(|file| (file.try_lock(), file)) {
                Ok((Ok(()), file)) => break file,
                Ok((Err(TryLockError::WouldBlock), _)) => {}
                Ok((Err(TryLockError::Error(error)), _)) if !told => warn!(%error, "the lock of the state folder"),
                Err(error) if !told => warn!(%error, "the lock of the state folder"),
                Ok(_) | Err(_) => {}
            }
            told = true;
            sleep(AGAIN).await;
        };
        self.leads.send_replace(true);
        info!(folder = %self.folder.display(), "this process keeps the CA");
        std::future::pending::<()>().await;
    }
}
