//! Text with Envoy's command operators in it: `%REQ(x-user)%`, `%DOWNSTREAM_REMOTE_ADDRESS%`. It is parsed once, with the
//! configuration; filling it in asks [`Values`], whoever knows of the request.
//!
//! Source of names and meanings: Envoy's documentation, "Command Operators".

mod command;
mod demands;
pub(crate) mod flags;
mod moment;
mod parse;
mod time;

use std::{borrow::Cow, fmt, io::Write as _, net::IpAddr, time::Duration};

use http::HeaderName;
use ipnet::IpNet;

use self::moment::Between;
pub use self::{command::Fact, demands::Demands, flags::write_long, moment::Moment, parse::Fault, time::TimeFormat};
use crate::{
    attributes::{Expression, PeerField, Side},
    pattern::HeaderField,
};

/// A parsed text.
#[derive(Clone, Eq, PartialEq)]
pub struct Template {
    text: Box<str>,
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Text(Box<str>),
    Command {
        command: Command,
        /// `:10` behind it: at most so many bytes.
        longest: Option<usize>,
    },
}

/// One command.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Command {
    /// `REQ(a?b)`.
    Request(HeaderField, Option<HeaderField>),
    /// `REQ_WITHOUT_QUERY(a?b)`.
    RequestWithoutQuery(HeaderField, Option<HeaderField>),
    /// `QUERY_PARAM(a)`.
    QueryParameter(Box<str>),
    /// `RESP(a?b)`.
    Response(ResponseField, Option<ResponseField>),
    /// `TRAILER(a?b)`.
    Trailer(HeaderName, Option<HeaderName>),
    /// `QUERY_PARAMS(ORIG)`.
    Query,
    /// `ENVIRONMENT(a)`.
    Environment(Box<str>),
    /// `START_TIME(format)`.
    Start(TimeFormat),
    /// `EMIT_TIME(format)`.
    Emitted(TimeFormat),
    /// `RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)`.
    Details,
    /// `COMMON_DURATION(from:to:unit)`.
    Between(Between),
    /// `REQUESTED_SERVER_NAME(SNI_FIRST:HOST)`.
    ServerName(ServerName, HeaderField, Option<HeaderField>),
    /// `DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(24)`.
    Masked(Fact, u8),
    /// `DOWNSTREAM_PEER_CERT_V_START(format)`, `..._V_END(format)`.
    Certificate(Validity, TimeFormat),
    /// `DYNAMIC_METADATA(envoy.filters.http.rbac:istio_dry_run_...)`.
    Tried(Tried),
    /// `CEL(expression)`.
    Expression(Expression),
    /// `TYPED_CEL(expression)`.
    Typed(Expression),
    /// `FILTER_STATE(upstream_peer:FIELD:workload)`.
    Peer(Side, PeerField),
    /// `GRPC_STATUS(SNAKE_STRING)`.
    GrpcSnake,
    /// Everything without an argument.
    Fact(Fact),
    /// What is not served.
    Nothing,
}

/// What stands for the name of the server that was asked for, where there are two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ServerName {
    /// That of TLS, else the request's.
    Sni,
    /// The request's.
    Host,
}

/// What of an answer can be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ResponseField {
    /// `:status`.
    Status,
    /// A header.
    Name(HeaderName),
}

/// An end of the validity of a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Validity {
    /// Its begin.
    NotBefore,
    /// Its end.
    NotAfter,
}

/// What policies say that are only tried (Istio's `istio.io/dry-run`), under the names that Istio gives it in Envoy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tried {
    /// `allowed` or `denied`, by those that allow.
    AllowResult,
    /// The rule of them that matches.
    AllowRule,
    /// `allowed` or `denied`, by those that deny.
    DenyResult,
    /// The rule of them that matches.
    DenyRule,
}

impl Tried {
    /// Of a filter of Envoy and a key of its metadata.
    fn of(argument: &str) -> Option<Self> {
        Some(match argument.strip_prefix("envoy.filters.http.rbac:istio_dry_run_")? {
            "allow_shadow_engine_result" => Self::AllowResult,
            "allow_shadow_effective_policy_id" => Self::AllowRule,
            "deny_shadow_engine_result" => Self::DenyResult,
            "deny_shadow_effective_policy_id" => Self::DenyRule,
            _ => return None,
        })
    }
}

/// A piece of a text that is filled in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Piece<'a> {
    /// As it was written.
    Written(&'a str),
    /// What a command stands for; empty: nothing is known.
    Told(&'a [u8]),
}

/// Whoever knows what commands stand for. What is not known, or not yet, is told by `None` or by writing nothing.
pub trait Values {
    /// The first value of a header of the request, as it goes upstream.
    fn request(&self, field: &HeaderField) -> Option<Cow<'_, [u8]>>;
    /// The first value of a header of the answer.
    fn response(&self, field: &ResponseField) -> Option<Cow<'_, [u8]>>;
    /// Appends a fact.
    fn fact(&self, fact: Fact, out: &mut Vec<u8>);
    /// A variable of the proxy's environment.
    fn environment(&self, name: &str) -> Option<String>;
    /// When the request began, since 1970.
    fn start(&self) -> Duration;
    /// When the client's certificate begins or ends, in seconds since 1970.
    fn certificate(&self, end: Validity) -> Option<i64>;
    /// The first value of a field behind the answer's body.
    fn trailer(&self, _: &HeaderName) -> Option<Cow<'_, [u8]>> {
        None
    }
    /// When something was, in nanoseconds since the beginning.
    fn moment(&self, _: Moment) -> Option<i64> {
        None
    }
    /// The details of the answer's code with the spaces that they have.
    fn details(&self) -> Option<Cow<'_, [u8]>> {
        None
    }
    /// When it ended, since 1970.
    fn end(&self) -> Option<Duration> {
        None
    }
    /// What policies say of a request that are only tried.
    fn tried(&self, _: Tried) -> Option<Cow<'_, [u8]>> {
        None
    }
    /// What is known of a workload.
    fn peer(&self, _: Side, _: PeerField) -> Option<Cow<'_, str>> {
        None
    }
}

impl Template {
    /// Parses a text; `%%` is a percent sign.
    ///
    /// # Errors
    /// A command that there is not, or not here, or that is written in another way.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        Ok(Self { text: text.into(), parts: parse::parts(text, None)?.into() })
    }

    /// As [`Self::parse`], of a line that is written when everything is over. What Envoy's logs tell and these do not is named,
    /// and stands for nothing.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_for_log(text: &str) -> Result<(Self, Vec<Fault>), Fault> {
        let mut passed = Vec::new();
        let parts = parse::parts(text, Some(&mut passed))?.into();
        Ok((Self { text: text.into(), parts }, passed))
    }

    /// What the text is when it is one command and no more: `Some(true)` = a number.
    pub(crate) fn as_one_command(&self) -> Option<bool> {
        match &*self.parts {
            [Part::Command { command, longest: None }] => Some(match command {
                Command::Fact(fact) => fact.is_number(),
                Command::Between(_) => true,
                // They are written alike in JSON, and no client can make a text of them.
                Command::Typed(expression) => expression.is_number_or_condition(),
                _ => false,
            }),
            [Part::Command { .. }] => Some(false),
            _ => None,
        }
    }

    /// What has to be kept of a request until it is filled in.
    pub fn demands(&self) -> Demands {
        let commands = self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Command { command, .. } => Some(command),
        });
        Demands::of(commands.map(Command::demands))
    }

    /// The text when it holds no command, with `%%` made single.
    pub fn as_plain(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The first command that tells of an answer, of which nothing is known while a request goes upstream.
    pub fn command_of_answers(&self) -> Option<&'static str> {
        self.parts.iter().find_map(|part| match part {
            Part::Command { command: Command::Response(..), .. } => Some("RESP"),
            Part::Command { command: Command::Fact(fact), .. } if fact.is_of_answers() => Some(fact.name()),
            _ => None,
        })
    }

    /// Appends the text with every command filled in; `absent` stands for what is not known.
    pub fn fill(&self, values: &dyn Values, absent: &str, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Command { command, longest } => {
                    let before = out.len();
                    command.fill(values, out);
                    if out.len() == before {
                        out.extend_from_slice(absent.as_bytes());
                    } else if let Some(longest) = longest {
                        out.truncate(before.saturating_add(*longest));
                    }
                }
            }
        }
    }

    /// Gives the pieces of the text one after the other: what was written, and what commands stand for, which is put together
    /// in `room`.
    pub fn pieces(&self, values: &dyn Values, room: &mut Vec<u8>, mut give: impl FnMut(Piece<'_>)) {
        for part in &self.parts {
            match part {
                Part::Text(text) => give(Piece::Written(text)),
                Part::Command { command, longest } => {
                    room.clear();
                    command.fill(values, room);
                    room.truncate(longest.unwrap_or(usize::MAX));
                    give(Piece::Told(room));
                }
            }
        }
    }
}

impl fmt::Debug for Template {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl Command {
    fn demands(&self) -> Demands {
        match self {
            Self::Fact(fact) => fact.demands(),
            Self::Between(between) => between.demands(),
            Self::Trailer(..) => Demands { trailers: true, ..Demands::default() },
            Self::Expression(expression) | Self::Typed(expression) => expression.demands(),
            _ => Demands::default(),
        }
    }

    fn fill(&self, values: &dyn Values, out: &mut Vec<u8>) {
        match self {
            Self::Nothing => {}
            Self::Expression(expression) | Self::Typed(expression) => {
                expression.write(values, out);
            }
            Self::Peer(side, field) => {
                out.extend_from_slice(values.peer(*side, *field).as_deref().unwrap_or_default().as_bytes());
            }
            Self::GrpcSnake => {
                let before = out.len();
                values.fact(Fact::GrpcStatus, out);
                let word = String::from_utf8_lossy(&out[before..]).into_owned();
                out.truncate(before);
                out.extend_from_slice(snake(&word).as_bytes());
            }
            Self::Request(first, second) => append(out, either(first, second, |field| values.request(field))),
            Self::RequestWithoutQuery(first, second) => {
                let before = out.len();
                append(out, either(first, second, |field| values.request(field)));
                let query = out[before..].iter().position(|byte| *byte == b'?');
                out.truncate(query.map_or(out.len(), |at| before + at));
            }
            Self::QueryParameter(name) => {
                let path = values.request(&HeaderField::Path);
                append(out, path.as_deref().and_then(|path| query_parameter(path, name)).map(Cow::Borrowed));
            }
            Self::Response(first, second) => append(out, either(first, second, |field| values.response(field))),
            Self::Trailer(first, second) => append(out, either(first, second, |name| values.trailer(name))),
            Self::Query => {
                let path = values.request(&HeaderField::Path);
                append(out, path.as_deref().and_then(query).map(Cow::Borrowed));
            }
            Self::Environment(name) => {
                // The one command whose absence Envoy tells everywhere.
                out.extend_from_slice(values.environment(name).as_deref().unwrap_or("-").as_bytes());
            }
            Self::Start(format) => format.write(values.start(), out),
            Self::Emitted(format) => {
                if let Some(end) = values.end() {
                    format.write(end, out);
                }
            }
            Self::Details => append(out, values.details()),
            Self::Between(between) => {
                if let Some(measured) = between.measure(|moment| values.moment(moment)) {
                    // Writing into a Vec cannot fail.
                    let _ = write!(out, "{measured}");
                }
            }
            Self::ServerName(which, first, second) => server_name(*which, (first, second), values, out),
            Self::Masked(fact, bits) => masked(*fact, *bits, values, out),
            Self::Certificate(end, format) => {
                if let Some(seconds) = values.certificate(*end).and_then(|seconds| u64::try_from(seconds).ok()) {
                    format.write(Duration::from_secs(seconds), out);
                }
            }
            Self::Tried(what) => append(out, values.tried(*what)),
            Self::Fact(fact) => values.fact(*fact, out),
        }
    }
}

/// A status of gRPC as its protocol writes it, of the word that logs use: `DEADLINE_EXCEEDED`.
fn snake(word: &str) -> String {
    match word {
        "OK" => "OK".to_owned(),
        "Canceled" => "CANCELLED".to_owned(),
        word => {
            let mut text = String::with_capacity(word.len() + 2);
            for (at, letter) in word.char_indices() {
                if at > 0 && letter.is_ascii_uppercase() {
                    text.push('_');
                }
                text.push(letter.to_ascii_uppercase());
            }
            text
        }
    }
}

/// The value of a field, or of the one that stands behind `?`.
fn either<'v, F>(first: &F, second: &Option<F>, value: impl Fn(&F) -> Option<Cow<'v, [u8]>>) -> Option<Cow<'v, [u8]>> {
    value(first).or_else(|| value(second.as_ref()?))
}

fn append(out: &mut Vec<u8>, value: Option<Cow<'_, [u8]>>) {
    out.extend_from_slice(value.as_deref().unwrap_or_default());
}

/// What stands behind `?`.
fn query(path: &[u8]) -> Option<&[u8]> {
    let at = path.iter().position(|byte| *byte == b'?')?;
    Some(&path[at + 1..])
}

/// The name of TLS, or that of the request.
fn server_name(
    which: ServerName,
    (first, second): (&HeaderField, &Option<HeaderField>),
    values: &dyn Values,
    out: &mut Vec<u8>,
) {
    let before = out.len();
    if which == ServerName::Sni {
        values.fact(Fact::RequestedServerName, out);
    }
    if out.len() == before {
        append(out, either(first, second, |field| values.request(field)));
    }
}

/// The network of so many bits that an address is in.
fn masked(fact: Fact, bits: u8, values: &dyn Values, out: &mut Vec<u8>) {
    let before = out.len();
    values.fact(fact, out);
    let address = std::str::from_utf8(&out[before..]).ok().and_then(|text| text.parse::<IpAddr>().ok());
    let network = address.and_then(|address| IpNet::new(address, bits).ok());
    if let Some(network) = network {
        out.truncate(before);
        // Writing into a Vec cannot fail.
        let _ = write!(out, "{}", network.trunc());
    }
}

fn query_parameter<'p>(path: &'p [u8], name: &str) -> Option<&'p [u8]> {
    query(path)?.split(|byte| *byte == b'&').find_map(|pair| {
        let rest = pair.strip_prefix(name.as_bytes())?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"=") }
    })
}

#[cfg(test)]
mod tests;
