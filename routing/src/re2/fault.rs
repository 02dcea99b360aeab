//! Why an expression is refused, in RE2's words.

use std::fmt;

/// Why an expression is no RE2 expression, or one that is too large.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    kind: Kind,
    /// What of the expression is wrong.
    part: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Escape,
    Class,
    Bracket,
    OpenParen,
    CloseParen,
    TrailingBackslash,
    NothingToRepeat,
    RepeatedRepeat,
    RepeatSize,
    PerlOperator,
    GroupName,
    Substitution,
    TooLarge,
    TooMuch,
}

impl Fault {
    pub(super) fn new(kind: Kind, part: impl Into<String>) -> Self {
        Self { kind, part: part.into() }
    }

    /// There is no room for an expression beside the others.
    pub(crate) fn too_much(text: &str) -> Self {
        Self::new(Kind::TooMuch, text)
    }

    /// Whether it is RE2 that has no such expression. The others are too large for us.
    pub fn is_syntax(&self) -> bool {
        !matches!(self.kind, Kind::TooLarge | Kind::TooMuch)
    }

    fn what(&self) -> &'static str {
        match self.kind {
            Kind::Escape => "invalid escape sequence",
            Kind::Class => "invalid character class range",
            Kind::Bracket => "missing ]",
            Kind::OpenParen => "missing )",
            Kind::CloseParen => "unexpected )",
            Kind::TrailingBackslash => "trailing \\",
            Kind::NothingToRepeat => "no argument for repetition operator",
            Kind::RepeatedRepeat => "bad repetition operator",
            Kind::RepeatSize => "invalid repetition size",
            Kind::PerlOperator => "invalid perl operator",
            Kind::GroupName => "invalid named capture group",
            Kind::Substitution => "bad substitution",
            Kind::TooLarge => "too large",
            Kind::TooMuch => "too large together with the others",
        }
    }

    /// What would be right, where people mean something by it.
    fn instead(&self) -> Option<&'static str> {
        let after = |start: &str| self.part.strip_prefix(start);
        Some(match self.kind {
            Kind::PerlOperator if ["(?=", "(?!", "(?<"].iter().any(|look| self.part.starts_with(look)) => {
                "RE2 has no lookaround"
            }
            Kind::PerlOperator if after("(?>").is_some() => "RE2 has no atomic groups",
            Kind::PerlOperator if after("(?#").is_some() => "RE2 has no comments",
            Kind::PerlOperator => "RE2 has `(?:...)`, `(?P<name>...)`, `(?<name>...)` and the flags i, m, s and U",
            Kind::Escape if after("\\").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) => {
                "RE2 has no backreferences"
            }
            Kind::Escape if self.part == "\\Z" => "the end of the text is `\\z`",
            Kind::RepeatedRepeat => "RE2 has no possessive operators; put what is repeated twice into `(?:...)`",
            Kind::RepeatSize => "at most 1000 repetitions, nested ones multiplied, and the smaller number first",
            Kind::Substitution => {
                "write `\\0` for the whole match, `\\1` for its first group, and `\\\\` for a backslash"
            }
            Kind::TooLarge => "write it with fewer or smaller repetitions",
            Kind::TooMuch => "write fewer or smaller ones",
            _ => return None,
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())?;
        if !self.part.is_empty() {
            write!(f, ": `{}`", self.part)?;
        }
        match self.instead() {
            Some(instead) => write!(f, " ({instead})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}
