//! When to do something about a certificate. Pure: the time and the chance come in as arguments.

use std::time::Duration;

use routing::acme::Ordered;
use tls::facts::Facts;

use super::record::{Record, Renewal};

#[cfg(test)]
mod tests;

/// A certificate is renewed when this part of its lifetime has passed.
const RENEWED_AT: (i64, i64) = (2, 3);
/// Replicas, and certificates of one day, do not renew together: up to this part of the lifetime earlier.
const JITTER: i64 = 30;
/// A CA that asks for renewal at once, over and over, is followed only when the certificate is so old (or a tenth of its
/// lifetime, where that is less).
const YOUNG: i64 = 3600;
/// Orders for one certificate in an hour, or in its lifetime where that is less.
pub(crate) const ORDERS: usize = 8;
const OFTEN: i64 = 3600;
/// Bounds of how often a CA is asked for a better time (RFC 9773 section 4.3.2); the lower one is less for certificates
/// that live for minutes.
const ASK_LEAST: i64 = 60;
const ASK_MOST: i64 = 24 * 3600;

/// What is in a certificate's Secret.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    /// Read from the certificate.
    pub(crate) facts: Facts,
    /// Whether certificate and key belong together.
    pub(crate) fits: bool,
    /// Directory of the CA that it was ordered from.
    pub(crate) server: String,
    /// Kind of its key, as `ECDSA-P256`.
    pub(crate) key_type: String,
}

/// What to do about a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Need {
    /// It is fine until then, seconds since 1970.
    Nothing {
        /// When to look again.
        until: i64,
    },
    /// Order one now.
    Order {
        /// Why, as part of a sentence.
        why: String,
    },
}

/// Whether a certificate has to be ordered now. `renewal` is the plan for the one that is held.
pub(crate) fn need(wanted: &Ordered, held: Option<&Held>, record: &Record, now: i64) -> Need {
    let order = |why: String| Need::Order { why };
    let Some(held) = held else { return order("there is none yet".to_owned()) };
    if let Some(why) = &record.reissue {
        return order(why.clone());
    }
    if !held.fits {
        return order("the key in its Secret does not belong to it".to_owned());
    }
    if let Some(host) = wanted.hosts.iter().find(|host| !held.facts.dns_names.contains(host)) {
        return order(format!("the one that is there lacks {host}"));
    }
    if held.server != wanted.issuer.server {
        return order(format!("the one that is there is from {}", held.server));
    }
    if held.key_type != wanted.issuer.key_type.name() {
        return order(format!("the one that is there has a key of kind {}", held.key_type));
    }
    if held.facts.not_after <= now {
        return order("the one that is there has ended".to_owned());
    }
    match record.renewal.as_ref().filter(|plan| plan.serial == held.facts.serial) {
        Some(plan) if plan.at <= now => order(plan.why.clone()),
        Some(plan) => Need::Nothing { until: plan.ask_again.map_or(plan.at, |ask| plan.at.min(ask.max(now))) },
        None => Need::Nothing { until: now },
    }
}

/// The plan for a certificate without the CA's advice: at two thirds of its lifetime. `chance` is from 0 to 1.
///
/// `issued`: when it was stored. A CA may date it back, by more than a short life, and clocks differ.
pub(crate) fn by_lifetime(facts: &Facts, issued: i64, chance: f64) -> Renewal {
    let begin = facts.not_before.max(issued);
    let lifetime = (facts.not_after - begin).max(0);
    let earlier = part(lifetime / JITTER, chance);
    let at = begin + lifetime * RENEWED_AT.0 / RENEWED_AT.1 - earlier;
    let why = "two thirds of its lifetime have passed".to_owned();
    Renewal { serial: facts.serial.clone(), at, why, ask_again: None, window: None }
}

/// The plan for a certificate that the CA has given a window for (RFC 9773 section 4.2): some time in it. `before` is the
/// plan so far, whose time stays as long as the window does; `issued`: when the certificate was stored.
pub(crate) fn by_window(
    facts: &Facts,
    window: &tls::acme::Renewal,
    (before, issued): (Option<&Renewal>, i64),
    (now, chance): (i64, f64),
) -> Renewal {
    let begin = facts.not_before.max(issued);
    let lifetime = (facts.not_after - begin).max(0);
    let same = before.filter(|it| it.serial == facts.serial && it.window == Some((window.start, window.end)));
    let chosen = same.map_or_else(|| window.start + part((window.end - window.start).max(0), chance), |it| it.at);
    // Advice to renew what was just issued would never end; and none may come after the end.
    let earliest = begin + YOUNG.min(lifetime / 10);
    let latest = facts.not_after - lifetime / 10;
    let mut why = "the CA suggests it".to_owned();
    if let Some(explanation) = &window.explanation {
        why.push_str(&format!(" ({explanation})"));
    }
    let least = ASK_LEAST.min((lifetime / 20).max(1));
    let pause = i64::try_from(window.check_again.as_secs()).unwrap_or(i64::MAX).clamp(least, ASK_MOST);
    Renewal {
        serial: facts.serial.clone(),
        at: chosen.max(earliest).min(latest),
        why,
        ask_again: Some(now + pause),
        window: Some((window.start, window.end)),
    }
}

/// Until when no further order may be made at the CA, however many reasons there are: `begun` tells when the last ones
/// were, `lifetime` is that of the certificate that is held. What a wrong clock, or somebody who deletes what was stored,
/// would make of this otherwise are thousands of certificates a day.
pub(crate) fn too_often(begun: &[i64], lifetime: Option<i64>, now: i64) -> Option<i64> {
    let window = lifetime.unwrap_or(OFTEN).clamp(1, OFTEN);
    let mut recent: Vec<i64> = begun.iter().copied().filter(|at| (now - window..=now).contains(at)).collect();
    recent.sort_unstable();
    let first = recent.len().checked_sub(ORDERS)?;
    Some(recent[first] + window + 1)
}

/// What kind of failure it was, for how long to wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Failed {
    /// The CA or the API server could not be reached: nothing is lost by trying again soon.
    Transient,
    /// The CA refused: each further try counts against its limits.
    Refused,
    /// The CA said that it was asked too often.
    RateLimited,
}

/// How long to wait after the failure number `failures` in a row (from 1). The CA's Retry-After is never undercut.
/// `chance` is from 0 to 1.
pub(crate) fn pause(failed: Failed, failures: u32, retry_after: Option<Duration>, chance: f64) -> Duration {
    let (first, factor, most): (u64, u64, u64) = match failed {
        Failed::Transient => (5, 2, 600),
        // Let's Encrypt allows five failed validations per host and hour.
        Failed::Refused => (30, 4, 6 * 3600),
        Failed::RateLimited => (3600, 2, 24 * 3600),
    };
    let power = factor.saturating_pow(failures.saturating_sub(1).min(16));
    let seconds = first.saturating_mul(power).min(most);
    let pause = match (failed, retry_after) {
        // A CA that says `Retry-After: 0`, or a clock that is wrong, makes no hammer of this.
        (Failed::RateLimited, Some(asked)) => asked.max(pause(Failed::Transient, failures, None, 0.0)),
        (_, Some(asked)) => asked.max(Duration::from_secs(seconds)),
        (_, None) => Duration::from_secs(seconds),
    };
    // Later only: what the CA asked for stays respected.
    pause.mul_f64(1.0 + 0.1 * chance.clamp(0.0, 1.0)).min(LONGEST_PAUSE)
}

/// Whatever a CA says, it is asked again after this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(7 * 24 * 3600);

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "seconds, of which some are as good")]
fn part(span: i64, chance: f64) -> i64 {
    (span as f64 * chance.clamp(0.0, 1.0)) as i64
}
