//! Expressions over what is known of a request: the part of CEL that Istio's Telemetry uses, over Envoy's attributes. An
//! expression is read once, with the configuration; evaluating it asks [`Values`], whoever knows of the request.
//!
//! It is bounded by its text: there is no loop in it, regular expressions take time in proportion to what they look at, and
//! texts that are put together end at [`MOST_TEXT`]. As in Envoy, what cannot be evaluated, because something is not known, is
//! neither true nor false: a filter does not let it pass, and a label is not set by it.
//!
//! Source of names and meanings: Envoy's documentation, "Attributes", and Istio's of the Telemetry API.

mod asks;
mod evaluate;
mod fault;
mod names;
mod read;
mod value;

#[cfg(test)]
mod tests;

use std::fmt;

pub(crate) use self::names::peer_field;
use self::{
    evaluate::evaluate,
    read::{Kind, Node, read},
};
pub use self::{
    fault::Fault,
    names::{PeerField, Side},
    value::Value,
};
use crate::template::Values;

/// The longest expression, in bytes.
pub const MOST_EXPRESSION: usize = 4096;
/// The longest text that an expression puts together, in bytes.
pub const MOST_TEXT: usize = 64 * 1024;

/// An expression.
#[derive(Clone)]
pub struct Expression {
    text: Box<str>,
    root: Node,
    kind: Kind,
}

impl Expression {
    /// Reads an expression of any kind, as labels are made of.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let (root, kind) = read(text)?;
        Ok(Self { text: text.into(), root, kind })
    }

    /// Reads an expression that is true or false, as filters are.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn condition(text: &str) -> Result<Self, Fault> {
        let expression = Self::parse(text)?;
        match expression.kind {
            Kind::Bool | Kind::Any => Ok(expression),
            other => Err(Fault::NoCondition(other.name())),
        }
    }

    /// What it is for this request; `None`: something that it needs is not known.
    pub fn value<'v>(&'v self, values: &'v dyn Values) -> Option<Value<'v>> {
        evaluate(&self.root, values)
    }

    /// Whether it is true.
    pub fn holds(&self, values: &dyn Values) -> bool {
        matches!(self.value(values), Some(Value::Bool(true)))
    }

    /// Appends its value as text; `false`: it has none.
    pub fn write(&self, values: &dyn Values, out: &mut Vec<u8>) -> bool {
        self.value(values).is_some_and(|value| value.write(out))
    }
}

impl fmt::Debug for Expression {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl PartialEq for Expression {
    /// The same text says the same.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}
