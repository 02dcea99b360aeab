//! Text to parts: `%COMMAND%`, `%COMMAND(argument)%`, `%COMMAND(argument):length%`.

use std::fmt;

use http::HeaderName;

use super::{
    Command, Fact, Part, ResponseField, ServerName, TimeFormat, Tried, Validity,
    command::{METADATA, ONLY_AT_THE_END, fact, served, why_not},
    moment::Between,
};
use crate::{
    api::decode::nearest::nearest,
    attributes::{self, Expression, Side, peer_field},
    pattern::HeaderField,
};

/// What is wrong with a text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A `%` that begins no command and is not doubled.
    Lone,
    /// There is no such command; with those that are written alike.
    Unknown(String, Vec<&'static str>),
    /// Envoy has it; why it is not served.
    Unserved(String, &'static str),
    /// The expression within `%CEL(...)%` is none.
    Expression(attributes::Fault),
    /// It wants something else between its parentheses; an example.
    Argument(String, &'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lone => f.write_str("a lone `%` begins no command; write `%%` for a percent sign"),
            Self::Unknown(name, near) => {
                write!(f, "there is no command `%{name}%`")?;
                let near: Vec<String> = near.iter().map(|name| format!("`%{name}%`")).collect();
                if near.is_empty() { Ok(()) } else { write!(f, "; did you mean {}?", near.join(" or ")) }
            }
            Self::Unserved(name, why) => write!(f, "the command `%{name}%` {why}"),
            Self::Expression(fault) => write!(f, "`%CEL(...)%`: {fault}"),
            Self::Argument(name, example) => write!(f, "`%{name}...%` is written as `{example}`"),
        }
    }
}

/// `passed`: of a log, whose commands tell more; those that are known and not served are named there and stand for nothing.
pub(super) fn parts(text: &str, mut passed: Option<&mut Vec<Fault>>) -> Result<Vec<Part>, Fault> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        if let Some(tail) = after.strip_prefix('%') {
            plain.push('%');
            rest = tail;
            continue;
        }
        let (written, tail) = split(after).ok_or(Fault::Lone)?;
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain).into()));
        }
        let command = match (command(&written, passed.is_some()), &mut passed) {
            (Err(fault @ Fault::Unserved(..)), Some(passed)) => {
                passed.push(fault);
                Command::Nothing
            }
            (command, _) => command?,
        };
        parts.push(Part::Command { command, longest: written.longest });
        rest = tail;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain.into()));
    }
    Ok(parts)
}

/// A command as it is written.
struct Written<'t> {
    name: &'t str,
    argument: Option<&'t str>,
    longest: Option<usize>,
}

/// The command at the begin of a text, and what follows its closing `%`.
fn split(text: &str) -> Option<(Written<'_>, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))?;
    let (name, mut rest) = text.split_at(end);
    let mut argument = None;
    if let Some(inside) = rest.strip_prefix('(') {
        let end = inside.match_indices(')').map(|(at, _)| at).find(|at| ends(&inside[at + 1..]))?;
        (argument, rest) = (Some(&inside[..end]), &inside[end + 1..]);
    }
    let mut longest = None;
    if let Some(length) = rest.strip_prefix(':') {
        let end = length.find(|c: char| !c.is_ascii_digit())?;
        (longest, rest) = (Some(length[..end].parse().ok()?), &length[end..]);
    }
    let rest = rest.strip_prefix('%')?;
    (!name.is_empty()).then_some((Written { name, argument, longest }, rest))
}

/// Whether a command is over: there are expressions with parentheses.
fn ends(behind: &str) -> bool {
    let digits = |text: &str| text.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with('%');
    behind.starts_with('%') || behind.strip_prefix(':').is_some_and(digits)
}

fn command(written: &Written<'_>, logs: bool) -> Result<Command, Fault> {
    let argument = written.argument.unwrap_or_default();
    let wrong = |example| Fault::Argument(written.name.to_owned(), example);
    match written.name {
        "REQ" | "REQUEST_HEADER" => {
            let (first, second) = pair(argument, request_field).ok_or_else(|| wrong("%REQ(x-user)%"))?;
            Ok(Command::Request(first, second))
        }
        "REQ_WITHOUT_QUERY" => {
            let found = pair(argument, request_field);
            let (first, second) = found.ok_or_else(|| wrong("%REQ_WITHOUT_QUERY(:path)%"))?;
            Ok(Command::RequestWithoutQuery(first, second))
        }
        "RESP" | "RESPONSE_HEADER" => {
            let (first, second) = pair(argument, response_field).ok_or_else(|| wrong("%RESP(x-version)%"))?;
            Ok(Command::Response(first, second))
        }
        "CEL" => Expression::parse(argument).map(Command::Expression).map_err(Fault::Expression),
        "TYPED_CEL" => Expression::parse(argument).map(Command::Typed).map_err(Fault::Expression),
        "QUERY_PARAMS" if matches!(argument, "" | "ORIG") => Ok(Command::Query),
        "QUERY_PARAMS" => Err(wrong("%QUERY_PARAMS(ORIG)%")),
        "REQUESTED_SERVER_NAME" => {
            server_name(argument).ok_or_else(|| wrong("%REQUESTED_SERVER_NAME(SNI_FIRST:HOST)%"))
        }
        "FILTER_STATE" => peer(argument).ok_or_else(|| wrong("%FILTER_STATE(upstream_peer:FIELD:workload)%")),
        "PATH" => path(argument).ok_or_else(|| wrong("%PATH(NQ:ORIG_OR_PATH)%")),
        "QUERY_PARAM" if argument.is_empty() => Err(wrong("%QUERY_PARAM(page)%")),
        "QUERY_PARAM" => Ok(Command::QueryParameter(argument.into())),
        "ENVIRONMENT" if argument.is_empty() || argument.contains(['=', '\0']) => Err(wrong("%ENVIRONMENT(POD_NAME)%")),
        "DYNAMIC_METADATA" => match Tried::of(argument) {
            Some(what) => Ok(Command::Tried(what)),
            None => Err(Fault::Unserved(written.name.to_owned(), METADATA)),
        },
        "ENVIRONMENT" => Ok(Command::Environment(argument.into())),
        "START_TIME" => Ok(Command::Start(time(argument).ok_or_else(|| wrong("%START_TIME(%Y-%m-%dT%H:%M:%S)%"))?)),
        "DOWNSTREAM_PEER_CERT_V_START" | "DOWNSTREAM_PEER_CERT_V_END" => {
            let end = if written.name.ends_with("START") { Validity::NotBefore } else { Validity::NotAfter };
            let format = time(argument).ok_or_else(|| wrong("%DOWNSTREAM_PEER_CERT_V_END(%Y-%m-%d)%"))?;
            Ok(Command::Certificate(end, format))
        }
        name if logs && let Some(command) = at_the_end(name, argument) => command.map_err(wrong),
        name => match (fact(name), why_not(name)) {
            (Some(fact), _)
                if name.ends_with("_WITHOUT_PORT")
                    && let Ok(bits @ 0..=128) = argument.parse() =>
            {
                Ok(Command::Masked(fact, bits))
            }
            (Some(fact), _) if fact.is_of_the_end() && !logs => Err(Fault::Unserved(name.to_owned(), ONLY_AT_THE_END)),
            (Some(_), _) if written.argument.is_some_and(|argument| !argument.is_empty()) => {
                Err(wrong("%COMMAND%, with nothing between parentheses"))
            }
            (Some(fact), _) => Ok(Command::Fact(fact)),
            (None, Some(why)) => Err(Fault::Unserved(name.to_owned(), why)),
            (None, None) => Err(Fault::Unknown(name.to_owned(), nearest(name, &served(logs)))),
        },
    }
}

/// Commands with an argument that tell of what has ended; or an example of how they are written.
fn at_the_end(name: &str, argument: &str) -> Option<Result<Command, &'static str>> {
    let trailer = |name: &str| HeaderName::from_bytes(name.as_bytes()).ok();
    let (command, example) = match name {
        "GRPC_STATUS" => {
            const EXAMPLES: &str = "%GRPC_STATUS(CAMEL_STRING)%, %GRPC_STATUS(SNAKE_STRING)%, %GRPC_STATUS(NUMBER)%";
            let command = match argument {
                "" | "CAMEL_STRING" => Some(Command::Fact(Fact::GrpcStatus)),
                "SNAKE_STRING" => Some(Command::GrpcSnake),
                "NUMBER" => Some(Command::Fact(Fact::GrpcStatusNumber)),
                _ => None,
            };
            (command, EXAMPLES)
        }
        "COMMON_DURATION" => {
            (Between::parse(argument).map(Command::Between), "%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:ms)%")
        }
        "EMIT_TIME" => (time(argument).map(Command::Emitted), "%EMIT_TIME(%Y-%m-%dT%H:%M:%S)%"),
        "TRAILER" | "RESPONSE_TRAILER" => {
            let found = pair(argument, trailer);
            (found.map(|(first, second)| Command::Trailer(first, second)), "%TRAILER(grpc-message)%")
        }
        "RESPONSE_CODE_DETAILS" if argument == "ALLOW_WHITESPACES" => (Some(Command::Details), ""),
        _ => return None,
    };
    Some(command.ok_or(example))
}

/// `SNI_FIRST:ORIG_OR_HOST`: whose name comes first, and which of the request.
fn server_name(argument: &str) -> Option<Command> {
    const ORIGINAL: HeaderName = HeaderName::from_static("x-envoy-original-host");
    let (which, host) = argument.split_once(':').unwrap_or((argument, ""));
    let (first, second) = match host {
        "" | "ORIG_OR_HOST" => (HeaderField::Name(ORIGINAL), Some(HeaderField::Authority)),
        "ORIG" => (HeaderField::Name(ORIGINAL), None),
        "HOST" => (HeaderField::Authority, None),
        _ => return None,
    };
    match which {
        "" | "SNI_ONLY" => Some(Command::Fact(Fact::RequestedServerName)),
        "SNI_FIRST" => Some(Command::ServerName(ServerName::Sni, first, second)),
        "HOST_FIRST" => Some(Command::ServerName(ServerName::Host, first, second)),
        _ => None,
    }
}

/// `upstream_peer:FIELD:workload`: what is known of a workload.
fn peer(argument: &str) -> Option<Command> {
    let (side, field) = argument.split_once(":FIELD:")?;
    let side = match side {
        "upstream_peer" => Side::Upstream,
        "downstream_peer" => Side::Downstream,
        _ => return None,
    };
    Some(Command::Peer(side, peer_field(field)?))
}

/// `WQ:ORIG`: with the query or without, and which path.
fn path(argument: &str) -> Option<Command> {
    const ORIGINAL: HeaderName = HeaderName::from_static("x-envoy-original-path");
    let (query, which) = argument.split_once(':').unwrap_or((argument, ""));
    let (first, second) = match which {
        "" | "ORIG_OR_PATH" => (HeaderField::Name(ORIGINAL), Some(HeaderField::Path)),
        "ORIG" => (HeaderField::Name(ORIGINAL), None),
        "PATH" => (HeaderField::Path, None),
        _ => return None,
    };
    match query {
        "" | "WQ" => Some(Command::Request(first, second)),
        "NQ" => Some(Command::RequestWithoutQuery(first, second)),
        _ => None,
    }
}

fn time(argument: &str) -> Option<TimeFormat> {
    if argument.is_empty() { Some(TimeFormat::default()) } else { TimeFormat::parse(argument) }
}

/// `first?second`.
fn pair<F>(argument: &str, field: impl Fn(&str) -> Option<F>) -> Option<(F, Option<F>)> {
    match argument.split_once('?') {
        None => Some((field(argument)?, None)),
        Some((first, second)) => Some((field(first)?, Some(field(second)?))),
    }
}

fn request_field(name: &str) -> Option<HeaderField> {
    match name.to_ascii_lowercase().as_str() {
        ":method" => Some(HeaderField::Method),
        ":scheme" => Some(HeaderField::Scheme),
        ":authority" | "host" => Some(HeaderField::Authority),
        ":path" => Some(HeaderField::Path),
        name => HeaderName::from_bytes(name.as_bytes()).ok().map(HeaderField::Name),
    }
}

fn response_field(name: &str) -> Option<ResponseField> {
    match name.to_ascii_lowercase().as_str() {
        ":status" => Some(ResponseField::Status),
        name => HeaderName::from_bytes(name.as_bytes()).ok().map(ResponseField::Name),
    }
}
