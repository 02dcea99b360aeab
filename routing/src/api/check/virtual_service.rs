//! Rules for VirtualService as a whole, and for its TLS and TCP routes.

use std::collections::{BTreeMap, HashMap};

use super::{BAD_VALUE, CONFLICT, DEPRECATED_FIELD, Findings, MISSING_FIELD, names};
use crate::api::VirtualService;
use crate::api::virtual_service::{Destination, RouteDestination, TcpMatch, TcpRoute, TlsMatch, TlsRoute};

impl VirtualService {
    /// Says what is wrong with the object by itself.
    pub fn check(&self, namespace: &str, findings: &mut Findings) {
        if self.hosts.is_empty() {
            self.check_delegate(findings);
        }
        self.check_hosts(findings);
        check_gateways(findings, &self.gateways);
        names::export_to(findings, &self.export_to, namespace, false);
        if self.http.is_empty() && self.tls.is_empty() && self.tcp.is_empty() {
            findings.error(MISSING_FIELD, "a VirtualService needs at least one route below http, tls or tcp");
        }
        findings.each("http", &self.http, |findings, _, route| {
            if self.hosts.is_empty() && route.delegate.is_some() {
                findings.error_at(
                    "delegate",
                    CONFLICT,
                    "a delegate (without hosts) cannot delegate again; move the route to the root",
                );
            }
            route.check(findings);
        });
        self.check_claims(findings);
        findings.each("tls", &self.tls, |findings, _, route| route.check(&self.hosts, findings));
        findings.each("tcp", &self.tcp, |findings, _, route| route.check(findings));
    }

    /// Without hosts it can only be the delegate of another.
    fn check_delegate(&self, findings: &mut Findings) {
        if !self.gateways.is_empty() {
            let message =
                "a VirtualService with gateways needs hosts; without hosts it can only be a delegate, without gateways";
            findings.error_at("hosts", MISSING_FIELD, message);
        }
        if !self.tls.is_empty() || !self.tcp.is_empty() {
            findings.error_at(
                "hosts",
                MISSING_FIELD,
                "tls and tcp routes need hosts; a delegate may have http routes only",
            );
        }
    }

    fn check_hosts(&self, findings: &mut Findings) {
        let in_mesh = self.is_for_sidecars();
        let mut earlier = Overlaps::default();
        findings.each("hosts", &self.hosts, |findings, index, host| {
            if let Some(fault) = names::wildcard_host_fault(host) {
                findings.error(BAD_VALUE, fault);
            }
            match earlier.add(host, index).map(|other| &self.hosts[other]) {
                Some(same) if same.eq_ignore_ascii_case(host) => {
                    findings.error(BAD_VALUE, format!("`{host}` is listed twice; keep one"));
                }
                Some(other) => {
                    let message =
                        format!("`{host}` and `{other}` have hosts in common, which Istio refuses; keep the wider");
                    findings.error(BAD_VALUE, message);
                }
                None => {}
            }
            if host == "*" && in_mesh {
                findings.error(
                    BAD_VALUE,
                    "host `*` is not allowed for the mesh gateway; name the hosts, or name a gateway in gateways",
                );
            }
        });
    }

    fn is_for_sidecars(&self) -> bool {
        self.gateways.is_empty() || self.gateways.iter().any(|gateway| gateway == "mesh")
    }

    /// Claims are known where tokens are checked, which Istio does at gateways only.
    fn check_claims(&self, findings: &mut Findings) {
        if !self.is_for_sidecars() {
            return;
        }
        let claim = |name: &&String| name.starts_with("@request.auth.claims");
        findings.each("http", &self.http, |findings, _, route| {
            findings.each("match", &route.matches, |findings, _, matching| {
                for (field, headers) in [("headers", &matching.headers), ("withoutHeaders", &matching.without_headers)]
                {
                    if let Some(name) = headers.keys().find(claim) {
                        let message = format!("`{name}` is known at gateways only; name a gateway, and not `mesh`");
                        findings.error_at(field, CONFLICT, message);
                    }
                }
            });
        });
    }
}

/// `name`, `namespace/name`, `./name` or `mesh`.
pub(super) fn check_gateways(findings: &mut Findings, gateways: &[String]) {
    findings.each("gateways", gateways, |findings, _, gateway| {
        let (namespace, name) = gateway.split_once('/').unwrap_or((".", gateway));
        let good_namespace = namespace == "." || names::is_dns_label(namespace);
        let slashed = gateway.contains('/');
        if !slashed && let Some((name, rest)) = gateway.split_once('.') {
            let namespace = rest.split('.').next().unwrap_or(rest);
            let message = format!("`{gateway}` is the old form; write `{namespace}/{name}`");
            findings.warn(DEPRECATED_FIELD, message);
        }
        // Istio still accepts the old form with a full name.
        if !good_namespace || !names::is_host_name(name) || (slashed && name.contains('.')) {
            findings.error(
                BAD_VALUE,
                format!("`{gateway}` is not a gateway; `name`, `namespace/name` or `mesh` is wanted"),
            );
        }
    });
}

impl Destination {
    pub(super) fn check(&self, findings: &mut Findings) {
        if self.host.is_empty() {
            findings.error_at(
                "host",
                MISSING_FIELD,
                "a destination needs the host of a service, as `reviews` or `reviews.shop.svc.cluster.local`",
            );
        } else if self.host == "*" {
            findings.error_at("host", BAD_VALUE, "`*` is every host; the full name of one service is wanted");
        } else if let Some(fault) = names::wildcard_host_fault(&self.host) {
            findings.error_at("host", BAD_VALUE, fault);
        }
        if let Some(subset) = self.subset.as_ref().filter(|subset| !names::is_istio_label(subset)) {
            let message = format!("`{subset}` is not a subset name; letters, digits and `-` are wanted");
            findings.error_at("subset", BAD_VALUE, message);
        }
        if self.port.is_some_and(|port| port.number == 0) {
            findings.within("port", |findings| {
                findings.error_at("number", MISSING_FIELD, "a port number from 1 to 65535 is wanted");
            });
        }
    }
}

/// Checks a required destination.
pub(super) fn check_destination(findings: &mut Findings, destination: Option<&Destination>) {
    match destination {
        Some(destination) => findings.within("destination", |findings| destination.check(findings)),
        None => findings.error_at("destination", MISSING_FIELD, "a destination is wanted, as `{host: reviews}`"),
    }
}

/// Checks weights: none below zero, and something above zero where there is a choice.
pub(super) fn check_weights(findings: &mut Findings, weights: &[i32]) {
    for (index, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight < 0) {
        findings.error_at(
            "route",
            BAD_VALUE,
            format!("weight {weight} of destination {index} is below 0; 0 or more is wanted"),
        );
    }
    if weights.len() > 1 && weights.iter().all(|weight| *weight == 0) {
        findings.error_at(
            "route",
            BAD_VALUE,
            "every weight is 0, so no destination can be chosen; give at least one a weight above 0",
        );
    }
}

fn check_l4_destinations(findings: &mut Findings, route: &[RouteDestination]) {
    if route.is_empty() {
        findings.error_at(
            "route",
            MISSING_FIELD,
            "a route needs a destination, as `route: [{destination: {host: db}}]`",
        );
    }
    let weights: Vec<i32> = route.iter().map(|destination| destination.weight).collect();
    check_weights(findings, &weights);
    findings.each("route", route, |findings, _, route| check_destination(findings, route.destination.as_ref()));
}

fn check_subnets(findings: &mut Findings, field: &'static str, subnets: &[String]) {
    findings.each(field, subnets, |findings, _, subnet| {
        if let Some(fault) = names::subnet_fault(subnet) {
            findings.error(BAD_VALUE, fault);
        }
    });
}

impl TlsRoute {
    fn check(&self, hosts: &[String], findings: &mut Findings) {
        if self.matches.is_empty() {
            findings.error_at("match", MISSING_FIELD, "a tls route needs a match with sniHosts");
        }
        findings.each("match", &self.matches, |findings, _, matching| matching.check(hosts, findings));
        check_l4_destinations(findings, &self.route);
    }
}

impl TlsMatch {
    fn check(&self, hosts: &[String], findings: &mut Findings) {
        if self.sni_hosts.is_empty() {
            findings.error_at("sniHosts", MISSING_FIELD, "a tls match needs at least one SNI host");
        }
        findings.each("sniHosts", &self.sni_hosts, |findings, _, sni| {
            if let Some(fault) = names::wildcard_host_fault(sni) {
                findings.error(BAD_VALUE, fault);
            } else if !hosts.iter().any(|host| host_covers(host, sni)) {
                findings.error(
                    BAD_VALUE,
                    format!("`{sni}` is not among the hosts of the VirtualService; add it to spec.hosts"),
                );
            }
        });
        check_subnets(findings, "destinationSubnets", &self.destination_subnets);
        check_port(findings, self.port);
        names::labels(findings, "sourceLabels", &self.source_labels);
        check_gateways(findings, &self.gateways);
    }
}

/// Whether every name that `narrow` stands for is one that `wide` stands for.
fn host_covers(wide: &str, narrow: &str) -> bool {
    let (wide, narrow) = (wide.to_ascii_lowercase(), narrow.to_ascii_lowercase());
    match wide.strip_prefix('*') {
        Some(suffix) => narrow.ends_with(suffix),
        None => wide == narrow,
    }
}

/// Bytes of a name of DNS, with a dot at the end.
const LONGEST_HOST: usize = 254;

/// Hosts that were listed so far, found by the names that they have in common with another one at a cost that does not grow
/// with their number.
#[derive(Default)]
struct Overlaps {
    /// By their letters from the end, without `*`.
    all: BTreeMap<String, usize>,
    wildcards: HashMap<String, usize>,
}

impl Overlaps {
    /// An earlier host that has names in common with this one, and adds it.
    fn add(&mut self, host: &str, index: usize) -> Option<usize> {
        // Longer than any name of DNS, which is said elsewhere.
        if host.len() > LONGEST_HOST {
            return None;
        }
        let suffix = host.strip_prefix('*');
        let reversed: String = suffix.unwrap_or(host).chars().rev().collect::<String>().to_ascii_lowercase();
        let ends = reversed.char_indices().map(|(at, _)| at).chain([reversed.len()]);
        let wider = ends.map(|end| &reversed[..end]).find_map(|end| self.wildcards.get(end).copied());
        let same = || self.all.get(&reversed).copied().filter(|_| suffix.is_none());
        let narrower = || {
            let (first, index) = self.all.range(reversed.clone()..).next().filter(|_| suffix.is_some())?;
            first.starts_with(&reversed).then_some(*index)
        };
        let found = wider.or_else(same).or_else(narrower);
        self.all.entry(reversed.clone()).or_insert(index);
        if suffix.is_some() {
            self.wildcards.entry(reversed).or_insert(index);
        }
        found
    }
}

impl TcpRoute {
    fn check(&self, findings: &mut Findings) {
        findings.each("match", &self.matches, |findings, _, matching| matching.check(findings));
        check_l4_destinations(findings, &self.route);
    }
}

impl TcpMatch {
    fn check(&self, findings: &mut Findings) {
        check_subnets(findings, "destinationSubnets", &self.destination_subnets);
        if let Some(fault) = self.source_subnet.as_deref().and_then(names::subnet_fault) {
            findings.error_at("sourceSubnet", BAD_VALUE, fault);
        }
        check_port(findings, self.port);
        names::labels(findings, "sourceLabels", &self.source_labels);
        check_gateways(findings, &self.gateways);
    }
}

/// A port that must not be 0 when it is given.
pub(super) fn check_port(findings: &mut Findings, port: Option<u16>) {
    if port == Some(0) {
        findings.error_at("port", BAD_VALUE, "0 is not a port; 1 to 65535 is wanted, or leave it out for every port");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_overlap_is_found_where_one_is(hosts in prop::collection::vec("\\*?[.]?([abA][.]?){0,4}", 0..12)) {
            let mut earlier = Overlaps::default();
            for (index, host) in hosts.iter().enumerate() {
                let overlaps = |other: &String| host_covers(other, host) || host_covers(host, other);
                let found = earlier.add(host, index);
                prop_assert_eq!(found.is_some(), hosts[..index].iter().any(overlaps), "{}", host);
                prop_assert!(found.is_none_or(|other| other < index && overlaps(&hosts[other])), "{}", host);
            }
        }
    }
}
