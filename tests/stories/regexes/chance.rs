//! Regular expressions by chance, each with texts that it may match.

use fastrand::Rng;

/// An expression and what is held against it.
pub(super) struct Case {
    pub(super) pattern: String,
    /// For `uriRegexRewrite`.
    pub(super) with: String,
    pub(super) texts: Vec<Vec<u8>>,
}

impl Case {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let (mut pattern, sample) = alternatives(rng, 3);
        // Some are spoilt: what is refused has to be refused, too.
        while rng.u8(..8) == 0 {
            spoil(rng, &mut pattern);
        }
        let mut near = sample.clone();
        change(rng, &mut near);
        let mut far = sample.clone();
        (0..3).for_each(|_| change(rng, &mut far));
        let with = pick(rng, &["<\\0>", "\\1", "", "x\\2\\\\", "-", "\\3\\0"]).to_owned();
        Self { pattern, with, texts: vec![sample, near, far, chance_text(rng)] }
    }
}

/// Characters that mean something to some reader of expressions, or fold in an unusual way.
const CHARACTERS: &[&str] = &[
    "a",
    "b",
    "k",
    "K",
    "s",
    "S",
    "z",
    "0",
    "1",
    "7",
    "_",
    "-",
    " ",
    "\n",
    "\r",
    "\t",
    "\u{b}",
    "/",
    "~",
    "&",
    "#",
    "{",
    "}",
    ",",
    ":",
    "<",
    ">",
    "=",
    "!",
    "]",
    "\"",
    "é",
    "É",
    "ß",
    "ẞ",
    "ſ",
    "\u{212a}",
    "σ",
    "ς",
    "Σ",
    "İ",
    "ı",
    "i",
    "I",
    "Ω",
    "ω",
    "ǆ",
    "ǅ",
    "ა",
    "Ა",
    "Ꭰ",
    "ꭰ",
    "٣",
    "\u{a0}",
    "\u{85}",
    "\u{2028}",
    "中",
    "\u{fffd}",
    "😀",
    "\u{10ffff}",
    "\u{301}",
    "\0",
    "\u{7f}",
];

/// Bytes that are no UTF-8: stray, cut short, overlong, a surrogate, beyond the last character.
const ILL: &[&[u8]] = &[
    b"\xff",
    b"\x80",
    b"\xc3",
    b"\xe2\x84",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf0\x9f",
];

/// How groups begin, or what people take for a beginning.
const GROUPS: &[&str] = &[
    "(",
    "(",
    "(",
    "(?:",
    "(?:",
    "(?P<n>",
    "(?<n>",
    "(?P<é_1>",
    "(?<1>",
    "(?i)(",
    "(?i:",
    "(?s:",
    "(?m:",
    "(?U:",
    "(?is-m:",
    "(?-i:",
    "(?i-:",
    "(?x:",
    "(?u:",
    "(?a:",
    "(?R:",
    "(?=",
    "(?!",
    "(?<=",
    "(?>",
    "(?#",
    "(?'n'",
    "(?P=n",
    "(?P<>",
    "(?P<a-b>",
    "(?|",
    "(?)(",
    "(?i",
    "(?^:",
];

/// What a backslash begins, each with a text that it may match.
const ESCAPES: &[(&str, &str)] = &[
    ("\\d", "7"),
    ("\\d", "٣"),
    ("\\D", "a"),
    ("\\s", " "),
    ("\\s", "\u{b}"),
    ("\\s", "\u{a0}"),
    ("\\S", "\u{b}"),
    ("\\w", "k"),
    ("\\w", "é"),
    ("\\W", "ſ"),
    ("\\C", "a"),
    ("\\C", "é"),
    ("\\pN", "٣"),
    ("\\PN", "a"),
    ("\\p{Greek}", "σ"),
    ("\\p{^Greek}", "a"),
    ("\\P{^Greek}", "σ"),
    ("\\p{Lu}", "É"),
    ("\\p{greek}", "σ"),
    ("\\p{Letter}", "a"),
    ("\\p{L&}", "a"),
    ("\\p{Any}", "\n"),
    ("\\p{Cn}", "a"),
    ("\\pC", "\0"),
    ("\\p{Cs}", "a"),
    ("\\p{sc=Greek}", "σ"),
    ("\\p", "p"),
    ("\\p{Lu", "É"),
    ("\\p{IsGreek}", "σ"),
    ("\\pz", "z"),
    ("\\n", "\n"),
    ("\\t", "\t"),
    ("\\r", "\r"),
    ("\\a", "\u{7}"),
    ("\\f", "\u{c}"),
    ("\\v", "\u{b}"),
    ("\\e", "\u{1b}"),
    ("\\0", "\0"),
    ("\\1", "1"),
    ("\\8", "8"),
    ("\\18", "1"),
    ("\\12", "\n"),
    ("\\101", "A"),
    ("\\1011", "A1"),
    ("\\777", "\u{1ff}"),
    ("\\08", "\x008"),
    ("\\x41", "A"),
    ("\\x4", "4"),
    ("\\x{41}", "A"),
    ("\\x{1F600}", "😀"),
    ("\\x{110000}", ""),
    ("\\x{}", ""),
    ("\\x{ 41}", "A"),
    ("\\x{0000000041}", "A"),
    ("\\x{D800}", "a"),
    ("\\xff", "ÿ"),
    ("\\u0041", "A"),
    ("\\u{41}", "A"),
    ("\\U00000041", "A"),
    ("\\_", "_"),
    ("\\-", "-"),
    ("\\/", "/"),
    ("\\ ", " "),
    ("\\<", "<"),
    ("\\>", ">"),
    ("\\b{start}", ""),
    ("\\é", "é"),
    ("\\k<n>", "a"),
    ("\\h", " "),
    ("\\H", "a"),
    ("\\R", "\n"),
    ("\\X", "a"),
    ("\\K", ""),
    ("\\G", ""),
    ("\\N", "a"),
    ("\\cA", "\u{1}"),
    ("\\", "\\"),
    ("\\\\", "\\"),
    ("\\.", "."),
    ("\\#", "#"),
    ("\\~", "~"),
    ("\\&", "&"),
    ("\\{", "{"),
    ("\\\"", "\""),
    ("\\\n", "\n"),
    ("\\E", "E"),
    ("\\y", "y"),
];

/// Ranges in brackets.
const RANGES: &[&str] = &[
    "a-z",
    "A-Z",
    "k-k",
    "z-a",
    "\\x00-\\x1f",
    "à-ÿ",
    "\\x{D700}-\\x{E000}",
    "0-\\d",
    "\\d-z",
    "a-",
    "-a",
    "--z",
    "\\--z",
    "+--",
];

/// Classes in brackets.
const POSIX: &[&str] = &[
    "[:alpha:]",
    "[:^alpha:]",
    "[:word:]",
    "[:space:]",
    "[:^space:]",
    "[:punct:]",
    "[:cntrl:]",
    "[:graph:]",
    "[:print:]",
    "[:xdigit:]",
    "[:blank:]",
    "[:ascii:]",
    "[:foo:]",
    "[:Alpha:]",
    "[:alpha]",
    "[:",
    "[.a.]",
    "[=a=]",
    "[:lower:]",
    "[:upper:]",
    "[:digit:]",
    "[:alnum:]",
];

fn pick<'a, T: ?Sized>(rng: &mut Rng, all: &[&'a T]) -> &'a T {
    all[rng.usize(..all.len())]
}

fn alternatives(rng: &mut Rng, depth: u8) -> (String, Vec<u8>) {
    let (mut pattern, mut sample) = sequence(rng, depth);
    while rng.u8(..4) == 0 {
        let (more, other) = if rng.u8(..5) == 0 { Default::default() } else { sequence(rng, depth) };
        pattern = format!("{pattern}|{more}");
        if rng.bool() {
            sample = other;
        }
    }
    (pattern, sample)
}

fn sequence(rng: &mut Rng, depth: u8) -> (String, Vec<u8>) {
    let (mut pattern, mut sample) = (String::new(), Vec::new());
    for _ in 0..rng.usize(0..4) + rng.usize(0..2) {
        let (one, text) = element(rng, depth);
        pattern += &one;
        let (operator, times) = repetition(rng);
        pattern += &operator;
        (0..times).for_each(|_| sample.extend(&text));
    }
    (pattern, sample)
}

/// An operator, and how often a fitting text repeats what stands before it.
fn repetition(rng: &mut Rng) -> (String, usize) {
    let counted = [
        ("{2}", 2),
        ("{0,2}", 1),
        ("{1,}", 2),
        ("{0}", 0),
        ("{,2}", 1),
        ("{2,1}", 1),
        ("{01}", 1),
        ("{ 1}", 1),
        ("{1001}", 3),
        ("{1000}", 1),
        ("{30}", 30),
        ("{40,}", 41),
        ("{99999999999}", 1),
        ("{999999999}", 1),
        ("{2,3,}", 1),
        ("{}", 1),
        ("{1", 1),
        ("{2}{3}", 6),
        ("**", 1),
        ("+*", 1),
        ("*{2}", 1),
        ("++", 1),
        ("*(?i)*", 2),
        ("?\\Q\\E+", 2),
    ];
    let (mut operator, times) = match rng.u8(..12) {
        0 => ("*".to_owned(), rng.usize(..3)),
        1 => ("+".to_owned(), rng.usize(1..3)),
        2 => ("?".to_owned(), rng.usize(..2)),
        3 => {
            let (operator, times) = counted[rng.usize(..counted.len())];
            (operator.to_owned(), times)
        }
        _ => (String::new(), 1),
    };
    if !operator.is_empty() && rng.u8(..4) == 0 {
        operator.push('?');
    }
    (operator, times)
}

fn element(rng: &mut Rng, depth: u8) -> (String, Vec<u8>) {
    match rng.u8(..16) {
        0..=4 => {
            let c = pick(rng, CHARACTERS);
            (c.to_owned(), c.into())
        }
        5 | 6 => escape(rng),
        7 | 8 => class(rng),
        9 => (".".to_owned(), chance_text(rng)),
        10 => (
            pick(rng, &["^", "$", "\\A", "\\z", "\\b", "\\B", "\\Z", "(?m)^", "(?m)$", "(?m:$)"]).to_owned(),
            Vec::new(),
        ),
        11 => {
            let text: String = (0..rng.usize(..4)).map(|_| pick(rng, CHARACTERS)).collect();
            let end = pick(rng, &["\\E", "\\E", "", "\\Q\\E", "\\e\\E"]);
            (format!("\\Q{text}.*[{end}"), format!("{text}.*[").into_bytes())
        }
        _ if depth == 0 => ("a".to_owned(), b"a".to_vec()),
        _ => {
            let (inner, sample) = alternatives(rng, depth - 1);
            let open = pick(rng, GROUPS);
            (format!("{open}{inner})"), sample)
        }
    }
}

fn escape(rng: &mut Rng) -> (String, Vec<u8>) {
    let (pattern, text) = ESCAPES[rng.usize(..ESCAPES.len())];
    (pattern.to_owned(), text.into())
}

fn class(rng: &mut Rng) -> (String, Vec<u8>) {
    let mut inner = String::new();
    let mut members: Vec<Vec<u8>> = vec![chance_text(rng)];
    for _ in 0..rng.usize(1..5) {
        match rng.u8(..10) {
            0..=3 => {
                let c = pick(rng, CHARACTERS);
                inner += c;
                members.push(c.into());
            }
            4 => {
                let (one, text) = escape(rng);
                inner += &one;
                members.push(text);
            }
            5 | 6 => {
                let range = pick(rng, RANGES);
                inner += range;
                members.push(b"k".to_vec());
            }
            7 => {
                let posix = pick(rng, POSIX);
                inner += posix;
                members.push(b"a".to_vec());
            }
            _ => {
                inner += pick(
                    rng,
                    &[
                        "[", "&&", "--", "~~", "^", "[a]", "&&[^b]", "#", " ", "$", ".", "|", "(", "\\b", "\\B", "\\Q",
                        "\\A", "\\C",
                    ],
                )
            }
        }
    }
    let open = pick(rng, &["[", "[", "[", "[^", "[^", "[]", "[^]", "[[", "[^^"]);
    let sample = members.swap_remove(rng.usize(..members.len()));
    (format!("{open}{inner}]"), sample)
}

/// Takes a character out, or puts one in.
fn spoil(rng: &mut Rng, pattern: &mut String) {
    let places: Vec<usize> = pattern.char_indices().map(|(at, _)| at).collect();
    let at = if places.is_empty() { 0 } else { places[rng.usize(..places.len())] };
    if rng.bool() && !places.is_empty() {
        pattern.remove(at);
    } else {
        pattern.insert_str(
            at,
            pick(
                rng,
                &["(", ")", "[", "]", "{", "}", "*", "?", "+", "|", "\\", "^", "-", "(?", "\\Q", "{2}", "(?i)", "(?s)"],
            ),
        );
    }
}

fn change(rng: &mut Rng, text: &mut Vec<u8>) {
    let at = rng.usize(..=text.len());
    match rng.u8(..5) {
        0 if at < text.len() => drop(text.remove(at)),
        1 if at < text.len() => text[at] ^= 0x20,
        2 => drop(text.splice(at..at, pick(rng, ILL).iter().copied())),
        _ => drop(text.splice(at..at, pick(rng, CHARACTERS).bytes())),
    }
}

fn chance_text(rng: &mut Rng) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..rng.usize(..3) {
        match rng.u8(..6) {
            0 => text.extend(pick(rng, ILL)),
            _ => text.extend(pick(rng, CHARACTERS).bytes()),
        }
    }
    text
}
