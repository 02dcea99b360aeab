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
    known: RefCell<HashMap<(String, Reach), Expression>>,
    left: Cell<u64>,
}

impl Default for Expressions {
    fn default() -> Self {
        Self { known: RefCell::default(), left: Cell::new(ROOM) }
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
        if let Some(known) = self.known.borrow().get(&key) {
            return Ok(known.clone());
        }
        let left = self.left.get().checked_sub(Expression::size(text)?).ok_or_else(|| Fault::too_much(text))?;
        let made = match reach {
            Reach::Whole => Expression::whole(text),
            Reach::Part => Expression::part(text),
        }?;
        self.left.set(left);
        self.known.borrow_mut().insert(key, made.clone());
        Ok(made)
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
