//! What was made out of a text the last time, so that one change among thousands of expressions costs one expression.

use std::collections::HashMap;

/// Made things by their text: those of this round, and those of the round before that were not asked for yet.
#[derive(Debug)]
pub(crate) struct Memo<T> {
    now: HashMap<Box<str>, T>,
    before: HashMap<Box<str>, T>,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self { now: HashMap::new(), before: HashMap::new() }
    }
}

impl<T: Clone> Memo<T> {
    /// What was made of this text, else what `make` makes of it.
    ///
    /// # Errors
    /// That of `make`, which is not kept.
    pub(crate) fn get<E>(&mut self, text: &str, make: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        if let Some(known) = self.now.get(text) {
            return Ok(known.clone());
        }
        let (text, made) = match self.before.remove_entry(text) {
            Some(known) => known,
            None => (text.into(), make()?),
        };
        self.now.insert(text, made.clone());
        Ok(made)
    }

    /// Ends a round: what nobody asked for in it is forgotten.
    pub(crate) fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_in_every_round_is_made_once() {
        let (mut memo, mut made) = (Memo::default(), Vec::new());
        for round in [["a", "b"], ["a", "c"], ["a", "b"]] {
            for text in round {
                let got: Result<usize, ()> = memo.get(text, || {
                    made.push(text);
                    Ok(made.len())
                });
                assert!(got.is_ok());
            }
            memo.turn();
        }
        assert_eq!(made, ["a", "b", "c", "b"], "`b` was not asked for in the second round");
    }

    #[test]
    fn what_could_not_be_made_is_tried_again() {
        let mut memo = Memo::<u8>::default();
        assert_eq!(memo.get("a", || Err("no")), Err("no"));
        assert_eq!(memo.get("a", || Ok::<_, ()>(1)), Ok(1));
    }
}
