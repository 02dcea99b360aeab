//! Minutes of everything at once: traffic of every kind while the configuration changes every second, the certificate every
//! ten, and endpoints restart. `make soak TIME=1200` runs it; it is no part of the suite.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use harness::{
    binary,
    client::{Client, Connection, Failure, get, request, with_body},
    eventually::eventually,
    gateway::Proxy,
    mesh::{HOST, Mesh},
    process::Process,
    raw::Raw,
    websocket::WebSocket,
    workload::service,
};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

/// How long, when nobody says.
const SHORT: u64 = 60;
/// Of a body the application says this much again.
const ECHOED: usize = 4096;
/// Clients that begin a request and take their time with the rest.
const SLOW: usize = 10_000;

/// What happened so far.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    done: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Tally {
    fn note(&self, what: &str, outcome: Result<(), Failure>) {
        self.done.fetch_add(1, Ordering::Relaxed);
        if let Err(failure) = outcome {
            self.failures.lock().expect("nobody panics with it").push(format!("{what}: {failure}"));
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Repeats something at most so often, for as long as the soak goes on.
async fn repeat<F: Future<Output = Result<(), Failure>>>(
    tally: Arc<Tally>,
    what: &'static str,
    period: Duration,
    mut once: impl FnMut() -> F,
) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !tally.stopped() {
        ticks.tick().await;
        let outcome = once().await;
        tally.note(what, outcome);
    }
}

/// A connection that is opened again when its peer has ended it.
#[derive(Clone)]
struct Kept {
    client: Client,
    open: Arc<tokio::sync::Mutex<Option<Connection>>>,
}

impl Kept {
    fn new(client: Client) -> Self {
        Self { client, open: Arc::default() }
    }

    async fn send(
        &self,
        request: http::Request<http_body_util::Full<bytes::Bytes>>,
        size: usize,
    ) -> Result<(), Failure> {
        let mut open = self.open.lock().await;
        let mut connection = match open.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => self.client.connect(HOST).await?,
        };
        let reply = connection.send(request).await?;
        if !reply.header("connection").eq_ignore_ascii_case("close") {
            *open = Some(connection);
        }
        match (reply.code(), reply.body.len() >= size) {
            (200, true) => Ok(()),
            (code, _) => Err(format!("{code} with {} bytes: {}", reply.body.len(), reply.text()).into()),
        }
    }
}

/// The gateway, an application that stays, and two replicas of one that restart in turn.
struct Scene {
    mesh: Mesh,
    gateway: Proxy,
    _stays: Process,
    replicas: [(SocketAddr, Process); 2],
}

async fn application(name: &str, address: SocketAddr) -> Process {
    let port = address.port().to_string();
    let flags = ["echo", "--address", &address.ip().to_string(), "--service", name, "--pod", name, "--port", &port];
    let process = Process::start(name, binary::sluice(), flags.map(str::to_owned).to_vec());
    eventually("the application listens", async || TcpStream::connect(address).await.is_ok()).await;
    process
}

impl Scene {
    async fn up() -> Self {
        let mesh = Mesh::with_edge();
        let stays = mesh.workload("ratings").declare();
        let replicas =
            [mesh.workload("reviews").version("v1").declare(), mesh.workload("reviews").version("v2").declare()];
        mesh.write("services.yaml", &(service("ratings") + &service("reviews")));
        let stays = application("ratings", stays).await;
        let replicas = [
            (replicas[0], application("reviews", replicas[0]).await),
            (replicas[1], application("reviews", replicas[1]).await),
        ];
        publish(&mesh, 0);
        let gateway = mesh.gateway_with(&["--access-log", "off"]).await;
        Self { mesh, gateway, _stays: stays, replicas }
    }

    async fn restart(&mut self, which: usize) {
        let (address, process) = &mut self.replicas[which];
        process.signal("KILL");
        process.wait_exit(Duration::from_secs(5)).await;
        *process = application("reviews", *address).await;
    }

    async fn memory(&self) -> f64 {
        self.gateway.metrics().await.sum("process_resident_memory_bytes", &[]) / f64::from(1 << 20)
    }
}

fn publish(mesh: &Mesh, edition: usize) {
    mesh.routes(&format!(
        "- match: [{{uri: {{prefix: /reviews}}}}]\n  \
           route: [{{destination: {{host: reviews, port: {{number: 8080}}}}}}]\n  \
           retries: {{attempts: 3, retryOn: 'connect-failure,refused-stream,reset'}}\n  \
           headers: {{response: {{set: {{x-edition: '{edition}'}}}}}}\n\
         - route: [{{destination: {{host: ratings, port: {{number: 8080}}}}}}]\n  \
           headers: {{response: {{set: {{x-edition: '{edition}'}}}}}}"
    ));
}

/// Traffic of every kind, paced so that the machine is busy but not full.
fn traffic(tasks: &mut JoinSet<()>, scene: &Scene, tally: &Arc<Tally>) {
    let url = |path: &str| format!("https://{HOST}{path}");
    for (name, client) in [("HTTP/1.1", scene.mesh.browser()), ("HTTP/2", scene.mesh.browser().h2())] {
        for (path, size, period) in [("/reviews/a", 10, 1), ("/ratings/b", 10, 1), ("/bytes/300000", 300_000, 20)] {
            let (kept, url) = (Kept::new(client.clone()), url(path));
            let once = move || {
                let (kept, url) = (kept.clone(), url.clone());
                async move { kept.send(get(&url), size).await }
            };
            tasks.spawn(repeat(Arc::clone(tally), name, Duration::from_millis(period), once));
        }
        let (kept, url) = (Kept::new(client.clone()), url("/upload"));
        let once = move || {
            let (kept, url) = (kept.clone(), url.clone());
            async move { kept.send(with_body(request("POST", &url), vec![b'x'; 100_000]), ECHOED).await }
        };
        tasks.spawn(repeat(Arc::clone(tally), "an upload", Duration::from_millis(20), once));
        let (fresh, url) = (client, url_of("/reviews/fresh"));
        let once = move || {
            let (kept, url) = (Kept::new(fresh.clone()), url.clone());
            async move { kept.send(get(&url), 10).await }
        };
        tasks.spawn(repeat(Arc::clone(tally), "a fresh connection", Duration::from_millis(20), once));
    }
    tasks.spawn(websockets(Arc::clone(tally), scene.mesh.browser()));
}

fn url_of(path: &str) -> String {
    format!("https://{HOST}{path}")
}

async fn websockets(tally: Arc<Tally>, client: Client) {
    let mut ticks = interval(Duration::from_millis(100));
    while !tally.stopped() {
        let mut socket = match WebSocket::open(&client, &format!("wss://{HOST}/live")).await {
            Ok(socket) => socket,
            Err(failure) => {
                tally.note("a WebSocket", Err(failure));
                continue;
            }
        };
        for number in 0..100 {
            ticks.tick().await;
            let text = format!("message {number}");
            let outcome = socket.ask(&text).await.and_then(|heard| match heard == text {
                true => Ok(()),
                false => Err(format!("{heard:?} came back").into()),
            });
            tally.note("a WebSocket", outcome);
            if tally.stopped() {
                break;
            }
        }
        socket.close().await;
    }
}

/// Clients that send half a head, are told 408, and come back.
fn slow_clients(tasks: &mut JoinSet<()>, address: SocketAddr, tally: &Arc<Tally>) {
    for number in 0..SLOW {
        let tally = Arc::clone(tally);
        tasks.spawn(async move {
            tokio::time::sleep(Duration::from_millis(number as u64 / 2)).await;
            while !tally.stopped() {
                let Ok(mut raw) = Raw::connect(address).await else { continue };
                raw.send(format!("GET /reviews HTTP/1.1\r\nHost: {HOST}\r\nX-Number: {number}")).await.ok();
                raw.hear(Duration::from_secs(15)).await;
            }
        });
    }
}

/// How long answers take while it lasts: median and the slowest of a hundred, milliseconds.
async fn latencies(client: &Client, span: Duration) -> (f64, f64) {
    let kept = Kept::new(client.clone());
    let end = Instant::now() + span;
    let mut ticks = interval(Duration::from_millis(10));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut all = Vec::new();
    while Instant::now() < end {
        ticks.tick().await;
        let begun = Instant::now();
        kept.send(get(&url_of("/ratings/probe")), 10).await.expect("a probe is answered");
        all.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    all.sort_by(f64::total_cmp);
    (all[all.len() / 2], all[all.len() * 99 / 100])
}

#[tokio::test]
#[ignore = "minutes long: make soak"]
async fn nothing_is_lost_while_everything_changes() {
    let seconds = std::env::var("SLUICE_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(SHORT);
    let span = Duration::from_secs(seconds);
    let mut scene = Scene::up().await;
    let tally = Arc::new(Tally::default());
    let mut tasks = JoinSet::new();
    traffic(&mut tasks, &scene, &tally);
    let (begun, client) = (Instant::now(), scene.mesh.browser());
    let (mut memory, mut edition, mut ticks) = (Vec::new(), 0, interval(Duration::from_secs(1)));
    let alone = tokio::spawn(async move { latencies(&client, span / 2).await });
    let mut slow = None;
    while begun.elapsed() < span {
        ticks.tick().await;
        edition += 1;
        publish(&scene.mesh, edition);
        if edition.is_multiple_of(10) {
            let names = ["*.example.com".to_owned(), format!("edition-{edition}.test")];
            scene.mesh.write("edge-cert.yaml", &scene.mesh.edge_secret(&names.each_ref().map(String::as_str)));
        }
        if edition.is_multiple_of(7) {
            scene.restart(edition / 7 % 2).await;
        }
        memory.push(scene.memory().await);
        if slow.is_none() && begun.elapsed() > span / 2 {
            slow_clients(&mut tasks, scene.gateway.addresses().second, &tally);
            let (client, left) = (scene.mesh.browser(), span.saturating_sub(begun.elapsed()));
            slow = Some(tokio::spawn(async move {
                tokio::time::sleep(left / 4).await;
                latencies(&client, left / 2).await
            }));
        }
    }
    let (alone, beside) = (alone.await.expect("it ends"), slow.expect("it began").await.expect("it ends"));
    tally.stop.store(true, Ordering::Relaxed);
    let connections = scene.gateway.metrics().await.sum("sluice_downstream_connections_active", &[]);
    tasks.join_all().await;
    let failures = tally.failures.lock().expect("nobody panics with it").clone();
    let half = memory.len() / 2;
    let (early, late) = (memory[half / 3], memory[half - 1]);
    println!(
        "{} requests in {seconds} s, {} failed; {edition} configurations; memory {early:.1} MiB after a sixth, {late:.1} MiB \
         after a half, {:.1} MiB with {connections} connections; milliseconds (median, 99 %) alone {alone:.1?}, beside \
         {SLOW} slow clients {beside:.1?}",
        tally.done.load(Ordering::Relaxed),
        failures.len(),
        memory.last().copied().unwrap_or_default(),
    );
    assert!(failures.is_empty(), "{:#?}", &failures[..failures.len().min(20)]);
    assert!(late < early * 1.1 + 4.0, "memory grows: {memory:.1?}");
    assert!(beside.1 < alone.1 * 1.5 + 10.0, "slow clients slow others: {alone:?} {beside:?}");
}
