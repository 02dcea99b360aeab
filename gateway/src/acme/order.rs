//! One order, from the key of the certificate to its chain. What was reached is written down before the next step, so
//! that whoever goes on later does nothing twice:
//!
//! ```text
//!  key kept -> order made -> challenges kept -> every replica answers -> CA looks -> finalized -> chain
//! ```

use std::{path::Path, time::Duration};

use routing::acme::{Challenge, Issuer, KeyType, Ordered};
use tls::{
    acme::{Account, AuthorizationStatus, ChallengeKind, OrderRequest, OrderStatus},
    request::{KeyKind, generate_key, signing_request},
};
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use super::{
    dns::{self, TxtRecord},
    failure::{Failure, Left},
    record::{LiveChallenge, Order, Record},
    replicas::Replicas,
    schedule::Failed,
    vault::{Vault, Version},
};

/// Waits between looks at an order: the first, and the longest.
const LOOK: Duration = Duration::from_millis(200);
const LOOK_LONGEST: Duration = Duration::from_secs(10);
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
    pub(super) async fn save(&mut self) -> Result<(), Failure> {
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
        order.is_some_and(|order| order.server == self.issuer().server && order.hosts == self.ordered.hosts)
    }

    /// Makes and keeps the key of a certificate to come.
    ///
    /// # Errors
    /// The key cannot be made or kept.
    pub(super) async fn begin(&mut self, now: i64) -> Result<(), Failure> {
        let kind = key_kind(self.issuer().key_type);
        // RSA keys take seconds of computing.
        let made = tokio::task::spawn_blocking(move || generate_key(kind)).await;
        let key = made.map_err(|_| Failure::transient("the key could not be made"))??;
        self.record.order = Some(Order {
            server: self.issuer().server.clone(),
            key,
            hosts: self.ordered.hosts.clone(),
            started: now,
            ..Order::default()
        });
        self.save().await
    }

    /// Brings the order to its end. `replaces` is the PEM of the certificate that is renewed.
    ///
    /// # Errors
    /// The CA refuses or cannot be reached, or somebody else has changed the record.
    pub(super) async fn finish(&mut self, account: &Account, replaces: Option<&[u8]>) -> Result<Issued, Failure> {
        let mut order = match self.order().url.clone() {
            Some(url) => account.resume(&url).await.map_err(gone)?,
            None => {
                let profile = self.issuer().profile.as_deref();
                let request = OrderRequest { hosts: &self.ordered.hosts, profile, replaces };
                let order = account.order(&request).await?;
                self.order().url = Some(order.url().to_owned());
                self.save().await?;
                order
            }
        };
        let end = Instant::now() + PATIENCE;
        let mut pause = LOOK;
        loop {
            match order.status() {
                OrderStatus::Pending => {
                    if !self.told {
                        self.prove(&mut order).await?;
                    }
                    wait(&order, &mut pause, end).await?;
                }
                OrderStatus::Ready => {
                    let hosts = &self.ordered.hosts;
                    let csr = signing_request(&self.order().key, hosts)?;
                    order.finalize(&csr).await?;
                    pause = LOOK;
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
        let dns01 = self.ordered.issuer.dns01.as_ref();
        for (dns01, record) in dns01.into_iter().flat_map(|dns01| records.iter().map(move |record| (dns01, record))) {
            dns::publish(dns01, record, self.tools.hooks).await.map_err(|text| Failure {
                order: Left::Unproven,
                ..Failure::refused(format!("TXT record {} cannot be published: {text}", record.name))
            })?;
        }
        let tokens: Vec<&str> = by_replicas.iter().map(|it| it.live.token.as_str()).collect();
        self.tools.replicas.answer(&tokens).await;
        Ok(())
    }

    /// Ends the order: nothing of it is kept, and its TXT records are withdrawn.
    pub(super) async fn clear(&mut self) {
        let Some(order) = self.record.order.take() else { return };
        let Some(dns01) = &self.ordered.issuer.dns01 else { return };
        for record in &order.dns {
            if let Err(text) = dns::withdraw(dns01, record, self.tools.hooks).await {
                debug!(record = record.name, text, "a TXT record stays");
            }
        }
    }
}

/// Until the next look at an order: as the CA says, else longer each time.
async fn wait(order: &tls::acme::Order, pause: &mut Duration, end: Instant) -> Result<(), Failure> {
    let next = order.retry_after().unwrap_or(*pause).clamp(LOOK, LOOK_LONGEST);
    if Instant::now() + next > end {
        let minutes = PATIENCE.as_secs() / 60;
        return Err(Failure::transient(format!("the CA has not decided about the order for {minutes} minutes")));
    }
    sleep(next).await;
    *pause = pause.mul_f64(1.5).min(LOOK_LONGEST);
    Ok(())
}

/// An order that the CA does not know any more is begun anew, soon.
fn gone(error: tls::acme::Error) -> Failure {
    let failure = Failure::from(error);
    match failure.order {
        Left::Lost => Failure { failed: Failed::Transient, ..failure },
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
