//! Numbers for what servers ask of client certificates: two rules are compared once, when they come into force, and never
//! on the way of a request.

use std::collections::{HashMap, HashSet};

use tls::{pins::Pins, server::ClientAuth, workload::WorkloadIdentity};

use crate::live::ClientPolicy;

/// A rule, with the mesh's roots where it means them.
type Rule = (ClientAuth, Pins, Option<[u8; 32]>);

/// The rules in force.
#[derive(Default)]
pub(super) struct Policies {
    numbers: HashMap<Rule, ClientPolicy>,
    used: HashSet<ClientPolicy>,
    last: u64,
}

impl Policies {
    /// The number of a rule.
    pub(super) fn number(
        &mut self,
        (client, pins): (&ClientAuth, &Pins),
        identity: Option<&WorkloadIdentity>,
    ) -> ClientPolicy {
        let roots = match (client, identity) {
            (ClientAuth::Mesh { .. }, None) => return ClientPolicy::UNMET,
            (ClientAuth::Mesh { .. }, Some(identity)) => Some(identity.roots_digest),
            _ => None,
        };
        let number = *self.numbers.entry((client.clone(), pins.clone(), roots)).or_insert_with(|| {
            self.last += 1;
            ClientPolicy(self.last)
        });
        self.used.insert(number);
        number
    }

    /// Ends an install: rules that nobody asked for since the last one are forgotten, but for those that are `kept`.
    pub(super) fn finish(&mut self, kept: impl Iterator<Item = ClientPolicy>) {
        self.used.extend(kept);
        self.numbers.retain(|_, number| self.used.contains(number));
        self.used.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tls::authority::Authority;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn required(roots: &str, sans: &[&str], crl: Option<&str>) -> ClientAuth {
        ClientAuth::Required {
            roots_pem: roots.into(),
            crl: crl.map(Into::into),
            sans: sans.iter().map(|san| (*san).to_owned()).collect(),
        }
    }

    #[test]
    fn rules_that_differ_in_anything_have_numbers_of_their_own() {
        let optional = ClientAuth::Optional { roots_pem: "one".into(), crl: None, sans: Vec::new() };
        let all = [
            ClientAuth::None,
            ClientAuth::Unverified { required: true },
            ClientAuth::Unverified { required: false },
            required("one", &[], None),
            required("two", &[], None),
            required("one", &["a"], None),
            required("one", &[], Some("list")),
            optional,
        ];
        let mut policies = Policies::default();
        let pinned = |keys: Vec<[u8; 32]>, certificates: Vec<[u8; 32]>| Pins { keys, certificates };
        let one = required("one", &[], None);
        for pins in [pinned(vec![[1; 32]], vec![]), pinned(vec![], vec![[1; 32]]), pinned(vec![[2; 32]], vec![])] {
            let number = policies.number((&one, &pins), None);
            assert_ne!(number, policies.number((&one, &Pins::default()), None), "{pins:?}");
        }
        let numbers: Vec<_> = all.iter().map(|rule| policies.number((rule, &Pins::default()), None)).collect();

        assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), all.len());
        assert!(!numbers.contains(&ClientPolicy::UNMET));
        assert_eq!(all.iter().map(|rule| policies.number((rule, &Pins::default()), None)).collect::<Vec<_>>(), numbers);
    }

    #[test]
    fn a_number_lasts_as_long_as_its_rule_and_is_never_given_to_another_one() {
        let mut policies = Policies::default();
        let one = policies.number((&required("one", &[], None), &Pins::default()), None);
        policies.finish(std::iter::empty());
        assert_eq!(policies.number((&required("one", &[], None), &Pins::default()), None), one);
        policies.finish(std::iter::empty());
        policies.finish(std::iter::once(one));
        assert_eq!(policies.number((&required("one", &[], None), &Pins::default()), None), one, "somebody kept it");
        policies.finish(std::iter::empty());
        policies.finish(std::iter::empty());
        assert_ne!(policies.number((&required("two", &[], None), &Pins::default()), None), one);
        assert_ne!(policies.number((&required("one", &[], None), &Pins::default()), None), one);
    }

    #[test]
    fn the_mesh_is_its_roots_and_not_our_own_certificate() {
        let (ca, other) = (Authority::new("one").unwrap(), Authority::new("two").unwrap());
        let identity = |ca: &Authority| {
            let own = ca.issue_workload("spiffe://td/ns/a/sa/b", HOUR).unwrap();
            let root = ca.root_pem().as_bytes();
            WorkloadIdentity::from_pem(own.chain_pem.as_bytes(), own.key_pem.as_bytes(), root).unwrap()
        };
        let mesh = |domain: &str| ClientAuth::Mesh { trust_domains: vec![domain.to_owned()], sans: Vec::new() };
        let mut policies = Policies::default();
        let number = policies.number((&mesh("td"), &Pins::default()), Some(&identity(&ca)));

        assert_eq!(policies.number((&mesh("td"), &Pins::default()), Some(&identity(&ca))), number, "rotated");
        assert_ne!(policies.number((&mesh("td"), &Pins::default()), Some(&identity(&other))), number, "another root");
        assert_ne!(
            policies.number((&mesh("other"), &Pins::default()), Some(&identity(&ca))),
            number,
            "another trust domain"
        );
        assert_eq!(policies.number((&mesh("td"), &Pins::default()), None), ClientPolicy::UNMET);
    }
}
