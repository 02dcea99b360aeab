//! What policies said of requests and connections.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use prometheus::{IntCounter, IntCounterVec, Registry};

use super::{Metrics, VERDICTS, options, register};

/// Policies that are told apart; those beyond share one name.
const MOST: usize = 1000;

/// By verdict and policy.
#[derive(Debug)]
pub(super) struct Verdicts {
    all: IntCounterVec,
    /// Of nearly all requests, so that nothing is looked up for them.
    allowed: IntCounter,
    known: Mutex<HashSet<Box<str>>>,
}

impl Verdicts {
    pub(super) fn new(registry: &Registry) -> Self {
        let all = register(registry, IntCounterVec::new(options(&VERDICTS), VERDICTS.labels));
        let allowed = all.with_label_values(&["allowed", ""]);
        Self { all, allowed, known: Mutex::default() }
    }

    /// The name of a policy in the metrics.
    fn name<'a>(&self, policy: &'a str) -> &'a str {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(policy) {
            return policy;
        }
        if known.len() >= MOST {
            return "others";
        }
        known.insert(policy.into());
        policy
    }
}

impl Metrics {
    /// Policies let somebody in.
    pub(crate) fn allowed(&self) {
        self.verdicts.allowed.inc();
    }

    /// A policy said something else, or would have.
    pub(crate) fn verdict(&self, verdict: &'static str, policy: &str) {
        self.verdicts.all.with_label_values(&[verdict, self.verdicts.name(policy)]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_told_apart_up_to_a_thousand() {
        let verdicts = Verdicts::new(&Registry::new());
        let names: Vec<String> = (0..MOST).map(|number| format!("policy-{number}")).collect();
        assert!(names.iter().all(|name| verdicts.name(name) == name));
        assert_eq!([verdicts.name("one-more"), verdicts.name("policy-7")], ["others", "policy-7"]);
    }
}
