//! One order, from the key of the certificate to its chain. What was reached is written down before the next step, so
//! that whoever goes on later does nothing twice:
//!
//! ```text
//!  key kept -> order made -> challenges kept -> every replica answers -> CA looks -> finalized -> chain
//! ```

use std::{path::Path, time::Duration};

use futures::{StreamExt as _, stream};
use routing::acme::{Challenge, Issuer, KeyType, Ordered};
use tls::{
    acme::{Account, AuthorizationStatus, ChallengeKind, OrderRequest, OrderStatus},
    request::{KeyKind, generate_key, signing_request},
};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::{
    dns::{self, TxtRecord},
    failure::{Failure, Left},
    now,
    record::{LiveChallenge, Order, Record},
    replicas::Replicas,
    schedule::{Failed, ORDERS},
    vault::Vault,
};
use crate::stored::{VaultError, Version};

/// Waits between looks at an order: the first, and the longest.
const LOOK: Duration = Duration::from_millis(200);
const LOOK_LONGEST: Duration = Duration::from_secs(10);
/// TXT records published at the same time.
const AT_ONCE: usize = 16;
/// An order that the CA has not decided about for so long is left, and gone on with later.
const PATIENCE: Duration = Duration::from_secs(300);

/// What orders need besides the record.
pub(super) struct Tools<'a> {
    /// Where records are kept.
    pub(super) vault: &'a Vault,
    /// Whoever answers the CA's checks.
    pub(super) replicas: &'a Replicas,
    /// Folder of DNS hooks.
    pub(super) hooks: Option<&'a Path>,
}

/// A record under way.
pub(super) struct Work<'a> {
    /// What is wanted.
    pub(super) ordered: &'a Ordered,
    /// As it is kept, or as it will be next.
    pub(super) record: Record,
    /// Of the record as it is kept.
    pub(super) version: Option<Version>,
    /// See there.
    pub(super) tools: &'a Tools<'a>,
    /// The CA was told to look, by this process.
    pub(super) told: bool,
    /// URL of the account that is used.
    pub(super) account: Option<String>,
}

/// How one host is checked.
struct Chosen {
    live: LiveChallenge,
    /// Value of the TXT record.
    txt: String,
    wildcard: bool,
}

/// A certificate with its key.
pub(super) struct Issued {
    /// PEM.
    pub(super) chain: String,
    /// PEM.
    pub(super) key: String,
}

impl Work<'_> {
    /// Keeps the record.
    ///
    /// # Errors
    /// Somebody else has changed it, or it cannot be written.
    pub(super) async fn save(&mut self) -> Result<(), VaultError> {
        let name = Record::name_for(&self.ordered.secret);
        let stored = self.record.write(self.version.clone());
        self.version = Some(self.tools.vault.put(&name, &stored).await?);
        Ok(())
    }

    fn issuer(&self) -> &Issuer {
        &self.ordered.issuer
    }

    fn order(&mut self) -> &mut Order {
        self.record.order.get_or_insert_default()
    }

    /// Whether the order under way is for what is wanted now.
    pub(super) fn is_for_this(&self) -> bool {
        let order = self.record.order.as_ref();
        let issuer = self.issuer();
        order.is_some_and(|order| {
            order.server == issuer.server
                && order.hosts == self.ordered.hosts
                && order.key_type == issuer.key_type.name()
                && order.profile == issuer.profile
        })
    }

    /// Makes the key of a certificate to come. It is kept before the CA hears of the order.
    ///
    /// # Errors
    /// The key cannot be made.
    pub(super) async fn begin(&mut self, now: i64) -> Result<(), Failure> {
        let kind = key_kind(self.issuer().key_type);
        // RSA keys take seconds of computing.
        let made = tokio::task::spawn_blocking(move || generate_key(kind)).await;
        let key = made.map_err(|_| Failure::transient("the key could not be made"))??;
        self.record.order = Some(Order {
            server: self.issuer().server.clone(),
            key,
            key_type: self.issuer().key_type.name().to_owned(),
            profile: self.issuer().profile.clone(),
            hosts: self.ordered.hosts.clone(),
            started: now,
            ..Order::default()
        });
        Ok(())
    }

    /// Makes the order at the CA. That it is about to be made is kept first: an answer may be lost, and so may we.
    async fn make(&mut self, account: &Account, replaces: Option<&[u8]>) -> Result<tls::acme::Order, Failure> {
        let begun = &mut self.record.begun;
        begun.push(now());
        begun.drain(..begun.len().saturating_sub(ORDERS));
        self.save().await?;
        let profile = self.issuer().profile.as_deref();
        let request = OrderRequest { hosts: &self.ordered.hosts, profile, replaces };
        let order = account.order(&request).await?;
        self.order().url = Some(order.url().to_owned());
        self.save().await?;
        Ok(order)
    }

    /// Brings the order to its end. `replaces` is the PEM of the certificate that is renewed.
    ///
    /// # Errors
    /// The CA refuses or cannot be reached, or somebody else has changed the record.
    pub(super) async fn finish(&mut self, account: &Account, replaces: Option<&[u8]>) -> Result<Issued, Failure> {
        let mut order = match self.order().url.clone() {
            Some(url) => account.resume(&url).await.map_err(gone)?,
            None => self.make(account, replaces).await?,
        };
        let end = Instant::now() + PATIENCE;
        let (mut pause, mut finalized) = (LOOK, false);
        loop {
            match order.status() {
                OrderStatus::Pending => {
                    if !self.told {
                        self.prove(&mut order).await?;
                    }
                    wait(&order, &mut pause, end).await?;
                }
                // The CA has not noticed yet.
                OrderStatus::Ready if finalized => wait(&order, &mut pause, end).await?,
                OrderStatus::Ready => {
                    let hosts = &self.ordered.hosts;
                    let csr = signing_request(&self.order().key, hosts)?;
                    order.finalize(&csr).await?;
                    (pause, finalized) = (LOOK, true);
                    continue;
                }
                OrderStatus::Processing => wait(&order, &mut pause, end).await?,
                OrderStatus::Valid => {
                    let chain = order.certificate().await?;
                    return Ok(Issued { chain, key: self.order().key.clone() });
                }
                OrderStatus::Invalid => return Err(why_invalid(&mut order).await),
            }
            order.refresh().await?;
        }
    }

    /// Gets every host of the order checked that is not yet: publishes the answers, then tells the CA to look.
    async fn prove(&mut self, order: &mut tls::acme::Order) -> Result<(), Failure> {
        let authorizations = order.authorizations().await?;
        let mut challenges = Vec::new();
        for authorization in authorizations.iter().filter(|it| it.status == AuthorizationStatus::Pending) {
            challenges.push(self.choose(authorization)?);
        }
        self.publish(&challenges).await?;
        for it in &challenges {
            let begun = order.begin(&it.live.host, it.wildcard, challenge_kind(it.live.kind)).await;
            // One that was told before somebody else led: the order says what came of it.
            if let Err(error) = begun
                && error.problem().is_none_or(|problem| problem.kind != "malformed")
            {
                return Err(error.into());
            }
        }
        self.told = true;
        Ok(())
    }

    /// What to answer for one host, with the value of its TXT record.
    fn choose(&self, authorization: &tls::acme::Authorization) -> Result<Chosen, Failure> {
        let host = match authorization.wildcard {
            true => format!("*.{}", authorization.host),
            false => authorization.host.clone(),
        };
        if !self.ordered.hosts.iter().any(|own| own.eq_ignore_ascii_case(&host)) {
            return Err(Failure::refused("the CA asks to prove a host that was not ordered"));
        }
        let ways = self.ordered.ways(&host);
        let offered = |kind| authorization.offers.iter().find(|it| it.kind == challenge_kind(kind));
        let mut possible: Vec<_> = ways.iter().filter_map(|way| Some((way, offered(way.challenge)?))).collect();
        if possible.is_empty() {
            let own: Vec<&str> = ways.iter().map(|way| way.challenge.name()).collect();
            let own = if own.is_empty() { "none".to_owned() } else { own.join(", ") };
            return Err(Failure::refused(format!(
                "the CA offers no challenge for {host} that can work here (possible here: {own})"
            )));
        }
        // RFC 8555 section 8.1: base64url. It becomes part of a path, and an answer.
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if possible.iter().any(|(_, offer)| offer.token.is_empty() || !offer.token.bytes().all(is_token)) {
            return Err(Failure::refused("the CA gave a token that is none"));
        }
        let (way, offer) = possible.remove(self.record.refusals as usize % possible.len());
        info!(
            secret = self.ordered.secret,
            host,
            challenge = way.challenge.name(),
            because = way.reason,
            "challenge chosen"
        );
        let live = LiveChallenge {
            kind: way.challenge,
            host: authorization.host.clone(),
            token: offer.token.clone(),
            key_authorization: offer.key_authorization.clone(),
        };
        Ok(Chosen { live, txt: offer.dns_value.clone(), wildcard: authorization.wildcard })
    }

    /// Keeps the challenges, so that every replica answers them, and waits until all do.
    async fn publish(&mut self, challenges: &[Chosen]) -> Result<(), Failure> {
        let (by_dns, by_replicas): (Vec<_>, Vec<_>) =
            challenges.iter().partition(|it| it.live.kind == Challenge::Dns01);
        let records: Vec<TxtRecord> = by_dns
            .iter()
            .map(|it| TxtRecord { name: format!("_acme-challenge.{}", it.live.host), value: it.txt.clone() })
            .collect();
        let order = self.order();
        order.challenges = by_replicas.iter().map(|it| it.live.clone()).collect();
        // Kept before they are published, so that they are withdrawn whatever happens in between.
        let fresh: Vec<TxtRecord> = records.iter().filter(|it| !order.dns.contains(it)).cloned().collect();
        order.dns.extend(fresh);
        self.save().await?;
        if let Some(dns01) = &self.ordered.issuer.dns01 {
            let hooks = self.tools.hooks;
            // Side by side, since each takes the time that it needs to be seen everywhere.
            let mut published =
                stream::iter(&records).map(|record| dns::publish(dns01, record, hooks)).buffer_unordered(AT_ONCE);
            while let Some(result) = published.next().await {
                result.map_err(|text| Failure { order: Left::Unproven, ..Failure::refused(text) })?;
            }
        }
        let tokens: Vec<&str> = by_replicas.iter().map(|it| it.live.token.as_str()).collect();
        self.tools.replicas.answer(&tokens).await;
        Ok(())
    }

    /// Withdraws the TXT records of an order that has ended. Only once that is kept: whoever leads by now may have published
    /// the same.
    pub(super) async fn withdraw(&self, order: Option<Order>) {
        let (Some(order), Some(dns01)) = (order, &self.ordered.issuer.dns01) else { return };
        let hooks = self.tools.hooks;
        let withdrawn = stream::iter(order.dns).for_each_concurrent(AT_ONCE, |record| async move {
            if let Err(text) = dns::withdraw(dns01, &record, hooks).await {
                warn!(record = record.name, text, "a TXT record of an order that has ended stays");
            }
        });
        withdrawn.await;
    }
}

/// Until the next look at an order: as the CA says, else longer each time.
async fn wait(order: &tls::acme::Order, pause: &mut Duration, end: Instant) -> Result<(), Failure> {
    let asked = order.retry_after();
    let next = asked.unwrap_or(*pause).max(LOOK);
    if Instant::now() + next > end {
        let minutes = PATIENCE.as_secs() / 60;
        let text = format!("the CA has not decided about the order for {minutes} minutes, or wants more time");
        return Err(Failure { retry_after: asked, ..Failure::transient(text) });
    }
    sleep(next).await;
    *pause = pause.mul_f64(1.5).min(LOOK_LONGEST);
    Ok(())
}

/// An order that the CA does not know any more, as its own words say, is begun anew, soon.
fn gone(error: tls::acme::Error) -> Failure {
    let told = error.problem().is_some_and(|problem| !problem.kind.is_empty());
    let failure = Failure::from(error);
    match (failure.failed, failure.order) {
        (Failed::Refused, Left::Kept) if told => Failure { failed: Failed::Transient, order: Left::Lost, ..failure },
        _ => failure,
    }
}

/// Why the CA gave up on an order: what it found at each host.
async fn why_invalid(order: &mut tls::acme::Order) -> Failure {
    let mut reasons = Vec::new();
    if let Ok(authorizations) = order.authorizations().await {
        for it in authorizations.iter().filter(|it| it.status == AuthorizationStatus::Invalid) {
            let found = it.error.as_ref().map_or("no reason given".to_owned(), ToString::to_string);
            reasons.push(format!("{}: {found}", it.host));
        }
    }
    let unproven = !reasons.is_empty();
    // Some CAs repeat there what they found at a host.
    reasons.extend(order.error().filter(|error| !reasons.iter().any(|reason| reason.contains(error))));
    let text = match reasons.is_empty() {
        true => "the CA gave the order up without a reason".to_owned(),
        false => format!("the CA refused the order: {}", reasons.join("; ")),
    };
    let left = if unproven { Left::Unproven } else { Left::Lost };
    Failure { order: left, ..Failure::refused(text) }
}

fn challenge_kind(challenge: Challenge) -> ChallengeKind {
    match challenge {
        Challenge::Http01 => ChallengeKind::Http01,
        Challenge::TlsAlpn01 => ChallengeKind::TlsAlpn01,
        Challenge::Dns01 => ChallengeKind::Dns01,
    }
}

fn key_kind(kind: KeyType) -> KeyKind {
    match kind {
        KeyType::EcdsaP256 => KeyKind::EcdsaP256,
        KeyType::EcdsaP384 => KeyKind::EcdsaP384,
        KeyType::Rsa2048 => KeyKind::Rsa2048,
        KeyType::Rsa3072 => KeyKind::Rsa3072,
        KeyType::Rsa4096 => KeyKind::Rsa4096,
    }
}
