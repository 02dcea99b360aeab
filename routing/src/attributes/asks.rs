//! What expressions ask for: one that asks for nothing is evaluated once, and what others need has to be kept for them.

use std::{borrow::Cow, time::Duration};

use super::{
    Expression,
    names::Attribute,
    read::{Kind, Node},
};
use crate::{
    pattern::HeaderField,
    template::{Demands, Fact, ResponseField, Validity, Values},
};

impl Node {
    /// Whether one of the attributes in it is so.
    fn asks(&self, so: &impl Fn(&Attribute) -> bool) -> bool {
        match self {
            Self::Constant(_) => false,
            Self::Attribute(attribute) | Self::Has(attribute) => so(attribute),
            Self::Not(of) | Self::Negated(of) | Self::Matches(of, _) | Self::Changed(_, of) => of.asks(so),
            Self::And(sides)
            | Self::Or(sides)
            | Self::Compared(_, sides)
            | Self::Computed(_, sides)
            | Self::Tested(_, sides) => sides.iter().any(|side| side.asks(so)),
            Self::If(parts) => parts.iter().any(|part| part.asks(so)),
            Self::Among(needle, list) => needle.asks(so) || list.iter().any(|entry| entry.asks(so)),
        }
    }
}

impl Expression {
    /// What it always says; `None`: that depends on the request, or it says nothing.
    pub fn constant(&self) -> Option<String> {
        if self.root.asks(&|_| true) {
            return None;
        }
        let mut text = Vec::new();
        self.write(&Nothing, &mut text).then(|| String::from_utf8_lossy(&text).into_owned())
    }

    /// What has to be kept of a request until it is evaluated.
    pub fn demands(&self) -> Demands {
        let trailers = self.root.asks(&|attribute| matches!(attribute, Attribute::Trailer(_)));
        Demands { trailers, ..Demands::default() }
    }

    /// Whether its value is written in JSON as it is: a whole number, true or false.
    pub(crate) fn is_number_or_condition(&self) -> bool {
        matches!(self.kind, Kind::Int | Kind::Bool)
    }
}

/// Knows nothing, since it is not asked.
struct Nothing;

impl Values for Nothing {
    fn request(&self, _: &HeaderField) -> Option<Cow<'_, [u8]>> {
        None
    }

    fn response(&self, _: &ResponseField) -> Option<Cow<'_, [u8]>> {
        None
    }

    fn fact(&self, _: Fact, _: &mut Vec<u8>) {}

    fn environment(&self, _: &str) -> Option<String> {
        None
    }

    fn start(&self) -> Duration {
        Duration::ZERO
    }

    fn certificate(&self, _: Validity) -> Option<i64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_for_nothing_is_known_at_once() {
        let constant = |text: &str| Expression::parse(text).unwrap().constant();
        assert_eq!(constant("'north'").as_deref(), Some("north"));
        assert_eq!(constant("'a' + string(1 + 2)").as_deref(), Some("a3"));
        assert_eq!(constant("1 in [2, 1] ? 'yes' : 'no'").as_deref(), Some("yes"));
        assert_eq!(constant("1 / 0"), None, "it says nothing");
        for text in ["request.host", "'a' in request.headers", "true || request.path == 'a'", "!has(request.headers.x)"]
        {
            assert_eq!(constant(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_needed_of_a_request_is_told() {
        let demands = |text: &str| Expression::parse(text).unwrap().demands();
        let trailers = Demands { trailers: true, ..Demands::default() };
        assert_eq!(demands("response.trailers['x'] == 'a' && true"), trailers);
        assert_eq!(demands("'x' in response.trailers"), trailers);
        assert_eq!(demands("response.headers['x'] == 'a'"), Demands::default());
    }
}
