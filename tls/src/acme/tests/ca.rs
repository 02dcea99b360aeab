//! A CA on loopback that answers what it was told to, and remembers what it was asked.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::acme::{Account, AccountKey, Client, Registration};
use crate::authority::Authority;
use crate::{pem, provider};

/// One answer; `BASE` in it stands for the CA's own address.
#[derive(Clone, Default)]
pub(super) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Answer {
    pub(super) fn json(status: u16, body: Value) -> Self {
        let content = if status < 400 { "application/json" } else { "application/problem+json" };
        Self { status, body: body.to_string(), ..Self::default() }.with("Content-Type", content)
    }

    pub(super) fn text(status: u16, body: &str) -> Self {
        Self { status, body: body.to_owned(), ..Self::default() }
    }

    pub(super) fn problem(status: u16, kind: &str, detail: &str) -> Self {
        Self::json(status, json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail}))
    }

    pub(super) fn with(mut self, header: &'static str, value: &str) -> Self {
        self.headers.push((header, value.to_owned()));
        self
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) head: String,
    /// The signed header and the payload of a POST; `Null` where there is none.
    pub(super) protected: Value,
    pub(super) payload: Value,
}

#[derive(Default)]
struct State {
    answers: HashMap<String, VecDeque<Answer>>,
    asked: Vec<Asked>,
}

pub(super) struct Ca {
    pub(super) base: String,
    pub(super) root_pem: String,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

impl Drop for Ca {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Ca {
    /// A CA with an account, and without renewal information.
    pub(super) async fn start() -> Self {
        let authority = Authority::new("ca https").expect("a CA can be made");
        let issued = authority.issue_server(&["127.0.0.1"], Duration::from_secs(3600)).expect("issues");
        let chain = pem::certificates(issued.chain_pem.as_bytes()).expect("is PEM");
        let key = pem::private_key(issued.key_pem.as_bytes()).expect("is PEM");
        let config = ServerConfig::builder_with_provider(Arc::clone(provider::provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .expect("is a server");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let base = format!("https://{}", listener.local_addr().expect("is bound"));
        let state = Arc::new(Mutex::new(State::default()));
        let serving = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), base.clone(), state.clone()));
        let ca = Self { base, root_pem: authority.root_pem().to_owned(), state, serving };
        ca.answers("/directory", Answer::json(200, directory()));
        ca.answers("/nonce", Answer::text(204, ""));
        ca.answers("/account", Answer::json(201, json!({"status": "valid"})).with("Location", "BASE/account/1"));
        ca.answers("/account/1", Answer::json(200, json!({"status": "valid"})));
        ca
    }

    /// As `start`, with renewal information (RFC 9773).
    pub(super) async fn with_renewal() -> Self {
        let ca = Self::start().await;
        let mut directory = directory();
        directory["renewalInfo"] = json!("BASE/renewal");
        ca.says("/directory", Answer::json(200, directory));
        ca
    }

    /// Another answer at the end of those for this path; the last one is repeated.
    pub(super) fn answers(&self, path: &str, answer: Answer) {
        self.state.lock().expect("no panic").answers.entry(path.to_owned()).or_default().push_back(answer);
    }

    /// The only answer for this path.
    pub(super) fn says(&self, path: &str, answer: Answer) {
        self.state.lock().expect("no panic").answers.insert(path.to_owned(), VecDeque::from([answer]));
    }

    /// What it was asked on this path.
    pub(super) fn asked(&self, path: &str) -> Vec<Asked> {
        let state = self.state.lock().expect("no panic");
        state.asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(super) fn host(&self) -> &str {
        self.base.trim_start_matches("https://")
    }

    pub(super) fn client(&self) -> Client {
        Client::new(&self.url("/directory"), Some(self.root_pem.as_bytes())).expect("is a client")
    }

    pub(super) async fn account(&self) -> Account {
        let key = AccountKey::generate().expect("a key can be made");
        let registration = Registration { key: &key, email: None, external: None };
        self.client().register(&registration).await.expect("registers")
    }
}

fn directory() -> Value {
    json!({
        "newNonce": "BASE/nonce", "newAccount": "BASE/account", "newOrder": "BASE/order",
        "revokeCert": "BASE/revoke", "keyChange": "BASE/key",
    })
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, base: String, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection(stream, tls.clone(), base.clone(), Arc::clone(&state)));
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, base: String, state: Arc<Mutex<State>>) -> Option<()> {
    let mut stream = tls.accept(stream).await.ok()?;
    let mut bytes = Vec::new();
    let mut nonce = 0;
    loop {
        let request = loop {
            if let Some(request) = take_request(&mut bytes) {
                break request;
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        nonce += 1;
        let answer = {
            let mut state = state.lock().expect("no panic");
            let queue = state.answers.entry(request.path.clone()).or_default();
            let answer = if queue.len() > 1 { queue.pop_front() } else { queue.front().cloned() };
            state.asked.push(request.clone());
            answer.unwrap_or_else(|| Answer::problem(404, "malformed", "nothing is there"))
        };
        let body = answer.body.replace("BASE", &base);
        let mut text = format!("HTTP/1.1 {} Said\r\nReplay-Nonce: nonce{nonce}\r\n", answer.status);
        for (name, value) in &answer.headers {
            text.push_str(&format!("{name}: {}\r\n", value.replace("BASE", &base)));
        }
        if answer.status != 204 {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        if request.method != "HEAD" {
            text.push_str(&body);
        }
        stream.write_all(text.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
    }
}

/// Takes a whole request off the front of `bytes`.
fn take_request(bytes: &mut Vec<u8>) -> Option<Asked> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let length: usize = length.map_or(0, |text| text.parse().expect("is a length"));
    if bytes.len() < end + length {
        return None;
    }
    let first = String::from_utf8_lossy(&bytes[..end]).lines().next().unwrap_or_default().to_owned();
    let mut words = first.split(' ').map(str::to_owned);
    let body: Value = serde_json::from_slice(&bytes[end..end + length]).unwrap_or_default();
    bytes.drain(..end + length);
    let part = |name: &str| {
        let decoded = URL_SAFE_NO_PAD.decode(body[name].as_str().unwrap_or_default()).expect("is base64url");
        serde_json::from_slice(&decoded).unwrap_or_default()
    };
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Some(Asked { method, path, head, protected: part("protected"), payload: part("payload") })
}
