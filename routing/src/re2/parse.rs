//! RE2's syntax, read as RE2 reads it, to the intermediate form of the `regex` crates.
//!
//! Their own parser is not asked: the two languages look alike and differ in hundreds of small things (`\d` is ASCII here,
//! `[[a]` a class of two characters, `a{,2}` a text), and a text cannot be translated without being understood.

use regex_syntax::hir::{Capture, Hir, Look, Repetition};

use super::{
    class::{self, Runes},
    fault::{Fault, Kind},
};

mod brackets;

/// An expression that was read.
pub(super) struct Parsed {
    pub(super) hir: Hir,
    /// Capturing groups.
    pub(super) groups: usize,
    /// How large a program for it is: one for each byte or range of bytes.
    pub(super) size: u64,
}

pub(super) fn parse(pattern: &str) -> Result<Parsed, Fault> {
    let first = Group { capture: None, flags: Flags::default(), branches: Vec::new(), items: Vec::new() };
    let mut parser = Parser { pattern, at: 0, flags: Flags::default(), groups: 0, stack: Vec::new(), top: first };
    let mut repeated = None;
    while let Some(next) = parser.rest().chars().next() {
        repeated = parser.step(next, repeated)?;
    }
    if !parser.stack.is_empty() {
        return Err(Fault::new(Kind::OpenParen, pattern));
    }
    let Parser { top, groups, .. } = parser;
    let whole = top.join();
    Ok(Parsed { hir: whole.hir, groups, size: whole.size })
}

/// RE2's most repetitions, nested ones multiplied.
const MOST_COPIES: u32 = 1000;

#[derive(Clone, Copy, Default)]
struct Flags {
    /// `i`
    fold: bool,
    /// `m`
    lines: bool,
    /// `s`
    dot_is_all: bool,
    /// `U`
    lazy: bool,
}

/// A part of the expression to which a repetition may apply.
struct Item {
    hir: Hir,
    size: u64,
    /// The most copies that counted repetitions make of anything in it.
    copies: u32,
}

/// What stands between two parentheses, as far as it is read.
struct Group {
    capture: Option<u32>,
    /// To be restored after it.
    flags: Flags,
    branches: Vec<Item>,
    items: Vec<Item>,
}

impl Group {
    fn end_branch(&mut self) {
        let items = std::mem::take(&mut self.items);
        let size = items.iter().fold(0, |sum: u64, item| sum.saturating_add(item.size));
        let copies = items.iter().map(|item| item.copies).max().unwrap_or(1);
        let hir = Hir::concat(items.into_iter().map(|item| item.hir).collect());
        self.branches.push(Item { hir, size, copies });
    }

    fn join(mut self) -> Item {
        self.end_branch();
        let branches = self.branches;
        let size = branches.iter().fold(branches.len() as u64, |sum, branch| sum.saturating_add(branch.size));
        let copies = branches.iter().map(|branch| branch.copies).max().unwrap_or(1);
        let hir = Hir::alternation(branches.into_iter().map(|branch| branch.hir).collect());
        Item { hir, size, copies }
    }
}

struct Parser<'p> {
    pattern: &'p str,
    at: usize,
    flags: Flags,
    groups: usize,
    stack: Vec<Group>,
    top: Group,
}

impl<'p> Parser<'p> {
    fn rest(&self) -> &'p str {
        &self.pattern[self.at..]
    }

    /// The next character, which is taken.
    fn take(&mut self) -> Option<char> {
        let next = self.rest().chars().next()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn takes(&mut self, text: &str) -> bool {
        let there = self.rest().starts_with(text);
        if there {
            self.at += text.len();
        }
        there
    }

    /// What was read since a place.
    fn since(&self, start: usize) -> &'p str {
        &self.pattern[start..self.at]
    }

    /// Reads one element. `repeated` and the result: where the repetition begins that was read last.
    fn step(&mut self, next: char, repeated: Option<usize>) -> Result<Option<usize>, Fault> {
        let start = self.at;
        match next {
            '(' if self.rest().starts_with("(?") => self.perl_group()?,
            '(' => {
                self.at += 1;
                self.open_capture();
            }
            ')' => self.close()?,
            '|' => {
                self.at += 1;
                self.top.end_branch();
            }
            '^' => self.look(1, if self.flags.lines { Look::StartLF } else { Look::Start }),
            '$' => self.look(1, if self.flags.lines { Look::EndLF } else { Look::End }),
            '.' => {
                self.at += 1;
                self.push_runes(any(self.flags.dot_is_all));
            }
            '[' => {
                let runes = self.class()?;
                self.push_runes(runes);
            }
            '*' | '+' | '?' => {
                self.at += 1;
                let (min, max) = [(0, None), (1, None), (0, Some(1))]["*+?".find(next).unwrap_or(0)];
                self.repeat(min, max, start, repeated)?;
                return Ok(Some(start));
            }
            '{' => match counted(self.rest()) {
                Some((length, min, max)) => {
                    self.at += length;
                    self.repeat(min, max, start, repeated)?;
                    return Ok(Some(start));
                }
                None => self.literal(),
            },
            '\\' => self.escaped()?,
            _ => self.literal(),
        }
        Ok(None)
    }

    fn push(&mut self, hir: Hir, size: u64) {
        self.top.items.push(Item { hir, size, copies: 1 });
    }

    fn push_runes(&mut self, runes: Runes) {
        let size = runes.size();
        self.push(runes.into_hir(), size);
    }

    /// The next character stands for itself.
    fn literal(&mut self) {
        if let Some(c) = self.take() {
            self.push_rune(c.into());
        }
    }

    fn push_rune(&mut self, rune: u32) {
        let mut runes = Runes::range(rune, rune);
        if self.flags.fold {
            runes.fold();
        }
        match runes.single() {
            Some(c) => self.push(Hir::literal(c.to_string().into_bytes()), c.len_utf8() as u64),
            None => self.push_runes(runes),
        }
    }

    fn look(&mut self, length: usize, look: Look) {
        self.at += length;
        self.push(Hir::look(look), 1);
    }

    fn open_capture(&mut self) {
        self.groups += 1;
        self.open(u32::try_from(self.groups).ok());
    }

    fn open(&mut self, capture: Option<u32>) {
        let inner = Group { capture, flags: self.flags, branches: Vec::new(), items: Vec::new() };
        self.stack.push(std::mem::replace(&mut self.top, inner));
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(outer) = self.stack.pop() else {
            return Err(Fault::new(Kind::CloseParen, self.pattern));
        };
        self.at += 1;
        let inner = std::mem::replace(&mut self.top, outer);
        self.flags = inner.flags;
        let capture = inner.capture;
        let Item { hir, size, copies } = inner.join();
        let (hir, size) = match capture {
            Some(index) => (Hir::capture(Capture { index, name: None, sub: Box::new(hir) }), size.saturating_add(2)),
            None => (hir, size),
        };
        self.top.items.push(Item { hir, size, copies });
        Ok(())
    }

    fn repeat(&mut self, min: u32, max: Option<u32>, start: usize, repeated: Option<usize>) -> Result<(), Fault> {
        let counted = self.pattern[start..].starts_with('{');
        let greedy = self.takes("?") == self.flags.lazy;
        if let Some(first) = repeated {
            return Err(Fault::new(Kind::RepeatedRepeat, self.since(first)));
        }
        if min > MOST_COPIES || max.is_some_and(|max| max < min || max > MOST_COPIES) {
            return Err(Fault::new(Kind::RepeatSize, self.since(start)));
        }
        let Some(Item { hir, size, copies }) = self.top.items.pop() else {
            return Err(Fault::new(Kind::NothingToRepeat, self.since(start)));
        };
        let times = max.unwrap_or(min);
        let copies = if counted { copies.saturating_mul(times.max(1)) } else { copies };
        if counted && times >= 2 && copies > MOST_COPIES {
            return Err(Fault::new(Kind::RepeatSize, self.since(start)));
        }
        let size = size.saturating_add(1).saturating_mul(times.max(1).into());
        let hir = Hir::repetition(Repetition { min, max, greedy, sub: Box::new(hir) });
        self.top.items.push(Item { hir, size, copies });
        Ok(())
    }

    /// `(?...`: flags, or a group that is not a plain one.
    fn perl_group(&mut self) -> Result<(), Fault> {
        let start = self.at;
        for look in ["(?=", "(?!", "(?<=", "(?<!"] {
            if self.takes(look) {
                return Err(Fault::new(Kind::PerlOperator, look));
            }
        }
        if self.takes("(?P<") || self.takes("(?<") {
            let name = self.rest().find('>').map(|end| &self.rest()[..end]);
            let Some(name) = name else { return Err(Fault::new(Kind::GroupName, &self.pattern[start..])) };
            self.at += name.len() + 1;
            if name.is_empty() || !name.chars().all(class::names_a_group) {
                return Err(Fault::new(Kind::GroupName, self.since(start)));
            }
            self.open_capture();
            return Ok(());
        }
        self.at += 2;
        let mut flags = self.flags;
        // After `-` flags are taken away, and there has to be one.
        let (mut on, mut named) = (true, false);
        loop {
            match self.take() {
                Some('i') => flags.fold = on,
                Some('m') => flags.lines = on,
                Some('s') => flags.dot_is_all = on,
                Some('U') => flags.lazy = on,
                Some('-') if on => {
                    (on, named) = (false, false);
                    continue;
                }
                Some(':') if on || named => {
                    self.open(None);
                    break;
                }
                Some(')') if on || named => break,
                None => return Err(Fault::new(Kind::OpenParen, self.pattern)),
                Some(_) => return Err(Fault::new(Kind::PerlOperator, self.since(start))),
            }
            named = true;
        }
        self.flags = flags;
        Ok(())
    }

    /// What a backslash begins, outside of brackets.
    fn escaped(&mut self) -> Result<(), Fault> {
        match self.rest()[1..].chars().next() {
            Some('b') => self.look(2, Look::WordAscii),
            Some('B') => self.look(2, Look::WordAsciiNegate),
            Some('A') => self.look(2, Look::Start),
            Some('z') => self.look(2, Look::End),
            Some('C') => {
                self.at += 2;
                self.push(class::bytes((0, u8::MAX)), 1);
            }
            Some('Q') => {
                self.at += 2;
                while !self.takes("\\E") && !self.rest().is_empty() {
                    self.literal();
                }
            }
            _ => match self.class_escape()? {
                Some(runes) => self.push_runes(runes),
                None => {
                    let rune = self.character()?;
                    self.push_rune(rune);
                }
            },
        }
        Ok(())
    }

    /// `\d`, `\pN`, `\p{Greek}` and their kind, folded where flags say so; `None`, and nothing taken, when it is none.
    fn class_escape(&mut self) -> Result<Option<Runes>, Fault> {
        let start = self.at;
        let mut letters = self.rest().chars().skip(1);
        let Some(letter) = letters.next() else { return Ok(None) };
        let mut negated = letter.is_ascii_uppercase();
        let mut runes = match letter {
            'd' | 'D' | 's' | 'S' | 'w' | 'W' => {
                self.at += 2;
                class::perl(letter.to_ascii_lowercase())
            }
            'p' | 'P' => {
                self.at += 2;
                let name = self.group_name();
                let positive = name.strip_prefix('^');
                negated ^= positive.is_some();
                class::unicode(positive.unwrap_or(name))
            }
            _ => return Ok(None),
        }
        .ok_or_else(|| Fault::new(Kind::Class, self.since(start)))?;
        if self.flags.fold {
            runes.fold();
        }
        if negated {
            runes.negate();
        }
        Ok(Some(runes))
    }

    /// What follows `\p`: one character, or a name in braces. Empty when there is neither.
    fn group_name(&mut self) -> &'p str {
        let start = self.at;
        match self.take() {
            Some('{') => match self.rest().find('}') {
                Some(length) => {
                    self.at += length + 1;
                    &self.pattern[start + 1..self.at - 1]
                }
                None => "",
            },
            _ => self.since(start),
        }
    }

    /// `\n`, `\x41`, `\101`, `\.`: one character, from its backslash.
    fn character(&mut self) -> Result<u32, Fault> {
        let start = self.at;
        self.at += 1;
        let Some(c) = self.take() else { return Err(Fault::new(Kind::TrailingBackslash, "")) };
        let octal = |c: char| c.is_digit(8);
        let rune = match c {
            'a' => Some(0x07),
            'f' => Some(0x0c),
            'n' => Some(0x0a),
            'r' => Some(0x0d),
            't' => Some(0x09),
            'v' => Some(0x0b),
            'x' => self.hexadecimal(),
            // One digit alone would be a backreference.
            '1'..='7' if !self.rest().starts_with(octal) => None,
            '0'..='7' => {
                let digits: String = self.pattern[start + 1..].chars().take(3).take_while(|&c| octal(c)).collect();
                self.at = start + 1 + digits.len();
                u32::from_str_radix(&digits, 8).ok()
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c.into()),
            _ => None,
        };
        rune.filter(|&rune| rune <= class::LAST).ok_or_else(|| Fault::new(Kind::Escape, self.since(start)))
    }

    /// After `\x`: two digits, or any number of them in braces.
    fn hexadecimal(&mut self) -> Option<u32> {
        if !self.takes("{") {
            let high = self.take()?.to_digit(16)?;
            return Some(high * 16 + self.take()?.to_digit(16)?);
        }
        let (mut rune, mut digits) = (0_u32, 0);
        loop {
            match self.take()? {
                '}' if digits > 0 => return Some(rune),
                digit => rune = rune.checked_mul(16)?.checked_add(digit.to_digit(16)?)?,
            }
            digits += 1;
            if rune > class::LAST {
                return None;
            }
        }
    }
}

fn any(with_line_feed: bool) -> Runes {
    let mut runes = Runes::range(0, class::LAST);
    if !with_line_feed {
        runes = Runes::range('\n'.into(), '\n'.into());
        runes.negate();
    }
    runes
}

/// The length, least and most of `{2}`, `{2,}` or `{2,3}`. Whatever else begins with a brace is text.
fn counted(text: &str) -> Option<(usize, u32, Option<u32>)> {
    let inner = text.strip_prefix('{')?;
    let (numbers, _) = inner.split_once('}')?;
    let (min, max) = match numbers.split_once(',') {
        Some((min, "")) => (number(min)?, None),
        Some((min, max)) => (number(min)?, Some(number(max)?)),
        None => (number(numbers)?, Some(number(numbers)?)),
    };
    Some((numbers.len() + 2, min, max))
}

/// Without leading zeros, and not beyond what RE2 takes for a number.
fn number(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|digit| digit.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| plain && digits.len() <= 9)
}
