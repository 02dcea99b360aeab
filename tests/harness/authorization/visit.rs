//! What a row does, and what becomes of it.

use std::{io, net::SocketAddr, time::Duration};

use http::{HeaderName, HeaderValue};
use serde_json::Value;
use tokio::net::TcpSocket;

use super::table::{Row, Verdict};
use crate::{
    client::Failure,
    mesh::Mesh,
    message::Ask,
    pki::spiffe,
    raw::{Heard, Raw},
    talk::talk_two,
    tls_peer::{Stream, TlsClient},
};

/// What became of a row.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Status; 0 = there was no answer.
    pub status: u16,
    /// The answer.
    pub body: String,
    /// The route that it took, as its answer says (`x-route`).
    pub route: String,
    /// The client's own address.
    pub from: Option<SocketAddr>,
}

impl Outcome {
    /// The path that the application got.
    pub fn path(&self) -> String {
        let reply: Value = serde_json::from_str(&self.body).unwrap_or_default();
        reply["path"].as_str().unwrap_or_default().to_owned()
    }

    /// Why this is not what has to come of it.
    pub(super) fn fault(&self, row: &Row) -> Option<String> {
        let is_bytes = row.method.is_empty();
        let fits = match row.verdict {
            Verdict::Allow => self.status == 200,
            Verdict::Deny(_) if is_bytes => self.status == 0 && self.body.is_empty(),
            Verdict::Deny(_) if row.method == "HEAD" => self.status == 403,
            Verdict::Deny(_) => self.status == 403 && self.body == "RBAC: access denied",
            Verdict::Status(status) => self.status == status,
        };
        (!fits).then(|| format!("`{}`: got {} {}", row.text, self.status, self.body))
    }
}

/// Does what a row says at this address, marked by this word.
///
/// # Errors
/// When the connection cannot be made.
pub async fn visit(mesh: &Mesh, row: &Row, to: SocketAddr, mark: &str) -> Result<Outcome, Failure> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = row.from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let tcp = socket.connect(to).await?;
    tcp.set_nodelay(true)?;
    let from = Some(tcp.local_addr()?);
    let stream: Box<dyn Stream> = match &row.peer {
        None => Box::new(tcp),
        Some(peer) => Box::new(client(mesh, peer, row).shake(tcp, &row.sni).await?),
    };
    let outcome = match row.h2 {
        true => by_two(stream, row, mark).await?,
        false => by_one(stream, row, mark).await?,
    };
    Ok(Outcome { from, ..outcome })
}

fn client(mesh: &Mesh, peer: &str, row: &Row) -> TlsClient {
    let id = match peer.split_once('/') {
        _ if peer.starts_with("spiffe://") => peer.to_owned(),
        Some((namespace, account)) => spiffe(namespace, account),
        None => spiffe("shop", peer),
    };
    let identity = mesh.pki.workload(&id);
    let protocols: &[&str] = match (row.method.is_empty(), row.h2) {
        (true, _) => &["istio"],
        (false, true) => &["istio-h2", "istio", "h2"],
        (false, false) => &["istio-http/1.1", "istio", "http/1.1"],
    };
    TlsClient::for_mesh(mesh.pki.mesh.root_pem(), Some(&identity)).offering(protocols)
}

async fn by_one(stream: Box<dyn Stream>, row: &Row, mark: &str) -> io::Result<Outcome> {
    let mut raw = Raw::over(stream);
    // The application behind bytes speaks HTTP, too: whether it answers is what is asked.
    let (method, target) =
        if row.method.is_empty() { ("GET", "/bytes-of-a-row") } else { (&*row.method, &*row.target) };
    let fields = row.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<String>();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {mark}\r\nConnection: close\r\n{fields}\r\n",
        row.host
    );
    // Whoever is turned away may hear so before everything is written.
    raw.send(head).await.ok();
    let Heard { text, .. } = raw.hear(PATIENCE).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_default();
    let route = head.lines().find_map(|line| line.strip_prefix("x-route: ")).unwrap_or_default();
    Ok(Outcome { status, body: unchunked(body), route: route.to_owned(), from: None })
}

/// Answers of rows are short: one chunk, or none.
fn unchunked(body: &str) -> String {
    match body.split_once("\r\n") {
        Some((size, rest)) if usize::from_str_radix(size, 16).is_ok() => {
            rest.split("\r\n").next().unwrap_or_default().to_owned()
        }
        _ => body.to_owned(),
    }
}

async fn by_two(stream: Box<dyn Stream>, row: &Row, mark: &str) -> Result<Outcome, Failure> {
    let (mut sender, driver) = h2::client::handshake(stream).await?;
    let driving = tokio::spawn(async move { drop(driver.await) });
    let mut ask = Ask::new(&row.method, &row.target);
    ask.headers.insert("user-agent", HeaderValue::from_str(mark)?);
    for (name, value) in &row.headers {
        ask.headers.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
    }
    let answer = talk_two(&mut sender, &row.host, ask).await?;
    driving.abort();
    let route = answer.headers.get("x-route").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    Ok(Outcome { status: answer.status, body: answer.text(), route, from: None })
}

const PATIENCE: Duration = Duration::from_secs(10);
