//! What a person may ask for: a new certificate, the end of one, a new key for an account.

use anyhow::{Context as _, Result, anyhow, bail};
use routing::acme::ISSUER;
use tls::acme::RevocationReason;

use crate::{
    acme::{accounts, record::Record, vault::Vault},
    cli::certs::Reason,
    stored::{Stored, VaultError, Version},
};

/// How often a change is tried when others change the same at the same time.
const TRIES: usize = 5;

/// Asks the gateway that leads for a new certificate.
///
/// # Errors
/// There is no such certificate, or it cannot be asked for.
pub(super) async fn renew(vault: &Vault, secret: &str) -> Result<()> {
    ask(vault, secret, "somebody asked for it").await?;
    println!("A new certificate for Secret `{secret}` is ordered as soon as the leading gateway sees it.");
    Ok(())
}

/// Revokes the certificate that is in a Secret, and asks for a new one.
///
/// # Errors
/// There is none, or its CA refuses.
pub(super) async fn revoke(vault: &Vault, secret: &str, reason: Reason) -> Result<()> {
    let stored = vault.get(secret).await?.with_context(|| format!("there is no Secret `{secret}`"))?;
    let Some(issuer) = stored.annotations.get(ISSUER) else {
        bail!("Secret `{secret}` was not made by an issuer, so that its CA has to be asked in another way");
    };
    let chain = stored.data.get("tls.crt").with_context(|| format!("Secret `{secret}` holds no certificate"))?;
    let (_, account) = account(vault, issuer).await?;
    match account.revoke(chain, ca_reason(reason)).await {
        // An earlier call may not have come to ask for a new one.
        Err(error) if error.problem().is_some_and(|problem| problem.kind == "alreadyRevoked") => {}
        revoked => revoked.with_context(|| format!("revoking the certificate of `{secret}`"))?,
    }
    println!("The certificate of Secret `{secret}` is revoked.");
    ask(vault, secret, "the one that is there was revoked").await?;
    println!("A new one is ordered as soon as the leading gateway sees it; until then the revoked one is served.");
    Ok(())
}

/// Gives the account of an issuer a new key.
///
/// # Errors
/// There is no account, or its CA refuses.
pub(super) async fn rotate_key(vault: &Vault, issuer: &str) -> Result<()> {
    let (stored, mut account) = account(vault, issuer).await?;
    account.change_key().await.with_context(|| format!("changing the key of the account of issuer `{issuer}`"))?;
    let changed = accounts::with_credentials(&stored, &account);
    if let Err(error) = keep(vault, issuer, changed).await {
        // Without it the account would be lost.
        eprintln!("The CA has taken this key, but it cannot be kept. Put it into the account's Secret by hand:");
        eprintln!("{}", account.credentials());
        return Err(error);
    }
    println!("The account of issuer `{issuer}` has a new key; the old one is of no use any more.");
    Ok(())
}

/// Whatever others write at the same time, the new key goes in.
async fn keep(vault: &Vault, issuer: &str, mut changed: Stored) -> Result<()> {
    let name = accounts::name_for(issuer);
    for _ in 0..TRIES {
        match vault.put(&name, &changed).await {
            Ok(_) => return Ok(()),
            Err(VaultError::Conflict(_)) => changed.version = version(vault, &name).await?,
            Err(error) => return Err(error.into()),
        }
    }
    bail!("Secret `{name}` is changed by somebody else all the time")
}

async fn version(vault: &Vault, name: &str) -> Result<Option<Version>> {
    Ok(vault.get(name).await?.and_then(|stored| stored.version))
}

async fn account(vault: &Vault, issuer: &str) -> Result<(Stored, tls::acme::Account)> {
    let name = accounts::name_for(issuer);
    let stored = vault.get(&name).await?.with_context(|| format!("there is no account of issuer `{issuer}` here"))?;
    let account = accounts::of_secret(&stored).await.map_err(|failure| anyhow!(failure.text))?;
    Ok((stored, account))
}

/// Writes into the record that a new certificate is asked for.
async fn ask(vault: &Vault, secret: &str, why: &str) -> Result<()> {
    let name = Record::name_for(secret);
    for _ in 0..TRIES {
        let kept = vault.get(&name).await?;
        let record = kept.as_ref().and_then(Record::read);
        let Some((kept, mut record)) = kept.zip(record) else {
            bail!("no gateway orders a certificate for Secret `{secret}` here");
        };
        record.reissue = Some(why.to_owned());
        // What the CA itself has said about when stays, and so does an order that has TXT records to withdraw.
        if !record.rate_limited {
            record.next_attempt = 0;
        }
        record.order = record.order.filter(|order| !order.dns.is_empty());
        match vault.put(&name, &record.write(kept.version)).await {
            Ok(_) => return Ok(()),
            Err(VaultError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("the order of Secret `{secret}` is changed by somebody else all the time; try again")
}

fn ca_reason(reason: Reason) -> RevocationReason {
    match reason {
        Reason::Unspecified => RevocationReason::Unspecified,
        Reason::KeyCompromise => RevocationReason::KeyCompromise,
        Reason::AffiliationChanged => RevocationReason::AffiliationChanged,
        Reason::Superseded => RevocationReason::Superseded,
        Reason::CessationOfOperation => RevocationReason::CessationOfOperation,
    }
}
