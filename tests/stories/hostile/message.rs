//! What a clean request of HTTP/1.1 is, in the narrowest sense, and what no request that came through a gateway may hold.

/// A clean request.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// Its request line.
    pub(super) line: String,
    /// Its fields, names in lower case.
    pub(super) fields: Vec<(String, String)>,
    /// Its content.
    pub(super) body: String,
    /// Its trailers, names in lower case.
    pub(super) trailers: Vec<(String, String)>,
}

impl Message {
    /// As lines: the request line, `name: value`, `trailer name: value`, `body: content`.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.line);
        for (name, value) in &self.fields {
            text += &format!("{name}: {value}\n");
        }
        for (name, value) in &self.trailers {
            text += &format!("trailer {name}: {value}\n");
        }
        text + &format!("body: {}\n", self.body)
    }

    /// Whether it asks for the answer that a case says.
    pub(super) fn is_scripted(&self) -> bool {
        self.line.contains(" /scripted ")
    }

    /// Whether it is the last one of its connection.
    pub(super) fn asks_to_close(&self) -> bool {
        self.values("connection").any(|value| value == "close")
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    fn only<'a>(&'a self, name: &'a str) -> Result<&'a str, String> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            (None, _) => Err(format!("{name} is missing")),
            (Some(_), Some(_)) => Err(format!("{name} is there twice")),
        }
    }
}

/// The request at the start of the bytes, and its length; `None` = it has not come to its end.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(usize, Message)>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let mut lines = lines(&bytes[..end + 2])?;
    let line = lines.remove(0);
    check_line(&line)?;
    let fields = lines.iter().map(|line| field(line)).collect::<Result<Vec<_>, _>>()?;
    let mut message = Message { line, fields, body: String::new(), trailers: Vec::new() };
    check_fields(&message)?;
    let rest = &bytes[end + 4..];
    let length: Vec<&str> = message.values("content-length").collect();
    let coding: Vec<&str> = message.values("transfer-encoding").collect();
    let read = match (length.as_slice(), coding.as_slice()) {
        ([], []) => Some((0, String::new(), Vec::new())),
        ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length: usize = length.parse().map_err(|_| format!("a length of {length}"))?;
            rest.get(..length).map(|body| (length, latin(body), Vec::new()))
        }
        ([], ["chunked"]) => chunks(rest)?,
        other => return Err(format!("its body has more than one end, or none: {other:?}")),
    };
    let Some((taken, body, trailers)) = read else { return Ok(None) };
    (message.body, message.trailers) = (body, trailers);
    Ok(Some((end + 4 + taken, message)))
}

type Body = (usize, String, Vec<(String, String)>);

/// Chunks to their end: how long they were, content, trailers.
fn chunks(bytes: &[u8]) -> Result<Option<Body>, String> {
    let (mut at, mut body) = (0, String::new());
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let size = latin(&bytes[at..at + end]);
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("a chunk of size {size:?}"));
        }
        let size = usize::from_str_radix(&size, 16).map_err(|_| format!("a chunk of size {size}"))?;
        at += end + 2;
        if size == 0 {
            break;
        }
        let Some(chunk) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if !chunk.ends_with(b"\r\n") {
            return Err("a chunk that ends elsewhere".to_owned());
        }
        body += &latin(&chunk[..size]);
        at += size + 2;
    }
    if bytes[at..].starts_with(b"\r\n") {
        return Ok(Some((at + 2, body, Vec::new())));
    }
    let Some(end) = find(&bytes[at..], b"\r\n\r\n") else { return Ok(None) };
    let trailers: Vec<(String, String)> =
        lines(&bytes[at..at + end + 2])?.iter().map(|line| field(line)).collect::<Result<_, _>>()?;
    match trailers.iter().find(|(name, _)| is_ours(&name.replace('_', "-")) || FRAMING.contains(&name.as_str())) {
        Some((name, _)) => Err(format!("a trailer {name}")),
        None => Ok(Some((at + end + 4, body, trailers))),
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Lines that end in CR LF, without it.
fn lines(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = latin(bytes);
    let lines: Vec<String> = text.split_terminator("\r\n").map(str::to_owned).collect();
    match lines.iter().find(|line| line.bytes().any(|byte| byte != b'\t' && (byte < b' ' || byte == 0x7f))) {
        Some(line) => Err(format!("a control character in {line:?}")),
        None => Ok(lines),
    }
}

fn is_token(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(known)
}

fn check_line(line: &str) -> Result<(), String> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts.as_slice() else { return Err(format!("a request line {line:?}")) };
    let path = target.starts_with('/') || (*target == "*" && *method == "OPTIONS");
    let plain = target.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && byte != b'#');
    match is_token(method) && path && plain {
        true => Ok(()),
        false => Err(format!("a request line {line:?}")),
    }
}

fn field(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(':').ok_or_else(|| format!("a field without colon: {line:?}"))?;
    match is_token(name) {
        true => Ok((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned())),
        false => Err(format!("a field with the name {name:?}")),
    }
}

/// What only a gateway says, or nobody.
fn is_ours(name: &str) -> bool {
    name.starts_with("x-forwarded-") || name.starts_with("x-envoy-") || OURS.contains(&name)
}

fn check_fields(message: &Message) -> Result<(), String> {
    for (name, value) in &message.fields {
        let disguised = name.contains('_') && {
            let dashed = name.replace('_', "-");
            is_ours(&dashed) || FRAMING.contains(&dashed.as_str())
        };
        let unwelcome = name.starts_with("x-envoy-") && !FROM_GATEWAY.contains(&name.as_str());
        if disguised || unwelcome || NEVER.contains(&name.as_str()) {
            return Err(format!("a field {name}: {value}"));
        }
    }
    message.only("host")?;
    message.only("x-request-id")?;
    let proto = message.only("x-forwarded-proto")?;
    if proto != "http" {
        return Err(format!("x-forwarded-proto: {proto}"));
    }
    let peer = message.only("x-envoy-external-address")?;
    let chain = message.only("x-forwarded-for")?;
    if chain.rsplit(',').next() != Some(peer) {
        return Err(format!("x-forwarded-for: {chain} from {peer}"));
    }
    for name in ["x-envoy-attempt-count", "x-envoy-decorator-operation"] {
        message.only(name)?;
    }
    check_connection(message)
}

/// `Connection` says what the gateway itself means, and nothing of the client's.
fn check_connection(message: &Message) -> Result<(), String> {
    let options: Vec<&str> = message.values("connection").flat_map(|value| value.split(',')).map(str::trim).collect();
    let upgrade: Vec<&str> = message.values("upgrade").collect();
    let te: Vec<&str> = message.values("te").collect();
    let fits = match (upgrade.as_slice(), te.as_slice()) {
        ([], []) => options.iter().all(|option| *option == "close"),
        (["websocket"], []) => options == ["upgrade"],
        ([], ["trailers"]) => options.contains(&"te") && options.iter().all(|option| matches!(*option, "te" | "close")),
        _ => false,
    };
    match fits {
        true => Ok(()),
        false => Err(format!("connection: {options:?}, upgrade: {upgrade:?}, te: {te:?}")),
    }
}

/// Fields that end at the gateway.
const NEVER: [&str; 6] =
    ["keep-alive", "proxy-connection", "http2-settings", "forwarded", "x-real-ip", "x-forwarded-client-cert"];

/// Names that mean something when the gateway says them.
const OURS: [&str; 3] = ["forwarded", "x-real-ip", "x-request-id"];

/// Names that say where a message ends or where it goes.
const FRAMING: [&str; 8] =
    ["content-length", "transfer-encoding", "host", "connection", "te", "upgrade", "trailer", "authorization"];

/// Fields of Envoy that a gateway adds itself.
const FROM_GATEWAY: [&str; 5] = [
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
    "x-envoy-original-path",
];
