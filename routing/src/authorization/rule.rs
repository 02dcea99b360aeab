//! One rule, as it is decided for one access.

use std::sync::Arc;

use super::{
    Access,
    attribute::{Address, Attribute},
    blocks::Blocks,
    pattern::Pattern,
    texts::Texts,
};
use crate::opaque::Subnet;

/// A rule: one of `from`, one of `to`, all of `when`.
#[derive(Debug)]
pub(crate) struct Rule {
    /// `ns[..]-policy[..]-rule[..]`.
    pub(crate) id: Arc<str>,
    /// Who is asked, with CUSTOM.
    pub(crate) provider: Option<Arc<str>>,
    /// Who; anybody when empty.
    pub(crate) from: Vec<Vec<Check>>,
    /// What; anything when empty.
    pub(crate) to: Vec<Vec<Check>>,
    /// Under which conditions.
    pub(crate) when: Vec<Check>,
}

impl Rule {
    /// One that matches everything.
    pub(crate) fn everything(id: Arc<str>) -> Self {
        Self { id, provider: None, from: Vec::new(), to: Vec::new(), when: Vec::new() }
    }

    pub(super) fn matches(&self, access: &Access<'_>) -> bool {
        let one = |of: &[Vec<Check>]| of.is_empty() || of.iter().any(|all| all.iter().all(|check| check.holds(access)));
        one(&self.from) && one(&self.to) && self.when.iter().all(|check| check.holds(access))
    }
}

/// One comparison.
#[derive(Debug)]
pub(crate) struct Check {
    /// None of the values, instead of one of them.
    negated: bool,
    /// What the table of rules looks it up by.
    pub(super) wanted: Wanted,
    known: Known,
}

/// Values as they are written, of what.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// Texts.
    Texts(Attribute, Vec<Pattern>),
    /// Blocks of addresses.
    Blocks(Address, Vec<Subnet>),
    /// Ports that were connected to.
    Ports(Vec<u16>),
    /// Tokens by issuer and subject.
    Tokens(Vec<(Pattern, Pattern)>),
}

/// Values as they are looked up.
#[derive(Debug)]
enum Known {
    Texts(Texts<()>),
    Blocks(Blocks<()>),
    /// They are few.
    AsWritten,
}

impl Check {
    pub(crate) fn new(negated: bool, wanted: Wanted) -> Self {
        let known = match &wanted {
            Wanted::Texts(_, patterns) => {
                Known::Texts(Texts::new(patterns.iter().map(|it| (it.clone(), ())), |_, ()| ()))
            }
            Wanted::Blocks(_, blocks) => Known::Blocks(Blocks::new(blocks.iter().map(|it| (*it, ())), |_, ()| ())),
            Wanted::Ports(_) | Wanted::Tokens(_) => Known::AsWritten,
        };
        Self { negated, wanted, known }
    }

    /// Whether one of the values is asked for, so that a rule can be found by them.
    pub(super) fn is_positive(&self) -> bool {
        !self.negated
    }

    fn holds(&self, access: &Access<'_>) -> bool {
        let found = match (&self.wanted, &self.known) {
            (Wanted::Texts(attribute, _), Known::Texts(texts)) => {
                attribute.any(access, |text| texts.any(text, |()| true))
            }
            (Wanted::Blocks(address, _), Known::Blocks(blocks)) => blocks.any(address.of(access), |()| true),
            (Wanted::Ports(ports), _) => ports.contains(&access.local.port()),
            (Wanted::Tokens(tokens), _) => tokens.iter().any(|(issuer, subject)| {
                Attribute::Issuer.any(access, |text| issuer.matches(text))
                    && Attribute::Subject.any(access, |text| subject.matches(text))
            }),
            (Wanted::Texts(..) | Wanted::Blocks(..), _) => false,
        };
        found != self.negated
    }
}
