//! Tables of cases. A table is text: a line is a word and what follows it, `case:` begins a case, `#` a remark.
//!
//! Bytes are written as `| line`, which ends in CR LF, or as `> bytes`, which end where the line does. Both know `\r`, `\n`,
//! `\t`, `\\`, `\xNN`, and `\{3*text}`, which is `text` three times with its number for each `#`. `get` and `post`, with a path
//! or without, begin a request to the right host.

use harness::mesh::HOST;

/// One case of a table.
#[derive(Debug)]
pub(super) struct Case {
    /// What it is about.
    pub(super) name: String,
    lines: Vec<(String, String)>,
}

impl Case {
    /// All cases of a table.
    pub(super) fn all(table: &str) -> Vec<Self> {
        let mut cases: Vec<Self> = Vec::new();
        for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match (word, cases.last_mut()) {
                ("case:", _) => cases.push(Self { name: rest.to_owned(), lines: Vec::new() }),
                (_, Some(case)) => case.lines.push((word.to_owned(), rest.to_owned())),
                (_, None) => panic!("a table begins with a case, not with {line:?}"),
            }
        }
        cases
    }

    /// Every line as its word and the rest.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().map(|(word, rest)| (word.as_str(), rest.as_str()))
    }

    /// What follows each line that begins with this word, its escapes resolved to a character for each byte.
    pub(super) fn texts<'a>(&'a self, word: &'a str) -> impl Iterator<Item = String> {
        let lines = self.lines().filter(move |(one, _)| *one == word);
        lines.map(|(_, rest)| unescape(rest).into_iter().map(char::from).collect())
    }

    /// What follows the line that begins with this word.
    pub(super) fn value(&self, word: &str) -> Option<&str> {
        self.lines().find(|(one, _)| *one == word).map(|(_, rest)| rest)
    }

    /// Whether there is a line that begins with this word.
    pub(super) fn has(&self, word: &str) -> bool {
        self.value(word).is_some()
    }

    /// Each answer that is right.
    pub(super) fn answers(&self) -> impl Iterator<Item = &str> {
        assert!(self.has("answer:"), "{}: which answer is right?", self.name);
        self.lines().filter(|(word, _)| matches!(*word, "answer:" | "or:")).map(|(_, answer)| answer)
    }

    /// How many requests the endpoint sees; none when the case does not say.
    pub(super) fn seen(&self) -> usize {
        self.value("seen:").map_or(0, |count| count.parse().expect("a number of requests"))
    }

    /// The bytes of its `|` and `>` lines.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (word, rest) in self.lines() {
            match word {
                "|" => {
                    bytes.extend(unescape(rest));
                    bytes.extend(b"\r\n");
                }
                ">" => bytes.extend(unescape(rest)),
                "get" | "post" => {
                    let (method, path) = (word.to_ascii_uppercase(), if rest.is_empty() { "/" } else { rest });
                    bytes.extend(format!("{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n").bytes());
                }
                _ => {}
            }
        }
        bytes
    }
}

/// The bytes that a text with escapes stands for.
pub(super) fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend(plain.bytes());
        let (taken, meant) = escaped(escape).unwrap_or_else(|| panic!("an escape nobody knows in {text:?}"));
        bytes.extend(meant);
        rest = &escape[taken..];
    }
    bytes.extend(rest.bytes());
    bytes
}

/// What follows a backslash: how many bytes of text, and what they mean.
fn escaped(text: &str) -> Option<(usize, Vec<u8>)> {
    let one = |byte| Some((1, vec![byte]));
    match text.as_bytes().first()? {
        b'r' => one(b'\r'),
        b'n' => one(b'\n'),
        b't' => one(b'\t'),
        b'\\' => one(b'\\'),
        b'x' => Some((3, vec![u8::from_str_radix(text.get(1..3)?, 16).ok()?])),
        b'{' => {
            let end = text.find('}')?;
            let (count, what) = text[1..end].split_once('*')?;
            let count: usize = count.parse().ok()?;
            let all = (0..count).flat_map(|number| unescape(&what.replace('#', &number.to_string()))).collect();
            Some((end + 1, all))
        }
        _ => None,
    }
}
