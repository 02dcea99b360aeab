//! Looking after one certificate: is it what is wanted and fresh, and if not, order it and store it.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use jiff::Timestamp;
use routing::acme::{Current, ISSUER, Ordered, Publisher, Rfc2136};
use tls::{acme::Account, facts::Facts};
use tracing::{info, warn};

use super::{
    failure::{Failure, Left},
    leadership::Leadership,
    now,
    order::{Issued, Tools, Work},
    record::{LastError, Record, Renewal},
    schedule::{self, Failed, Held, Need, ORDERS, by_lifetime, by_window},
    vault::TLS,
};
use crate::{
    stored::{Stored, VaultError},
    telemetry::metrics::Order,
};

/// Annotations of a certificate's Secret, beside [`ISSUER`].
pub(super) const SERVER: &str = "acme.sluice.dev/server";
const KEY_TYPE: &str = "acme.sluice.dev/key-type";
const GATEWAY: &str = "acme.sluice.dev/gateway";
/// Keys of its data.
const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";
/// Keys that others put there, which would be served instead or with it.
const STALE: [&str; 3] = ["cert", "key", "tls.ocsp-staple"];

/// Another gateway's certificate is taken over when it is overdue by so much.
const OVERDUE: i64 = 3600;
/// A refused order is gone on with so often; then it is given up, since something in it may be what is refused.
const TENACITY: u32 = 3;
/// A time further ahead than this was written by a wrong clock.
const FARTHEST: i64 = 8 * 24 * 3600;
/// After a conflict: whoever was faster has done something.
const SOON: Duration = Duration::from_secs(1);

/// What came of it.
pub(super) struct Tended {
    /// When to look again.
    pub(super) pause: Duration,
    /// How it failed.
    pub(super) failed: Option<Failed>,
}

impl Tended {
    fn until(at: i64) -> Self {
        let seconds = u64::try_from(at.saturating_sub(now())).unwrap_or(0);
        Self { pause: Duration::from_secs(seconds), failed: None }
    }
}

/// Looks after a certificate once.
pub(super) async fn tend(leadership: &Leadership<'_>, ordered: &Ordered) -> Tended {
    let looked = look(leadership, ordered).await;
    match &looked {
        Err(VaultError::Forbidden(text)) => leadership.acme.progress.forbidden(&ordered.secret, text),
        _ => leadership.acme.progress.permitted(&ordered.secret),
    }
    match looked {
        Ok(tended) => tended,
        // Whoever else writes the record has more recent news.
        Err(VaultError::Conflict(_)) => Tended { pause: SOON, failed: None },
        Err(VaultError::Forbidden(text) | VaultError::Failed(text)) => {
            warn!(secret = ordered.secret, "the certificate cannot be looked after: {text}");
            let pause = schedule::pause(Failed::Transient, 3, None, fastrand::f64());
            Tended { pause, failed: Some(Failed::Transient) }
        }
    }
}

async fn look(leadership: &Leadership<'_>, ordered: &Ordered) -> Result<Tended, VaultError> {
    let kept = leadership.vault.get(&Record::name_for(&ordered.secret)).await?;
    let secret = leadership.vault.get(&ordered.secret).await?;
    let foreign = match (&secret, &ordered.current) {
        (_, Current::Foreign(_)) => true,
        (Some(secret), _) => !secret.annotations.contains_key(ISSUER),
        // It stands among the configuration, where nothing is written; or it was deleted just now.
        (None, current) => *current != Current::Nothing,
    };
    if foreign {
        // Somebody else's: the compiler has told it, and a change of it begins this again.
        return Ok(Tended { pause: Duration::MAX, failed: None });
    }
    let (record, version) = match &kept {
        Some(kept) => (Record::read(kept).ok_or_else(|| unreadable(ordered))?, kept.version.clone()),
        None => (Record::default(), None),
    };
    let now = now();
    if let Some(at) = theirs(leadership, &record, now) {
        return Ok(Tended::until(at));
    }
    let tools =
        Tools { vault: leadership.vault, replicas: &leadership.replicas, hooks: leadership.acme.hooks.as_deref() };
    let mut work = Work { ordered, record, version, tools: &tools, told: false, account: None };
    let held = secret.as_ref().and_then(held);
    describe(leadership, &mut work, now);
    match schedule::need(ordered, held.as_ref(), &work.record, now) {
        Need::Nothing { .. } => watch_over(leadership, &mut work, held.as_ref(), secret.as_ref()).await,
        Need::Order { .. } if work.record.next_attempt > now => Ok(Tended::until(work.record.next_attempt)),
        Need::Order { why } => {
            if let Some(at) = too_often(&work, held.as_ref(), now) {
                let (secret, orders) = (&ordered.secret, ORDERS);
                warn!(secret, orders, because = why, "ordered too often already: the next order waits");
                return Ok(Tended::until(at));
            }
            info!(
                secret = ordered.secret,
                hosts = ordered.hosts.join(","),
                issuer = ordered.issuer.name,
                because = why,
                "a certificate is ordered"
            );
            match obtain(leadership, &mut work, secret.as_ref()).await {
                // No failure of an order: whoever was faster leads by now, or has put a certificate there.
                Err(failure) if failure.conflict => Err(VaultError::Conflict(ordered.secret.clone())),
                obtained => settle(leadership, &mut work, obtained).await,
            }
        }
    }
}

fn unreadable(ordered: &Ordered) -> VaultError {
    let name = Record::name_for(&ordered.secret);
    VaultError::Failed(format!("Secret `{name}` holds no record of an order that this version can read; delete it"))
}

/// Until when no new order may be made, when one would have to be.
fn too_often(work: &Work<'_>, held: Option<&Held>, now: i64) -> Option<i64> {
    let under_way = work.is_for_this() && work.record.order.as_ref().is_some_and(|order| order.url.is_some());
    let lifetime = held.map(|held| held.facts.not_after - held.facts.not_before);
    schedule::too_often(&work.record.begun, lifetime, now).filter(|_| !under_way)
}

/// Until when a record is another gateway's business.
fn theirs(leadership: &Leadership<'_>, record: &Record, now: i64) -> Option<i64> {
    if record.gateway.is_empty() || record.gateway == leadership.acme.gateway {
        return None;
    }
    let due = record.renewal.as_ref().map_or(0, |plan| plan.at).max(record.next_attempt);
    let began = record.order.as_ref().map_or(0, |order| order.started);
    let last = due.max(began) + OVERDUE;
    (last > now).then_some(last)
}

/// Brings what the record says of the certificate up to date.
fn describe(leadership: &Leadership<'_>, work: &mut Work<'_>, now: i64) {
    let tried_with = fingerprint(work.ordered);
    let record = &mut work.record;
    record.secret.clone_from(&work.ordered.secret);
    record.gateway.clone_from(&leadership.acme.gateway);
    record.hosts.clone_from(&work.ordered.hosts);
    record.issuer.clone_from(&work.ordered.issuer.name);
    if record.tried_with != tried_with && !record.rate_limited {
        // What is asked for now has not been refused yet.
        (record.failures, record.refusals, record.next_attempt, record.last_error) = (0, 0, 0, None);
    }
    record.tried_with = tried_with;
    if record.next_attempt > now + FARTHEST {
        record.next_attempt = 0;
    }
}

/// Hash of all that a CA may refuse.
fn fingerprint(ordered: &Ordered) -> u64 {
    let issuer = &ordered.issuer;
    let mut hasher = DefaultHasher::new();
    (&ordered.hosts, &issuer.name, &issuer.server, &issuer.email, &issuer.profile).hash(&mut hasher);
    (&issuer.ca_bundle, issuer.key_type, &issuer.challenges, ordered.reach.http, ordered.reach.tls).hash(&mut hasher);
    issuer.external_account.as_ref().map(|account| (&account.key_id, &account.key)).hash(&mut hasher);
    // Its keys are not in its debug text.
    format!("{:?}", issuer.dns01).hash(&mut hasher);
    if let Some(Publisher::Rfc2136(Rfc2136 { tsig: Some(tsig), .. })) = issuer.dns01.as_ref().map(|it| &it.publisher) {
        tsig.key.hash(&mut hasher);
    }
    hasher.finish()
}

/// A certificate is there and fine: plans its renewal, and asks the CA for its advice when it is time to.
async fn watch_over(
    leadership: &Leadership<'_>,
    work: &mut Work<'_>,
    held: Option<&Held>,
    secret: Option<&Stored>,
) -> Result<Tended, VaultError> {
    let Some((held, secret)) = held.zip(secret) else { return Ok(Tended::until(now())) };
    let before = work.record.clone();
    // An order that was stored but not ended before its leader did, and what went wrong before the need went away.
    let ended = work.record.order.take();
    let record = &mut work.record;
    (record.failures, record.refusals, record.next_attempt) = (0, 0, 0);
    (record.last_error, record.rate_limited) = (None, false);
    let chain = secret.data.get(CHAIN).map(Vec::as_slice).unwrap_or_default();
    plan(leadership, work, held, chain).await;
    if work.record != before {
        work.save().await?;
    }
    work.withdraw(ended).await;
    let until = match schedule::need(work.ordered, Some(held), &work.record, now()) {
        Need::Nothing { until } => until,
        Need::Order { .. } => now(),
    };
    Ok(Tended::until(until))
}

/// Decides when the certificate that is held is renewed.
async fn plan(leadership: &Leadership<'_>, work: &mut Work<'_>, held: &Held, chain: &[u8]) {
    let now = now();
    let planned = work.record.renewal.as_ref().filter(|it| it.serial == held.facts.serial);
    let ask = planned.is_none_or(|plan| plan.ask_again.is_some_and(|at| at <= now));
    let issued = work.record.issued;
    if planned.is_none() {
        work.record.renewal = Some(by_lifetime(&held.facts, issued, fastrand::f64()));
    }
    if !ask {
        return;
    }
    let issuer = &work.ordered.issuer;
    let advice = async { Ok::<_, Failure>(leadership.accounts.of(issuer).await?.renewal(chain).await?) };
    match advice.await {
        Ok(Some(window)) => {
            let before = (work.record.renewal.as_ref(), issued);
            let plan = by_window(&held.facts, &window, before, (now, fastrand::f64()));
            work.record.renewal = Some(plan);
        }
        Ok(None) => {
            if let Some(plan) = &mut work.record.renewal {
                plan.ask_again = None;
            }
        }
        Err(failure) => {
            // The plan that is there stays; the CA is asked again in an hour.
            tracing::debug!(secret = work.ordered.secret, text = failure.text, "the CA gives no advice on renewal");
            if let Some(plan) = &mut work.record.renewal {
                plan.ask_again = Some(now + 3600);
            }
        }
    }
}

/// Orders a certificate and puts it into its Secret.
async fn obtain(leadership: &Leadership<'_>, work: &mut Work<'_>, secret: Option<&Stored>) -> Result<(), Failure> {
    let account = leadership.accounts.of(&work.ordered.issuer).await?;
    work.account = Some(account.url().to_owned());
    if !work.is_for_this() {
        let given_up = work.record.order.take();
        work.begin(now()).await?;
        if given_up.is_some() {
            work.save().await?;
            work.withdraw(given_up).await;
        }
    }
    let replaces = secret.and_then(|it| it.data.get(CHAIN)).map(Vec::as_slice).filter(|_| same_ca(work, secret));
    let issued = work.finish(&account, replaces).await?;
    if work.record.last_error.take().is_some() {
        // Before the certificate is seen: nobody shall read that it could not be had.
        work.save().await?;
    }
    let facts = store(leadership, work, &issued, secret).await?;
    work.record.issued = now();
    work.record.renewal = Some(first_plan(&account, &facts, issued.chain.as_bytes()).await);
    Ok(())
}

/// When a certificate that was just issued is renewed.
async fn first_plan(account: &Account, facts: &Facts, chain: &[u8]) -> Renewal {
    let (now, chance) = (now(), fastrand::f64());
    match account.renewal(chain).await {
        Ok(Some(window)) => by_window(facts, &window, (None, now), (now, chance)),
        _ => by_lifetime(facts, now, chance),
    }
}

/// Only a certificate of the same CA can be replaced (RFC 9773 section 5).
fn same_ca(work: &Work<'_>, secret: Option<&Stored>) -> bool {
    secret.and_then(|it| it.annotations.get(SERVER)) == Some(&work.ordered.issuer.server)
}

/// Puts a certificate into its Secret, when it is what was ordered, and gives what it says of itself.
async fn store(
    leadership: &Leadership<'_>,
    work: &Work<'_>,
    issued: &Issued,
    before: Option<&Stored>,
) -> Result<Facts, Failure> {
    let (chain, key) = (issued.chain.as_bytes(), issued.key.as_bytes());
    tls::facts::fits(chain, key)
        .map_err(|error| Failure::refused(format!("the CA gave a certificate that cannot be used: {error}")))?;
    let facts = tls::facts::facts(chain)?;
    if let Some(host) = work.ordered.hosts.iter().find(|host| !facts.dns_names.contains(host)) {
        return Err(Failure::refused(format!("the CA gave a certificate without {host}")));
    }
    if facts.not_after <= now() {
        return Err(Failure::refused("the CA gave a certificate that has ended already: is the clock here right?"));
    }
    let issuer = &work.ordered.issuer;
    let told = [
        (ISSUER, issuer.name.clone()),
        (SERVER, issuer.server.clone()),
        (KEY_TYPE, issuer.key_type.name().to_owned()),
        (GATEWAY, leadership.acme.gateway.clone()),
    ];
    let mut stored = before.cloned().unwrap_or_default();
    for key in STALE.into_iter().filter(|key| before.is_some_and(|before| before.data.contains_key(*key))) {
        stored.data.insert(key.to_owned(), Vec::new());
    }
    stored.kind = TLS.to_owned();
    stored.annotations.extend(told.map(|(key, value)| (key.to_owned(), value)));
    stored.data.extend(BTreeMap::from([(CHAIN.to_owned(), chain.to_vec()), (KEY.to_owned(), key.to_vec())]));
    leadership.vault.put(&work.ordered.secret, &stored).await?;
    let ends = Timestamp::from_second(facts.not_after).map(|at| at.to_string()).unwrap_or_default();
    info!(secret = work.ordered.secret, serial = facts.serial, ends, "a certificate is stored");
    Ok(facts)
}

/// Writes down how an order ended.
async fn settle(
    leadership: &Leadership<'_>,
    work: &mut Work<'_>,
    obtained: Result<(), Failure>,
) -> Result<Tended, VaultError> {
    let Err(failure) = obtained else {
        leadership.acme.metrics.acme_order(Order::Issued);
        let ended = work.record.order.take();
        let record = &mut work.record;
        (record.failures, record.refusals, record.next_attempt) = (0, 0, 0);
        (record.last_error, record.reissue, record.rate_limited) = (None, None, false);
        work.save().await?;
        work.withdraw(ended).await;
        return Ok(Tended { pause: Duration::ZERO, failed: None });
    };
    leadership.acme.metrics.acme_order(Order::Failed);
    let record = &mut work.record;
    record.failures = record.failures.saturating_add(1);
    record.rate_limited = failure.failed == Failed::RateLimited;
    let stubborn = failure.failed == Failed::Refused && record.failures.is_multiple_of(TENACITY);
    let given_up = if failure.order == Left::Kept && !stubborn { None } else { record.order.take() };
    if failure.order == Left::Unproven {
        record.refusals = record.refusals.saturating_add(1);
    }
    let pause = schedule::pause(failure.failed, record.failures, failure.retry_after, fastrand::f64());
    record.next_attempt = now() + i64::try_from(pause.as_secs()).unwrap_or(i64::MAX);
    record.last_error = Some(LastError::new(now(), &failure.text));
    warn!(
        secret = work.ordered.secret,
        issuer = work.ordered.issuer.name,
        failures = record.failures,
        again_s = pause.as_secs(),
        "no certificate: {}",
        failure.text
    );
    if failure.order == Left::NoAccount
        && let Some(url) = &work.account
        && let Err(failure) = leadership.accounts.forget(&work.ordered.issuer, url).await
    {
        warn!("the account cannot be forgotten: {}", failure.text);
    }
    work.save().await?;
    work.withdraw(given_up).await;
    Ok(Tended { pause, failed: Some(failure.failed) })
}

/// What is in a certificate's Secret; `None` when it is no certificate.
fn held(secret: &Stored) -> Option<Held> {
    let (chain, key) = (secret.data.get(CHAIN)?, secret.data.get(KEY)?);
    let facts = tls::facts::facts(chain).ok()?;
    let text = |name: &str| secret.annotations.get(name).cloned().unwrap_or_default();
    Some(Held { facts, fits: tls::facts::fits(chain, key).is_ok(), server: text(SERVER), key_type: text(KEY_TYPE) })
}
