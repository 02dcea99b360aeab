//! The rules of one action, found by what the fewest of them ask for: of a thousand a request is compared with a few.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Access,
    attribute::{Address, Attribute},
    blocks::Blocks,
    pattern::Pattern,
    rule::{Check, Rule, Wanted},
    texts::Texts,
};
use crate::{hashed::HashMap, opaque::Subnet};

/// Rules in the order of their ids, which is the order that Envoy looks at them.
#[derive(Debug)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    index: Index,
}

/// Positions of rules, each under all values of one of its parts.
#[derive(Debug)]
struct Index {
    /// Those that ask for nothing by which they could be found.
    always: Vec<usize>,
    texts: Vec<(Attribute, Texts<Vec<usize>>)>,
    blocks: Vec<(Address, Blocks<Vec<usize>>)>,
    ports: HashMap<u16, Vec<usize>>,
}

/// What a rule can be found by.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Handle {
    Text(Attribute, Pattern),
    Block(Address, Subnet),
    Port(u16),
}

impl Rules {
    /// `None`: there are none.
    pub(super) fn new(rules: Vec<Rule>) -> Option<Self> {
        (!rules.is_empty()).then(|| Self::of(rules))
    }

    /// Perhaps none at all.
    pub(super) fn of(mut rules: Vec<Rule>) -> Self {
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        let index = Index::new(&rules);
        Self { rules, index }
    }

    /// The rule with the first id of those that match.
    pub(super) fn first(&self, access: &Access<'_>) -> Option<&Rule> {
        let mut first = self.rules.len();
        self.index.any(access, |at| {
            if at < first && self.rules[at].matches(access) {
                first = at;
            }
            first == 0
        });
        self.rules.get(first)
    }

    /// Any rule that matches.
    pub(super) fn any(&self, access: &Access<'_>) -> Option<&Rule> {
        let mut found = None;
        self.index.any(access, |at| {
            let matching = self.rules[at].matches(access);
            found = matching.then_some(at);
            matching
        });
        self.rules.get(found?)
    }

    /// With how many rules an access is compared.
    #[cfg(test)]
    pub(super) fn compared(&self, access: &Access<'_>) -> usize {
        let mut count = 0;
        self.index.any(access, |_| {
            count += 1;
            false
        });
        count
    }

    /// Every one of them, looked at without the index.
    #[cfg(test)]
    pub(super) fn matching(&self, access: &Access<'_>) -> Vec<Arc<str>> {
        self.rules.iter().filter(|rule| rule.matches(access)).map(|rule| Arc::clone(&rule.id)).collect()
    }

    /// What its rules are called.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| &*rule.id)
    }

    /// The providers that its rules name.
    pub(super) fn providers(&self) -> BTreeSet<&Arc<str>> {
        self.rules.iter().filter_map(|rule| rule.provider.as_ref()).collect()
    }
}

impl Index {
    fn new(rules: &[Rule]) -> Self {
        let popularity = popularity(rules);
        let (mut always, mut handles) = (Vec::new(), Vec::new());
        for (at, rule) in rules.iter().enumerate() {
            match rarest(rule, &popularity) {
                Some(of_rule) => handles.extend(of_rule.into_iter().map(|handle| (handle, at))),
                None => always.push(at),
            }
        }
        let mut index = Self { always, texts: Vec::new(), blocks: Vec::new(), ports: HashMap::default() };
        let mut texts: HashMap<Attribute, Vec<(Pattern, usize)>> = HashMap::default();
        let mut blocks: HashMap<Address, Vec<(Subnet, usize)>> = HashMap::default();
        for (handle, at) in handles {
            match handle {
                Handle::Text(attribute, pattern) => texts.entry(attribute).or_default().push((pattern, at)),
                Handle::Block(address, block) => blocks.entry(address).or_default().push((block, at)),
                Handle::Port(port) => enter(index.ports.entry(port).or_default(), at),
            }
        }
        index.texts = texts.into_iter().map(|(attribute, all)| (attribute, Texts::new(all, enter))).collect();
        index.blocks = blocks.into_iter().map(|(address, all)| (address, Blocks::new(all, enter))).collect();
        index
    }

    /// Shows the positions of all rules that may match, some of them perhaps twice, until one is taken.
    fn any(&self, access: &Access<'_>, mut take: impl FnMut(usize) -> bool) -> bool {
        let mut take_all = |positions: &Vec<usize>| positions.iter().any(|at| take(*at));
        take_all(&self.always)
            || (!self.ports.is_empty() && self.ports.get(&access.local.port()).is_some_and(&mut take_all))
            || self.blocks.iter().any(|(address, blocks)| blocks.any(address.of(access), &mut take_all))
            || self.texts.iter().any(|(attribute, texts)| attribute.any(access, |text| texts.any(text, &mut take_all)))
    }
}

/// Positions come in order, and one rule may have a value twice.
fn enter(positions: &mut Vec<usize>, at: usize) {
    if positions.last() != Some(&at) {
        positions.push(at);
    }
}

/// How many rules could be found by each handle.
fn popularity(rules: &[Rule]) -> HashMap<Handle, usize> {
    let mut popularity = HashMap::default();
    let checks = rules.iter().flat_map(|rule| rule.from.iter().chain(&rule.to).chain([&rule.when]).flatten());
    for handle in checks.filter(|check| check.is_positive()).flat_map(handles) {
        *popularity.entry(handle).or_insert(0) += 1;
    }
    popularity
}

/// The handles of the part that a rule shares with the fewest others. `None`: it has no such part.
fn rarest(rule: &Rule, popularity: &HashMap<Handle, usize>) -> Option<Vec<Handle>> {
    let cost = |handles: &Vec<Handle>| handles.iter().map(|it| popularity.get(it).copied().unwrap_or(0)).sum::<usize>();
    let best = |checks: &mut dyn Iterator<Item = &Check>| {
        checks.filter(|check| check.is_positive()).map(handles).min_by_key(cost)
    };
    // A part of several alternatives needs a handle for each.
    let of_part = |part: &[Vec<Check>]| -> Option<Vec<Handle>> {
        let each: Option<Vec<Vec<Handle>>> = part.iter().map(|checks| best(&mut checks.iter())).collect();
        each.filter(|each| !each.is_empty()).map(|each| each.concat())
    };
    let parts = [of_part(&rule.from), of_part(&rule.to), best(&mut rule.when.iter())];
    parts.into_iter().flatten().min_by_key(cost)
}

fn handles(check: &Check) -> Vec<Handle> {
    match &check.wanted {
        Wanted::Texts(attribute, patterns) => {
            patterns.iter().map(|pattern| Handle::Text(attribute.clone(), pattern.widened())).collect()
        }
        Wanted::Blocks(address, blocks) => blocks.iter().map(|block| Handle::Block(*address, *block)).collect(),
        Wanted::Ports(ports) => ports.iter().map(|port| Handle::Port(*port)).collect(),
        Wanted::Tokens(tokens) => tokens.iter().map(of_token).collect(),
    }
}

/// Subjects are more than issuers.
fn of_token((issuer, subject): &(Pattern, Pattern)) -> Handle {
    match subject {
        Pattern::Present => Handle::Text(Attribute::Issuer, issuer.widened()),
        _ => Handle::Text(Attribute::Subject, subject.widened()),
    }
}
