//! What the status of an object should say: one pure function of what is in force.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use routing::{
    api::{
        ObjectMeta,
        destination_rule::{DestinationRule, TrafficPolicy},
        gateway::Gateway,
        virtual_service::VirtualService,
    },
    compile::{Holds, held_policies},
    problem::{ObjectRef, Problem, Severity},
    resources::{Kind, Object},
};
use serde_json::{Map, Value, json};

use crate::{acme::report::ORDER_FAILED, applied::Applied};

#[cfg(test)]
mod tests;

/// The kinds that get conditions.
pub(super) const KINDS: [Kind; 9] = [
    Kind::Gateway,
    Kind::VirtualService,
    Kind::DestinationRule,
    Kind::ServiceEntry,
    Kind::AuthorizationPolicy,
    Kind::RequestAuthentication,
    Kind::PeerAuthentication,
    Kind::RateLimit,
    Kind::Telemetry,
];
/// Types of our conditions, in the order they are written. Others are never touched.
const TYPES: [&str; 4] = ["Accepted", "ResolvedRefs", "Conflicted", PROGRAMMED];
/// Every replica has the generation in force.
const PROGRAMMED: &str = "Programmed";
/// Codes of problems with what an object names.
const REFERENCES: [&str; 21] = [
    "unknown-provider",
    "missing-secret",
    "certificate-pending",
    "unknown-issuer",
    "terms-not-agreed",
    "not-ordered",
    ORDER_FAILED,
    "bad-certificate",
    "expired-certificate",
    "unknown-host",
    "unknown-subset",
    "unknown-port",
    "port-required",
    "unknown-gateway",
    "unknown-delegate",
    "rejected-reference",
    "host-not-in-gateway",
    "unknown-provider",
    "unknown-target",
    "unknown-route",
    "jwks-missing",
];
/// Codes of problems with an object that was there first.
const CONFLICTS: [&str; 4] = ["duplicate-host", "port-conflict", "duplicate-object", "issuer-conflict"];
/// Problems that a message names; the others are counted.
const NAMED: usize = 3;
/// Most bytes of a message.
const LONGEST: usize = 2048;

/// Kind, namespace and name.
pub(super) type Key = (Kind, String, String);

/// One condition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Condition {
    /// One of [`TYPES`].
    pub(super) kind: &'static str,
    /// `True` or `False`.
    pub(super) status: bool,
    /// For programs.
    pub(super) reason: Cow<'static, str>,
    /// For people.
    pub(super) message: Cow<'static, str>,
}

/// What an object's status should say, but for `Programmed`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Wanted {
    /// In the order of [`TYPES`].
    pub(super) conditions: Vec<Condition>,
    /// `metadata.generation` of what is in force; 0 when the newest version is rejected, since nothing of it is known.
    pub(super) generation: i64,
    /// `metadata.uid` of what is in force.
    pub(super) uid: Option<String>,
    /// The newest version is rejected.
    pub(super) rejected: bool,
    /// Whether the object is in force here, so that `Programmed` is told. VirtualServices and policies of sidecars only are not.
    pub(super) programmed: bool,
}

/// What is in force, arranged by object.
pub(super) struct Index {
    applied: Arc<Applied>,
    problems: HashMap<ObjectRef, Vec<usize>>,
    /// By the name of the Secret; all of them are in the proxy's namespace.
    secrets: HashMap<String, Vec<usize>>,
    /// `namespace/name` of the Gateways that select this proxy.
    gateways: HashSet<String>,
    /// `namespace/name` of the delegates of VirtualServices that are bound to them.
    delegates: HashSet<String>,
    /// Policies that this proxy tells about, and whether they hold here.
    policies: HashMap<Key, bool>,
}

impl Index {
    /// Of what is in force.
    pub(super) fn new(applied: Arc<Applied>) -> Self {
        let policies = held_policies(&applied.resources, &applied.proxy).into_iter();
        let policies = policies
            .map(|(kind, meta, holds)| ((kind, meta.namespace.clone(), meta.name.clone()), holds == Holds::Here));
        let policies = policies.collect();
        Self { policies, ..Self::without_policies(applied) }
    }

    /// For who tells nothing about policies: where each of them holds is much to look up.
    pub(super) fn without_policies(applied: Arc<Applied>) -> Self {
        let mut problems: HashMap<ObjectRef, Vec<usize>> = HashMap::new();
        let mut secrets: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, problem) in applied.problems.iter().enumerate() {
            if problem.object.kind == Kind::Secret.name() && problem.object.namespace == applied.proxy.namespace {
                secrets.entry(problem.object.name.clone()).or_default().push(index);
            } else if problem.object.is_complete() {
                problems.entry(problem.object.clone()).or_default().push(index);
            }
        }
        let own = applied.resources.gateways.iter().filter(|it| applied.proxy.selected_by(&it.spec.selector));
        let gateways = own.map(|it| full_name(it)).collect();
        let policies = HashMap::new();
        let mut index = Self { applied, problems, secrets, gateways, delegates: HashSet::new(), policies };
        index.delegates = index.delegates();
        index
    }

    fn delegates(&self) -> HashSet<String> {
        let all = self.applied.resources.virtual_services.iter();
        let roots = all.filter(|root| !root.spec.hosts.is_empty() && self.attachment(root) == Some(Attachment::Here));
        let named = roots.flat_map(|root| {
            let delegates = root.spec.http.iter().filter_map(|route| route.delegate.as_ref());
            delegates.map(|it| format!("{}/{}", it.namespace.as_deref().unwrap_or_else(|| root.namespace()), it.name))
        });
        named.collect()
    }

    /// What is in force.
    pub(super) fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Every object that this proxy tells something about, oldest first. Objects of which no version was ever good are
    /// among them.
    pub(super) fn keys(&self) -> Vec<Key> {
        let key = |kind: Kind, namespace: &str, name: &str| (kind, namespace.to_owned(), name.to_owned());
        let all = &self.applied.resources;
        let gateways = all.gateways.iter().filter(|it| self.gateways.contains(&full_name(it)));
        let services = all.virtual_services.iter().filter(|it| self.attachment(it).is_some());
        let mut keys: Vec<Key> = gateways.map(|it| key(Kind::Gateway, it.namespace(), it.name())).collect();
        keys.extend(services.map(|it| key(Kind::VirtualService, it.namespace(), it.name())));
        keys.extend(all.destination_rules.iter().map(|it| key(Kind::DestinationRule, it.namespace(), it.name())));
        keys.extend(all.service_entries.iter().map(|it| key(Kind::ServiceEntry, it.namespace(), it.name())));
        keys.extend(self.policies.keys().cloned());
        let broken = self.problems.keys().filter_map(|it| Some(key(kind(&it.kind)?, &it.namespace, &it.name)));
        keys.extend(broken.filter(|key| self.found(key).is_none()));
        keys
    }

    /// What the status of an object should say; `None` when there is nothing to say about it from here.
    pub(super) fn wanted(&self, key: &Key) -> Option<Wanted> {
        let reference = ObjectRef::new(key.0.name(), &key.1, &key.2);
        let problems = self.problems_of(key, &reference);
        let found = self.found(key);
        let generation = found.map(|it| it.generation);
        let programmed = match key.0 {
            _ if generation.is_none() => true,
            Kind::Gateway => {
                if !self.gateways.contains(&format!("{}/{}", key.1, key.2)) {
                    return None;
                }
                true
            }
            Kind::VirtualService => {
                let service = self.applied.resources.virtual_services.get(&key.1, &key.2)?;
                self.attachment(service)? == Attachment::Here
            }
            Kind::DestinationRule | Kind::ServiceEntry => true,
            _ => *self.policies.get(key)?,
        };
        let rejected = generation.is_none() || self.applied.resources.kept().contains(&reference);
        if generation.is_none() && problems.is_empty() {
            return None;
        }
        let generation = if rejected { 0 } else { generation.unwrap_or_default() };
        let conditions = conditions(key.0, &problems, rejected);
        let uid = found.and_then(|it| it.uid.clone());
        Some(Wanted { conditions, generation, uid, rejected, programmed })
    }

    /// `metadata` of the version that is in force.
    fn found(&self, (kind, namespace, name): &Key) -> Option<&ObjectMeta> {
        let all = &self.applied.resources;
        match kind {
            Kind::Gateway => all.gateways.get(namespace, name).map(|it| &it.meta),
            Kind::VirtualService => all.virtual_services.get(namespace, name).map(|it| &it.meta),
            Kind::DestinationRule => all.destination_rules.get(namespace, name).map(|it| &it.meta),
            Kind::ServiceEntry => all.service_entries.get(namespace, name).map(|it| &it.meta),
            Kind::AuthorizationPolicy => all.authorization_policies.get(namespace, name).map(|it| &it.meta),
            Kind::RequestAuthentication => all.request_authentications.get(namespace, name).map(|it| &it.meta),
            Kind::PeerAuthentication => all.peer_authentications.get(namespace, name).map(|it| &it.meta),
            Kind::RateLimit => all.rate_limits.get(namespace, name).map(|it| &it.meta),
            Kind::Telemetry => all.telemetries.get(namespace, name).map(|it| &it.meta),
            _ => None,
        }
    }

    fn problems_of(&self, key: &Key, reference: &ObjectRef) -> Vec<&Problem> {
        let own = self.problems.get(reference).into_iter().flatten();
        let all = &self.applied.resources;
        let secrets: Vec<&str> = match key.0 {
            Kind::Gateway => all.gateways.get(&key.1, &key.2).map(|it| secrets_of_gateway(it)).unwrap_or_default(),
            Kind::DestinationRule => {
                all.destination_rules.get(&key.1, &key.2).map(|it| secrets_of_rule(it)).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        // That one will end tells an event and a metric: the days that are left are no state.
        let told = |problem: &&Problem| problem.code != "expiring-certificate";
        let named = secrets.iter().flat_map(|name| self.secret_problems(name)).filter(told);
        own.map(|index| &self.applied.problems[*index]).chain(named).collect()
    }

    /// Problems of a Secret and of the one beside it that holds its CA.
    fn secret_problems(&self, name: &str) -> impl Iterator<Item = &Problem> {
        let beside = self.secrets.get(&format!("{name}-cacert"));
        let indexes = self.secrets.get(name).into_iter().chain(beside).flatten();
        indexes.map(|index| &self.applied.problems[*index])
    }

    /// Gateways of this proxy with the problems of the Secrets that they name.
    pub(super) fn certificate_problems(&self) -> Vec<(&Object<Gateway>, &Problem)> {
        let own = self.applied.resources.gateways.iter().filter(|it| self.gateways.contains(&full_name(it)));
        own.flat_map(|gateway| {
            let secrets = secrets_of_gateway(gateway);
            let problems: Vec<&Problem> = secrets.iter().flat_map(|name| self.secret_problems(name)).collect();
            problems.into_iter().map(move |problem| (gateway.as_ref(), problem))
        })
        .collect()
    }

    /// How a VirtualService concerns this proxy.
    fn attachment(&self, service: &Object<VirtualService>) -> Option<Attachment> {
        let named = &service.spec.gateways;
        let delegate = service.spec.hosts.is_empty() && self.delegates.contains(&full_name(service));
        let here = delegate
            || named.iter().any(|gateway| match gateway.contains('/') {
                true => self.gateways.contains(gateway.as_str()),
                false => self.gateways.contains(&format!("{}/{gateway}", service.namespace())),
            });
        let mesh = named.is_empty() || named.iter().any(|gateway| gateway == "mesh");
        if here { Some(Attachment::Here) } else { mesh.then_some(Attachment::Mesh) }
    }
}

/// Whom a VirtualService is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Attachment {
    /// A Gateway of this proxy.
    Here,
    /// Sidecars.
    Mesh,
}

fn full_name<T>(object: &Object<T>) -> String {
    format!("{}/{}", object.namespace(), object.name())
}

fn kind(name: &str) -> Option<Kind> {
    KINDS.into_iter().find(|kind| kind.name() == name)
}

/// The name of a Secret as a credential writes it.
fn secret(credential: &str) -> &str {
    let name = credential.strip_prefix("kubernetes://").unwrap_or(credential);
    name.rsplit_once('/').map_or(name, |(_, name)| name)
}

fn secrets_of_gateway(gateway: &Object<Gateway>) -> Vec<&str> {
    let settings = gateway.spec.servers.iter().filter_map(|server| server.tls.as_ref());
    let named = settings
        .flat_map(|tls| tls.credential_name.iter().chain(&tls.credential_names).chain(&tls.ca_cert_credential_name));
    unique(named.map(|name| secret(name)).collect())
}

fn secrets_of_rule(rule: &Object<DestinationRule>) -> Vec<&str> {
    fn of(policy: &TrafficPolicy) -> impl Iterator<Item = &str> {
        let ports = policy.port_level_settings.iter().filter_map(|settings| settings.tls.as_ref());
        policy.tls.iter().chain(ports).filter_map(|tls| tls.credential_name.as_deref()).map(secret)
    }
    let subsets = rule.spec.subsets.iter().filter_map(|subset| subset.traffic_policy.as_ref());
    unique(rule.spec.traffic_policy.iter().chain(subsets).flat_map(of).collect())
}

fn unique(mut names: Vec<&str>) -> Vec<&str> {
    names.sort_unstable();
    names.dedup();
    names
}

fn conditions(kind: Kind, problems: &[&Problem], rejected: bool) -> Vec<Condition> {
    let is = |codes: &[&str], problem: &Problem| codes.contains(&problem.code);
    let mut references: Vec<_> = problems.iter().copied().filter(|it| is(&REFERENCES, it)).collect();
    // What failed gives the reason, before what is only waited for.
    references.sort_by_key(|it| it.severity);
    let conflicts: Vec<_> = problems.iter().copied().filter(|it| is(&CONFLICTS, it)).collect();
    let others = problems.iter().copied().filter(|it| rejected || !(is(&REFERENCES, it) || is(&CONFLICTS, it)));
    let (errors, rest): (Vec<_>, Vec<_>) = others.partition(|it| it.severity == Severity::Error);
    let condition = |kind, status, reason, message| Condition { kind, status, reason, message };
    let mut all = vec![match errors.first() {
        Some(first) => condition(TYPES[0], false, camel(first.code).into(), text(&errors).into()),
        None if rest.is_empty() => condition(TYPES[0], true, "Accepted".into(), "".into()),
        None => condition(TYPES[0], true, "AcceptedWithWarnings".into(), text(&rest).into()),
    }];
    all.push(match references.first() {
        Some(first) => condition(TYPES[1], false, camel(first.code).into(), text(&references).into()),
        None => condition(TYPES[1], true, "ResolvedRefs".into(), "".into()),
    });
    match conflicts.first() {
        Some(first) => all.push(condition(TYPES[2], true, camel(first.code).into(), text(&conflicts).into())),
        None if kind == Kind::Gateway => all.push(condition(TYPES[2], false, "NoConflicts".into(), "".into())),
        None => {}
    }
    all
}

/// The first problems as one text.
fn text(problems: &[&Problem]) -> String {
    let one = |problem: &&Problem| match problem.field.as_str() {
        "" => problem.message.clone(),
        field => format!("{field}: {}", problem.message),
    };
    let mut text = problems.iter().take(NAMED).map(one).collect::<Vec<_>>().join("; ");
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    match problems.len().saturating_sub(NAMED) {
        0 => text,
        more => format!("{text}; and {more} more"),
    }
}

/// `missing-secret` as `MissingSecret`.
pub(super) fn camel(code: &str) -> String {
    let words = code.split('-').filter(|word| !word.is_empty());
    words.map(|word| format!("{}{}", word[..1].to_ascii_uppercase(), &word[1..])).collect()
}

/// The condition that tells how many of the replicas have a generation in force.
pub(super) fn programmed(wanted: &Wanted, ready: usize, all: usize) -> Condition {
    let (status, reason, message) = if wanted.rejected {
        (false, "NotAccepted", "the newest version is rejected; Accepted says why".to_owned())
    } else {
        let done = all > 0 && ready == all;
        let noun = if all == 1 { "replica" } else { "replicas" };
        let message = format!("{ready} of {all} {noun} at generation {}", wanted.generation);
        (done, if done { "Programmed" } else { "Pending" }, message)
    };
    Condition { kind: PROGRAMMED, status, reason: reason.into(), message: message.into() }
}

/// Hash of what is told. How many replicas there are is no news once all of them have it.
pub(super) fn digest(conditions: &[Condition], generation: i64) -> u64 {
    let mut hasher = DefaultHasher::new();
    if !conditions.is_empty() {
        generation.hash(&mut hasher);
    }
    for it in conditions {
        (it.kind, it.status, &it.reason).hash(&mut hasher);
        if !(it.kind == PROGRAMMED && it.status) {
            it.message.hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Our conditions in a status that was read, and `observedGeneration`.
pub(super) fn read(status: &Value) -> (Vec<Condition>, i64) {
    let text = |value: &Value| Cow::Owned(value.as_str().unwrap_or_default().to_owned());
    let written = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let find = |kind: &'static str| {
        let found = written.iter().find(|it| it["type"] == kind)?;
        let status = found["status"] == "True";
        Some(Condition { kind, status, reason: text(&found["reason"]), message: text(&found["message"]) })
    };
    let generation = &status["observedGeneration"];
    // Istio's own clients write it as text.
    let generation = generation.as_i64().or_else(|| generation.as_str()?.parse().ok()).unwrap_or(0);
    (TYPES.into_iter().filter_map(find).collect(), generation)
}

/// The generation at which a status says that every replica has it.
pub(super) fn programmed_at(conditions: &[Condition], generation: i64) -> Option<i64> {
    conditions.iter().any(|it| it.kind == PROGRAMMED && it.status).then_some(generation)
}

/// The status to write over `before`, as a merge patch: conditions of others stay, and the time of a condition changes
/// with its `status` only. `None` when it says so already.
pub(super) fn merge(before: &Value, wanted: &[Condition], generation: i64, now: &str) -> Option<Value> {
    let (old, observed) = read(before);
    if old == wanted && (observed == generation || wanted.is_empty()) {
        return None;
    }
    let written = before["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let foreign = |it: &&Value| !it["type"].as_str().is_some_and(|kind| TYPES.contains(&kind));
    let mut conditions: Vec<Value> = written.iter().filter(foreign).cloned().collect();
    for it in wanted {
        let status = if it.status { "True" } else { "False" };
        let same = written.iter().find(|old| old["type"] == it.kind && old["status"] == status);
        let since = same.and_then(|old| old["lastTransitionTime"].as_str()).unwrap_or(now);
        conditions.push(json!({
            "type": it.kind, "status": status, "reason": it.reason, "message": it.message,
            "lastTransitionTime": since, "observedGeneration": generation,
        }));
    }
    let mut status = Map::from_iter([("conditions".to_owned(), Value::Array(conditions))]);
    if !wanted.is_empty() {
        status.insert("observedGeneration".to_owned(), generation.into());
    }
    Some(Value::Object(status))
}
