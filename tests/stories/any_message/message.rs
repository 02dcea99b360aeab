//! Messages as chance makes them, and what arriving as the same message means.

use fastrand::Rng;
use harness::message::Version;

/// Names and values in the order of the message.
pub(super) type Fields = Vec<(String, Vec<u8>)>;

/// A request or an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Message {
    /// Method and path, or the status.
    pub(super) start: String,
    pub(super) fields: Fields,
    pub(super) content: Content,
    pub(super) trailers: Fields,
}

/// A body and what says its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Content {
    #[default]
    None,
    /// A length.
    Length(Vec<u8>),
    /// Chunks on HTTP/1.1, the end of the stream on HTTP/2.
    Open(Vec<u8>),
    /// The end of the connection; on HTTP/2 as `Open`.
    Close(Vec<u8>),
}

impl Content {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Length(bytes) | Self::Open(bytes) | Self::Close(bytes) => bytes,
        }
    }
}

/// What is asked and what is answered.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) request: Message,
    pub(super) interim: Vec<(u16, Fields)>,
    pub(super) answer: Message,
}

/// What came of a message.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    pub(super) start: String,
    pub(super) fields: Fields,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Fields,
    /// Before an answer.
    pub(super) interim: Vec<(u16, Fields)>,
}

/// How two sides write fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Between {
    pub(super) from: Version,
    pub(super) to: Version,
}

impl Case {
    /// Whether the answer has a body at all.
    pub(super) fn has_body(&self) -> bool {
        !self.request.start.starts_with("HEAD ") && !matches!(self.answer.start.as_str(), "204" | "304")
    }

    /// A case whose path begins with this.
    pub(super) fn new(rng: &mut Rng, below: &str) -> Self {
        let method = rng.choice(METHODS).expect("there are some");
        let mut request =
            Message { start: format!("{method} {}", path(rng, below)), fields: fields(rng, 20), ..Message::default() };
        request.content = match rng.u8(..4) {
            0 if matches!(*method, "GET" | "HEAD" | "DELETE" | "OPTIONS" | "POST") => Content::None,
            1 => Content::Length(bytes(rng)),
            _ => Content::Open(bytes(rng)),
        };
        if matches!(request.content, Content::Open(_)) && rng.bool() {
            request.trailers = trailers(rng);
        }
        let status = rng.choice(STATUSES).expect("there are some");
        let mut case = Self { request, interim: Vec::new(), answer: Message::default() };
        case.answer.start = status.to_string();
        case.answer.fields = fields(rng, 20);
        case.answer.content = match rng.u8(..8) {
            _ if !case.has_body() => Content::None,
            0..3 => Content::Length(bytes(rng)),
            3 => Content::Close(bytes(rng)),
            _ => Content::Open(bytes(rng)),
        };
        if matches!(case.answer.content, Content::Open(_)) && rng.bool() {
            case.answer.trailers = trailers(rng);
            case.request.fields.push(("te".to_owned(), b"trailers".to_vec()));
        }
        if rng.u8(..4) == 0 {
            case.interim =
                (0..rng.usize(1..4)).map(|_| (*rng.choice(&[102, 103, 110]).unwrap_or(&103), fields(rng, 3))).collect();
        }
        case
    }
}

/// What differs between a message and what came of it.
pub(super) fn compare(sent: &Message, heard: &Heard, between: Between, has_body: bool) -> Result<(), String> {
    if sent.start != heard.start {
        return Err(format!("{:?} came as {:?}", sent.start, heard.start));
    }
    same_fields("fields", &sent.fields, &heard.fields, between)?;
    if !has_body {
        return if heard.body.is_empty() { Ok(()) } else { Err("a body came from nowhere".to_owned()) };
    }
    let body = sent.content.bytes();
    if body != heard.body {
        let at = body.iter().zip(&heard.body).take_while(|(sent, heard)| sent == heard).count();
        return Err(format!("{} bytes came as {}, which differ from byte {at} on", body.len(), heard.body.len()));
    }
    let mut trailers = sent.trailers.clone();
    trailers.retain(|(name, _)| trails(name));
    same_fields("trailers", &trailers, &heard.trailers, between)?;
    let lengths: Vec<String> = named(&heard.fields, "content-length");
    let length = body.len().to_string();
    let right = match &sent.content {
        // Whether there is none or an empty one is the same.
        Content::None => lengths.is_empty() || lengths == ["0"],
        Content::Length(_) => lengths == [length],
        Content::Open(_) | Content::Close(_) => lengths.is_empty() || (body.is_empty() && lengths == ["0"]),
    };
    if right { Ok(()) } else { Err(format!("lengths {lengths:?} of {} bytes", body.len())) }
}

/// The same for answers before the answer.
pub(super) fn compare_interim(sent: &[(u16, Fields)], heard: &[(u16, Fields)], between: Between) -> Result<(), String> {
    let statuses = |all: &[(u16, Fields)]| all.iter().map(|(status, _)| *status).collect::<Vec<_>>();
    if statuses(sent) != statuses(heard) {
        return Err(format!("answers before the answer {:?} came as {:?}", statuses(sent), statuses(heard)));
    }
    let mut pairs = sent.iter().zip(heard);
    pairs.try_for_each(|((_, sent), (_, heard))| same_fields("fields before the answer", sent, heard, between))
}

fn named(fields: &Fields, name: &str) -> Vec<String> {
    let all = fields.iter().filter(|(one, _)| one.eq_ignore_ascii_case(name));
    all.map(|(_, value)| value.escape_ascii().to_string()).collect()
}

/// Names as they were sent where HTTP/1.1 is spoken on both sides, and all in their order; where a library of HTTP/2 writes
/// or reads them, those of one name in theirs.
fn same_fields(what: &str, sent: &Fields, heard: &Fields, between: Between) -> Result<(), String> {
    let ours = |name: &str| name.to_ascii_lowercase().starts_with(OURS) || NAMES.contains(&&*name.to_ascii_lowercase());
    let spelled = (between.from, between.to) == (Version::One, Version::One);
    let form = |fields: &Fields| {
        let kept = fields.iter().filter(|(name, _)| ours(name));
        let mut all: Fields = kept
            .map(|(name, value)| (if spelled { name.clone() } else { name.to_ascii_lowercase() }, value.clone()))
            .collect();
        if !spelled {
            all.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        all
    };
    let lower = between.to == Version::One || heard.iter().all(|(name, _)| *name == name.to_ascii_lowercase());
    let (sent, heard) = (form(sent), form(heard));
    if sent == heard && lower {
        return Ok(());
    }
    let show = |fields: &Fields| -> Vec<String> {
        fields.iter().map(|(name, value)| format!("{name}: {}", value.escape_ascii())).collect()
    };
    Err(format!("{what} {:#?} came as {:#?}", show(&sent), show(&heard)))
}

/// Fields, some of them with the name of an earlier one.
fn fields(rng: &mut Rng, most: usize) -> Fields {
    let mut all: Fields = Vec::new();
    for _ in 0..rng.usize(..=most) {
        let name = match (rng.u8(..8), rng.choice(&all)) {
            (0..3, Some((earlier, _))) => recased(rng, earlier),
            (3..6, _) => {
                let known = *rng.choice(NAMES).expect("there are some");
                recased(rng, known)
            }
            _ => {
                let rest: String = (0..rng.usize(..12)).map(|_| pick(rng, TOKEN)).collect();
                recased(rng, &format!("{OURS}{rest}"))
            }
        };
        all.push((name, value(rng)));
    }
    all
}

/// Fields that may follow a body, within what a gateway takes of them.
fn trailers(rng: &mut Rng) -> Fields {
    let mut all = fields(rng, 4);
    all.retain(|(_, value)| value.len() < 3000);
    if rng.u8(..16) == 0 {
        all.retain(|(name, _)| !trails(name));
        all.push(("Content-Type".to_owned(), b"text/plain".to_vec()));
    }
    all
}

/// What means something only in a head is not passed on behind a body.
fn trails(name: &str) -> bool {
    !name.eq_ignore_ascii_case("content-type")
}

/// The same name with other capital letters.
fn recased(rng: &mut Rng, name: &str) -> String {
    let how = rng.u8(..3);
    let letter = |letter: char| match how {
        0 => letter.to_ascii_lowercase(),
        1 => letter.to_ascii_uppercase(),
        _ if rng.bool() => letter.to_ascii_uppercase(),
        _ => letter,
    };
    name.chars().map(letter).collect()
}

/// Visible at both ends; white space and bytes above ASCII between.
fn value(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.u8(..32) {
        0 => 0,
        1 => rng.usize(1..5000),
        2 if rng.u8(..8) == 0 => 17_000,
        _ => rng.usize(1..40),
    };
    let any = rng.bool();
    let mut value: Vec<u8> = (0..length)
        .map(|_| match rng.u8(..16) {
            0 => b' ',
            1 if any => b'\t',
            2 if any => rng.u8(0x80..),
            _ => rng.u8(b'!'..=b'~'),
        })
        .collect();
    for end in [0, length.saturating_sub(1)] {
        if let Some(byte) = value.get_mut(end) {
            *byte = rng.u8(b'!'..=b'~');
        }
    }
    value
}

fn bytes(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.u8(..32) {
        0..4 => 0,
        4..8 => rng.usize(1..4),
        8..20 => rng.usize(1..500),
        20..30 => rng.usize(1..20_000),
        30 => rng.usize(60_000..70_000),
        _ => 200_000,
    };
    let first = rng.u8(..);
    // Not all the same, so that a piece at the wrong place is seen, and cheap.
    (0..length).map(|at| first.wrapping_add((at % 251) as u8).wrapping_mul(7)).collect()
}

/// In the form that a proxy leaves as it is.
fn path(rng: &mut Rng, below: &str) -> String {
    let mut path = below.to_owned();
    for _ in 0..rng.usize(..5) {
        path.push('/');
        path.push(pick(rng, "abcxyzABC019-_~"));
        for _ in 0..rng.usize(..10) {
            match rng.u8(..8) {
                0 => path += rng.choice(&["%20", "%2F", "%C3%A9", "%25", "%0A"]).copied().unwrap_or_default(),
                _ => path.push(pick(rng, "abcxyzABC019-_~.!$&'()*+,=:@")),
            }
        }
    }
    path
}

fn pick(rng: &mut Rng, from: &str) -> char {
    char::from(from.as_bytes()[rng.usize(..from.len())])
}

/// What names begin with that nobody else uses.
const OURS: &str = "x-q";

const NAMES: &[&str] = &[
    "accept",
    "accept-language",
    "cache-control",
    "content-type",
    "etag",
    "link",
    "referer",
    "set-cookie",
    "vary",
    "warning",
    "x-q",
];

const TOKEN: &str = "abcdefghijklmnopqrstuvwxyz0123456789-_.!#$%&'*+^`|~";

const METHODS: &[&str] = &[
    "GET",
    "GET",
    "HEAD",
    "POST",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "PROPFIND",
    "M-SEARCH",
    "get",
    "!#$%&'*+-.^_`|~1",
];

const STATUSES: &[u16] = &[200, 200, 200, 201, 204, 206, 226, 301, 304, 307, 400, 401, 404, 418, 429, 500, 503, 599];
