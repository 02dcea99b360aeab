//! Rules as `nft -f` reads them and `nft list table` prints them.

use ipnet::IpNet;

use super::{
    Family,
    plan::{Chain, Owner, Protocol, Rule, Table, Then},
};

/// A table's name: Istio's.
pub(super) fn table(table: Table) -> &'static str {
    match table {
        Table::Nat => "istio-proxy-nat",
        Table::Mangle => "istio-proxy-mangle",
    }
}

/// What nft calls a family.
pub(super) fn family(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn name(chain: Chain) -> &'static str {
    match chain {
        Chain::Prerouting | Chain::ManglePrerouting => "prerouting",
        Chain::Output => "output",
        Chain::Inbound => "istio-inbound",
        Chain::Redirect => "istio-redirect",
        Chain::InRedirect => "istio-in-redirect",
        Chain::Outbound => "istio-output",
        Chain::Drop => "istio-drop",
    }
}

/// Where the system enters a chain.
fn hook(chain: Chain) -> Option<&'static str> {
    match chain {
        Chain::Prerouting => Some("type nat hook prerouting priority dstnat; policy accept;"),
        Chain::Output => Some("type nat hook output priority -100; policy accept;"),
        Chain::ManglePrerouting => Some("type filter hook prerouting priority mangle; policy accept;"),
        _ => None,
    }
}

/// As nft prints it: one address without its length.
fn net(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

fn interface(name: &str) -> String {
    match name.strip_suffix('+') {
        Some(stem) => format!("\"{stem}*\""),
        None => format!("\"{name}\""),
    }
}

fn line(rule: &Rule, of: Family) -> String {
    let ip = family(of);
    let mut words = Vec::new();
    words.extend(rule.entering.iter().map(|it| format!("iifname {}", interface(it))));
    words.extend(rule.leaving.iter().map(|it| format!("oifname {}", interface(it))));
    words.extend(rule.from.map(|it| format!("{ip} saddr {}", net(it))));
    words.extend(rule.to.map(|it| format!("{ip} daddr {}", net(it))));
    words.extend(rule.not_to.map(|it| format!("{ip} daddr != {}", net(it))));
    let protocol = rule.protocol.map(|protocol| match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    });
    if let Some(protocol) = protocol {
        words.push(match (rule.port, rule.not_port) {
            (Some(port), _) => format!("{protocol} dport {port}"),
            (None, Some(port)) => format!("{protocol} dport != {port}"),
            (None, None) => format!("meta l4proto {protocol}"),
        });
    }
    if rule.invalid {
        words.push("ct state invalid".to_owned());
    }
    for Owner { group, id, other } in &rule.owners {
        let (key, not) = (if *group { "skgid" } else { "skuid" }, if *other { "!= " } else { "" });
        words.push(format!("meta {key} {not}{id}"));
    }
    words.push(match rule.then {
        Then::Return => "return".to_owned(),
        Then::Jump(to) => format!("jump {}", name(to)),
        Then::Redirect(port) => format!("redirect to :{port}"),
        Then::Drop => "drop".to_owned(),
    });
    words.join(" ")
}

/// A table with these rules; `None`: none of them is in it.
pub(super) fn declare(rules: &[Rule], of: Family, which: Table) -> Option<String> {
    let rules_of = |chain: Chain| rules.iter().filter(move |rule| rule.chain == chain);
    which.chains().iter().find(|chain| rules_of(**chain).next().is_some())?;
    let mut text = format!("table {} {} {{\n", family(of), table(which));
    // What is jumped to has to be there before.
    let (systems, own): (Vec<Chain>, Vec<Chain>) = which.chains().iter().partition(|chain| chain.is_systems());
    for chain in own.into_iter().chain(systems) {
        text += &format!("\tchain {} {{\n", name(chain));
        hook(chain).iter().for_each(|hook| text += &format!("\t\t{hook}\n"));
        rules_of(chain).for_each(|rule| text += &format!("\t\t{}\n", line(rule, of)));
        text.push_str("\t}\n");
    }
    text.push_str("}\n");
    Some(text)
}

/// What takes a table away, be it there or not.
pub(super) fn remove(of: Family, which: Table) -> String {
    let (family, table) = (family(of), table(which));
    format!("table {family} {table}\ndelete table {family} {table}\n")
}

/// Whether two texts of tables are the same but for space.
pub(super) fn same(one: &str, other: &str) -> bool {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    words(one) == words(other)
}

#[cfg(test)]
mod tests;
