//! Accounts at CAs: one per issuer, registered when it is first needed, shared through a Secret.
//!
//! The account's key is kept before the CA sees it, so that a crash in between finds the same account again.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use routing::acme::Issuer;
use tls::acme::{Account, AccountKey, Client, Registration};
use tracing::info;

use super::{failure::Failure, vault::Vault};
use crate::stored::{Stored, Version};

/// Keys of the Secret's data.
const KEY: &str = "key.pem";
const CREDENTIALS: &str = "account.json";
const SERVER: &str = "server";
const BUNDLE: &str = "ca.crt";
const EMAIL: &str = "email";
const KEY_ID: &str = "key-id";

/// The Secret of an issuer's account.
pub(crate) fn name_for(issuer: &str) -> String {
    format!("acme-account-{issuer}")
}

/// Accounts in use, so that a CA's directory is not asked for with every order.
pub(crate) struct Accounts {
    vault: Vault,
    known: Mutex<HashMap<String, (Version, Account)>>,
    /// By issuer: certificates that are ordered at the same time register one account.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// How often an account is looked for when somebody else writes its Secret at the same time.
const TRIES: usize = 3;

impl Accounts {
    /// None is known yet.
    pub(crate) fn new(vault: Vault) -> Self {
        Self { vault, known: Mutex::default(), turns: Mutex::default() }
    }

    /// The account for an issuer; registers one when there is none, or when the issuer is at another CA now.
    ///
    /// # Errors
    /// The CA refuses or cannot be reached; the Secret cannot be read or written.
    pub(crate) async fn of(&self, issuer: &Issuer) -> Result<Account, Failure> {
        let turn = Arc::clone(locked(&self.turns).entry(issuer.name.clone()).or_default());
        let _turn = turn.lock().await;
        let mut found = self.find(issuer).await;
        for _ in 1..TRIES {
            match found {
                Err(failure) if failure.conflict => found = self.find(issuer).await,
                other => return other,
            }
        }
        found
    }

    async fn find(&self, issuer: &Issuer) -> Result<Account, Failure> {
        let name = name_for(&issuer.name);
        let stored = self.vault.get(&name).await?;
        if stored.as_ref().is_some_and(|stored| !stored.labels.contains_key(super::record::LABEL)) {
            let text =
                format!("the account cannot be kept: Secret `{name}` is somebody else's; rename the issuer, or it");
            return Err(Failure::refused(text));
        }
        let fitting = stored.as_ref().filter(|stored| fits(stored, issuer));
        if let Some(stored) = fitting
            && let Some(credentials) = stored.text(CREDENTIALS)
        {
            let same_roots = stored.text(BUNDLE).map(str::as_bytes) == issuer.ca_bundle.as_deref();
            let account = match self.known(&name, stored).filter(|_| same_roots) {
                Some(account) => account,
                None => client(issuer)?.account(credentials).await?,
            };
            return self.up_to_date(issuer, &name, stored, account).await;
        }
        let version = stored.as_ref().and_then(|it| it.version.clone());
        let key = match fitting.and_then(|stored| stored.text(KEY)) {
            Some(pem) => AccountKey::from_pem(pem)?,
            None => AccountKey::generate()?,
        };
        let mut fresh = described(issuer, version);
        fresh.data.insert(KEY.to_owned(), key.to_pem().into_bytes());
        fresh.version = Some(self.vault.put(&name, &fresh).await?);
        self.register(issuer, &name, fresh, &key).await
    }

    async fn register(
        &self,
        issuer: &Issuer,
        name: &str,
        mut kept: Stored,
        key: &AccountKey,
    ) -> Result<Account, Failure> {
        let external = issuer.external_account.as_ref().map(|it| (it.key_id.as_str(), &*it.key));
        let registration = Registration { key, email: issuer.email.as_deref(), external };
        let account = client(issuer)?.register(&registration).await?;
        info!(issuer = issuer.name, account = account.url(), "registered at the CA");
        kept.data.insert(CREDENTIALS.to_owned(), account.credentials().into_bytes());
        let version = self.vault.put(name, &kept).await?;
        self.remember(name, version, &account);
        Ok(account)
    }

    /// The CA has to know the e-mail address that the issuer says now, and whoever revokes by hand the CA's bundle.
    async fn up_to_date(
        &self,
        issuer: &Issuer,
        name: &str,
        stored: &Stored,
        account: Account,
    ) -> Result<Account, Failure> {
        let described = described(issuer, stored.version.clone());
        let mut merged = stored.clone();
        merged.data.extend(described.data.into_iter().filter(|(key, _)| [EMAIL, BUNDLE].contains(&key.as_str())));
        if stored.text(EMAIL) != issuer.email.as_deref() {
            account.update_email(issuer.email.as_deref()).await?;
        }
        let version = match merged == *stored {
            true => stored.version.clone(),
            false => Some(self.vault.put(name, &merged).await?),
        };
        if let Some(version) = version {
            self.remember(name, version, &account);
        }
        Ok(account)
    }

    /// The CA says that it does not know this account: the next order registers one with the same key, which finds the
    /// account again where the CA was mistaken. What somebody else has registered meanwhile stays.
    ///
    /// # Errors
    /// The Secret cannot be read or written.
    pub(crate) async fn forget(&self, issuer: &Issuer, url: &str) -> Result<(), Failure> {
        let name = name_for(&issuer.name);
        let turn = Arc::clone(locked(&self.turns).entry(issuer.name.clone()).or_default());
        let _turn = turn.lock().await;
        let known = self.accounts().get(&name).map(|(version, account)| (version.clone(), account.url() == url));
        let stored = self.vault.get(&name).await?;
        if let (Some((version, true)), Some(stored)) = (known, stored)
            && stored.version == Some(version)
        {
            let mut without = stored;
            without.data.insert(CREDENTIALS.to_owned(), Vec::new());
            self.vault.put(&name, &without).await?;
        }
        self.accounts().remove(&name);
        Ok(())
    }

    fn known(&self, name: &str, stored: &Stored) -> Option<Account> {
        let accounts = self.accounts();
        let (version, account) = accounts.get(name)?;
        (stored.version.as_ref() == Some(version)).then(|| account.clone())
    }

    fn remember(&self, name: &str, version: Version, account: &Account) {
        self.accounts().insert(name.to_owned(), (version, account.clone()));
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<String, (Version, Account)>> {
        locked(&self.known)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The account in a Secret, for whoever has no issuer at hand, as `sluice certs`.
///
/// # Errors
/// The Secret holds no account, or the CA refuses or cannot be reached.
pub(crate) async fn of_secret(stored: &Stored) -> Result<Account, Failure> {
    let (Some(server), Some(credentials)) = (stored.text(SERVER), stored.text(CREDENTIALS)) else {
        return Err(Failure::refused("the Secret holds no account that is registered"));
    };
    let client = Client::new(server, stored.text(BUNDLE).map(str::as_bytes))?;
    Ok(client.account(credentials).await?)
}

/// The Secret with the account's present credentials, after its key has changed.
pub(crate) fn with_credentials(stored: &Stored, account: &Account) -> Stored {
    let mut changed = stored.clone();
    changed.data.insert(CREDENTIALS.to_owned(), account.credentials().into_bytes());
    // The key of the registration is not the account's any more.
    changed.data.insert(KEY.to_owned(), Vec::new());
    changed
}

fn client(issuer: &Issuer) -> Result<Client, Failure> {
    Ok(Client::new(&issuer.server, issuer.ca_bundle.as_deref())?)
}

/// Whether the account in a Secret is one at the issuer's CA, for the same external account.
fn fits(stored: &Stored, issuer: &Issuer) -> bool {
    let key_id = issuer.external_account.as_ref().map(|it| it.key_id.as_str());
    stored.text(SERVER) == Some(&issuer.server) && stored.text(KEY_ID) == key_id
}

/// What the Secret says of an issuer, without an account. What there is not is empty, since a key that is left out of a
/// Secret stays in it.
fn described(issuer: &Issuer, version: Option<Version>) -> Stored {
    let key_id = issuer.external_account.as_ref().map(|it| it.key_id.as_bytes());
    let facts = [
        (SERVER, issuer.server.as_bytes()),
        (BUNDLE, issuer.ca_bundle.as_deref().unwrap_or_default()),
        (EMAIL, issuer.email.as_ref().map(String::as_bytes).unwrap_or_default()),
        (KEY_ID, key_id.unwrap_or_default()),
        (CREDENTIALS, &[]),
    ];
    Stored {
        kind: "sluice.dev/acme-account".to_owned(),
        data: facts.into_iter().map(|(key, value)| (key.to_owned(), value.to_vec())).collect(),
        version,
        labels: BTreeMap::from([(super::record::LABEL.to_owned(), "account".to_owned())]),
        ..Stored::default()
    }
}
