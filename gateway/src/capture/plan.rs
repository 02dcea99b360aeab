//! Istio's layout as a list of rules, without a word of iptables or nftables.
//!
//! Of the chains that the system has, only two jumps are ours (three with `drop_invalid`): all else is in chains of our own, so that
//! it can be told from others' rules and taken away.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{Capture, Family, Groups, Selection};

/// Istio's address of the proxy's own connections to the application, by family.
pub(super) const TO_APPLICATION: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(127, 0, 0, 6), Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6));

/// A chain.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Chain {
    /// The system's: what arrives.
    Prerouting,
    /// The system's: what processes here send.
    Output,
    /// What arrives, ours to judge.
    Inbound,
    /// To the proxy's outbound side.
    Redirect,
    /// To the proxy's inbound side.
    InRedirect,
    /// What processes here send, ours to judge.
    Outbound,
    /// In the table `mangle`: the system's, what arrives.
    ManglePrerouting,
    /// In the table `mangle`: nowhere.
    Drop,
}

/// The tables that chains are in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Table {
    /// Where addresses are changed.
    Nat,
    /// Before that.
    Mangle,
}

impl Table {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Nat, Self::Mangle];

    /// Its chains in order.
    pub(super) fn chains(self) -> &'static [Chain] {
        match self {
            Self::Nat => {
                &[Chain::Prerouting, Chain::Output, Chain::Inbound, Chain::Redirect, Chain::InRedirect, Chain::Outbound]
            }
            Self::Mangle => &[Chain::ManglePrerouting, Chain::Drop],
        }
    }
}

impl Chain {
    /// Whether it is the system's.
    pub(super) fn is_systems(self) -> bool {
        matches!(self, Self::Prerouting | Self::Output | Self::ManglePrerouting)
    }
}

/// What goes over IP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Protocol {
    /// What is captured.
    Tcp,
    /// What is let through.
    Udp,
}

/// Whose packet it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Owner {
    /// A group's, else a user's.
    pub(super) group: bool,
    /// Its number.
    pub(super) id: u32,
    /// Everybody else's.
    pub(super) other: bool,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Then {
    /// It goes on as if this chain were not there.
    Return,
    /// Another chain judges.
    Jump(Chain),
    /// It is led to a port of this machine.
    Redirect(u16),
    /// It is gone.
    Drop,
}

/// A rule: what is said has to hold, all of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Rule {
    /// Where it stands.
    pub(super) chain: Chain,
    /// Source.
    pub(super) from: Option<IpNet>,
    /// Destination.
    pub(super) to: Option<IpNet>,
    /// Any destination but this.
    pub(super) not_to: Option<IpNet>,
    /// Interface it came by; a `+` at the end stands for anything.
    pub(super) entering: Option<String>,
    /// Interface it leaves by.
    pub(super) leaving: Option<String>,
    /// TCP or UDP.
    pub(super) protocol: Option<Protocol>,
    /// Destination port.
    pub(super) port: Option<u16>,
    /// Any destination port but this.
    pub(super) not_port: Option<u16>,
    /// It belongs to no connection that is known.
    pub(super) invalid: bool,
    /// Whose it is; all of them hold.
    pub(super) owners: Vec<Owner>,
    /// What then.
    pub(super) then: Then,
}

impl Rule {
    fn new(chain: Chain, then: Then) -> Self {
        Self {
            chain,
            from: None,
            to: None,
            not_to: None,
            entering: None,
            leaving: None,
            protocol: None,
            port: None,
            not_port: None,
            invalid: false,
            owners: Vec::new(),
            then,
        }
    }

    fn tcp(chain: Chain, then: Then) -> Self {
        Self { protocol: Some(Protocol::Tcp), ..Self::new(chain, then) }
    }
}

/// The rules of one family, in order within each chain.
pub(super) fn plan(capture: &Capture, family: Family) -> Vec<Rule> {
    let mut rules = inbound(capture, family);
    rules.push(Rule::tcp(Chain::Redirect, Then::Redirect(capture.outbound_port)));
    rules.push(Rule::tcp(Chain::InRedirect, Then::Redirect(capture.inbound_port)));
    rules.push(Rule::new(Chain::Output, Then::Jump(Chain::Outbound)));
    outbound_exceptions(capture, family, &mut rules);
    outbound_addresses(capture, family, &mut rules);
    if capture.drop_invalid {
        rules.push(Rule { invalid: true, ..Rule::new(Chain::ManglePrerouting, Then::Jump(Chain::Drop)) });
        rules.push(Rule::new(Chain::Drop, Then::Drop));
    }
    rules
}

fn inbound(capture: &Capture, family: Family) -> Vec<Rule> {
    let of = |then| Rule::tcp(Chain::Inbound, then);
    let mut rules = Vec::new();
    let captures = capture.inbound != Selection::These(Vec::new());
    if captures || !capture.virtual_interfaces.is_empty() {
        rules.push(Rule::tcp(Chain::Prerouting, Then::Jump(Chain::Inbound)));
    }
    for interface in &capture.not_interfaces {
        rules.push(Rule { entering: Some(interface.clone()), ..Rule::new(Chain::Inbound, Then::Return) });
    }
    for interface in &capture.virtual_interfaces {
        // What comes from a virtual machine is what the application sends.
        let entering = || Some(interface.clone());
        let to_proxy = || Rule { entering: entering(), ..Rule::new(Chain::Inbound, Then::Jump(Chain::Redirect)) };
        match &capture.ranges {
            Selection::All => rules.push(to_proxy()),
            Selection::These(ranges) => {
                let own = ranges.iter().filter(|range| family.has(range));
                rules.extend(own.map(|range| Rule { to: Some(range.trunc()), ..to_proxy() }));
            }
        }
        rules.push(Rule { entering: entering(), ..Rule::new(Chain::Inbound, Then::Return) });
    }
    rules.push(Rule { port: Some(capture.tunnel_port), ..of(Then::Return) });
    match &capture.inbound {
        Selection::All => {
            rules.extend(capture.not_inbound.iter().map(|port| Rule { port: Some(*port), ..of(Then::Return) }));
            rules.push(of(Then::Jump(Chain::InRedirect)));
        }
        Selection::These(ports) => {
            rules.extend(ports.iter().map(|port| Rule { port: Some(*port), ..of(Then::Jump(Chain::InRedirect)) }));
        }
    }
    rules
}

/// Who is let through whatever the address: interfaces, ports, the proxy itself, groups.
fn outbound_exceptions(capture: &Capture, family: Family, rules: &mut Vec<Rule>) {
    let of = |then| Rule::new(Chain::Outbound, then);
    for interface in &capture.not_interfaces {
        rules.push(Rule { leaving: Some(interface.clone()), ..of(Then::Return) });
    }
    for port in &capture.not_outbound {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            rules.push(Rule { protocol: Some(protocol), port: Some(*port), ..of(Then::Return) });
        }
    }
    let lo = || Some("lo".to_owned());
    // The proxy's connections to its application.
    rules.push(Rule { from: Some(to_application(family)), leaving: lo(), ..of(Then::Return) });
    let users = capture.uids.iter().map(|id| (false, *id));
    for (group, id) in users.chain(capture.gids.iter().map(|id| (true, *id))) {
        let own = || vec![Owner { group, id, other: false }];
        // A service of the pod that the application called: the proxy goes to itself, and in by the other side.
        rules.push(Rule {
            not_to: Some(loopback(family)),
            leaving: lo(),
            not_port: Some(capture.tunnel_port),
            owners: own(),
            ..Rule::tcp(Chain::Outbound, Then::Jump(Chain::InRedirect))
        });
        if !captures_loopback(capture) {
            // The application to itself.
            let owners = vec![Owner { group, id, other: true }];
            rules.push(Rule { leaving: lo(), owners, ..of(Then::Return) });
        }
        rules.push(Rule { owners: own(), ..of(Then::Return) });
    }
    match &capture.groups {
        Groups::AllBut(groups) => rules.extend(
            groups
                .iter()
                .map(|id| Rule { owners: vec![Owner { group: true, id: *id, other: false }], ..of(Then::Return) }),
        ),
        Groups::Only(groups) => {
            let owners = groups.iter().map(|id| Owner { group: true, id: *id, other: true }).collect();
            rules.push(Rule { owners, ..of(Then::Return) });
        }
    }
}

fn outbound_addresses(capture: &Capture, family: Family, rules: &mut Vec<Rule>) {
    let of = |then| Rule::new(Chain::Outbound, then);
    rules.push(Rule { to: Some(loopback(family)), ..of(Then::Return) });
    let left_out = capture.not_ranges.iter().filter(|range| family.has(range));
    rules.extend(left_out.map(|range| Rule { to: Some(range.trunc()), ..of(Then::Return) }));
    let to_proxy = Then::Jump(Chain::Redirect);
    rules.extend(
        capture.outbound_ports.iter().map(|port| Rule { port: Some(*port), ..Rule::tcp(Chain::Outbound, to_proxy) }),
    );
    match &capture.ranges {
        Selection::All => rules.push(of(to_proxy)),
        Selection::These(ranges) => {
            let own = ranges.iter().filter(|range| family.has(range));
            rules.extend(own.map(|range| Rule { to: Some(range.trunc()), ..of(to_proxy) }));
        }
    }
}

/// Whether an address of the loopback interface is asked for by name.
fn captures_loopback(capture: &Capture) -> bool {
    matches!(&capture.ranges, Selection::These(ranges) if ranges.iter().any(|range| range.addr().is_loopback()))
}

fn loopback(family: Family) -> IpNet {
    IpNet::from(match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    })
}

fn to_application(family: Family) -> IpNet {
    IpNet::from(match family {
        Family::V4 => IpAddr::V4(TO_APPLICATION.0),
        Family::V6 => IpAddr::V6(TO_APPLICATION.1),
    })
}

#[cfg(test)]
pub(super) mod tests;
