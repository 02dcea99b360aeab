//! `sluice ca`: what signs the certificates of a mesh, where a rotation stands, and the wish for a new root.

use std::{io, path::Path, process::ExitCode, sync::Arc, time::SystemTime};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tls::authority::signer::Signer;

use crate::{
    acme::vault::{FileVault, Vault},
    cli::{
        control::{CaAction, CaCommand, CaPlace},
        output::Output,
    },
    command::document,
    control_plane::{
        ca::{
            in_force::Origin,
            material::{Found, PLUG_IN, find},
            record::{ROTATE, SELF_SIGNED},
            trusted::Trusted,
        },
        place::ROOTS,
        status::described,
    },
    kubernetes::{client, vault::SecretVault},
    stored::VaultError,
};

/// Where nothing is kept.
const NONE: &str = "there is no CA here; `sluice control` makes one when it starts, and of one that is plugged in by a folder --ca-dir tells";
/// What becomes of a mesh whose CA is not taken.
const LAST_GOOD: &str = "replicas that run sign with the last good CA for --propagation since they have seen it last, and then \
    nothing: their /healthz/ready says until when";
/// How often a wish is written that others have come before.
const TRIES: usize = 5;

/// Looks or asks. Exit code 2 when that is not possible.
pub(crate) fn run(command: &CaCommand) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.context("starting the runtime").and_then(|runtime| runtime.block_on(serve(command)));
    done.unwrap_or_else(|error| {
        eprintln!("sluice: {error:#}");
        ExitCode::from(2)
    })
}

async fn serve(command: &CaCommand) -> Result<ExitCode> {
    let mut plugged_in = None;
    // What the mesh trusts; of a folder that is plugged in alone nobody knows where that is.
    let mut trusted = None;
    let vault = match &command.place {
        CaPlace::PlugIn(folder) => {
            plugged_in = Some(folder.as_path());
            Vault::Files(FileVault::of_ca(folder.clone(), command.namespace.clone()))
        }
        CaPlace::Folder(folder) => {
            trusted = Some(Trusted::Machine(folder.join(ROOTS)));
            Vault::Files(FileVault::of_ca(folder.clone(), command.namespace.clone()))
        }
        CaPlace::Kubernetes(settings) => {
            let client = client::connect(settings).await?;
            trusted = Some(Trusted::Cluster { client: client.clone(), namespace: command.namespace.clone() });
            Vault::Kubernetes(Arc::new(SecretVault::of_ca(client, &command.namespace)))
        }
    };
    match command.action {
        CaAction::Status => status(plugged_in, &vault, trusted, command.output).await,
        CaAction::Rotate => rotate(plugged_in, &vault).await.map(|()| ExitCode::SUCCESS),
    }
}

/// What is kept. Exit code 1: replicas do not take it.
async fn status(folder: Option<&Path>, vault: &Vault, trusted: Option<Trusted>, output: Output) -> Result<ExitCode> {
    let (origin, material, record) = match find(folder, vault).await.map_err(anyhow::Error::msg)? {
        Found::PlugIn(origin, material) => (origin, material, None),
        Found::SelfSigned(record, _) => (Origin::SelfSigned, record.material.clone(), Some(record)),
        Found::Nothing => bail!("{NONE}"),
    };
    let signer = match Signer::load(&material, SystemTime::now()) {
        Ok(signer) => signer,
        Err(why) => {
            eprintln!("sluice: {origin}: {why}; {LAST_GOOD}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let shown = match &origin {
        Origin::SelfSigned => "self-signed",
        Origin::PlugIn(whose) => whose,
    };
    let mut told = described(shown, &signer, record.as_deref());
    let mut trouble = None;
    if let Some(trusted) = trusted {
        trouble = trusted.allows(&origin.to_string(), Some(&signer)).await.err();
    }
    told["trouble"] = trouble.as_deref().into();
    match output {
        Output::Text => print!("{}", text(&told)),
        Output::Json => document::json(io::stdout().lock(), &told)?,
        Output::Yaml => document::yaml(io::stdout().lock(), &told)?,
    }
    let Some(why) = trouble else { return Ok(ExitCode::SUCCESS) };
    eprintln!("sluice: {why}; {LAST_GOOD}");
    Ok(ExitCode::FAILURE)
}

fn text(told: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let mut lines = format!(
        "CA        {}\nserial    {}\nends      {}\nits root  {}, ends {}\n",
        word(&told["origin"]),
        word(&told["serial"]),
        word(&told["notAfter"]),
        word(&told["root"]),
        word(&told["rootNotAfter"]),
    );
    for root in told["roots"].as_array().into_iter().flatten() {
        let (serial, end, issuer) = (word(&root["serial"]), word(&root["notAfter"]), word(&root["issuer"]));
        lines += &format!("root      {serial}, ends {end}, {issuer}\n");
    }
    let rotation = &told["rotation"];
    if rotation.is_null() {
        return lines + "rotation  none\n";
    }
    let (phase, since, next) = (word(&rotation["phase"]), word(&rotation["since"]), word(&rotation["next"]));
    lines + &format!("rotation  {phase}\nsince     {since}\ngoes on   {next}\n")
}

async fn rotate(folder: Option<&Path>, vault: &Vault) -> Result<()> {
    for _ in 0..TRIES {
        let (record, mut stored) = match find(folder, vault).await.map_err(anyhow::Error::msg)? {
            Found::SelfSigned(record, stored) => (record, stored),
            Found::PlugIn(..) => bail!(
                "the CA is plugged in, so its keys are made elsewhere; in {} put both roots into root-cert.pem, a day later \
                 replace ca-cert.pem, ca-key.pem and cert-chain.pem, and another day later take the old root out",
                folder.map_or_else(|| format!("Secret {PLUG_IN}"), |folder| folder.display().to_string())
            ),
            Found::Nothing => bail!("{NONE}"),
        };
        if record.rotation.is_some() {
            bail!("a rotation is under way; `sluice ca status` says when it goes on");
        }
        stored.annotations.insert(ROTATE.to_owned(), jiff::Timestamp::now().to_string());
        match vault.put(SELF_SIGNED, &stored).await {
            Ok(_) => {
                println!("a new root is asked for; `sluice ca status` says where the rotation stands");
                return Ok(());
            }
            Err(VaultError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("Secret {SELF_SIGNED} is written by others all the time; try again")
}
