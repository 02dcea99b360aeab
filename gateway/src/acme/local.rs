//! The gateway that reads files: the process that holds the lock of the state folder orders, others that share the folder
//! answer.

use std::{fs::TryLockError, time::Duration};

use tokio::time::sleep;
use tracing::{info, warn};

use super::{
    Acme,
    replicas::Replicas,
    vault::{FileVault, Vault},
};

/// How often a process that does not lead tries to, and one without a folder to have it.
const AGAIN: Duration = Duration::from_secs(1);

/// Follows and orders until dropped.
pub(crate) async fn run(acme: &Acme, files: FileVault) {
    acme.something_wanted().await;
    let mut told = String::new();
    while let Err(error) = files.create() {
        say_once(&mut told, format!("certificates cannot be ordered: {error}; name another folder with --state-dir"));
        sleep(AGAIN).await;
    }
    info!(folder = %files.root().display(), "certificates and accounts are kept here");
    let vault = Vault::Files(files.clone());
    tokio::join!(acme.follow(&vault), lead(acme, &files, &vault));
}

async fn lead(acme: &Acme, files: &FileVault, vault: &Vault) {
    let mut told = String::new();
    let _held = loop {
        match files.leader_file(&acme.gateway).map(|file| (file.try_lock(), file)) {
            Ok((Ok(()), file)) => break file,
            Ok((Err(TryLockError::WouldBlock), _)) => {
                if told.is_empty() {
                    told = "another process that shares the folder orders certificates".to_owned();
                    info!("{told}");
                }
            }
            Ok((Err(TryLockError::Error(error)), _)) => say_once(&mut told, format!("the leader's lock: {error}")),
            Err(error) => say_once(&mut told, error.to_string()),
        }
        sleep(AGAIN).await;
    };
    info!("this process orders certificates");
    acme.lead(vault, Replicas::sharing_a_folder(acme.answered())).await;
}

fn say_once(told: &mut String, text: String) {
    if *told != text {
        warn!("{text}");
        *told = text;
    }
}
