//! Rules as iptables-restore reads them and iptables-save prints them, letter by letter: equal text is equal rules.

use std::{collections::BTreeSet, fmt::Write as _};

use ipnet::IpNet;

use super::plan::{Chain, Owner, Protocol, Rule, Table, Then};

/// A table's name.
pub(super) fn table(table: Table) -> &'static str {
    match table {
        Table::Nat => "nat",
        Table::Mangle => "mangle",
    }
}

/// A chain's name: Istio's.
fn name(chain: Chain) -> &'static str {
    match chain {
        Chain::Prerouting | Chain::ManglePrerouting => "PREROUTING",
        Chain::Output => "OUTPUT",
        Chain::Inbound => "ISTIO_INBOUND",
        Chain::Redirect => "ISTIO_REDIRECT",
        Chain::InRedirect => "ISTIO_IN_REDIRECT",
        Chain::Outbound => "ISTIO_OUTPUT",
        Chain::Drop => "ISTIO_DROP",
    }
}

/// One rule, as `-A CHAIN ...`.
fn line(rule: &Rule) -> String {
    let mut text = format!("-A {}", name(rule.chain));
    let mut add = |word: &dyn std::fmt::Display| {
        // Writing into a String cannot fail.
        let _ = write!(text, " {word}");
    };
    // What holds for every address is not said, nor saved.
    let some = |net: Option<IpNet>| net.filter(|net| net.prefix_len() > 0);
    let (from, to, not_to) = (some(rule.from), some(rule.to), rule.not_to);
    from.iter().for_each(|net| add(&format_args!("-s {net}")));
    to.iter().for_each(|net| add(&format_args!("-d {net}")));
    not_to.iter().for_each(|net| add(&format_args!("! -d {net}")));
    rule.entering.iter().for_each(|it| add(&format_args!("-i {it}")));
    rule.leaving.iter().for_each(|it| add(&format_args!("-o {it}")));
    let protocol = rule.protocol.map(|protocol| match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    });
    if let Some(protocol) = protocol {
        add(&format_args!("-p {protocol}"));
        rule.port.iter().for_each(|port| add(&format_args!("-m {protocol} --dport {port}")));
        rule.not_port.iter().for_each(|port| add(&format_args!("-m {protocol} ! --dport {port}")));
    }
    if rule.invalid {
        add(&"-m conntrack --ctstate INVALID");
    }
    for Owner { group, id, other } in &rule.owners {
        let (not, flag) = (if *other { "! " } else { "" }, if *group { "--gid-owner" } else { "--uid-owner" });
        add(&format_args!("-m owner {not}{flag} {id}"));
    }
    match rule.then {
        Then::Return => add(&"-j RETURN"),
        Then::Jump(to) => add(&format_args!("-j {}", name(to))),
        Then::Redirect(port) => add(&format_args!("-j REDIRECT --to-ports {port}")),
        Then::Drop => add(&"-j DROP"),
    }
    text
}

/// What a table has of ours: jumps from the system's chains, and chains.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Found {
    jumps: Vec<String>,
    chains: BTreeSet<String>,
    rules: Vec<String>,
}

impl Found {
    /// From what iptables-save printed.
    pub(super) fn read(saved: &str) -> Self {
        let ours: Vec<&str> =
            Table::ALL.iter().flat_map(|it| it.chains()).copied().filter(|it| !it.is_systems()).map(name).collect();
        let mut found = Self::default();
        for text in saved.lines().map(str::trim) {
            if let Some(chain) = text.strip_prefix(':').and_then(|text| text.split(' ').next()) {
                found.chains.extend(ours.contains(&chain).then(|| chain.to_owned()));
            }
            let Some(rule) = text.strip_prefix("-A ") else { continue };
            let chain = rule.split(' ').next().unwrap_or_default();
            let target = rule.rsplit_once("-j ").map(|(_, target)| target.trim()).unwrap_or_default();
            if ours.contains(&chain) {
                found.rules.push(text.to_owned());
            } else if ours.contains(&target) {
                found.jumps.push(text.to_owned());
            }
        }
        found
    }

    /// Whether there is nothing of ours.
    pub(super) fn is_empty(&self) -> bool {
        self.jumps.is_empty() && self.chains.is_empty()
    }

    /// Whether all is there, and no more: iptables-save has its own order of chains.
    pub(super) fn is(&self, rules: &[Rule], of: Table) -> bool {
        let wanted = |systems: bool| rules_of(rules, of).filter(move |it| it.chain.is_systems() == systems).map(line);
        let in_chain_order = |mut lines: Vec<String>| {
            lines.sort_by_key(|text| text.split(' ').nth(1).unwrap_or_default().to_owned());
            lines
        };
        let same = |found: &[String], wanted: Vec<String>| in_chain_order(found.to_vec()) == in_chain_order(wanted);
        same(&self.jumps, wanted(true).collect()) && same(&self.rules, wanted(false).collect())
    }
}

fn rules_of(rules: &[Rule], of: Table) -> impl Iterator<Item = &Rule> {
    rules.iter().filter(move |rule| of.chains().contains(&rule.chain))
}

/// What makes a table hold these rules in place of what was found: one transaction for `iptables-restore --noflush`. Chains that
/// are named are emptied first. Without rules: what takes everything away.
pub(super) fn restore(found: &Found, rules: &[Rule], of: Table) -> String {
    let mut text = format!("*{}\n", table(of));
    let wanted: Vec<&Rule> = rules_of(rules, of).collect();
    let chains: Vec<&str> =
        of.chains().iter().copied().filter(|it| !it.is_systems() && !wanted.is_empty()).map(name).collect();
    for chain in &chains {
        text += &format!(":{chain} - [0:0]\n");
    }
    for jump in &found.jumps {
        text += &format!("-D {}\n", jump.trim_start_matches("-A "));
    }
    let gone = || found.chains.iter().filter(|chain| !chains.contains(&chain.as_str()));
    gone().for_each(|chain| text += &format!("-F {chain}\n"));
    gone().for_each(|chain| text += &format!("-X {chain}\n"));
    wanted.into_iter().for_each(|rule| text += &(line(rule) + "\n"));
    text.push_str("COMMIT\n");
    text
}

#[cfg(test)]
mod tests;
