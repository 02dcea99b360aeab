//! Hostile and odd input, case by case from tables: each has one right answer, and the endpoint sees a clean request or none.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use harness::{
    gateway::Proxy,
    mesh::Mesh,
    raw::{Heard, Raw},
    yaml,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout_at},
};

mod endpoint;
mod frames;
mod judges;
mod message;
mod table;

use endpoint::{Endpoint, Seen};
use table::Case;

/// A gateway with one worker, so that a kept connection to the endpoint is the next request's, and an endpoint.
struct Stand {
    mesh: Mesh,
    gateway: Proxy,
    endpoint: Endpoint,
    /// Bytes come one by one.
    drip: bool,
}

impl Stand {
    async fn up(drip: bool) -> Self {
        let mesh = Mesh::with_edge();
        let endpoint = Endpoint::start(mesh.workload("reviews").declare(), drip).await;
        mesh.route_all_to("reviews");
        let gateway = mesh.gateway_with(&["--workers", "1"]).await;
        Self { mesh, gateway, endpoint, drip }
    }

    fn address(&self) -> SocketAddr {
        self.gateway.addresses().second
    }

    /// Sends bytes over a fresh connection and hears its end.
    async fn tell(&self, bytes: &[u8], finish: bool) -> Heard {
        let mut raw = Raw::connect(self.address()).await.expect("the gateway listens");
        for piece in pieces(bytes, self.drip) {
            raw.send(piece).await.ok();
        }
        if finish {
            raw.finish().await;
        }
        raw.hear(PATIENCE).await
    }

    /// Bytes of a client, in front of an honest request.
    async fn request(&self, case: &Case) -> Result<(), String> {
        let (mut bytes, finish) = (case.bytes(), case.has("fin"));
        if !finish {
            bytes.extend(AFTER);
        }
        let heard = self.tell(&bytes, finish).await;
        let seen = self.endpoint.take().await;
        let right = answered(case, &heard)?;
        sighted(case, Some(right.contains('+')), &seen)
    }

    /// Bytes of the endpoint. Whatever they are, its connection is not used again unless the case says so.
    async fn answer(&self, case: &Case) -> Result<(), String> {
        self.endpoint.script(case.bytes(), case.has("close"), self.drip && !case.has("whole"));
        let method = case.value("method:").unwrap_or("GET");
        let fields: String = case.texts("with:").map(|field| field + "\r\n").collect();
        let head = format!("{method} /scripted HTTP/1.1\r\nHost: shop.example.com\r\n{fields}\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend(AFTER);
        let heard = self.tell(&bytes, false).await;
        let honest = self.tell(AFTER, false).await;
        let seen = self.endpoint.take().await;
        answered(case, &heard)?;
        if honest.statuses() != [200] {
            return Err(format!("an honest request was answered with {honest:?}"));
        }
        let connections: Vec<usize> = seen.iter().map(|seen| seen.connection).collect();
        let again = |(at, seen): (usize, &Seen)| connections[at + 1..].contains(&seen.connection) && seen.is_scripted();
        let reused = seen.iter().enumerate().any(again);
        if reused != case.has("reused") {
            return Err(format!("requests on the endpoint's connections {connections:?}"));
        }
        seen.iter().try_for_each(|seen| seen.request.as_ref().map(drop).map_err(Clone::clone))
    }

    /// Frames of a client, in front of an honest request.
    async fn frames(&self, case: &Case) -> Result<(), String> {
        let answers: Vec<Right> = case.answers().map(Right::new).collect();
        let script: Vec<u8> = case.texts("script:").flat_map(|text| latin(&text)).collect();
        self.endpoint.script(script, case.has("close"), self.drip);
        let mut bytes = frames::opening(case);
        bytes.extend(frames::written(case));
        let ends = answers.iter().all(|right| matches!(right, Right::Goaway(_)));
        if !ends {
            bytes.extend(frames::honest());
        }
        let complete = |heard: &frames::Heard| answers.iter().any(|right| right.is_complete(heard));
        let heard = exchange(self.address(), pieces(&bytes, self.drip), complete).await;
        let seen = self.endpoint.take().await;
        match answers.iter().find(|right| right.is(&heard)) {
            Some(Right::Goaway(_)) if !ends => sighted(case, None, &seen),
            Some(right) => sighted(case, Some(right.is_honest_served()), &seen),
            None => Err(format!("{answers:?} is right, and not {heard:?}")),
        }
    }
}

/// One right answer to frames.
#[derive(Debug)]
enum Right {
    /// The connection ends for this reason.
    Goaway(String),
    /// This becomes of each stream, the honest one's among them.
    Streams(BTreeMap<u32, String>),
}

impl Right {
    fn new(text: &str) -> Self {
        if let Some(reason) = text.strip_prefix("goaway:") {
            return Self::Goaway(reason.to_owned());
        }
        let each = text.split_whitespace().map(|word| word.split_once(':').expect("a stream and what becomes of it"));
        let mut streams: BTreeMap<u32, String> =
            each.map(|(stream, what)| (stream.parse().expect("a stream"), what.to_owned())).collect();
        streams.entry(frames::AFTER).or_insert_with(|| "200".to_owned());
        Self::Streams(streams)
    }

    /// Whether nothing more is to be waited for.
    fn is_complete(&self, heard: &frames::Heard) -> bool {
        match self {
            Self::Goaway(_) => heard.closed,
            // A reset may follow a status.
            Self::Streams(streams) => streams.iter().all(|(stream, what)| match heard.streams.get(stream) {
                Some(heard) => heard == what || !what.starts_with("reset:"),
                None => false,
            }),
        }
    }

    fn is(&self, heard: &frames::Heard) -> bool {
        match self {
            Self::Goaway(reason) => heard.closed && heard.goaway.as_ref() == Some(reason),
            Self::Streams(streams) => heard.goaway.is_none() && heard.streams == *streams,
        }
    }

    fn is_honest_served(&self) -> bool {
        matches!(self, Self::Streams(streams) if streams[&frames::AFTER] == "200")
    }
}

/// Writes all, and reads until that is complete, or until the end, or for too long.
async fn exchange(
    address: SocketAddr,
    pieces: Vec<Vec<u8>>,
    complete: impl Fn(&frames::Heard) -> bool,
) -> frames::Heard {
    let stream = TcpStream::connect(address).await.expect("the gateway listens");
    stream.set_nodelay(true).expect("a socket");
    let (mut reader, mut writer) = stream.into_split();
    let writing = tokio::spawn(async move {
        for piece in pieces {
            writer.write_all(&piece).await.ok();
        }
        writer
    });
    let mut heard = frames::Heard::default();
    let mut buffer = vec![0; 16 * 1024];
    let deadline = Instant::now() + PATIENCE;
    while !complete(&heard) && !heard.closed {
        match timeout_at(deadline, reader.read(&mut buffer)).await {
            Err(_) => break,
            Ok(Ok(0) | Err(_)) => heard.closed = true,
            Ok(Ok(count)) => heard.read(&buffer[..count]),
        }
    }
    writing.abort();
    heard
}

/// The bytes that a text of a table stands for, a character for each.
fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).expect("a byte")).collect()
}

/// The same bytes, one by one when there are few of them.
fn pieces(bytes: &[u8], drip: bool) -> Vec<Vec<u8>> {
    let size = if drip && bytes.len() < LARGE { 1 } else { bytes.len() };
    bytes.chunks(size.max(1)).map(<[u8]>::to_vec).collect()
}

/// Statuses as one of the case's answers says, which is given; `+` is the honest request behind it, and the connection ends.
fn answered<'a>(case: &'a Case, heard: &Heard) -> Result<&'a str, String> {
    let statuses = |answer: &str| -> Vec<u16> {
        let words = answer.split_whitespace().filter(|word| *word != "-");
        words.map(|word| if word == "+" { 200 } else { word.parse().expect("a status") }).collect()
    };
    let right = case.answers().find(|answer| heard.closed && heard.statuses() == statuses(answer));
    let Some(right) = right else {
        return Err(format!("{:?} is right, and not {heard:?}", case.answers().collect::<Vec<_>>()));
    };
    if let Some(text) = case.texts("heard:").find(|text| !heard.text.contains(text)) {
        return Err(format!("{text:?} was not heard but {heard:?}"));
    }
    match case.texts("unheard:").find(|text| heard.text.contains(text)) {
        Some(text) => Err(format!("{text:?} was heard: {heard:?}")),
        None => Ok(right),
    }
}

/// As many clean requests as the case says, with what it says in them; `/after` exactly when it was to be served, if that can
/// be told.
fn sighted(case: &Case, after: Option<bool>, seen: &[Seen]) -> Result<(), String> {
    let mut texts = Vec::new();
    for one in seen {
        texts.push(one.request.as_ref().map_err(|why| format!("the endpoint saw {why}"))?.text());
    }
    // Whether these get through is nobody's matter, nor when: they may belong to an earlier case.
    texts.retain(|text| !text.lines().next().is_some_and(|line| line.contains(" /any ")));
    let honest = texts.iter().filter(|text| is_after(text)).count();
    let served = after.is_none_or(|after| honest == usize::from(after));
    if !served || (case.value("seen:") != Some("any") && texts.len() - honest != case.seen()) {
        return Err(format!("the endpoint saw {texts:#?}"));
    }
    let all: String = texts.into_iter().filter(|text| !is_after(text)).collect();
    if let Some(line) = case.texts("has:").find(|wanted| !all.lines().any(|line| line == *wanted)) {
        return Err(format!("the endpoint did not see {line:?} but {all}"));
    }
    if let Some(part) = case.texts("part:").find(|wanted| !all.contains(wanted)) {
        return Err(format!("the endpoint did not see {part:?} but {all}"));
    }
    let lower = all.to_ascii_lowercase();
    match case.texts("lacks:").find(|text| lower.contains(&text.to_ascii_lowercase())) {
        Some(text) => Err(format!("the endpoint saw {text:?}: {all}")),
        None => Ok(()),
    }
}

fn is_after(text: &str) -> bool {
    text.starts_with("GET /after ")
}

/// Runs every case of a table, once with all its bytes at a time and once byte by byte.
async fn all(table: &str, run: impl AsyncFn(&Stand, &Case) -> Result<(), String>) {
    let (whole, dripping) = tokio::join!(Stand::up(false), Stand::up(true));
    tokio::join!(each(&whole, table, &run), each(&dripping, table, &run));
}

/// Runs every case with one gateway; at the end all is well with it.
async fn each(stand: &Stand, table: &str, run: &impl AsyncFn(&Stand, &Case) -> Result<(), String>) {
    let mut wrong = Vec::new();
    let cases = Case::all(table);
    for case in &cases {
        if let Err(why) = run(stand, case).await {
            wrong.push(format!("{}: {why}", case.name));
        }
    }
    let how = if stand.drip { "byte by byte" } else { "at once" };
    assert!(wrong.is_empty(), "{} of {} cases, {how}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(stand.tell(AFTER, false).await.statuses(), [200]);
    let log = stand.gateway.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn no_body_can_be_written_so_that_two_readers_end_it_at_different_bytes() {
    all(include_str!("hostile/framing.txt"), Stand::request).await;
}

#[tokio::test]
async fn every_request_line_and_host_has_one_meaning_or_is_refused() {
    all(include_str!("hostile/target.txt"), Stand::request).await;
}

#[tokio::test]
async fn fields_that_end_at_the_gateway_never_reach_an_endpoint() {
    all(include_str!("hostile/fields.txt"), Stand::request).await;
}

#[tokio::test]
async fn a_broken_answer_is_told_as_such_and_its_connection_carries_nothing_more() {
    all(include_str!("hostile/answers.txt"), Stand::answer).await;
}

#[tokio::test]
async fn frames_against_the_rules_end_their_stream_or_their_connection() {
    all(include_str!("hostile/frames.txt"), Stand::frames).await;
}

/// Begins with these bytes and says no more; gives what came of it.
async fn begin(address: SocketAddr, bytes: &[u8], patience: Duration) -> Heard {
    let mut raw = Raw::connect(address).await.expect("somebody listens");
    raw.send(bytes).await.expect("somebody reads");
    raw.hear(patience).await
}

#[tokio::test]
async fn whoever_begins_and_says_no_more_is_let_go_after_ten_seconds() {
    let stand = Stand::up(false).await;
    let (plain, tls) = (stand.gateway.addresses().second, stand.gateway.addresses().main);
    let browser = stand.mesh.browser();
    let begun: [(SocketAddr, &[u8]); 15] = [
        (plain, b"GE"),
        (plain, b"PRI * HTT"),
        (plain, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"),
        (plain, b"\r\nG"),
        (plain, b"GET / HTTP/1.1\r\nHost: shop.exam"),
        (plain, b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n"),
        (plain, b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r"),
        (plain, b"POST / HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 5\r\nX"),
        (tls, b""),
        (tls, b"\x16"),
        (tls, b"\x16\x03\x01"),
        (tls, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        // Three records with a part of one ClientHello each.
        (tls, b"\x16\x03\x01\x00\x02\x01\x00\x16\x03\x01\x00\x02\x01\xfc\x16\x03\x01\x00\x02\x03\x03"),
        // A record that is announced and does not come.
        (tls, b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03"),
        (tls, b"\x14\x03\x03\x00\x01"),
    ];
    let ended = futures::future::join_all(begun.iter().map(|(address, bytes)| begin(*address, bytes, LIMIT)));
    // The handshake is done, and then the same.
    let shaken = async |bytes: &[u8], h2: bool| {
        let browser = if h2 { browser.clone().h2() } else { browser.clone() };
        let mut raw = Raw::over(browser.dial(harness::mesh::HOST).await.expect("HTTPS works"));
        raw.send(bytes).await.expect("somebody reads");
        raw.hear(LIMIT).await
    };

    let (ended, head, preface, silent) =
        tokio::join!(ended, shaken(b"GET / HT", false), shaken(b"PRI * HTTP/2.0\r\n", true), shaken(b"", true));

    let begun = begun.iter().map(|(_, bytes)| bytes.escape_ascii().to_string());
    let after_tls = [("TLS, GET", head), ("TLS, PRI", preface), ("TLS, h2 and nothing", silent)];
    let after_tls = after_tls.into_iter().map(|(what, heard)| (what.to_owned(), heard));
    for (what, heard) in begun.zip(ended).chain(after_tls) {
        let in_time = heard.after < LIMIT && (heard.after > Duration::from_secs(8) || what.starts_with("\\x14"));
        assert!(heard.closed && in_time, "{what}: {heard:?}");
        assert!([0, 408].contains(&heard.status()), "{what}: {heard:?}");
    }
    assert!(stand.endpoint.take().await.is_empty());
}

#[tokio::test]
async fn within_the_mesh_nobody_waits_for_long_to_hear_what_is_spoken() {
    let mesh = Mesh::new();
    mesh.write(
        "services.yaml",
        &yaml::service("shop", "reviews", &[(8080, "tcp-none"), (8081, "http"), (8082, "web")]),
    );
    mesh.write("peers.yaml", &yaml::peer_authentication("shop", "PERMISSIVE"));
    let open = mesh.workload("reviews").ports(&[8080, 8081, 8082]).sidecar().start().await;
    mesh.write("strict.yaml", &yaml::service("bank", "ledger", &[(8080, "http")]));
    mesh.write("bank.yaml", &yaml::peer_authentication("bank", "STRICT"));
    let strict = mesh.workload("ledger").namespace("bank").sidecar().start().await;
    let at = |port| SocketAddr::new(open.address.ip(), port);
    // The port says nothing, so this may be any protocol: its server gets what has come, and the client its answer.
    let any = async {
        let mut raw = Raw::connect(at(8082)).await.expect("the sidecar listens");
        raw.send("GE").await.expect("the sidecar reads");
        tokio::time::sleep(Duration::from_secs(11)).await;
        raw.send("T / HTTP/1.1\r\nHost: reviews:8082\r\nConnection: close\r\n\r\n").await.expect("the sidecar reads");
        raw.hear(PATIENCE).await
    };

    let (any, strict, out) =
        tokio::join!(any, begin(strict.address, b"GE", LIMIT), begin(open.outbound(), b"GE", LIMIT));

    assert_eq!(any.statuses(), [200], "{any:?}");
    for heard in [strict, out] {
        assert!(heard.closed && heard.text.is_empty() && heard.after > Duration::from_secs(8), "{heard:?}");
    }
}

#[tokio::test]
async fn an_empty_line_begins_nothing() {
    let stand = Stand::up(false).await;
    let begun: [(&[u8], &[u8]); 3] = [(b"\r\n", b""), (b"\r", b"\n"), (AFTER_THAT_IS_KEPT, b"\r\n")];
    let mut raws = Vec::new();
    for (bytes, rest) in begun {
        let mut raw = Raw::connect(stand.address()).await.expect("the gateway listens");
        raw.send(bytes).await.expect("the gateway reads");
        raws.push((bytes, rest, raw));
    }
    tokio::time::sleep(Duration::from_secs(11)).await;

    for (bytes, rest, mut raw) in raws {
        raw.send([rest, AFTER].concat()).await.expect("the gateway reads");
        let heard = raw.hear(PATIENCE).await;
        assert_eq!(heard.statuses().last(), Some(&200), "{}: {heard:?}", bytes.escape_ascii());
    }
}

#[tokio::test]
async fn a_client_that_takes_its_time_takes_nobody_elses() {
    let stand = Stand::up(false).await;
    stand.endpoint.script(
        [b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n".to_vec(), vec![b'x'; 4_000_000]].concat(),
        false,
        false,
    );
    let slow: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: shop",
        b"POST / HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 100\r\n\r\nhalf",
        b"POST / HTTP/1.1\r\nHost: shop.example.com\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
        b"GET /scripted HTTP/1.1\r\nHost: shop.example.com\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x08\x06",
    ];
    let mut raws = Vec::new();
    for bytes in slow.iter().cycle().take(100) {
        let mut raw = Raw::connect(stand.address()).await.expect("the gateway listens");
        raw.send(bytes).await.expect("the gateway reads");
        raws.push(raw);
    }

    for _ in 0..20 {
        let heard = stand.tell(AFTER, false).await;
        assert_eq!(heard.statuses(), [200], "{heard:?}");
        assert!(heard.after < Duration::from_secs(2), "{heard:?}");
    }
    drop(raws);
    let seen = stand.endpoint.take().await;
    let honest = seen.iter().filter(|seen| seen.request.as_ref().is_ok_and(|request| is_after(&request.text())));
    assert_eq!(honest.count(), 20, "{seen:?}");
    assert!(seen.iter().all(|seen| seen.request.is_ok()), "{seen:?}");
}

/// Behind a case: what must be served when the connection goes on, and must not be seen when it does not.
const AFTER: &[u8] = b"GET /after HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n";

/// The same, and the connection goes on.
const AFTER_THAT_IS_KEPT: &[u8] = b"GET /after HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";

/// Whoever says no more is let go before this.
const LIMIT: Duration = Duration::from_secs(14);

const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that are too many to come one by one.
const LARGE: usize = 2000;
