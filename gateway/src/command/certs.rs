//! `sluice certs`: every certificate with its source and its end, how orders are doing, and what a person may ask for.

mod act;
mod list;

#[cfg(test)]
mod tests;

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result};

use crate::{
    acme::vault::{FileVault, Vault},
    cli::certs::{Action, CertsCommand, Place},
    kubernetes::{client, vault::SecretVault},
};

/// Looks or acts. Exit code 1 when a certificate could not be ordered or has ended, 2 when nobody could be asked or the
/// CA refused, else 0.
pub(crate) fn run(command: &CertsCommand) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.context("starting the runtime").and_then(|runtime| runtime.block_on(serve(command)));
    done.unwrap_or_else(|error| {
        eprintln!("sluice: {error:#}");
        ExitCode::from(2)
    })
}

async fn serve(command: &CertsCommand) -> Result<ExitCode> {
    let Some(action) = &command.action else {
        let rows = match &command.place {
            Place::Admin(addresses) => list::served(addresses).await?,
            kept => {
                let (vault, namespace) = vault(kept).await?;
                list::kept(&vault, namespace).await?
            }
        };
        return list::print(&rows, command.output);
    };
    let (vault, _) = vault(&command.place).await?;
    match action {
        Action::Renew { secret } => act::renew(&vault, secret).await?,
        Action::Revoke { secret, reason } => act::revoke(&vault, secret, *reason).await?,
        Action::RotateKey { issuer } => act::rotate_key(&vault, issuer).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Where certificates are kept, and the namespace.
async fn vault(place: &Place) -> Result<(Vault, &str)> {
    match place {
        Place::Folder(folder, namespace) => {
            let files = FileVault::new(folder.clone(), namespace.clone());
            Ok((Vault::Files(files), namespace))
        }
        Place::Kubernetes(settings, namespace) => {
            let client = client::connect(settings).await?;
            Ok((Vault::Kubernetes(Arc::new(SecretVault::new(client, namespace))), namespace))
        }
        Place::Admin(_) => anyhow::bail!("say where the certificates are kept: --config, --state-dir or --kubernetes"),
    }
}
