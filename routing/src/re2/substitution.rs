//! What matches give way to: RE2's `Rewrite`.

use std::fmt;

use super::fault::{Fault, Kind};

/// A text in which `\0` to `\9` stand for what the expression's groups matched.
#[derive(Clone, Eq, PartialEq)]
pub struct Substitution {
    text: Box<str>,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Piece {
    Text(String),
    /// 0 is the whole match.
    Group(usize),
}

impl Substitution {
    /// Reads a substitution.
    ///
    /// # Errors
    /// A backslash before something else than a digit or a backslash.
    pub fn new(text: &str) -> Result<Self, Fault> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            if c != '\\' {
                plain.push(c);
                continue;
            }
            match rest.next() {
                Some('\\') => plain.push('\\'),
                Some(other) => {
                    let group =
                        other.to_digit(10).ok_or_else(|| Fault::new(Kind::Substitution, format!("\\{other}")))?;
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    pieces.push(Piece::Group(group as usize));
                }
                None => return Err(Fault::new(Kind::Substitution, "\\")),
            }
        }
        pieces.push(Piece::Text(plain));
        Ok(Self { text: text.into(), pieces })
    }

    /// The highest group that it names.
    pub fn highest_group(&self) -> usize {
        let groups = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Group(group) => Some(*group),
            Piece::Text(_) => None,
        });
        groups.max().unwrap_or(0)
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }
}

impl fmt::Display for Substitution {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Substitution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}
