//! Hostile and odd input, case by case from tables: each has one right answer, and the endpoint sees a clean request or none.

use std::{net::SocketAddr, time::Duration};

use harness::{
    gateway::Proxy,
    mesh::Mesh,
    raw::{Heard, Raw},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout_at},
};

mod endpoint;
mod frames;
mod message;
mod table;

use endpoint::{Endpoint, Seen};
use table::Case;

/// A gateway with one worker, so that a kept connection to the endpoint is the next request's, and an endpoint.
struct Stand {
    _mesh: Mesh,
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
        Self { _mesh: mesh, gateway, endpoint, drip }
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
        answered(case, &heard)?;
        sighted(case, case.answer().contains(&"+"), &seen)
    }

    /// Bytes of the endpoint. Whatever they are, its connection is not used again unless the case says so.
    async fn answer(&self, case: &Case) -> Result<(), String> {
        self.endpoint.script(case.bytes(), case.has("close"));
        let method = case.value("method:").unwrap_or("GET");
        let mut bytes = format!("{method} /scripted HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").into_bytes();
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
        let mut bytes = frames::opening();
        bytes.extend(frames::written(case));
        let expected = case.answer();
        let goaway = expected.iter().find_map(|word| word.strip_prefix("goaway:"));
        if goaway.is_none() {
            bytes.extend(frames::honest());
        }
        let complete = |heard: &frames::Heard| match goaway {
            Some(_) => heard.closed,
            None => {
                let streams = expected.iter().filter_map(|word| word.split(':').next()?.parse().ok());
                streams.chain([frames::AFTER]).all(|stream: u32| heard.streams.contains_key(&stream))
            }
        };
        let heard = exchange(self.address(), pieces(&bytes, self.drip), complete).await;
        let seen = self.endpoint.take().await;
        let mut got: Vec<String> = match goaway {
            Some(_) => heard.goaway.iter().map(|reason| format!("goaway:{reason}")).collect(),
            None => heard.streams.iter().map(|(stream, what)| format!("{stream}:{what}")).collect(),
        };
        let mut wanted: Vec<String> = expected.iter().map(|word| (*word).to_owned()).collect();
        if goaway.is_none() {
            wanted.push(format!("{}:200", frames::AFTER));
        } else if !heard.closed {
            got.push("not closed".to_owned());
        }
        if got != wanted {
            return Err(format!("{wanted:?} is right, and not {heard:?}"));
        }
        sighted(case, goaway.is_none(), &seen)
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

/// The same bytes, one by one when there are few of them.
fn pieces(bytes: &[u8], drip: bool) -> Vec<Vec<u8>> {
    let size = if drip && bytes.len() < LARGE { 1 } else { bytes.len() };
    bytes.chunks(size.max(1)).map(<[u8]>::to_vec).collect()
}

/// Statuses as the case says; `+` is the honest request behind it, and the connection ends.
fn answered(case: &Case, heard: &Heard) -> Result<(), String> {
    let expected = case.answer().into_iter().filter(|word| *word != "-");
    let expected: Vec<u16> =
        expected.map(|word| if word == "+" { 200 } else { word.parse().expect("a status") }).collect();
    if heard.statuses() != expected || !heard.closed {
        return Err(format!("{expected:?} is right, and not {heard:?}"));
    }
    if let Some(text) = case.texts("heard:").find(|text| !heard.text.contains(text)) {
        return Err(format!("{text:?} was not heard but {heard:?}"));
    }
    match case.texts("unheard:").find(|text| heard.text.contains(text)) {
        Some(text) => Err(format!("{text:?} was heard: {heard:?}")),
        None => Ok(()),
    }
}

/// As many clean requests as the case says, with what it says in them; `/after` exactly when it was to be served.
fn sighted(case: &Case, after: bool, seen: &[Seen]) -> Result<(), String> {
    let mut texts = Vec::new();
    for one in seen {
        texts.push(one.request.as_ref().map_err(|why| format!("the endpoint saw {why}"))?.text());
    }
    let honest = texts.iter().filter(|text| is_after(text)).count();
    if honest != usize::from(after) || (case.value("seen:") != Some("any") && texts.len() - honest != case.seen()) {
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

#[tokio::test]
async fn whoever_begins_and_says_no_more_is_let_go_after_ten_seconds() {
    let stand = Stand::up(false).await;
    let begun = async |bytes: &'static [u8]| {
        let mut raw = Raw::connect(stand.address()).await.expect("the gateway listens");
        raw.send(bytes).await.expect("the gateway reads");
        (bytes, raw.hear(Duration::from_secs(13)).await)
    };

    let ended = tokio::join!(
        begun(b"GE"),
        begun(b"PRI * HTT"),
        begun(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"),
        begun(b"\r\n"),
        begun(b"GET / HTTP/1.1\r\nHost: shop.exam"),
        begun(b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n"),
    );

    let ended = [ended.0, ended.1, ended.2, ended.3, ended.4, ended.5];
    for (bytes, heard) in ended {
        let in_time = (Duration::from_secs(8)..Duration::from_secs(13)).contains(&heard.after);
        assert!(heard.closed && in_time, "{}: {heard:?}", bytes.escape_ascii());
        assert!([0, 408].contains(&heard.status()), "{}: {heard:?}", bytes.escape_ascii());
    }
    assert!(stand.endpoint.take().await.is_empty());
}

/// Behind a case: what must be served when the connection goes on, and must not be seen when it does not.
const AFTER: &[u8] = b"GET /after HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n";

const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that are too many to come one by one.
const LARGE: usize = 2000;
