use std::{collections::BTreeMap, fmt::Write as _};

use proptest::prelude::*;

use crate::{
    compile::{Proxy, compile},
    locality::Locality,
    resources::Resources,
    upstream::Cluster,
};

/// The cluster of `all.test` with endpoints of these localities (and a label `tier` each), as a proxy there sees it.
fn cluster(own: &str, endpoints: &[(String, u8)], policy: &str) -> Cluster {
    let mut text = format!(
        "{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: g, namespace: istio-system}}, \
         spec: {{servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}]}}}}\n---\n\
         {{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: v, namespace: a}}, \
         spec: {{hosts: [all.test], gateways: [istio-system/g], http: [{{route: [{{destination: {{host: all.test}}}}]}}]}}}}\n---\n\
         {{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: d, namespace: a}}, \
         spec: {{host: all.test, trafficPolicy: {policy}}}}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: s, namespace: a}}\nspec:\n  \
         hosts: [all.test]\n  resolution: STATIC\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints:\n"
    );
    for (number, (locality, tier)) in endpoints.iter().enumerate() {
        let _ =
            writeln!(text, "  - {{address: 10.0.0.{}, locality: {locality}, labels: {{tier: t{tier}}}}}", number + 1);
    }
    let (resources, problems) = Resources::read([("a.yaml", text.as_str())]);
    assert!(problems.is_empty(), "{problems:?}");
    let labels = BTreeMap::from([("tier".to_owned(), "t0".to_owned())]);
    let proxy = Proxy { locality: Locality::parse(own).unwrap(), labels, ..Proxy::default() };
    let compiled = compile(&resources, &proxy);
    let found = compiled.snapshot.named_clusters().find(|cluster| &*cluster.host == "all.test");
    (**found.expect("a route leads there")).clone()
}

fn place() -> impl Strategy<Value = String> {
    (0..3, 0..3, 0..3).prop_map(|(region, zone, subzone)| format!("r{region}/z{zone}/s{subzone}"))
}

/// The plain reading: how many sorts of endpoints are better than this one.
fn rank<K: Ord>(all: &[K], own: &K) -> u8 {
    let mut better: Vec<&K> = all.iter().filter(|other| *other < own).collect();
    better.sort();
    better.dedup();
    better.len() as u8
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn priorities_are_the_plain_reading(
        own in place(),
        endpoints in prop::collection::vec((place(), 0_u8..3), 1..12),
        kind in 0_usize..4,
    ) {
        let policy = [
            "{outlierDetection: {}}",
            "{outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: r0, to: r1}, {from: r1, to: r2}]}}}",
            "{outlierDetection: {}, loadBalancer: {localityLbSetting: {failoverPriority: [tier, topology.kubernetes.io/zone]}}}",
            "{loadBalancer: {simple: RANDOM}}",
        ][kind];
        let part = |text: &str, at: usize| text.split('/').nth(at).unwrap().to_owned();
        let model: Vec<(u8, u8)> = endpoints.iter().map(|(there, tier)| {
            let same = |at| part(&own, at) == part(there, at);
            let near = if !same(0) { 3 } else if !same(1) { 2 } else { u8::from(!same(2)) };
            let taken = |from: &str, to: &str| part(&own, 0) == from && part(there, 0) == to;
            match kind {
                0 => (near, 0),
                1 if near < 3 || part(&own, 0) == "r2" => (near, 0),
                1 => (if taken("r0", "r1") || taken("r1", "r2") { 3 } else { 4 }, 0),
                2 if *tier != 0 => (2, 0),
                2 => (u8::from(!same(1)), 0),
                _ => (0, 0),
            }
        }).collect();
        let cluster = cluster(&own, &endpoints, policy);
        // Endpoints are sorted by address, which is their order here up to nine.
        for endpoint in &cluster.endpoints {
            let std::net::IpAddr::V4(ip) = endpoint.address.ip() else { panic!("all are IPv4") };
            let number = usize::from(ip.octets()[3]) - 1;
            prop_assert_eq!(endpoint.priority, rank(&model, &model[number]), "{} from {}", endpoints[number].0, own);
            let group = cluster.groups.get(usize::from(endpoint.group)).map(|group| group.locality.to_string());
            prop_assert_eq!(group, (kind != 3).then(|| endpoints[number].0.clone()));
        }
        prop_assert_eq!(cluster.endpoints.len(), endpoints.len());
    }

    #[test]
    fn distribute_divides_by_its_weights(endpoints in prop::collection::vec((place(), 0_u8..3), 1..12)) {
        let policy = "{loadBalancer: {localityLbSetting: {distribute: [{from: 'r0/*', to: {'r0/*': 70, 'r1/z1/*': 30}}]}}}";
        let cluster = cluster("r0/z0/s0", &endpoints, policy);
        let fits = |place: &str| place.starts_with("r0/") || place.starts_with("r1/z1/");
        prop_assert_eq!(cluster.endpoints.len(), endpoints.iter().filter(|(place, _)| fits(place)).count());
        for (start, weight) in [("r0/", 70), ("r1/z1/", 30)] {
            let shares: Vec<u32> =
                cluster.groups.iter().filter(|group| group.locality.starts_with(start)).filter_map(|group| group.share).collect();
            // Rounded up, each.
            let sum: u32 = shares.iter().sum();
            prop_assert!(shares.is_empty() || (weight..weight + shares.len() as u32).contains(&sum), "{:?}", shares);
        }
    }
}
