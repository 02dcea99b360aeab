//! The workloads that peers have described, each once in the process: requests are counted by who it is and not by what was
//! sent.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use routing::snapshot::Workload;

use super::{Claim, metadata, namespace_of};

/// Workloads that one identity may be at once: an account has few, and each has a few versions.
const PER_IDENTITY: usize = 32;
/// Identities that are remembered. A CA has issued each of them.
const IDENTITIES: usize = 4096;
/// Longest description that is read, bytes of base64.
const LONGEST: usize = 16 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<HashMap<Arc<str>, Vec<Arc<Workload>>>>);

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

    fn place(&self, told: Workload) -> Option<Arc<Workload>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= IDENTITIES && !all.contains_key(&told.principal) {
            sweep(&mut all);
            if all.len() >= IDENTITIES {
                return None;
            }
        }
        let own = all.entry(Arc::clone(&told.principal)).or_default();
        if let Some(known) = own.iter().find(|known| ***known == told) {
            return Some(Arc::clone(known));
        }
        if own.len() >= PER_IDENTITY {
            own.retain(is_used);
            if own.len() >= PER_IDENTITY {
                return None;
            }
        }
        let told = Arc::new(told);
        own.push(Arc::clone(&told));
        Some(told)
    }

    /// Forgets whom no connection knows any more, and no series.
    pub(crate) fn sweep(&self) {
        sweep(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn sweep(all: &mut HashMap<Arc<str>, Vec<Arc<Workload>>>) {
    all.retain(|_, own| {
        own.retain(is_used);
        !own.is_empty()
    });
}

fn is_used(workload: &Arc<Workload>) -> bool {
    Arc::strong_count(workload) > 1
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

    #[test]
    fn an_identity_has_room_for_few_and_takes_none_of_others() {
        let peers = Peers::default();
        let learn =
            |number: usize| peers.of_header(&identity("evil"), header(&format!("w{number}"), "evil").as_bytes());
        let kept: Vec<_> = (0..PER_IDENTITY).map(|number| learn(number).1.unwrap()).collect();
        assert_eq!(learn(PER_IDENTITY), (Claim::Crowded, None));
        let other = peers.of_header(&identity("shop"), header("a", "shop").as_bytes());
        assert_eq!(other.0, Claim::Known);
        // Those that nobody uses any more make room.
        drop(kept);
        assert_eq!(learn(PER_IDENTITY).0, Claim::Known);
        drop(other);
        peers.sweep();
        assert!(peers.0.lock().unwrap().is_empty());
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
