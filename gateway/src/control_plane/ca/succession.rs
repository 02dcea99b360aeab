//! Whether another CA may take the place of the one that signs, and what was refused lately.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tls::authority::{
    lists::{Lists, Untrusted},
    signer::{Material, Signer},
};
use tokio::time::Instant;

use super::in_force::Origin;

/// So long what was refused is not judged again, unless it changes: that a clock was wrong, or what the mesh trusts, is rare.
const REMEMBERED: Duration = Duration::from_secs(30);
/// A plugged-in CA is replaced by people, who need their time.
const BEFORE_LONG: Duration = Duration::from_secs(30 * 86_400);
/// How often it is said that it ends.
const DAILY: Duration = Duration::from_secs(86_400);

/// What becomes of whoever has a certificate, or only the roots and lists of before, when `next` follows `before`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Follows {
    /// Nobody notices.
    Unnoticed,
    /// Who has not heard of its root yet refuses what it signs, until that has come.
    Announce,
    /// Who has a certificate of the one of before is refused, as its own lists want it.
    Revokes,
    /// Who has a certificate is refused by whoever trusts the new roots alone.
    CutsOff,
    /// The lists that are handed out revoke it.
    Revoked,
    /// The lists that are handed out have none of it: whoever looks at them refuses what it signs.
    Unlisted,
    /// Its own lists have none of the one of before: who has a certificate is refused by whoever looks at them.
    Forgets,
}

/// Judges a successor, for a mesh that looks at these lists.
pub(crate) fn follows(before: &Signer, next: &Signer, handed_out: &Lists, now: SystemTime) -> Follows {
    // By its own roots: whether everybody has them already is another question.
    match next.is_trusted(next.roots(), handed_out, now) {
        Err(Untrusted::Revoked) => return Follows::Revoked,
        // Lists that nobody can live by cut nobody off that is not.
        Err(Untrusted::Unlisted) if before.is_trusted(before.roots(), handed_out, now).is_ok() => {
            return Follows::Unlisted;
        }
        _ => {}
    }
    // With it everything has ended that it has signed.
    let ended = before.ends() <= now;
    match before.is_trusted(next.roots(), next.lists(), now) {
        _ if ended => {}
        Ok(()) => {}
        Err(Untrusted::Revoked) => return Follows::Revokes,
        Err(Untrusted::Unlisted) => return Follows::Forgets,
        Err(Untrusted::Otherwise(_)) => return Follows::CutsOff,
    }
    let heard = next.is_trusted(before.roots(), &Lists::default(), now).is_ok();
    if heard { Follows::Unnoticed } else { Follows::Announce }
}

/// Why a CA is not taken that does not keep the root of before, which stands at this place.
pub(crate) fn cuts_off(place: &str) -> String {
    format!(
        "the change is not taken, as whoever has a certificate would be refused by whoever trusts the new root-cert.pem; put the \
         root of now into it too, and take it out when what was issued has ended (or stop every replica, delete {place} and \
         start them, which cuts them off)"
    )
}

/// Why a CA is not taken whom the lists at this place revoke.
pub(crate) fn revoked(place: &str) -> String {
    format!(
        "the change is not taken, as the revocation lists of {place} revoke ca-cert.pem or a CA above it, and whoever looks at \
         them would refuse what it signs; plug in one that is not revoked"
    )
}

/// Why a CA is not taken that the lists at this place do not know.
pub(crate) fn unlisted(place: &str, serial: &str) -> String {
    format!(
        "the change is not taken, as the revocation lists of {place} have none of the CA {serial} of ca-cert.pem, or of one above \
         it, and whoever looks at them would refuse what it signs; put back the CA of before, with that list (`openssl ca \
         -gencrl`) beside its own in ca-crl.pem, and change the CA when {place} has it (or stop every replica, delete {place} \
         and start them)"
    )
}

/// Why a CA is not taken whose lists do not know the one of before.
pub(crate) fn forgets(serial: &str) -> String {
    format!(
        "the change is not taken, as ca-crl.pem has no list of the CA {serial} that signs now, or of one above it, and whoever \
         has a certificate would be refused by whoever looks at it; leave the lists of now in it until what was issued has \
         ended"
    )
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
    use tls::authority::{Authority, signer::self_signed};

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
        let follows = |before: &Signer, next: &Signer, now| follows(before, next, &Lists::default(), now);
        assert_eq!(follows(&own, &strange, now), Follows::CutsOff);
        assert_eq!(follows(&own, &signer(&other, &mesh.0, now), now), Follows::Announce);
        assert_eq!(follows(&signer(&mesh, &other.0, now), &signer(&other, &mesh.0, now), now), Follows::Unnoticed);
        // The old root alone may leave at the end.
        assert_eq!(follows(&signer(&other, &mesh.0, now), &strange, now), Follows::Unnoticed);
        assert_eq!(follows(&own, &strange, now + 2 * DAY), Follows::Announce, "nobody has a certificate any more");
    }

    /// A CA below a root, and what its folder says of revocation.
    fn below(root: &Authority, own: &Authority, lists: &[&String], now: SystemTime) -> Signer {
        let material = Material {
            certificate: own.root_pem().into(),
            key: own.key_pem().into(),
            chain: own.root_pem().into(),
            roots: root.root_pem().into(),
            crl: lists.iter().map(|list| list.as_bytes()).collect::<Vec<_>>().concat(),
        };
        Signer::load(&material, now).unwrap()
    }

    #[test]
    fn with_lists_a_ca_is_exchanged_under_its_root_step_by_step() {
        let now = SystemTime::now();
        let root = Authority::new("root").unwrap();
        let (one, two) = (root.below("one").unwrap(), root.below("two").unwrap());
        let list = |of: &Authority, revoked: &[&str]| of.revocation_list(revoked).unwrap();
        let (above, first, second) = (list(&root, &[]), list(&one, &[]), list(&two, &[]));
        let handed = |lists: &[&String]| {
            let text: String = lists.iter().map(|list| list.as_str()).collect();
            Lists::read(text.as_bytes()).unwrap()
        };
        let own = below(&root, &one, &[&above, &first], now);
        let next = |lists: &[&String]| below(&root, &two, lists, now);
        let none = Lists::default();

        // At once: whoever has the lists of before knows nothing of it, and whoever has its lists nothing of the one of before.
        let hasty = next(&[&above, &second]);
        assert_eq!(follows(&own, &hasty, own.lists(), now), Follows::Unlisted);
        assert_eq!(follows(&own, &hasty, &none, now), Follows::Forgets);
        assert_eq!(follows(&own, &next(&[]), own.lists(), now), Follows::Unlisted, "without lists it is no better");
        assert_eq!(follows(&own, &next(&[]), &none, now), Follows::Unnoticed);

        let both = below(&root, &one, &[&above, &first, &second], now);
        assert_eq!(follows(&own, &both, own.lists(), now), Follows::Unnoticed);
        let after = next(&[&above, &first, &second]);
        assert_eq!(follows(&both, &after, own.lists(), now), Follows::Unlisted, "they are not handed out yet");
        assert_eq!(follows(&both, &after, both.lists(), now), Follows::Unnoticed);

        // Now the one of before may be revoked, and does not come back.
        let gone = list(&root, &[one.root_pem()]);
        let alone = next(&[&gone, &second]);
        assert_eq!(follows(&after, &alone, after.lists(), now), Follows::Unnoticed);
        assert_eq!(follows(&both, &alone, both.lists(), now), Follows::Revokes);
        assert_eq!(follows(&alone, &both, alone.lists(), now), Follows::Revoked);
        assert_eq!(follows(&alone, &below(&root, &one, &[], now), alone.lists(), now), Follows::Revoked);
        // Somebody else's lists, by which nobody lives.
        let strange = handed(&[&above]);
        assert_eq!(follows(&after, &alone, &strange, now), Follows::Unnoticed);
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
