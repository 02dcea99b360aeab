//! Which DestinationRule holds for a service, and what it says about a subset and port.

use std::collections::{BTreeSet, HashMap};

use super::{context::full_host, proxy::Proxy};
use crate::{
    api::{
        DestinationRule,
        destination_rule::{ClientTls, ConnectionPool, LoadBalancer, Subset, TrafficPolicy},
    },
    host::{HostMap, HostPattern},
    resources::{Object, Resources},
};

/// The rules that the proxy may see, by namespace and host.
pub(super) struct DestinationRules<'a> {
    /// Rules of the proxy's own namespace with a `workloadSelector` that picks it.
    selecting: HostMap<MergedRule<'a>>,
    by_namespace: HashMap<&'a str, HostMap<MergedRule<'a>>>,
    own_namespace: &'a str,
    root_namespace: &'a str,
}

/// One DestinationRule, or several of the same namespace and host.
pub(super) struct MergedRule<'a> {
    /// The oldest, which the others are merged into.
    pub(super) base: &'a Object<DestinationRule>,
    traffic_policy: Option<(&'a Object<DestinationRule>, &'a TrafficPolicy)>,
    subsets: Vec<NamedSubset<'a>>,
}

/// A subset and where it is written.
pub(super) struct NamedSubset<'a> {
    pub(super) object: &'a Object<DestinationRule>,
    pub(super) index: usize,
    pub(super) subset: &'a Subset,
}

/// What holds for one subset of one port, after Istio's inheritance.
#[derive(Default)]
pub(super) struct Policy<'a> {
    pub(super) load_balancer: Option<&'a LoadBalancer>,
    pub(super) connection_pool: Option<&'a ConnectionPool>,
    pub(super) tls: Option<TlsPolicy<'a>>,
}

/// TLS settings and where they are written.
#[derive(Clone)]
pub(super) struct TlsPolicy<'a> {
    pub(super) object: &'a Object<DestinationRule>,
    pub(super) field: String,
    pub(super) tls: &'a ClientTls,
}

impl<'a> DestinationRules<'a> {
    pub(super) fn new(resources: &'a Resources, proxy: &'a Proxy) -> Self {
        let mut rules = Self {
            selecting: HostMap::default(),
            by_namespace: HashMap::new(),
            own_namespace: &proxy.namespace,
            root_namespace: &proxy.root_namespace,
        };
        for object in &resources.destination_rules {
            let host = full_host(&object.spec.host, object.namespace(), &proxy.cluster_domain);
            let Ok(host) = host.parse::<HostPattern>() else { continue };
            let own = object.namespace() == proxy.namespace;
            match &object.spec.workload_selector {
                Some(selector) if own && proxy.selected_by(&selector.match_labels) => {
                    merge(&mut rules.selecting, &host, object);
                }
                Some(_) => {}
                None if own || proxy.sees(&object.spec.export_to, object.namespace()) => {
                    merge(rules.by_namespace.entry(object.namespace()).or_default(), &host, object);
                }
                None => {}
            }
        }
        rules
    }

    /// Proxy's namespace, then the service's, then the root's: the first with a rule for the host wins completely.
    pub(super) fn of(&self, host: &str, namespace: &str) -> Option<&MergedRule<'a>> {
        let level = |namespace: &str| self.by_namespace.get(namespace).and_then(|rules| rules.get(host));
        let own = || Some(self.own_namespace).filter(|own| *own != self.root_namespace).and_then(level);
        self.selecting.get(host).or_else(own).or_else(|| level(namespace)).or_else(|| level(self.root_namespace))
    }
}

/// Rules of one namespace and host: the oldest is the base, subsets of the others are added, the first traffic policy
/// counts. Rules that are exported elsewhere stay out.
fn merge<'a>(rules: &mut HostMap<MergedRule<'a>>, host: &HostPattern, object: &'a Object<DestinationRule>) {
    let fresh = || MergedRule { base: object, traffic_policy: None, subsets: Vec::new() };
    let rule = rules.get_or_insert_with(host, fresh);
    let exported = |object: &'a Object<DestinationRule>| object.spec.export_to.iter().collect::<BTreeSet<_>>();
    if exported(rule.base) != exported(object) || rule.base.spec.workload_selector != object.spec.workload_selector {
        return;
    }
    if rule.traffic_policy.is_none() {
        rule.traffic_policy = object.spec.traffic_policy.as_ref().map(|policy| (object, policy));
    }
    for (index, subset) in object.spec.subsets.iter().enumerate() {
        if rule.subset(&subset.name).is_none() {
            rule.subsets.push(NamedSubset { object, index, subset });
        }
    }
}

impl<'a> MergedRule<'a> {
    pub(super) fn subset(&self, name: &str) -> Option<&NamedSubset<'a>> {
        self.subsets.iter().find(|known| known.subset.name == name)
    }

    /// The names of the subsets, for problems.
    pub(super) fn subsets_in_words(&self) -> String {
        let names: Vec<&str> = self.subsets.iter().map(|known| known.subset.name.as_str()).collect();
        names.join(", ")
    }

    /// A subset's blocks replace the rule's; an entry of `portLevelSettings` replaces all of them, and what it omits falls
    /// back to the defaults.
    pub(super) fn policy(&self, subset: Option<&NamedSubset<'a>>, port: u16) -> Policy<'a> {
        let mut policy = Policy::default();
        if let Some((object, rule)) = self.traffic_policy {
            policy.lay_over(object, rule, "spec.trafficPolicy", port);
        }
        if let Some((named, over)) = subset.and_then(|named| Some((named, named.subset.traffic_policy.as_ref()?))) {
            policy.lay_over(named.object, over, &format!("spec.subsets[{}].trafficPolicy", named.index), port);
        }
        policy
    }
}

impl<'a> Policy<'a> {
    fn lay_over(&mut self, object: &'a Object<DestinationRule>, over: &'a TrafficPolicy, field: &str, port: u16) {
        let tls = |tls: &'a ClientTls, field: String| TlsPolicy { object, field, tls };
        let mut levels = over.port_level_settings.iter().enumerate();
        if let Some((index, level)) = levels.find(|(_, level)| level.port.is_some_and(|at| at.number == port)) {
            let field = format!("{field}.portLevelSettings[{index}].tls");
            *self = Self {
                load_balancer: level.load_balancer.as_ref(),
                connection_pool: level.connection_pool.as_ref(),
                tls: level.tls.as_ref().map(|found| tls(found, field)),
            };
            return;
        }
        self.load_balancer = over.load_balancer.as_ref().or(self.load_balancer);
        self.connection_pool = over.connection_pool.as_ref().or(self.connection_pool);
        if let Some(found) = &over.tls {
            self.tls = Some(tls(found, format!("{field}.tls")));
        }
    }
}
