//! What expressions are about.

use std::{borrow::Cow, cmp::Ordering, io::Write as _, time::Duration};

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'v> {
    /// True or false.
    Bool(bool),
    /// A whole number, with a sign or without.
    Int(i64),
    /// Another number.
    Double(f64),
    /// A text.
    Text(Cow<'v, str>),
    /// A point in time, since 1970.
    Moment(Duration),
    /// A time.
    Span(Duration),
    /// Nothing.
    Null,
}

impl Value<'_> {
    /// Appends it as text; `false`: it is nothing.
    pub fn write(&self, out: &mut Vec<u8>) -> bool {
        // Writing into a Vec cannot fail.
        let _ = match self {
            Self::Bool(value) => write!(out, "{value}"),
            Self::Int(value) => write!(out, "{value}"),
            Self::Double(value) => write!(out, "{value}"),
            Self::Text(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(())
            }
            Self::Moment(time) => {
                crate::template::TimeFormat::default().write(*time, out);
                Ok(())
            }
            Self::Span(time) => write!(out, "{}s", time.as_secs_f64()),
            Self::Null => return false,
        };
        true
    }

    /// Whether both are the same; numbers by what they are worth.
    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(_) | Self::Double(_), Self::Int(_) | Self::Double(_)) => {
                self.order(other) == Some(Ordering::Equal)
            }
            (one, other) => one == other,
        }
    }

    /// Which is more; `None`: they cannot be compared.
    pub(super) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => Some(one.cmp(other)),
            (Self::Int(one), Self::Int(other)) => Some(one.cmp(other)),
            (Self::Int(one), Self::Double(other)) => (*one as f64).partial_cmp(other),
            (Self::Double(one), Self::Int(other)) => one.partial_cmp(&(*other as f64)),
            (Self::Double(one), Self::Double(other)) => one.partial_cmp(other),
            (Self::Text(one), Self::Text(other)) => Some(one.cmp(other)),
            (Self::Moment(one), Self::Moment(other)) | (Self::Span(one), Self::Span(other)) => Some(one.cmp(other)),
            _ => None,
        }
    }
}
