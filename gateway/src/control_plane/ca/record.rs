//! A self-signed CA as it is kept: Istio's Secret `istio-ca-secret`, with what a rotation has to remember beside it.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tls::authority::signer::Material;

use crate::stored::Stored;

/// Name of the Secret.
pub(crate) const SELF_SIGNED: &str = "istio-ca-secret";
/// Its type.
const KIND: &str = "istio.io/ca-root";
/// What a person asks for a new root with.
pub(crate) const ROTATE: &str = "sluice.dev/rotate-ca";

const CERTIFICATE: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";
const ROOTS: &str = "root-cert.pem";
const CHAIN: &str = "cert-chain.pem";
/// Istio's empty entry of a workload's key.
const NO_KEY: &str = "key.pem";
const NEXT_CERTIFICATE: &str = "next-cert.pem";
const NEXT_KEY: &str = "next-key.pem";
const PHASE: &str = "rotation-phase";
const SINCE: &str = "rotation-since";
const LONGEST: &str = "longest-lifetime";
const PROPAGATION: &str = "propagation";

/// Where a rotation stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// Both roots are handed out, and the old one signs.
    Announced,
    /// Both roots are handed out, and the new one signs.
    Signing,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Signing => "signing",
        }
    }
}

/// A self-signed CA.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Record {
    /// What signs, and all roots that are handed out.
    pub(crate) material: Material,
    /// The root that is going to sign: certificate and key.
    pub(crate) next: Option<(Vec<u8>, Vec<u8>)>,
    /// Where a rotation stands, and since when.
    pub(crate) rotation: Option<(Phase, SystemTime)>,
    /// Nothing that any replica has issued lasts longer.
    pub(crate) longest: Duration,
    /// How long a change may take to reach everybody.
    pub(crate) propagation: Duration,
    /// Somebody has asked for a new root.
    pub(crate) asked: bool,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("rotation", &self.rotation).field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl Record {
    /// Of a Secret; `None`: it has no CA in it.
    pub(crate) fn read(stored: &Stored) -> Option<Self> {
        let bytes = |key: &str| stored.data.get(key).filter(|value| !value.is_empty()).cloned();
        let number = |key: &str| stored.text(key)?.parse().ok().map(Duration::from_secs);
        let (certificate, key) = (bytes(CERTIFICATE)?, bytes(KEY)?);
        let phase = match stored.text(PHASE) {
            Some("announced") => Some(Phase::Announced),
            Some("signing") => Some(Phase::Signing),
            _ => None,
        };
        Some(Self {
            material: Material {
                // Istio takes the certificate itself where there is no root.
                roots: bytes(ROOTS).unwrap_or_else(|| certificate.clone()),
                chain: bytes(CHAIN).unwrap_or_default(),
                crl: Vec::new(),
                certificate,
                key,
            },
            next: bytes(NEXT_CERTIFICATE).zip(bytes(NEXT_KEY)),
            rotation: phase.zip(number(SINCE).and_then(|since| UNIX_EPOCH.checked_add(since))),
            longest: number(LONGEST).unwrap_or_default(),
            propagation: number(PROPAGATION).unwrap_or_default(),
            asked: stored.annotations.get(ROTATE).is_some_and(|asked| !asked.is_empty()),
        })
    }

    /// As a Secret that replaces `before`.
    pub(crate) fn stored(&self, before: Option<Stored>) -> Stored {
        let mut stored = before.unwrap_or_else(|| Stored { kind: KIND.to_owned(), ..Stored::default() });
        let seconds = |time: Duration| time.as_secs().to_string().into_bytes();
        let (certificate, key) = self.next.clone().unwrap_or_default();
        let (phase, since) = match self.rotation {
            Some((phase, since)) => {
                (phase.name().as_bytes().to_vec(), seconds(since.duration_since(UNIX_EPOCH).unwrap_or_default()))
            }
            None => Default::default(),
        };
        let Material { certificate: own, key: own_key, chain, roots, .. } = self.material.clone();
        // What is empty is there too: a merge would leave an old value where nothing is said.
        stored.data.extend(BTreeMap::from(
            [
                (CERTIFICATE, own),
                (KEY, own_key),
                (ROOTS, roots),
                (CHAIN, chain),
                (NO_KEY, Vec::new()),
                (NEXT_CERTIFICATE, certificate),
                (NEXT_KEY, key),
                (PHASE, phase),
                (SINCE, since),
                (LONGEST, seconds(self.longest)),
                (PROPAGATION, seconds(self.propagation)),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        ));
        if !self.asked && stored.annotations.contains_key(ROTATE) {
            stored.annotations.insert(ROTATE.to_owned(), String::new());
        }
        stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            material: Material {
                certificate: b"c".into(),
                key: b"k".into(),
                chain: Vec::new(),
                crl: Vec::new(),
                roots: b"r".into(),
            },
            next: None,
            rotation: None,
            longest: Duration::from_secs(86_400),
            propagation: Duration::from_secs(3600),
            asked: false,
        }
    }

    #[test]
    fn a_record_is_what_was_kept() {
        let plain = record();
        let since = UNIX_EPOCH + Duration::from_secs(1_900_000_000);
        let turning =
            Record { next: Some((b"nc".into(), b"nk".into())), rotation: Some((Phase::Announced, since)), ..record() };
        for record in [plain.clone(), turning.clone()] {
            let stored = record.stored(None);
            assert_eq!(stored.kind, "istio.io/ca-root");
            assert_eq!(Record::read(&stored), Some(record));
        }
        // What ended leaves nothing behind.
        assert_eq!(Record::read(&plain.stored(Some(turning.stored(None)))), Some(plain));
    }

    #[test]
    fn a_time_that_is_none_is_no_rotation() {
        let mut stored = record().stored(None);
        let mut set = |key: &str, value: &str| stored.data.insert(key.to_owned(), value.as_bytes().to_vec());
        set(PHASE, "signing");
        set(SINCE, &u64::MAX.to_string());
        assert_eq!(Record::read(&stored).unwrap().rotation, None);
    }

    #[test]
    fn no_key_is_shown() {
        let shown = |key: &[u8]| format!("{:?}", Record { next: Some((b"nc".into(), key.into())), ..record() });
        assert_eq!(shown(b"one"), shown(b"two"));
    }

    #[test]
    fn istios_own_secret_is_one() {
        let data =
            [("ca-cert.pem", "c"), ("ca-key.pem", "k"), ("root-cert.pem", ""), ("cert-chain.pem", ""), ("key.pem", "")];
        let data = data.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
        let stored = Stored { kind: KIND.to_owned(), data: data.into(), ..Stored::default() };
        let read = Record::read(&stored).unwrap();
        assert_eq!(read.material.roots, b"c");
        assert_eq!((read.longest, read.rotation, read.asked), (Duration::ZERO, None, false));
        assert_eq!(Record::read(&Stored::default()), None);
    }

    #[test]
    fn a_wish_is_heard_once() {
        let mut stored = record().stored(None);
        stored.annotations.insert(ROTATE.to_owned(), "now".to_owned());
        let mut heard = Record::read(&stored).unwrap();
        assert!(heard.asked);
        heard.asked = false;
        assert!(!Record::read(&heard.stored(Some(stored))).unwrap().asked);
    }
}
