//! Real Knot DNS as a peer: the primary of one zone, which takes updates that are signed with its key.

use std::{
    env, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{binary, eventually::eventually, process::Process};

/// A running name server.
#[derive(Debug)]
pub struct Knot {
    address: SocketAddr,
    process: Process,
    _folder: TempDir,
}

impl Knot {
    /// Name of the TSIG key that may update the zone.
    pub const KEY_NAME: &'static str = "sluice-acme";
    /// The key's algorithm.
    pub const KEY_ALGORITHM: &'static str = "hmac-sha256";
    /// The key in base64.
    pub const KEY_SECRET: &'static str = "b25seSBmb3IgdGVzdHMsIGtub3duIHRvIGV2ZXJ5Ym8=";

    /// Starts it as the primary of `zone` (without a dot at its end), over TCP and UDP, and waits until it answers. Ask
    /// [`executable`] first.
    pub async fn start(address: SocketAddr, zone: &str) -> Self {
        let folder = TempDir::with_prefix("sluice-knot-").expect("a temporary folder can be made");
        let write =
            |name: &str, text: String| std::fs::write(folder.path().join(name), text).expect("a file is written");
        std::fs::create_dir(folder.path().join("db")).expect("a folder can be made");
        write("zone", zone_file(zone, address));
        write("knot.conf", configuration(&folder.path().display().to_string(), zone, address));
        let file = folder.path().join("knot.conf").display().to_string();
        let program = found().expect("the story asked for Knot before");
        let mut knot = Self { address, process: Process::start("knot", &program, ["-c", &file]), _folder: folder };
        eventually("Knot answers for its zone", async || {
            assert!(knot.process.ended().is_none(), "Knot ended: is its address free?");
            knot.ask(zone, SOA).await.is_ok_and(|answer| answer.answers > 0)
        })
        .await;
        knot
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The values of a TXT record (without a dot at its end), sorted.
    pub async fn txt(&self, name: &str) -> Vec<String> {
        let answer = self.ask(name, TXT).await.expect("Knot answers");
        let mut values = answer.texts();
        values.sort();
        values
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.stderr() + &self.process.stdout()
    }

    async fn ask(&self, name: &str, kind: u16) -> io::Result<Answer> {
        let question = question(name, kind);
        let mut stream = TcpStream::connect(self.address).await?;
        let length = u16::try_from(question.len()).expect("a question is short");
        stream.write_all(&[&length.to_be_bytes(), question.as_slice()].concat()).await?;
        let mut bytes = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut bytes).await?;
        let answers = u16::from_be_bytes([bytes[6], bytes[7]]);
        Ok(Answer { answers, start: question.len(), bytes })
    }
}

/// The Knot executable: `SLUICE_TEST_KNOTD`, else the installed one, else what `make deps` unpacked.
///
/// Says loudly on stderr that the story is skipped when there is none.
pub fn executable(story: &str) -> Option<PathBuf> {
    let found = found();
    if found.is_none() {
        eprintln!(
            "SKIPPED story {story}: no Knot DNS: run `make deps`, or set SLUICE_TEST_KNOTD to a knotd executable"
        );
    }
    found
}

fn found() -> Option<PathBuf> {
    let installed = Path::new("/usr/sbin/knotd");
    match env::var_os("SLUICE_TEST_KNOTD") {
        None if installed.is_file() => Some(installed.to_path_buf()),
        _ => binary::peer("SLUICE_TEST_KNOTD", "knotd"),
    }
}

/// RFC 1035 section 4.1: an answer to [`question`], whose answer section starts at `start`.
struct Answer {
    answers: u16,
    start: usize,
    bytes: Vec<u8>,
}

impl Answer {
    /// The texts of its TXT records.
    fn texts(&self) -> Vec<String> {
        let mut rest = &self.bytes[self.start..];
        let mut texts = Vec::new();
        for _ in 0..self.answers {
            // Every owner is a pointer to the name in the question: two bytes. Type, class, TTL and length follow.
            assert!(rest[0] >= 0xc0, "Knot compresses names");
            let kind = u16::from_be_bytes([rest[2], rest[3]]);
            let (mut data, after) = rest[12..].split_at(u16::from_be_bytes([rest[10], rest[11]]).into());
            let mut text = Vec::new();
            while let Some((length, more)) = data.split_first().filter(|_| kind == TXT) {
                text.extend_from_slice(&more[..usize::from(*length)]);
                data = &more[usize::from(*length)..];
            }
            if kind == TXT {
                texts.push(String::from_utf8(text).expect("a text record is text"));
            }
            rest = after;
        }
        texts
    }
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0x51, 0x1c, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a label is short"));
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    message
}

fn configuration(folder: &str, zone: &str, address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    let (key, algorithm, secret) = (Knot::KEY_NAME, Knot::KEY_ALGORITHM, Knot::KEY_SECRET);
    format!(
        r#"
server:
    rundir: "{folder}"
    listen: {ip}@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: "{folder}/db"
key:
  - id: {key}
    algorithm: {algorithm}
    secret: {secret}
acl:
  - id: updates
    key: {key}
    action: update
zone:
  - domain: {zone}
    file: "{folder}/zone"
    zonefile-sync: -1
    journal-content: changes
    acl: updates
"#
    )
}

/// Its addresses are the server's: whoever asks it for a host of the zone gets here.
fn zone_file(zone: &str, address: SocketAddr) -> String {
    let kind = if address.is_ipv4() { "A" } else { "AAAA" };
    let ip = address.ip();
    format!("$ORIGIN {zone}.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 1\n@ NS ns\nns {kind} {ip}\n")
}

const SOA: u16 = 6;
const TXT: u16 = 16;
const CLASS_IN: u16 = 1;
