//! `sluice dashboard --kubernetes` beside a crowd of pods: few are asked at a time, over connections that are kept, and whoever is
//! left out, silent or talks too much is named.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use harness::{
    apiserver::{ADMIN, ApiServer},
    binary::sluice,
    client::Client,
    eventually::eventually,
    loopback::Loopback,
    process::Process,
    raw::Raw,
    scripted::Scripted,
};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Pods that are asked.
const ASKED: usize = 200;
/// Of them at a time.
const AT_ONCE: usize = 16;

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"containers": [{"name": "istio-proxy", "image": "sluice", "args": ["sidecar"]}]},
        "status": {"phase": "Running", "podIP": "10.9.8.7"},
    })
}

fn answer(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// What a proxy tells of itself, the least of it.
fn overview(name: &str) -> String {
    json!({"schema": 1, "proxies": [{"name": name, "kind": "sidecar", "ready": true, "traffic": {"edges": [], "bounds": []}}]})
        .to_string()
}

/// Asked and not yet answered; answered.
type State = watch::Sender<(usize, usize)>;

/// Admin pages that answer only when as many are asked as can be at a time.
struct Crowd {
    server: Scripted,
    notes: Arc<Notes>,
}

#[derive(Default)]
struct Notes {
    /// Most at a time.
    most: AtomicUsize,
    state: State,
    /// From then on everybody is answered at once.
    at_leisure: AtomicBool,
}

impl Crowd {
    async fn gathers(address: SocketAddr) -> Self {
        let notes = Arc::new(Notes::default());
        let known = Arc::clone(&notes);
        let server = Scripted::start(address, move |raw| Self::talk(raw, Arc::clone(&known))).await;
        Self { server, notes }
    }

    async fn talk(mut raw: Raw, notes: Arc<Notes>) {
        while raw.read_until("\r\n\r\n").await.is_ok_and(|head| !head.is_empty()) {
            notes.state.send_modify(|(open, _)| {
                *open += 1;
                notes.most.fetch_max(*open, Ordering::Relaxed);
            });
            let enough = |(open, answered): &(usize, usize)| {
                *open == AT_ONCE
                    || open + answered == ASKED
                    || answered % AT_ONCE != 0
                    || notes.at_leisure.load(Ordering::Relaxed)
            };
            if notes.state.subscribe().wait_for(enough).await.is_err() {
                return;
            }
            notes.state.send_modify(|(open, answered)| (*open, *answered) = (*open - 1, *answered + 1));
            if raw.send(answer(&overview("shop/somebody"))).await.is_err() {
                return;
            }
        }
    }

    fn answered(&self) -> usize {
        self.notes.state.borrow().1
    }
}

struct Page {
    _process: Process,
    address: SocketAddr,
    client: Client,
}

impl Page {
    async fn of(server: &ApiServer) -> Self {
        let config = server.kubeconfig(ADMIN).display().to_string();
        let process = Process::start("dashboard", sluice(), ["dashboard", "--kubernetes", "--kubeconfig", &config]);
        let address = || process.stdout().split("http://").nth(1)?.split('/').next()?.parse::<SocketAddr>().ok();
        eventually("it says where the page is", async || address().is_some()).await;
        let address = address().expect("it was there");
        Self { _process: process, address, client: Client::plain(address) }
    }

    async fn overview(&self) -> Value {
        self.client.get(&format!("http://{}/overview", self.address)).await.json()
    }
}

#[tokio::test]
async fn few_of_a_crowd_of_pods_are_asked_at_a_time_and_the_pods_are_listed_once() {
    let (server, here) = (ApiServer::start().await, Loopback::claim());
    let crowd = Crowd::gathers(here.at(1, 15000)).await;
    let names: Vec<String> = (0..ASKED + 30).map(|number| format!("web-{number:03}")).collect();
    server.insert(names.iter().map(|name| pod(name)).collect());
    names.iter().for_each(|name| server.forward("shop", name, here.at(1, 15000)));

    let page = Page::of(&server).await;
    let told = page.overview().await;
    let proxies = told["proxies"].as_array().expect("proxies");
    assert_eq!((proxies.len(), &told["left_out"]), (ASKED, &json!(30)));
    let silent: Vec<&Value> = proxies.iter().filter(|proxy| !proxy["unreachable"].is_null()).collect();
    assert!(silent.is_empty(), "{silent:?}");
    assert!(told["notes"][0].as_str().unwrap_or_default().starts_with("30 more pods"), "{}", told["notes"]);
    assert_eq!(crowd.notes.most.load(Ordering::Relaxed), AT_ONCE);

    // Whoever looks on uses what is there: the list of pods, and the way to each.
    crowd.notes.at_leisure.store(true, Ordering::Relaxed);
    eventually("another look", async || {
        page.overview().await;
        crowd.answered() >= 2 * ASKED
    })
    .await;
    assert_eq!(server.requests().count("list", "pods"), 1);
    assert_eq!(crowd.server.connections(), ASKED, "one way to each");
    assert!(crowd.notes.most.load(Ordering::Relaxed) <= AT_ONCE);
}

#[tokio::test]
async fn pods_that_are_silent_or_say_too_much_are_named_and_hold_nobody_up() {
    let (server, here) = (ApiServer::start().await, Loopback::claim());
    let long = "x".repeat(3 << 20);
    let said = [
        ("good", overview("shop/good")),
        ("endless", long),
        ("strange", "hello".to_owned()),
        ("silent", String::new()),
    ];
    let mut peers = Vec::new();
    for (number, (name, body)) in (1..).zip(said) {
        let address = here.at(number, 15000);
        server.insert(vec![pod(name)]);
        server.forward("shop", name, address);
        let body = Arc::new(body);
        let talk = move |mut raw: Raw| {
            let body = Arc::clone(&body);
            async move {
                while raw.read_until("\r\n\r\n").await.is_ok_and(|head| !head.is_empty()) {
                    if body.is_empty() {
                        // Until the other side gives up.
                        continue;
                    }
                    if raw.send(answer(&body)).await.is_err() {
                        return;
                    }
                }
            }
        };
        peers.push(Scripted::start(address, talk).await);
    }
    let page = Page::of(&server).await;
    let why = |told: &Value, name: &str| {
        let all = told["proxies"].as_array().cloned().unwrap_or_default();
        let found = all.into_iter().find(|proxy| proxy["target"] == format!("shop/{name}")).unwrap_or_default();
        found["unreachable"].as_str().map(str::to_owned)
    };
    let told = page.overview().await;
    assert_eq!(why(&told, "good"), None, "{told:#}");
    assert!(why(&told, "endless").is_some_and(|why| why.contains("more than 2048 KiB")), "{told:#}");
    assert!(why(&told, "strange").is_some_and(|why| why.contains("no JSON")), "{told:#}");
    assert!(why(&told, "silent").is_some_and(|why| why.contains("no answer within 4")), "{told:#}");
    eventually("it is left in peace", async || {
        why(&page.overview().await, "silent").is_some_and(|why| why.contains("asked again in"))
    })
    .await;
}
