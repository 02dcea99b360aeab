//! Which endpoints of a cluster are used first, and how localities share: Istio `localityLbSetting`, and what a Service or
//! the mesh says where a DestinationRule does not.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    context::Context,
    destination_rules::Policy,
    endpoints::Instance,
    networks::NETWORK,
    services::{Origin, Service, ServicePort},
};
use crate::{
    api::destination_rule::{Distribute, Failover, LocalityLb},
    locality::{Locality, REGION, SUBZONE, ZONE},
    upstream::{Endpoint, Group},
};

/// Label of endpoints: their node.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Annotation of a Service that stands for `spec.trafficDistribution`.
const DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// What holds for the localities of one cluster.
enum Setting<'a> {
    /// They share by weights.
    Shares(&'a [Distribute]),
    /// The nearest are used, others as far as those fail.
    Nearest { labels: Vec<&'a str>, regions: Option<&'a [Failover]> },
}

/// Sets the priority and the group of each endpoint, and leaves out those that get nothing. `made`: with where they come
/// from.
pub(super) fn arrange<'a>(
    context: &Context<'a>,
    policy: &Policy<'a>,
    (service, port): (&Service<'a>, &ServicePort<'a>),
    mut made: Vec<(Endpoint, &Instance)>,
) -> (Vec<Endpoint>, Vec<Group>) {
    let own = &context.proxy.locality;
    let mut groups = Vec::new();
    match setting(context, policy, service, port) {
        Some(Setting::Shares(distribute)) => {
            if let Some(rule) = distribute.iter().find(|rule| own.is_in(&rule.from)) {
                groups = share(&mut made, &rule.to);
            }
        }
        Some(Setting::Nearest { labels, regions }) if !(labels.is_empty() && own.is_unknown()) => {
            let rank = |instance: &Instance| {
                let by_labels = rank_by_labels(context, &labels, instance);
                let by_place = regions.map_or(0, |regions| rank_by_place(own, &instance.owner.locality, regions));
                (by_labels, by_place)
            };
            let ranks: BTreeSet<_> = made.iter().map(|(_, instance)| rank(instance)).collect();
            // Priorities have no gaps.
            let order: Vec<_> = ranks.into_iter().collect();
            for (endpoint, instance) in &mut made {
                let place = order.binary_search(&rank(instance)).unwrap_or_default();
                endpoint.priority = u8::try_from(place).unwrap_or(u8::MAX);
            }
            // Localities of a priority share by what of them is well: it matters where endpoints are ejected.
            if policy.outlier_detection.is_some() {
                groups = group(&mut made, |_| None);
            }
        }
        _ => {}
    }
    (made.into_iter().map(|(endpoint, _)| endpoint).collect(), groups)
}

/// The DestinationRule's, else the Service's, else the mesh's.
fn setting<'a>(
    context: &Context<'a>,
    policy: &Policy<'a>,
    service: &Service<'a>,
    port: &ServicePort<'a>,
) -> Option<Setting<'a>> {
    let ejects = policy.outlier_detection.is_some();
    if let Some(written) = policy.load_balancer.and_then(|balancer| balancer.locality_lb_setting.as_ref()) {
        return of(written, ejects);
    }
    if let Some(labels) = distribution(service, port) {
        // Istio does so without outlierDetection, too.
        return Some(Setting::Nearest { labels, regions: None });
    }
    match &context.proxy.mesh.config.locality_lb_setting {
        Some(mesh) => of(mesh, ejects),
        None => ejects.then(|| Setting::Nearest { labels: Vec::new(), regions: Some(&[]) }),
    }
}

/// Without outlier detection nobody would ever fail, and what is near would take everything for ever.
fn of(written: &LocalityLb, ejects: bool) -> Option<Setting<'_>> {
    if written.enabled == Some(false) {
        return None;
    }
    if !written.distribute.is_empty() {
        return Some(Setting::Shares(&written.distribute));
    }
    let labels: Vec<&str> = written.failover_priority.iter().map(String::as_str).collect();
    let regions = (labels.is_empty() || !written.failover.is_empty()).then_some(written.failover.as_slice());
    ejects.then_some(Setting::Nearest { labels, regions })
}

/// What a Kubernetes Service says of the traffic to it.
fn distribution<'a>(service: &Service<'a>, port: &ServicePort<'a>) -> Option<Vec<&'a str>> {
    let Origin::Kubernetes(object, _) = port.origin else {
        let annotation = service.entries.first()?.meta.annotations.get(DISTRIBUTION)?;
        return preference(annotation);
    };
    let annotation = object.meta.annotations.get(DISTRIBUTION).map(String::as_str);
    preference(annotation.or(object.spec.spec.traffic_distribution.as_deref())?)
}

fn preference<'a>(word: &str) -> Option<Vec<&'a str>> {
    match word {
        "PreferClose" | "PreferSameZone" => Some(vec![NETWORK, REGION, ZONE, SUBZONE]),
        "PreferSameNode" => Some(vec![NETWORK, REGION, ZONE, SUBZONE, HOSTNAME]),
        _ => None,
    }
}

/// How many of the labels, from the first that differs on, an endpoint does not share with the proxy.
fn rank_by_labels(context: &Context<'_>, labels: &[&str], instance: &Instance) -> usize {
    let (proxy, owner) = (context.proxy, &instance.owner);
    let same = labels.iter().take_while(|label| {
        let (name, given) = label.split_once('=').map_or((**label, None), |(name, value)| (name, Some(value)));
        let (own, theirs) = match name {
            REGION => (&*proxy.locality.region, &*owner.locality.region),
            ZONE => (&*proxy.locality.zone, &*owner.locality.zone),
            SUBZONE => (&*proxy.locality.subzone, &*owner.locality.subzone),
            HOSTNAME => (&*proxy.node, &*owner.node),
            NETWORK => (&*proxy.network, owner.network()),
            _ => (text(&proxy.labels, name), text(&owner.labels, name)),
        };
        given.unwrap_or(own) == theirs
    });
    labels.len() - same.count()
}

fn text<'l>(labels: &'l BTreeMap<String, String>, name: &str) -> &'l str {
    labels.get(name).map_or("", String::as_str)
}

/// How far away an endpoint is; regions that take over come before those that nobody named.
fn rank_by_place(own: &Locality, theirs: &Locality, regions: &[Failover]) -> u8 {
    let distance = own.distance(theirs);
    let rule = regions.iter().find(|rule| rule.from == own.region);
    if distance == 3 && rule.is_some_and(|rule| rule.to != theirs.region) { 4 } else { distance }
}

/// Makes a group of each locality.
fn group(made: &mut [(Endpoint, &Instance)], share: impl Fn(&Locality) -> Option<u32>) -> Vec<Group> {
    let localities: BTreeSet<&Locality> = made.iter().map(|(_, instance)| &instance.owner.locality).collect();
    let localities: Vec<&Locality> = localities.into_iter().collect();
    for (endpoint, instance) in made {
        let at = localities.binary_search(&&instance.owner.locality).unwrap_or_default();
        endpoint.group = u16::try_from(at).unwrap_or(u16::MAX);
    }
    let group = |locality: &&Locality| Group { locality: locality.to_string().into(), share: share(locality) };
    localities.iter().map(group).collect()
}

/// Divides by weights. Localities that nobody names get nothing; those that one pattern means divide its weight by what their
/// endpoints weigh.
fn share(made: &mut Vec<(Endpoint, &Instance)>, weights: &BTreeMap<String, u32>) -> Vec<Group> {
    let mut patterns: Vec<(&String, &u32)> = weights.iter().collect();
    // The most exact one counts.
    let exactness = |pattern: &str| pattern.split('/').filter(|part| !matches!(*part, "" | "*")).count();
    patterns.sort_by_key(|(pattern, _)| std::cmp::Reverse(exactness(pattern)));
    let pattern = |locality: &Locality| patterns.iter().position(|(pattern, _)| locality.is_in(pattern));
    made.retain(|(_, instance)| pattern(&instance.owner.locality).is_some());
    let mut weigh: BTreeMap<&Locality, u64> = BTreeMap::new();
    for (endpoint, instance) in made.iter() {
        *weigh.entry(&instance.owner.locality).or_default() += u64::from(endpoint.weight.max(1));
    }
    let shares: BTreeMap<&Locality, u32> = weigh
        .iter()
        .map(|(locality, own)| {
            let mine = pattern(locality);
            let all: u64 = weigh.iter().filter(|(other, _)| pattern(other) == mine).map(|(_, weight)| weight).sum();
            let weight = mine.map_or(0, |at| u64::from(*patterns[at].1));
            (*locality, u32::try_from((weight * own).div_ceil(all.max(1))).unwrap_or(u32::MAX))
        })
        .collect();
    group(made, |locality| shares.get(locality).copied())
}

#[cfg(test)]
mod tests;
