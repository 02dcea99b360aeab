//! Regular expressions as Istio's proxies read them: RE2's language, over bytes that are UTF-8 or not.

use std::{fmt, sync::Arc};

use regex_automata::{
    Input,
    meta::{Config, Regex},
    nfa::thompson::WhichCaptures,
    util::captures::Captures,
};
use regex_syntax::hir::{Hir, Look};

pub(crate) use self::in_use::Reach;
pub use self::{class::unicode_groups, fault::Fault, substitution::Substitution};
use self::{
    fault::Kind,
    parse::{Parsed, parse},
    substitution::Piece,
};

mod class;
mod fault;
mod in_use;
mod parse;
mod substitution;

/// A compiled expression.
#[derive(Clone)]
pub struct Expression(Arc<Program>);

struct Program {
    text: Box<str>,
    /// Capturing groups.
    groups: usize,
    regex: Regex,
}

/// The largest program, in ranges of bytes. Istio's proxies take 32,768 of RE2's instructions, one of which is worth at
/// most four ranges; RE2 itself ends at ten times as many.
const MAX_SIZE: u64 = 4 * 32_768;
/// What an expression may keep of the states it was in, for each thread that is in it at the same time.
const CACHE: usize = 256 << 10;

impl Expression {
    /// An expression that must match the whole text.
    ///
    /// # Errors
    /// It is no RE2 expression, or too large.
    pub fn whole(text: &str) -> Result<Self, Fault> {
        in_use::or_made(text, Reach::Whole, || {
            let Parsed { hir, groups, .. } = read(text)?;
            let hir = Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]);
            compile(text, groups, &hir, WhichCaptures::None)
        })
    }

    /// An expression that may match anywhere (Istio's `uriRegexRewrite.match`).
    ///
    /// # Errors
    /// As [`Self::whole`].
    pub fn part(text: &str) -> Result<Self, Fault> {
        in_use::or_made(text, Reach::Part, || {
            let Parsed { hir, groups, .. } = read(text)?;
            compile(text, groups, &hir, WhichCaptures::All)
        })
    }

    /// Whether a text is an expression, and how large a program it takes; much cheaper than to compile it.
    ///
    /// # Errors
    /// As [`Self::whole`].
    pub fn size(text: &str) -> Result<u64, Fault> {
        read(text).map(|parsed| parsed.size)
    }

    /// Whether a text fulfils the expression. It need not be UTF-8: bytes that are not are matched by `\C` alone.
    pub fn is_match(&self, text: impl AsRef<[u8]>) -> bool {
        self.0.regex.is_match(text.as_ref())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// How many capturing groups it has.
    pub fn groups(&self) -> usize {
        self.0.groups
    }

    /// The text with every match replaced, as RE2's `GlobalReplace` does it: an empty match does not follow a match, and
    /// nothing is replaced when the substitution names a group that the expression does not have.
    pub fn replace_all(&self, text: &str, substitution: &Substitution) -> String {
        let mut out = Vec::with_capacity(text.len());
        let mut captures = self.0.regex.create_captures();
        let (mut at, mut last_end) = (0, None);
        while at <= text.len() && substitution.highest_group() <= self.0.groups {
            self.0.regex.search_captures(&Input::new(text).span(at..text.len()), &mut captures);
            let Some(found) = captures.get_match() else { break };
            out.extend_from_slice(&text.as_bytes()[at..found.start()]);
            at = found.start();
            if found.is_empty() && last_end == Some(at) {
                let length = text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
                out.extend(text.as_bytes().iter().skip(at).take(length));
                at += length;
                continue;
            }
            write(&mut out, text, &captures, substitution);
            at = found.end();
            last_end = Some(at);
        }
        out.extend(text.as_bytes().iter().skip(at));
        // Only `\C` can leave a part of a character.
        String::from_utf8_lossy(&out).into_owned()
    }
}

fn read(text: &str) -> Result<Parsed, Fault> {
    let parsed = parse(text)?;
    if parsed.size > MAX_SIZE { Err(Fault::new(Kind::TooLarge, text)) } else { Ok(parsed) }
}

fn compile(text: &str, groups: usize, hir: &Hir, captures: WhichCaptures) -> Result<Program, Fault> {
    let config = Config::new().utf8_empty(false).which_captures(captures).onepass(false).hybrid_cache_capacity(CACHE);
    let regex = Regex::builder().configure(config).build_from_hir(hir);
    let regex = regex.map_err(|_| Fault::new(Kind::TooLarge, text))?;
    Ok(Program { text: text.into(), groups, regex })
}

fn write(out: &mut Vec<u8>, text: &str, captures: &Captures, substitution: &Substitution) {
    for piece in substitution.pieces() {
        match piece {
            Piece::Text(plain) => out.extend_from_slice(plain.as_bytes()),
            Piece::Group(group) => {
                let span = captures.get_group(*group);
                out.extend_from_slice(span.map_or(&[], |span| &text.as_bytes()[span.range()]));
            }
        }
    }
}

impl fmt::Display for Expression {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.text)
    }
}

#[cfg(test)]
mod tests;
