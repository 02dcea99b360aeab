//! How a self-signed root is renewed and replaced while it serves.
//!
//! With the same key nothing has to be waited for. With a new one every step waits until nobody can be left behind:
//! ```text
//!  announced: both roots are handed out, the old one signs ... until whatever was issued before, with the old root alone,
//!             has ended or was renewed
//!  signing:   the new one signs .............................. until whatever the old one has signed has ended
//! ```
//! What was issued lasts no longer than the record says; and a change reaches everybody within the propagation time.

use std::time::SystemTime;

use anyhow::{Context as _, Result};
use tls::authority::{
    lists::Lists,
    renewal::renewed,
    roots::Roots,
    signer::{Material, Signer, self_signed},
};
use tracing::{info, warn};

use super::record::{Phase, Record};
use crate::control_plane::settings::Lifetimes;

/// What is to be done now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Nothing.
    None,
    /// The root ends before long: it goes on, with the same key.
    Renew,
    /// A root with a new key is to be made and handed out.
    Announce,
    /// The new root is to sign.
    Sign,
    /// The old root is to leave.
    Retire,
}

/// What is to be done about a record whose root has this life.
pub(crate) fn due(record: &Record, (begin, end): (SystemTime, SystemTime), now: SystemTime) -> Step {
    if let Some((phase, _)) = record.rotation {
        return match next(record) {
            Some(time) if time <= now && phase == Phase::Announced => Step::Sign,
            Some(time) if time <= now => Step::Retire,
            _ => Step::None,
        };
    }
    if record.asked {
        return Step::Announce;
    }
    let life = end.duration_since(begin).unwrap_or_default();
    let left = end.duration_since(now).unwrap_or_default();
    if left < life / 5 { Step::Renew } else { Step::None }
}

/// When a rotation goes on; `None`: there is none.
pub(crate) fn next(record: &Record) -> Option<SystemTime> {
    record.rotation?.1.checked_add(record.propagation)?.checked_add(record.longest)
}

/// The record after a step. Takes up to some seconds of computing.
///
/// # Errors
/// The root cannot be made, or what is kept cannot be read.
pub(crate) fn after(
    record: &Record,
    step: Step,
    organisation: &str,
    lifetimes: Lifetimes,
    now: SystemTime,
) -> Result<Record> {
    let mut record = record.clone();
    match step {
        Step::None => {}
        Step::Renew => {
            record.material = match longer(&record.material, lifetimes, now) {
                Ok(material) => material,
                Err(why) => {
                    warn!(
                        "the root ends before long and cannot be renewed with its key: {why}; one with a new key follows it"
                    );
                    return after(&record, Step::Announce, organisation, lifetimes, now);
                }
            };
            info!("the root ends before long and was renewed with its key");
        }
        Step::Announce => {
            let (certificate, key) = self_signed(organisation, None, lifetimes.root, now)?;
            let roots = Roots::read(&record.material.roots)?.and(&Roots::read(certificate.as_bytes())?);
            record.material.roots = roots.pem().into();
            record.next = Some((certificate.into(), key.into()));
            (record.rotation, record.asked) = (Some((Phase::Announced, now)), false);
            info!("a new root is handed out beside the old one, which signs until everybody knows both");
        }
        Step::Sign => {
            let (certificate, key) = record.next.take().context("the new root is not in the Secret any more")?;
            let roots = Roots::read(&certificate)?.and(&Roots::read(&record.material.roots)?);
            record.material =
                Material { certificate, key, chain: Vec::new(), crl: Vec::new(), roots: roots.pem().into() };
            record.rotation = Some((Phase::Signing, now));
            info!("the new root signs; the old one is trusted until what it has signed has ended");
        }
        Step::Retire => {
            record.material.roots.clone_from(&record.material.certificate);
            // The new root has issued certificates of this lifetime as well: the next rotation waits for them.
            record.rotation = None;
            info!("the old root has left");
        }
    }
    Ok(record)
}

/// The same CA for longer. The old certificate stays among the roots until it has ended: what has a copy of it loses nothing.
fn longer(old: &Material, lifetimes: Lifetimes, now: SystemTime) -> Result<Material, String> {
    let certificate = renewed(&old.certificate, &old.key, lifetimes.root, now)?.into_bytes();
    let read = |text: &[u8]| Roots::read(text).map_err(|error| error.to_string());
    let before = read(&old.roots)?;
    let roots = read(&certificate)?.and(&before.lasting(now)).pem().into();
    let material = Material { certificate, key: old.key.clone(), chain: Vec::new(), crl: Vec::new(), roots };
    let new = Signer::load(&material, now)?;
    let trusted =
        |of: &Signer, roots: &Roots| of.is_trusted(roots, &Lists::default(), now).map_err(|why| why.to_string());
    trusted(&new, &before)?;
    // One that has ended signs nothing to try.
    if let Ok(old) = Signer::load(old, now) {
        trusted(&old, &read(&material.certificate)?)?;
    }
    Ok(material)
}

/// The record without roots that have ended; `None`: there are none, or a rotation takes care of them.
pub(crate) fn tidied(record: &Record, now: SystemTime) -> Option<Record> {
    if record.rotation.is_some() {
        return None;
    }
    let before = Roots::read(&record.material.roots).ok()?;
    let roots = Roots::read(&record.material.certificate).ok()?.and(&before.lasting(now));
    (!roots.hold(&before)).then(|| {
        let material = Material { roots: roots.pem().into(), ..record.material.clone() };
        Record { material, ..record.clone() }
    })
}

/// A record of a root that nobody had before. Takes up to some seconds of computing.
///
/// # Errors
/// The root cannot be made.
pub(crate) fn fresh(organisation: &str, lifetimes: Lifetimes, now: SystemTime) -> Result<Record> {
    let (certificate, key) = self_signed(organisation, None, lifetimes.root, now).context("making a root")?;
    let (certificate, key) = (certificate.into_bytes(), key.into_bytes());
    Ok(Record {
        material: Material { roots: certificate.clone(), certificate, key, chain: Vec::new(), crl: Vec::new() },
        next: None,
        rotation: None,
        longest: lifetimes.usual,
        propagation: lifetimes.propagation,
        asked: false,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tls::authority::signer::Signer;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const LIFETIMES: Lifetimes = Lifetimes {
        usual: HOUR.saturating_mul(24),
        longest: HOUR.saturating_mul(2160),
        root: HOUR.saturating_mul(87_600),
        propagation: HOUR,
    };

    fn life(signer: &Signer) -> (SystemTime, SystemTime) {
        (signer.ends() - LIFETIMES.root, signer.ends())
    }

    fn step(record: &Record, now: SystemTime) -> (Step, Record) {
        let signer = Signer::load(&record.material, now).unwrap();
        let step = due(record, life(&signer), now);
        (step, after(record, step, "td", LIFETIMES, now).unwrap())
    }

    #[test]
    fn a_root_under_a_fifth_of_its_life_goes_on_with_its_key() {
        let now = SystemTime::now();
        let record = fresh("td", LIFETIMES, now).unwrap();
        assert_eq!(step(&record, now + 79 * LIFETIMES.root / 100).0, Step::None);
        let later = now + 81 * LIFETIMES.root / 100;
        let (due, renewed) = step(&record, later);
        assert_eq!((due, &renewed.material.key), (Step::Renew, &record.material.key));
        let (old, new) =
            (Signer::load(&record.material, later).unwrap(), Signer::load(&renewed.material, later).unwrap());
        assert!(new.ends() > old.ends());
        assert!(
            old.is_trusted(new.roots(), &Lists::default(), later).is_ok()
                && new.is_trusted(old.roots(), &Lists::default(), later).is_ok()
        );
        assert_eq!(step(&renewed, later).0, Step::None);
        // Who has a copy of the old one finds it among the roots until it has ended.
        assert!(new.roots().hold(old.roots()));
        assert_eq!(tidied(&renewed, later), None);
        let after = tidied(&renewed, old.ends()).unwrap();
        assert_eq!(after.material.roots, renewed.material.certificate);
        assert_eq!(tidied(&after, old.ends()), None);
    }

    #[test]
    fn what_a_new_root_has_issued_is_waited_for_when_it_goes_in_turn() {
        let now = SystemTime::now();
        let mut record = fresh("td", LIFETIMES, now).unwrap();
        record.rotation = Some((Phase::Signing, now));
        // Somebody was granted it while the new root signed.
        record.longest = LIFETIMES.longest;
        let end = next(&record).unwrap();
        let mut retired = after(&record, Step::Retire, "td", LIFETIMES, end).unwrap();
        retired.rotation = Some((Phase::Announced, end));
        assert!(next(&retired).unwrap() > end + LIFETIMES.longest);
    }

    #[test]
    fn a_root_that_cannot_go_on_is_followed_by_another() {
        let now = SystemTime::now();
        let mut record = fresh("td", LIFETIMES, now).unwrap();
        // Not the key of this root: what it signs would be refused.
        record.material.key = self_signed("td", None, LIFETIMES.root, now).unwrap().1.into();
        let later = after(&record, Step::Renew, "td", LIFETIMES, now).unwrap();
        assert!(later.next.is_some() && later.rotation == Some((Phase::Announced, now)), "{:?}", later.rotation);
        assert_eq!(later.material.certificate, record.material.certificate);
    }

    #[test]
    fn of_two_roots_each_is_trusted_as_long_as_somebody_needs_it() {
        let now = SystemTime::now();
        let mut record = fresh("td", LIFETIMES, now).unwrap();
        record.longest = 48 * HOUR;
        let old = Signer::load(&record.material, now).unwrap();
        record.asked = true;

        let (first, announced) = step(&record, now);
        assert_eq!((first, announced.asked), (Step::Announce, false));
        let both = Signer::load(&announced.material, now).unwrap();
        assert_eq!((both.serial(), both.roots().facts().len()), (old.serial(), 2));
        assert_eq!(step(&announced, now + 48 * HOUR).0, Step::None, "what was issued before may still be in use");

        let then = now + 49 * HOUR + Duration::from_secs(1);
        let (second, signing) = step(&announced, then);
        assert_eq!((second, &signing.next), (Step::Sign, &None));
        let new = Signer::load(&signing.material, then).unwrap();
        assert_ne!(new.serial(), old.serial());
        assert!(
            new.is_trusted(both.roots(), &Lists::default(), then).is_ok()
                && old.is_trusted(new.roots(), &Lists::default(), then).is_ok()
        );
        assert_eq!(step(&signing, then + 48 * HOUR).0, Step::None);

        let last = then + 49 * HOUR + Duration::from_secs(1);
        let (third, retired) = step(&signing, last);
        assert_eq!((third, retired.rotation, retired.longest), (Step::Retire, None, 48 * HOUR));
        let alone = Signer::load(&retired.material, last).unwrap();
        assert_eq!((alone.serial(), alone.roots().facts().len()), (new.serial(), 1));
        assert!(old.is_trusted(alone.roots(), &Lists::default(), last).is_err());
    }
}
