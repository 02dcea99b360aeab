//! An endpoint that takes nothing but clean requests, and remembers every one.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use harness::eventually::within;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::message::{Message, parse};

/// A listening endpoint; ends when dropped.
pub(super) struct Endpoint {
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    drip: bool,
    script: Vec<u8>,
    close: bool,
    connections: usize,
    /// Connections with a part of a request.
    unfinished: usize,
}

/// One request, or what was none.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Number of its connection.
    pub(super) connection: usize,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// Its head, body and trailers, or why it is no clean request.
    pub(super) request: Result<Message, String>,
}

impl Seen {
    /// Whether its answer was the script's.
    pub(super) fn is_scripted(&self) -> bool {
        self.request.as_ref().is_ok_and(Message::is_scripted)
    }
}

impl Endpoint {
    /// Listens here; `drip`: it answers byte by byte.
    pub(super) async fn start(address: SocketAddr, drip: bool) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address of an endpoint is free");
        let state = Arc::new(Mutex::new(State { drip, ..State::default() }));
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { state, task }
    }

    /// Answers requests below `/scripted` with these bytes from now on, one by one if asked to, and ends the connection behind
    /// them if asked to.
    pub(super) fn script(&self, bytes: Vec<u8>, close: bool, drip: bool) {
        let mut state = lock(&self.state);
        (state.script, state.close, state.drip) = (bytes, close, drip);
    }

    /// What it has seen since it was asked last, when nothing is on its way to it any more.
    pub(super) async fn take(&self) -> Vec<Seen> {
        let calm = async || lock(&self.state).unfinished == 0;
        within(PATIENCE, "half a request ends, or becomes a whole one", calm).await;
        std::mem::take(&mut lock(&self.state).seen)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no endpoint panics")
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).ok();
        let number = {
            let mut state = lock(&state);
            state.connections += 1;
            state.connections
        };
        tokio::spawn(serve(stream, number, Arc::clone(&state)));
    }
}

async fn serve(mut stream: TcpStream, number: usize, state: Arc<Mutex<State>>) {
    let mut bytes = Vec::new();
    let mut busy = false;
    loop {
        match parse(&bytes) {
            Ok(Some((length, message))) => {
                let taken = bytes.drain(..length).collect();
                let (answer, close) =
                    note(&state, Seen { connection: number, bytes: taken, request: Ok(message.clone()) }, &message);
                let size = if lock(&state).drip && answer.len() < LARGE { 1 } else { LARGE };
                for piece in answer.chunks(size) {
                    stream.write_all(piece).await.ok();
                }
                if close {
                    break;
                }
                continue;
            }
            Ok(None) => {}
            Err(why) => {
                lock(&state).seen.push(Seen { connection: number, bytes, request: Err(why) });
                break;
            }
        }
        change(&state, &mut busy, !bytes.is_empty());
        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            break;
        }
    }
    change(&state, &mut busy, false);
}

fn change(state: &Mutex<State>, busy: &mut bool, now: bool) {
    match (*busy, now) {
        (false, true) => lock(state).unfinished += 1,
        (true, false) => lock(state).unfinished -= 1,
        _ => {}
    }
    *busy = now;
}

/// Remembers a request; gives the answer, and whether the connection ends behind it.
fn note(state: &Mutex<State>, seen: Seen, message: &Message) -> (Vec<u8>, bool) {
    let mut state = lock(state);
    let scripted = message.is_scripted();
    let answer = match (scripted, message.line.starts_with("HEAD ")) {
        (true, _) => state.script.clone(),
        (false, true) => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n".to_vec(),
        (false, false) => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec(),
    };
    let close = (scripted && state.close) || message.asks_to_close();
    state.seen.push(seen);
    (answer, close)
}

const PATIENCE: Duration = Duration::from_secs(8);

/// Bytes that are too many to come one by one.
const LARGE: usize = 2000;
