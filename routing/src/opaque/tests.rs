//! The table against a plain reading: look at every route.

use proptest::prelude::*;

use super::*;
use crate::rule::Destination;

fn route(subnets: &[&str], names: &[&str], sniffed: bool) -> OpaqueRoute {
    let to = Destinations::one(Destination::new(None, "somewhere".into()));
    OpaqueRoute {
        subnets: subnets.iter().map(|text| text.parse().unwrap()).collect(),
        names: names.iter().map(|text| text.parse().unwrap()).collect(),
        sniffed,
        rule: Arc::new(OpaqueRule { source: "".into(), to }),
    }
}

fn table(routes: &[OpaqueRoute]) -> OpaqueTable {
    let mut table = OpaqueTable::default();
    for route in routes {
        table.add(route.clone());
    }
    table
}

/// Position of the route by looking at each: the narrowest subnet, then the most specific name, then the first.
fn plain(routes: &[OpaqueRoute], destination: Option<IpAddr>, name: &str) -> Option<usize> {
    let mut best: Option<((i16, Reverse<HostPattern>), usize)> = None;
    for (position, route) in routes.iter().enumerate() {
        let every = [HostPattern::Any];
        let names = if route.names.is_empty() { &every[..] } else { &route.names };
        let subnets: Vec<Option<Subnet>> = match route.subnets.is_empty() {
            true => vec![None],
            false => route.subnets.iter().copied().map(Some).collect(),
        };
        for subnet in subnets {
            let length = match (subnet, destination) {
                (None, _) => -1,
                (Some(subnet), Some(address)) if subnet.contains(address) => i16::from(subnet.length()),
                _ => continue,
            };
            for pattern in names {
                let holds = match pattern {
                    HostPattern::Any => true,
                    HostPattern::Suffix(rest) => name.len() > rest.len() && name.ends_with(&**rest),
                    HostPattern::Exact(exact) => **exact == *name,
                };
                let rank = (length, Reverse(pattern.clone()));
                if holds && best.as_ref().is_none_or(|(known, _)| rank > *known) {
                    best = Some((rank, position));
                }
            }
        }
    }
    best.map(|(_, position)| position)
}

fn position(routes: &[OpaqueRoute], destination: Option<IpAddr>, name: &str) -> Option<usize> {
    let table = table(routes);
    let found = table.find(destination, name)?;
    routes.iter().position(|route| Arc::ptr_eq(&route.rule, &found.rule))
}

#[test]
fn the_narrowest_subnet_then_the_most_specific_name_wins() {
    let routes = [
        route(&[], &["*.example.com"], false),
        route(&[], &["a.example.com"], false),
        route(&["10.0.0.0/8"], &[], false),
        route(&["10.1.0.0/16"], &["b.example.com"], false),
        route(&["10.1.0.1"], &[], true),
    ];
    let find = |address: &str, name: &str| position(&routes, address.parse().ok(), name);
    assert_eq!(find("", "A.example.com"), Some(1));
    assert_eq!(find("", "c.example.com"), Some(0));
    assert_eq!(find("", ""), None);
    assert_eq!(find("10.2.0.1", "a.example.com"), Some(2));
    assert_eq!(find("10.1.0.2", "b.example.com"), Some(3));
    assert_eq!(find("10.1.0.2", "a.example.com"), Some(2), "back to the wider one");
    assert_eq!(find("10.1.0.1", "b.example.com"), Some(4));
}

#[test]
fn only_what_decides_is_waited_for() {
    let table = table(&[
        route(&["10.0.0.1"], &[], false),
        route(&["10.0.0.2"], &["a.example.com"], false),
        route(&["10.0.0.3"], &[], true),
        route(&["10.0.0.0/8"], &[], false),
    ]);
    let demand = |address: &str| table.demand(address.parse().ok());
    assert_eq!(demand("10.0.0.1"), Some(Demand::Nothing));
    assert_eq!(demand("10.0.0.2"), Some(Demand::Name));
    assert_eq!(demand("10.0.0.3"), Some(Demand::Protocol));
    assert_eq!(demand("10.9.9.9"), Some(Demand::Nothing));
    assert_eq!(demand("11.0.0.1"), None);
    assert_eq!(demand(""), None);
    assert!(table.claims("10.0.0.9".parse().unwrap()) && !table.claims("11.0.0.1".parse().unwrap()));
}

#[test]
fn a_route_hears_what_it_does_not_get() {
    let mut table = OpaqueTable::default();
    assert_eq!(table.add(route(&["10.0.0.1", "10.0.0.1"], &["a", "a"], false)), []);
    let taken = table.add(route(&["10.0.0.1", "10.0.0.2"], &["a"], false));
    assert_eq!(taken, [(0, "10.0.0.1".parse().ok(), "a".parse().unwrap())]);
    assert_eq!(table.add(route(&[], &[], false)), []);
    assert_eq!(table.add(route(&[], &[], false)), [(2, None, HostPattern::Any)]);
    assert_eq!(table.routes().len(), 3, "what nothing can follow is not shown");
}

fn routes() -> impl Strategy<Value = Vec<OpaqueRoute>> {
    let subnet = prop::sample::select(vec![
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.0/30",
        "10.0.0.0/8",
        "0.0.0.0/0",
        "fd00::1",
        "fd00::/16",
        "::/0",
    ]);
    let name = prop::sample::select(vec!["*", "*.a.b", "*.b", "*b", "x.a.b", "a.b", "y.b", "xa.b"]);
    let one = (prop::collection::vec(subnet, 0..3), prop::collection::vec(name, 0..3), any::<bool>());
    let route = one.prop_map(|(subnets, names, sniffed)| route(&subnets, &names, sniffed));
    prop::collection::vec(route, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn the_table_finds_what_looking_at_each_route_finds(
        routes in routes(),
        address in prop::sample::select(vec!["", "10.0.0.1", "10.0.0.3", "10.9.9.9", "11.0.0.1", "fd00::1", "fd00::2", "fe80::1"]),
        name in prop::sample::select(vec!["", "x.a.b", "a.b", "y.b", "b", "z.xa.b", "q"]),
    ) {
        let table = table(&routes);
        let destination: Option<IpAddr> = address.parse().ok();
        let found = position(&routes, destination, name);
        prop_assert_eq!(found, plain(&routes, destination, name));
        // What was not demanded makes no difference.
        match table.demand(destination) {
            None => prop_assert_eq!(found, None),
            Some(Demand::Nothing) => prop_assert_eq!(found, position(&routes, destination, "")),
            Some(Demand::Name | Demand::Protocol) => {}
        }
    }
}
