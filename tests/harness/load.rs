//! Requests at full speed, every failure counted.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use crate::client::{Client, Connection, Failure, get};

/// Load that runs until it is stopped.
pub struct Load {
    state: Arc<State>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    sent: AtomicUsize,
    failed: AtomicUsize,
    failures: Mutex<Vec<String>>,
    took: Mutex<Vec<Duration>>,
}

/// What happened.
#[derive(Debug)]
pub struct Result {
    /// Requests sent.
    pub sent: usize,
    /// Requests that got no answer, or another than 200.
    pub failed: usize,
    /// The first of these failures.
    pub failures: Vec<String>,
    /// How long 99 of 100 took at most, each with its connection where that was new.
    pub p99: Duration,
}

impl Load {
    /// Keeps `connections` connections busy with `GET url`, one request after the other; a connection that the peer
    /// closes after an answer is replaced, one that fails a request is a failure.
    pub fn start(client: &Client, connections: usize, url: &str) -> Self {
        let state = Arc::new(State::default());
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            tasks.spawn(run(client.clone(), url.to_owned(), Arc::clone(&state)));
        }
        Self { state, tasks }
    }

    /// Requests answered or failed so far.
    pub fn sent(&self) -> usize {
        self.state.sent.load(Ordering::Relaxed)
    }

    /// Waits until this many requests were sent.
    pub async fn reaches(&self, requests: usize) {
        while self.sent() < requests {
            sleep(STEP).await;
        }
    }

    /// Lets the requests in flight end, and tells.
    pub async fn stop(self) -> Result {
        self.state.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        let failures = self.state.failures.lock().map(|seen| seen.clone()).unwrap_or_default();
        let sent = self.state.sent.load(Ordering::Relaxed);
        let mut took = self.state.took.lock().map(|took| took.clone()).unwrap_or_default();
        took.sort_unstable();
        let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or_default();
        Result { sent, failed: self.state.failed.load(Ordering::Relaxed), failures, p99 }
    }
}

async fn run(client: Client, url: String, state: Arc<State>) {
    let host = url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    let mut connection = None;
    while !state.stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let outcome = once(&client, &host, &url, &mut connection).await;
        if let Ok(mut took) = state.took.lock() {
            took.push(begin.elapsed());
        }
        state.sent.fetch_add(1, Ordering::Relaxed);
        if let Err(failure) = outcome {
            connection = None;
            state.failed.fetch_add(1, Ordering::Relaxed);
            if let Ok(mut failures) = state.failures.lock()
                && failures.len() < KEPT
            {
                failures.push(format!("{failure:?}"));
            }
            sleep(STEP).await;
        }
    }
}

async fn once(
    client: &Client,
    host: &str,
    url: &str,
    open: &mut Option<Connection>,
) -> std::result::Result<(), Failure> {
    let connection = match open.take().filter(|connection| !connection.is_closed()) {
        Some(connection) => open.insert(connection),
        None => open.insert(client.connect(host).await?),
    };
    let reply = connection.send(get(url)).await?;
    let closes = reply.header("connection").eq_ignore_ascii_case("close");
    if closes {
        *open = None;
    }
    match reply.code() {
        200 => Ok(()),
        code => Err(format!("{code} {}", reply.text()).into()),
    }
}

/// Failures told in words.
const KEPT: usize = 5;

const STEP: Duration = Duration::from_millis(10);
