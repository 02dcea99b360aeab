//! Whether another CA may take the place of the one that signs, and what was refused lately.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tls::authority::signer::{Material, Signer};
use tokio::time::Instant;

use super::in_force::Origin;

/// So long what was refused is not judged again, unless it changes: that a clock was wrong, or what the mesh trusts, is rare.
const REMEMBERED: Duration = Duration::from_secs(30);
/// A plugged-in CA is replaced by people, who need their time.
const BEFORE_LONG: Duration = Duration::from_secs(30 * 86_400);
/// How often it is said that it ends.
const DAILY: Duration = Duration::from_secs(86_400);

/// What becomes of whoever has a certificate, or only the roots of before, when `next` follows `before`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Follows {
    /// Nobody notices.
    Unnoticed,
    /// Who has not heard of its root yet refuses what it signs, until that has come.
    Announce,
    /// Who has a certificate is refused by whoever trusts the new roots alone.
    CutsOff,
}

/// Judges a successor.
pub(crate) fn follows(before: &Signer, next: &Signer, now: SystemTime) -> Follows {
    // With it everything has ended that it has signed.
    let ended = before.ends() <= now;
    if !ended && before.is_trusted(next.roots(), now).is_err() {
        return Follows::CutsOff;
    }
    if next.is_trusted(before.roots(), now).is_err() { Follows::Announce } else { Follows::Unnoticed }
}

/// What of a CA ends first, before long; `None`: nothing does.
pub(crate) fn ending(signer: &Signer, now: SystemTime) -> Option<String> {
    let end = signer.ends();
    if end > now + BEFORE_LONG {
        return None;
    }
    let what = if signer.root_ends() <= signer.chain_ends() {
        format!("the root {} of root-cert.pem", signer.root().serial)
    } else {
        "ca-cert.pem, or one of cert-chain.pem,".to_owned()
    };
    let end = jiff::Timestamp::try_from(end).map(|end| end.to_string()).unwrap_or_default();
    Some(format!("{what} ends at {end}, and with it whatever is issued; plug in one that lasts longer"))
}

/// What a keeper remembers from one look to the next.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    refused: Mutex<Option<Refused>>,
    warned: Mutex<Option<(String, Instant)>>,
}

#[derive(Debug)]
struct Refused {
    origin: Origin,
    material: Material,
    words: String,
    until: Instant,
}

impl Memory {
    /// Why this was refused just now.
    pub(crate) fn refused(&self, origin: &Origin, material: &Material) -> Option<String> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let same = refused.as_ref().filter(|it| it.origin == *origin && it.material == *material);
        same.filter(|it| it.until > Instant::now()).map(|it| it.words.clone())
    }

    /// This is refused.
    pub(crate) fn refuse(&self, origin: &Origin, material: &Material, words: &str) {
        let (origin, material, words) = (origin.clone(), material.clone(), words.to_owned());
        let refused = Refused { origin, material, words, until: Instant::now() + REMEMBERED };
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
    }

    /// What was refused may be right now: somebody looks because of a change.
    pub(crate) fn forget(&self) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether it is time to say this, for the first time or the first of a day.
    pub(crate) fn says(&self, words: &str) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.as_ref().is_some_and(|(before, since)| before == words && since.elapsed() < DAILY) {
            return false;
        }
        *warned = Some((words.to_owned(), Instant::now()));
        true
    }
}

#[cfg(test)]
mod tests {
    use tls::authority::signer::self_signed;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn root(life: Duration, now: SystemTime) -> (String, String) {
        self_signed("td", None, life, now).unwrap()
    }

    fn signer((certificate, key): &(String, String), more: &str, now: SystemTime) -> Signer {
        let roots = format!("{certificate}{more}").into_bytes();
        let (certificate, key) = (certificate.clone().into_bytes(), key.clone().into_bytes());
        Signer::load(&Material { certificate, key, chain: Vec::new(), crl: Vec::new(), roots }, now).unwrap()
    }

    #[test]
    fn a_successor_keeps_the_root_of_before_or_cuts_off() {
        let now = SystemTime::now();
        let (mesh, other) = (root(DAY, now), root(90 * DAY, now));
        let (own, strange) = (signer(&mesh, "", now), signer(&other, "", now));
        assert_eq!(follows(&own, &strange, now), Follows::CutsOff);
        assert_eq!(follows(&own, &signer(&other, &mesh.0, now), now), Follows::Announce);
        assert_eq!(follows(&signer(&mesh, &other.0, now), &signer(&other, &mesh.0, now), now), Follows::Unnoticed);
        // The old root alone may leave at the end.
        assert_eq!(follows(&signer(&other, &mesh.0, now), &strange, now), Follows::Unnoticed);
        assert_eq!(follows(&own, &strange, now + 2 * DAY), Follows::Announce, "nobody has a certificate any more");
    }

    #[test]
    fn what_ends_before_long_is_named() {
        let now = SystemTime::now();
        assert_eq!(ending(&signer(&root(90 * DAY, now), "", now), now), None);
        let soon = signer(&root(DAY, now), "", now);
        assert!(
            ending(&soon, now).unwrap().starts_with(&format!("the root {} of root-cert.pem ends at ", soon.serial()))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_is_judged_again_after_a_while() {
        let (memory, origin) = (Memory::default(), Origin::SelfSigned);
        let material = Material { roots: b"r".to_vec(), ..Material::default() };
        memory.refuse(&origin, &material, "no");
        assert_eq!(memory.refused(&origin, &material).as_deref(), Some("no"));
        assert_eq!(memory.refused(&origin, &Material::default()), None);
        assert_eq!(memory.refused(&Origin::PlugIn("x".to_owned()), &material), None);
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(memory.refused(&origin, &material), None);
        assert!(memory.says("a") && !memory.says("a") && memory.says("b"));
        tokio::time::advance(DAILY).await;
        assert!(memory.says("b"));
    }
}
