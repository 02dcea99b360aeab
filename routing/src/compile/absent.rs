//! What is named and not there. In a part of a configuration it may be elsewhere, which only warns; and what follows from
//! a document that was rejected is not told as if nobody had written it.

use std::collections::HashMap;

use super::{
    context::{Context, full_host},
    report::REJECTED_REFERENCE,
};
use crate::{
    problem::{ObjectRef, Severity},
    resources::{Extent, Kind, Object, Rejection, Resources},
};

/// How to tell of something that is not there.
pub(super) struct Absence {
    pub(super) severity: Severity,
    pub(super) code: &'static str,
    /// That it is not there, as the first half of a sentence.
    pub(super) words: String,
}

/// Documents without an object, by the hosts that they would have had or been about.
pub(super) struct RejectedHosts<'a> {
    services: HashMap<String, &'a Rejection>,
    rules: HashMap<String, &'a Rejection>,
}

impl<'a> RejectedHosts<'a> {
    /// Services, ServiceEntries and DestinationRules.
    pub(super) fn new(resources: &'a Resources, cluster_domain: &str) -> Self {
        let (mut services, mut rules) = (HashMap::new(), HashMap::new());
        for rejection in resources.rejected().values() {
            let ObjectRef { kind, namespace, name } = &rejection.object;
            if kind == Kind::Service.name() {
                services.insert(format!("{name}.{namespace}.svc.{cluster_domain}"), rejection);
            }
            let hosts = rejection.hosts.iter().map(|host| (full_host(host, namespace, cluster_domain), rejection));
            if kind == Kind::ServiceEntry.name() {
                services.extend(hosts);
            } else if kind == Kind::DestinationRule.name() {
                rules.extend(hosts);
            }
        }
        Self { services, rules }
    }
}

impl Context<'_> {
    /// An object that `at` names and that is not there.
    pub(super) fn absent<T>(
        &self,
        at: &Object<T>,
        code: &'static str,
        kind: Kind,
        (namespace, name): (&str, &str),
    ) -> Absence {
        let reference = ObjectRef::new(kind.name(), namespace, name);
        let words = match self.resources.extent() {
            Extent::Whole => format!("there is no {}", quoted(&reference)),
            Extent::Part => format!("{} is not among what was read", quoted(&reference)),
        };
        self.absence(at, code, words, self.resources.rejected().get(&reference))
    }

    /// A host that `at` names and that no service has.
    pub(super) fn absent_host<T>(&self, at: &Object<T>, code: &'static str, host: &str) -> Absence {
        let words = match self.resources.extent() {
            Extent::Whole => format!("no Service or ServiceEntry has the host `{host}`"),
            Extent::Part => format!("no Service or ServiceEntry that was read has the host `{host}`"),
        };
        self.absence(at, code, words, self.rejected_hosts.services.get(host).copied())
    }

    /// A subset of a host that no DestinationRule has; `known` says which there are.
    pub(super) fn absent_subset<T>(
        &self,
        at: &Object<T>,
        code: &'static str,
        (subset, host): (&str, &str),
        known: &str,
    ) -> Absence {
        let words = match self.resources.extent() {
            Extent::Whole => format!("no subset `{subset}` of `{host}` is known ({known})"),
            Extent::Part => format!("no subset `{subset}` of `{host}` is among what was read ({known})"),
        };
        self.absence(at, code, words, self.rejected_hosts.rules.get(host).copied())
    }

    fn absence<T>(&self, at: &Object<T>, code: &'static str, words: String, rejection: Option<&Rejection>) -> Absence {
        let Some(rejection) = rejection else {
            let severity = match self.resources.extent() {
                Extent::Whole => Severity::Error,
                Extent::Part => Severity::Warning,
            };
            return Absence { severity, code, words };
        };
        let what = if rejection.skipped { "not read" } else { "rejected" };
        let place = match &rejection.place {
            None => String::new(),
            Some(place) => match at.source.is_after(place) {
                Some(true) => format!(" above, line {}", place.line),
                Some(false) => format!(" below, line {}", place.line),
                None => format!(", see {}:{}", place.file, place.line),
            },
        };
        let words = format!("{} is {what}{place}", quoted(&rejection.object));
        Absence { severity: Severity::Warning, code: REJECTED_REFERENCE, words }
    }
}

fn quoted(object: &ObjectRef) -> String {
    format!("{} `{}/{}`", object.kind, object.namespace, object.name)
}
