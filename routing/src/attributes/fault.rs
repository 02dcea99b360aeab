//! What is wrong with an expression.

use std::fmt;

use super::{MOST_EXPRESSION, names};

/// What is wrong with an expression.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// It is longer than is read.
    TooLong(usize),
    /// It is no CEL; in the words of whoever reads it.
    Syntax(String),
    /// It names what there is not, with those that are written alike.
    Unknown(String, Vec<&'static str>),
    /// It names what Envoy knows and this proxy does not keep.
    NotKept(String),
    /// It uses a function that there is not here.
    Function(String),
    /// A loop over a list: `all`, `exists`, `map`, `filter`.
    Loop,
    /// A function or an operator is given what it has no meaning for.
    Meaning(String),
    /// A regular expression is none.
    Regex(String),
    /// A condition is wanted; this is what it is.
    NoCondition(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(length) => write!(f, "it has {length} bytes; {MOST_EXPRESSION} are read at most"),
            Self::Syntax(why) => write!(f, "it is no CEL: {why}"),
            Self::Unknown(name, near) => {
                write!(f, "there is no attribute `{name}`")?;
                let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
                if near.is_empty() {
                    write!(f, "; there are those of {}", names::roots())
                } else {
                    write!(f, "; did you mean {}?", near.join(" or "))
                }
            }
            Self::NotKept(name) => write!(f, "the attribute `{name}` tells of what this proxy does not keep"),
            Self::Function(name) => write!(f, "there is no function `{name}` here; there are {}", names::functions()),
            Self::Loop => f.write_str("a loop over a list is not evaluated: compare with each entry, or with `in`"),
            Self::Meaning(what) => f.write_str(what),
            Self::Regex(why) => write!(f, "`matches` is given no regular expression: {why}"),
            Self::NoCondition(kind) => {
                write!(f, "it is {kind}, and a condition is wanted, as `response.code >= 400`")
            }
        }
    }
}
