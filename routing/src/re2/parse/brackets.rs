//! Classes in brackets.

use super::Parser;
use crate::re2::{
    class::{self, Runes},
    fault::{Fault, Kind},
};

impl Parser<'_> {
    /// `[...]`.
    pub(super) fn class(&mut self) -> Result<Runes, Fault> {
        let start = self.at;
        self.at += 1;
        let negated = self.takes("^");
        let mut runes = Runes::none();
        let mut first = true;
        while first || !self.rest().starts_with(']') {
            first = false;
            if let Some(group) = self.posix()? {
                runes.unite(&group);
                continue;
            }
            if self.rest().starts_with('\\')
                && let Some(group) = self.class_escape()?
            {
                runes.unite(&group);
                continue;
            }
            let (low, high) = self.range(start)?;
            runes.add(low, high);
        }
        self.at += 1;
        // Groups are closed under folding by now, so that folding them again adds nothing.
        if self.flags.fold {
            runes.fold();
        }
        if negated {
            runes.negate();
        }
        Ok(runes)
    }

    /// `[:alpha:]` or `[:^alpha:]`; `None`, and nothing taken, when there is none.
    fn posix(&mut self) -> Result<Option<Runes>, Fault> {
        let Some(inner) = self.rest().strip_prefix("[:") else { return Ok(None) };
        let Some(length) = inner.find(":]") else { return Ok(None) };
        let name = &inner[..length];
        let positive = name.strip_prefix('^');
        let start = self.at;
        self.at += length + 4;
        let runes = class::posix(positive.unwrap_or(name));
        let mut runes = runes.ok_or_else(|| Fault::new(Kind::Class, self.since(start)))?;
        if self.flags.fold {
            runes.fold();
        }
        if positive.is_some() {
            runes.negate();
        }
        Ok(Some(runes))
    }

    /// One character in brackets, or a range of them. `class`: where the bracket is.
    fn range(&mut self, class: usize) -> Result<(u32, u32), Fault> {
        let start = self.at;
        let low = self.class_character(class)?;
        let mut following = self.rest().chars();
        if following.next() != Some('-') || matches!(following.next(), None | Some(']')) {
            return Ok((low, low));
        }
        self.at += 1;
        let high = self.class_character(class)?;
        if high < low {
            return Err(Fault::new(Kind::Class, self.since(start)));
        }
        Ok((low, high))
    }

    fn class_character(&mut self, class: usize) -> Result<u32, Fault> {
        if self.rest().starts_with('\\') {
            return self.character();
        }
        self.take().map(u32::from).ok_or_else(|| Fault::new(Kind::Bracket, self.since(class)))
    }
}
