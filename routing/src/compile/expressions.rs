//! The regular expressions of a configuration: each compiled once, and no more of them than there is room for.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use crate::re2::{Expression, Fault, Reach};

/// What all programs may take together, in ranges of bytes: some 200 MiB, and two seconds to compile. Ten thousand expressions
/// of the usual kind take an eighth.
const ROOM: u64 = 4 << 20;

/// The expressions so far.
pub(super) struct Expressions {
    known: RefCell<HashMap<(String, Reach), (Expression, u64)>>,
    left: Cell<u64>,
    watched: RefCell<Vec<Used>>,
}

/// An expression that something was made with, and the room that it takes.
#[derive(Clone)]
pub(super) struct Used {
    key: (String, Reach),
    made: Expression,
    size: u64,
}

impl Default for Expressions {
    fn default() -> Self {
        Self { known: RefCell::default(), left: Cell::new(ROOM), watched: RefCell::default() }
    }
}

impl Expressions {
    /// One that has to match the whole text.
    pub(super) fn whole(&self, text: &str) -> Result<Expression, Fault> {
        self.get(text, Reach::Whole)
    }

    /// One that may match anywhere.
    pub(super) fn part(&self, text: &str) -> Result<Expression, Fault> {
        self.get(text, Reach::Part)
    }

    fn get(&self, text: &str, reach: Reach) -> Result<Expression, Fault> {
        let key = (text.to_owned(), reach);
        if let Some((made, size)) = self.known.borrow().get(&key) {
            self.watched.borrow_mut().push(Used { key, made: made.clone(), size: *size });
            return Ok(made.clone());
        }
        let size = Expression::size(text)?;
        let left = self.left.get().checked_sub(size).ok_or_else(|| Fault::too_much(text))?;
        let made = match reach {
            Reach::Whole => Expression::whole(text),
            Reach::Part => Expression::part(text),
        }?;
        self.left.set(left);
        self.known.borrow_mut().insert(key.clone(), (made.clone(), size));
        self.watched.borrow_mut().push(Used { key, made: made.clone(), size });
        Ok(made)
    }

    /// From here on it is noted what is used.
    pub(super) fn watch(&self) {
        self.watched.borrow_mut().clear();
    }

    /// What was used since [`Self::watch`].
    pub(super) fn watched(&self) -> Vec<Used> {
        let mut watched = self.watched.take();
        watched.shrink_to_fit();
        watched
    }

    /// Makes room for one of an earlier compilation; `false`: there is none.
    pub(super) fn take_again(&self, used: &Used) -> bool {
        let mut known = self.known.borrow_mut();
        if known.contains_key(&used.key) {
            return true;
        }
        let Some(left) = self.left.get().checked_sub(used.size) else { return false };
        self.left.set(left);
        known.insert(used.key.clone(), (used.made.clone(), used.size));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_beyond_the_room_are_refused_and_those_that_are_known_are_not() {
        let expressions = Expressions { left: Cell::new(2000), ..Expressions::default() };
        let long = "a{990}";
        assert!(expressions.whole(long).unwrap().is_match("a".repeat(990)));
        let fault = expressions.whole("b{990}").unwrap_err();
        assert_eq!(fault.to_string(), "too large together with the others: `b{990}` (write fewer or smaller ones)");
        assert!(expressions.whole(long).is_ok());
        assert!(expressions.whole("b").is_ok(), "there is room for a small one");
        assert!(expressions.part("b").unwrap().is_match("abc"), "and the same text may be wanted in another way");
    }
}
