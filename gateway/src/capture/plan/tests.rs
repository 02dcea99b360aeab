use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

/// What a sidecar of Istio is injected with.
pub(crate) fn usual() -> Capture {
    Capture {
        outbound_port: 15001,
        inbound_port: 15006,
        tunnel_port: 15008,
        uids: vec![1337],
        gids: vec![1337],
        inbound: Selection::All,
        not_inbound: vec![15090, 15021, 15020],
        outbound_ports: Vec::new(),
        not_outbound: Vec::new(),
        ranges: Selection::All,
        not_ranges: Vec::new(),
        virtual_interfaces: Vec::new(),
        not_interfaces: Vec::new(),
        groups: Groups::AllBut(Vec::new()),
        drop_invalid: false,
    }
}

/// The first packet of a connection.
#[derive(Clone, Debug)]
struct Packet {
    /// From elsewhere, else from a process here.
    arrives: bool,
    udp: bool,
    from: IpAddr,
    to: IpAddr,
    port: u16,
    interface: &'static str,
    uid: u32,
    gid: u32,
}

/// The port it ends up at; `None`: where it was meant to go.
fn judge(rules: &[Rule], chain: Chain, packet: &Packet) -> Option<Option<u16>> {
    for rule in rules.iter().filter(|rule| rule.chain == chain && matches(rule, packet)) {
        match rule.then {
            Then::Return => return None,
            Then::Redirect(port) => return Some(Some(port)),
            Then::Drop => return Some(None),
            Then::Jump(to) => {
                if let Some(end) = judge(rules, to, packet) {
                    return Some(end);
                }
            }
        }
    }
    None
}

fn matches(rule: &Rule, packet: &Packet) -> bool {
    let within = |net: &Option<IpNet>, ip: IpAddr| net.as_ref().is_none_or(|net| net.contains(&ip));
    let at = |name: &Option<String>, here: bool| name.as_ref().is_none_or(|it| here && it == packet.interface);
    within(&rule.from, packet.from)
        && within(&rule.to, packet.to)
        && rule.not_to.as_ref().is_none_or(|net| !net.contains(&packet.to))
        && at(&rule.entering, packet.arrives)
        && at(&rule.leaving, !packet.arrives)
        && rule.protocol.is_none_or(|protocol| (protocol == Protocol::Udp) == packet.udp)
        && rule.port.is_none_or(|port| port == packet.port)
        && rule.not_port.is_none_or(|port| port != packet.port)
        && rule.owners.iter().all(|owner| {
            let own = if owner.group { packet.gid } else { packet.uid };
            (own == owner.id) != owner.other
        })
}

/// The same, said without rules and chains.
fn meant(capture: &Capture, packet: &Packet) -> Option<u16> {
    if packet.udp || capture.not_interfaces.iter().any(|it| it == packet.interface) {
        return None;
    }
    if packet.arrives { arriving(capture, packet) } else { leaving(capture, packet) }
}

fn in_ranges(capture: &Capture, ip: IpAddr) -> bool {
    match &capture.ranges {
        Selection::All => true,
        Selection::These(ranges) => ranges.iter().any(|range| range.contains(&ip)),
    }
}

fn arriving(capture: &Capture, packet: &Packet) -> Option<u16> {
    if capture.virtual_interfaces.iter().any(|it| it == packet.interface) {
        return in_ranges(capture, packet.to).then_some(capture.outbound_port);
    }
    let captured = match &capture.inbound {
        Selection::All => !capture.not_inbound.contains(&packet.port),
        Selection::These(ports) => ports.contains(&packet.port),
    };
    (captured && packet.port != capture.tunnel_port).then_some(capture.inbound_port)
}

fn leaving(capture: &Capture, packet: &Packet) -> Option<u16> {
    let to_itself = packet.interface == "lo";
    let of_proxy = capture.uids.contains(&packet.uid) || capture.gids.contains(&packet.gid);
    let v4 = packet.to.is_ipv4();
    let to_app = if v4 { IpAddr::V4(TO_APPLICATION.0) } else { IpAddr::V6(TO_APPLICATION.1) };
    let localhost = if v4 { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
    if capture.not_outbound.contains(&packet.port) || (to_itself && packet.from == to_app) {
        return None;
    }
    let loopback_wanted =
        matches!(&capture.ranges, Selection::These(ranges) if ranges.iter().any(|it| it.addr().is_loopback()));
    // On lo Istio's layout lets through whoever is not the first user, be it another one of the proxy.
    if to_itself && !loopback_wanted && capture.uids.first() != Some(&packet.uid) {
        return None;
    }
    if of_proxy {
        let back = to_itself && packet.to != localhost && packet.port != capture.tunnel_port;
        return back.then_some(capture.inbound_port);
    }
    let group_counts = match &capture.groups {
        Groups::AllBut(groups) => !groups.contains(&packet.gid),
        Groups::Only(groups) => groups.contains(&packet.gid),
    };
    if !group_counts || packet.to == localhost {
        return None;
    }
    let left_out = capture.not_ranges.iter().any(|range| range.contains(&packet.to));
    let wanted = capture.outbound_ports.contains(&packet.port) || in_ranges(capture, packet.to);
    (wanted && !left_out).then_some(capture.outbound_port)
}

const V4: [&str; 7] = ["127.0.0.1", "127.0.0.6", "127.0.0.9", "10.0.0.1", "10.0.0.2", "10.9.0.1", "192.0.2.1"];
const V6: [&str; 5] = ["::1", "::6", "fd00::1", "fd00:1::1", "2001:db8::1"];
const NETS: [&str; 7] =
    ["10.0.0.0/24", "10.0.0.2/32", "127.0.0.1/32", "192.0.2.0/24", "fd00::/64", "::1/128", "2001:db8::/32"];
const PORTS: [u16; 8] = [80, 443, 8080, 15001, 15006, 15008, 15021, 15090];
const INTERFACES: [&str; 4] = ["lo", "eth0", "eth1", "vm0"];

fn nets() -> impl Strategy<Value = Vec<IpNet>> {
    vec(select(&NETS[..]).prop_map(|it| it.parse().unwrap()), 0..3)
}

fn ports() -> impl Strategy<Value = Vec<u16>> {
    vec(select(&PORTS[..]), 0..3)
}

fn selection<T: std::fmt::Debug + Clone>(these: impl Strategy<Value = Vec<T>>) -> impl Strategy<Value = Selection<T>> {
    (any::<bool>(), these).prop_map(|(all, these)| if all { Selection::All } else { Selection::These(these) })
}

prop_compose! {
    fn capture()(
        inbound in selection(ports()), not_inbound in ports(), outbound_ports in ports(), not_outbound in ports(),
        ranges in selection(nets()), not_ranges in nets(), two_users in any::<bool>(),
        vm in any::<bool>(), without in any::<bool>(), only in any::<bool>(), groups in vec(500_u32..503, 1..3),
    ) -> Capture {
        Capture {
            inbound, not_inbound, outbound_ports, not_outbound, ranges, not_ranges,
            uids: if two_users { vec![1337, 1338] } else { vec![1337] },
            gids: vec![1337],
            virtual_interfaces: if vm { vec!["vm0".to_owned()] } else { Vec::new() },
            not_interfaces: if without { vec!["eth1".to_owned()] } else { Vec::new() },
            groups: if only { Groups::Only(groups) } else { Groups::AllBut(groups) },
            ..usual()
        }
    }
}

prop_compose! {
    fn packet()(
        arrives in any::<bool>(), udp in prop::bool::weighted(0.2),
        (from, to) in prop_oneof![(select(&V4[..]), select(&V4[..])), (select(&V6[..]), select(&V6[..]))],
        port in select(&PORTS[..]), interface in select(&INTERFACES[..]),
        owner in select(&[(0, 0), (1337, 1337), (1338, 501), (1337, 501), (7, 1337), (7, 501), (7, 502)][..]),
    ) -> Packet {
        let (uid, gid) = owner;
        Packet { arrives, udp, from: from.parse().unwrap(), to: to.parse().unwrap(), port, interface, uid, gid }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn rules_do_what_istio_says(capture in capture(), packet in packet()) {
        let family = if packet.to.is_ipv4() { Family::V4 } else { Family::V6 };
        let rules = plan(&capture, family);
        let first = if packet.arrives { Chain::Prerouting } else { Chain::Output };
        let found = judge(&rules, first, &packet).flatten();
        prop_assert_eq!(found, meant(&capture, &packet));
    }
}

#[test]
fn each_family_has_its_own_addresses_and_no_others() {
    let ranges = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
    let capture = Capture { ranges: Selection::These(ranges.clone()), not_ranges: ranges, ..usual() };
    for (family, other) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        let rules = plan(&capture, family);
        let nets = rules.iter().flat_map(|rule| [rule.from, rule.to, rule.not_to]).flatten();
        let nets: Vec<IpNet> = nets.collect();
        assert!(nets.len() >= 5 && nets.iter().all(|net| family.has(net) && !other.has(net)), "{nets:?}");
    }
}

#[test]
fn nothing_arrives_at_the_sidecar_when_no_port_is_captured() {
    let rules = plan(&Capture { inbound: Selection::These(Vec::new()), ..usual() }, Family::V4);
    assert!(rules.iter().all(|rule| rule.chain != Chain::Prerouting), "{rules:?}");
}
