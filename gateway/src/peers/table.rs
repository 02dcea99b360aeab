//! The workloads that peers have described, each once in the process: requests are counted by who it is and not by what was
//! sent.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use routing::snapshot::Workload;
use tokio::time::Instant;

use super::{Claim, metadata, namespace_of};

/// Workloads that one identity may be at once: a namespace's default account may have many, and each has a few versions.
const PER_IDENTITY: usize = 256;
/// Descriptions of all identities together.
const DESCRIPTIONS: usize = 32 * 1024;
/// A description that nobody uses is kept for so long all the same, as its series are: room that came back with the end of a
/// connection would make series without end.
const IDLE: Duration = Duration::from_secs(3600);
/// Identities that are remembered. A CA has issued each of them.
const IDENTITIES: usize = 4096;
/// Longest description that is read, bytes of base64.
const LONGEST: usize = 16 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    identities: HashMap<Arc<str>, Vec<Known>>,
    /// Descriptions of all of them.
    count: usize,
}

#[derive(Debug)]
struct Known {
    workload: Arc<Workload>,
    /// When it was first seen that nobody uses it, unless somebody has since.
    idle: Option<Instant>,
}

impl Peers {
    /// Whom the value of a header describes, when it comes from this identity.
    pub(super) fn of_header(&self, principal: &Arc<str>, value: &[u8]) -> (Claim, Option<Arc<Workload>>) {
        let bytes = (value.len() <= LONGEST).then(|| STANDARD.decode(value).ok()).flatten();
        self.learn(principal, bytes.and_then(|bytes| metadata::decode(&bytes).ok()))
    }

    /// As [`Self::of_header`], of what is said before a connection's own bytes.
    pub(super) fn of_bytes(&self, principal: &Arc<str>, bytes: &[u8]) -> (Claim, Option<Arc<Workload>>) {
        self.learn(principal, metadata::decode_any(bytes).ok())
    }

    fn learn(&self, principal: &Arc<str>, told: Option<Workload>) -> (Claim, Option<Arc<Workload>>) {
        let Some(told) = told else { return (Claim::Broken, None) };
        let proven = namespace_of(principal).unwrap_or_default();
        let claim = if *told.namespace == *proven { Claim::Known } else { Claim::Contradicted };
        let told = Workload { namespace: proven.into(), principal: Arc::clone(principal), ..told };
        match self.place(told) {
            Some(workload) => (claim, Some(workload)),
            None => (Claim::Crowded, None),
        }
    }

    /// Room is made by [`Self::sweep`] alone, when series go, too.
    fn place(&self, told: Workload) -> Option<Arc<Workload>> {
        let table = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = table.identities.get_mut(&told.principal) {
            if let Some(known) = own.iter_mut().find(|known| *known.workload == told) {
                known.idle = None;
                return Some(Arc::clone(&known.workload));
            }
            if own.len() >= PER_IDENTITY {
                return None;
            }
        } else if table.identities.len() >= IDENTITIES {
            return None;
        }
        if table.count >= DESCRIPTIONS {
            return None;
        }
        let workload = Arc::new(told);
        let own = table.identities.entry(Arc::clone(&workload.principal)).or_default();
        own.push(Known { workload: Arc::clone(&workload), idle: None });
        table.count += 1;
        Some(workload)
    }

    /// Forgets whom no connection knows any more, and no series, for an hour.
    pub(crate) fn sweep(&self) {
        let table = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        table.identities.retain(|_, own| {
            own.retain_mut(|known| known.stays(now));
            !own.is_empty()
        });
        table.count = table.identities.values().map(Vec::len).sum();
    }
}

impl Known {
    fn stays(&mut self, now: Instant) -> bool {
        if Arc::strong_count(&self.workload) > 1 {
            self.idle = None;
            return true;
        }
        now.duration_since(*self.idle.get_or_insert(now)) < IDLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, namespace: &str) -> String {
        let workload = Workload { name: name.into(), namespace: namespace.into(), ..Workload::default() };
        STANDARD.encode(metadata::encode(&workload, "pod", "Kubernetes"))
    }

    fn identity(namespace: &str) -> Arc<str> {
        format!("spiffe://cluster.local/ns/{namespace}/sa/x").into()
    }

    #[test]
    fn the_namespace_is_the_proven_one() {
        let peers = Peers::default();
        let learn = |principal: &Arc<str>| peers.of_header(principal, header("a", "shop").as_bytes());
        let namespace = |(claim, found): (Claim, Option<Arc<Workload>>)| (claim, found.unwrap().namespace.to_string());
        assert_eq!(namespace(learn(&identity("shop"))), (Claim::Known, "shop".to_owned()));
        assert_eq!(namespace(learn(&identity("evil"))), (Claim::Contradicted, "evil".to_owned()));
        assert_eq!(namespace(learn(&"spiffe://td/other".into())), (Claim::Contradicted, String::new()));
    }

    #[test]
    fn the_same_description_is_the_same_workload() {
        let peers = Peers::default();
        let learn = |name: &str| peers.of_header(&identity("shop"), header(name, "shop").as_bytes()).1.unwrap();
        assert!(Arc::ptr_eq(&learn("a"), &learn("a")));
        assert!(!Arc::ptr_eq(&learn("a"), &learn("b")));
    }

    #[tokio::test(start_paused = true)]
    async fn an_identity_has_room_for_few_and_takes_none_of_others() {
        let peers = Peers::default();
        let learn =
            |number: usize| peers.of_header(&identity("evil"), header(&format!("w{number}"), "evil").as_bytes());
        let kept = learn(0);
        // Each of these is over before the next one begins.
        assert!((1..PER_IDENTITY).all(|number| learn(number).0 == Claim::Known));
        assert_eq!(learn(PER_IDENTITY), (Claim::Crowded, None), "their series are still there");
        assert_eq!(learn(1).0, Claim::Known);
        assert_eq!(peers.of_header(&identity("shop"), header("a", "shop").as_bytes()).0, Claim::Known);

        peers.sweep();
        tokio::time::advance(IDLE - Duration::from_secs(1)).await;
        assert_eq!(learn(1).0, Claim::Known);
        peers.sweep();
        assert_eq!(learn(PER_IDENTITY), (Claim::Crowded, None));
        tokio::time::advance(Duration::from_secs(1)).await;
        peers.sweep();
        let left = |peers: &Peers| peers.0.lock().unwrap().count;
        assert_eq!(left(&peers), 2, "one is in use, one was a second ago");
        assert_eq!(learn(PER_IDENTITY).0, Claim::Known);
        drop(kept);
        peers.sweep();
        tokio::time::advance(IDLE).await;
        peers.sweep();
        assert_eq!(left(&peers), 0);
        assert!(peers.0.lock().unwrap().identities.is_empty());
    }

    #[test]
    fn all_identities_together_have_an_end() {
        let peers = Peers::default();
        let learn = |account: usize, number: usize| {
            let principal = format!("spiffe://td/ns/a/sa/s{account}").into();
            let (name, namespace) = (format!("w{number}").into(), "a".into());
            peers.learn(&principal, Some(Workload { name, namespace, ..Workload::default() })).0
        };
        let accounts = DESCRIPTIONS / PER_IDENTITY;
        assert!((0..accounts).all(|account| (0..PER_IDENTITY).all(|number| learn(account, number) == Claim::Known)));
        assert_eq!(learn(accounts, 0), Claim::Crowded);
    }

    #[test]
    fn what_cannot_be_read_is_of_nobody() {
        let peers = Peers::default();
        for broken in ["", "%%%", "AAAA", &"A".repeat(LONGEST + 4)] {
            assert_eq!(peers.of_header(&identity("shop"), broken.as_bytes()), (Claim::Broken, None), "{broken}");
        }
        assert_eq!(peers.of_bytes(&identity("shop"), b"\x0a\x00"), (Claim::Broken, None));
    }
}
