use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};

use super::{
    pages::{self, Kind},
    *,
};

#[derive(Default)]
struct Stage {
    ready: bool,
    drains: AtomicUsize,
    quits: AtomicUsize,
}

impl View for Stage {
    fn readiness(&self) -> Readiness {
        if self.ready { Readiness::Ready } else { Readiness::NotReady("no configuration yet".to_owned()) }
    }

    fn config_dump(&self) -> serde_json::Value {
        json!({"generation": 7})
    }

    fn clusters(&self) -> String {
        "outbound|80||web\n".to_owned()
    }

    fn summary(&self) -> Proxy {
        Proxy { kind: "gateway", generation: 7, ..Proxy::default() }
    }

    fn limits(&self) -> Vec<(Arc<str>, &'static str, u32, u64)> {
        vec![("outbound|80||web".into(), "pending", 3, 7)]
    }

    fn rate_limits(&self) -> Vec<(Arc<str>, &'static str, u64)> {
        vec![("shop/limit/0".into(), "refused", 2)]
    }

    fn ejected(&self) -> Vec<(Arc<str>, usize)> {
        vec![("outbound|80||web".into(), 1)]
    }

    fn certificates(&self) -> serde_json::Value {
        json!([])
    }

    fn drain(&self) {
        self.drains.fetch_add(1, Ordering::Relaxed);
    }

    fn quit(&self) {
        self.quits.fetch_add(1, Ordering::Relaxed);
    }
}

fn admin(proxy: &Arc<Stage>) -> Admin {
    Admin {
        view: Arc::clone(proxy) as Arc<dyn View>,
        figures: Figures::Proxy(Arc::new(Metrics::new())),
        log: None,
        peers: AdminPeers::Local,
    }
}

async fn ask(kind: Kind, method: Method, path: &str, proxy: &Arc<Stage>) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1:15000").body(()).unwrap();
    let reply = pages::answer(kind, &request, &admin(proxy));
    assert_eq!(reply.headers()[header::CACHE_CONTROL], "no-store");
    let status = reply.status();
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn get(kind: Kind, path: &str, proxy: &Arc<Stage>) -> (u16, String) {
    let (status, body) = ask(kind, Method::GET, path, proxy).await;
    (status.as_u16(), body)
}

#[tokio::test]
async fn readiness_says_what_is_waited_for() {
    let proxy = Arc::new(Stage::default());
    assert_eq!(
        get(Kind::Status, "/healthz/ready", &proxy).await,
        (503, "not ready: no configuration yet\n".to_owned())
    );
    let proxy = Arc::new(Stage { ready: true, ..Stage::default() });
    assert_eq!(get(Kind::Status, "/healthz/ready", &proxy).await, (200, "ready\n".to_owned()));
    assert_eq!(get(Kind::Admin, "/ready", &proxy).await.0, 200);
}

#[tokio::test]
async fn the_open_servers_have_only_their_own_page() {
    let proxy = Arc::new(Stage::default());
    for kind in [Kind::Status, Kind::Stats] {
        for path in ["/", "/config_dump", "/drain", "/quitquitquit", "/certs", "/logging"] {
            assert_eq!(ask(kind, Method::POST, path, &proxy).await.0, StatusCode::NOT_FOUND);
            assert_eq!(get(kind, path, &proxy).await.0, 404);
        }
    }
    assert_eq!((proxy.drains.load(Ordering::Relaxed), proxy.quits.load(Ordering::Relaxed)), (0, 0));
}

#[tokio::test]
async fn pages_of_others_get_nothing() {
    let stage = Arc::new(Stage::default());
    for (name, value) in [("host", "evil.example"), ("origin", "http://evil.example")] {
        let mut request = Request::post("/drain").header("host", "127.0.0.1:15000").body(()).unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        let reply = pages::answer(Kind::Admin, &request, &admin(&stage));
        assert_eq!(reply.status(), StatusCode::FORBIDDEN);
        // Metrics and readiness are for the network, by whatever name.
        *request.method_mut() = Method::GET;
        *request.uri_mut() = "/stats/prometheus".parse().unwrap();
        assert_eq!(pages::answer(Kind::Stats, &request, &admin(&stage)).status(), StatusCode::OK);
    }
    assert_eq!(stage.drains.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_somebody_has_is_not_sent_again() {
    let stage = Arc::new(Stage::default());
    let mut request = Request::get("/overview").header("host", "localhost").body(()).unwrap();
    let reply = pages::answer(Kind::Admin, &request, &admin(&stage));
    request.headers_mut().insert(header::IF_NONE_MATCH, reply.headers()[header::ETAG].clone());
    let told: serde_json::Value =
        serde_json::from_slice(&reply.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!((&told["schema"], &told["proxies"][0]["generation"]), (&json!(1), &json!(7)));
    // The metrics of the test change by nothing that the page shows.
    assert_eq!(pages::answer(Kind::Admin, &request, &admin(&stage)).status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn a_browser_gets_a_page_that_may_run_nothing_else() {
    let stage = Arc::new(Stage::default());
    let request = Request::get("/").header("host", "localhost").header("accept", "text/html,*/*").body(()).unwrap();
    let reply = pages::answer(Kind::Admin, &request, &admin(&stage));
    assert_eq!(reply.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    let policy = reply.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let (_, text) = get(Kind::Admin, "/", &stage).await;
    assert!(text.starts_with("Sluice admin pages"), "{text}");
}

#[tokio::test]
async fn metrics_have_two_paths() {
    let proxy = Arc::new(Stage::default());
    for path in ["/stats/prometheus", "/metrics"] {
        let (status, body) = get(Kind::Stats, path, &proxy).await;
        assert_eq!(status, 200);
        assert!(body.contains("istio_build{"), "{body}");
    }
}

#[tokio::test]
async fn changes_want_post() {
    let proxy = Arc::new(Stage::default());
    assert_eq!(get(Kind::Admin, "/drain", &proxy).await, (405, "use POST for /drain\n".to_owned()));
    assert_eq!(get(Kind::Admin, "/logging?level=debug", &proxy).await.0, 405);
    assert_eq!(ask(Kind::Admin, Method::POST, "/config_dump", &proxy).await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(proxy.drains.load(Ordering::Relaxed), 0);

    assert_eq!(ask(Kind::Admin, Method::POST, "/drain", &proxy).await.0, StatusCode::OK);
    assert_eq!(ask(Kind::Admin, Method::POST, "/quitquitquit", &proxy).await.0, StatusCode::OK);
    assert_eq!((proxy.drains.load(Ordering::Relaxed), proxy.quits.load(Ordering::Relaxed)), (1, 1));
}

#[tokio::test]
async fn the_index_names_every_page() {
    let proxy = Arc::new(Stage { ready: true, ..Stage::default() });
    let (_, index) = get(Kind::Admin, "/", &proxy).await;
    for line in index.lines().filter(|it| it.starts_with("GET")) {
        let path = line.split_whitespace().nth(1).unwrap();
        // What is asked has to be said.
        let expected = match path {
            "/logging" => 501,
            "/explain" => 400,
            _ => 200,
        };
        assert_eq!(get(Kind::Admin, path, &proxy).await.0, expected, "{path}");
    }
    assert_eq!(get(Kind::Admin, "/config_dump", &proxy).await.1, "{\n  \"generation\": 7\n}\n");
    assert_eq!(get(Kind::Admin, "/nothing", &proxy).await.0, 404);
}

fn settings(line: &str) -> crate::settings::Settings {
    let line = format!("sluice gateway --config Cargo.toml {line}");
    match crate::cli::parse(line.split_whitespace().map(std::ffi::OsString::from)) {
        Ok(crate::cli::Command::Gateway(settings)) => *settings,
        other => panic!("{other:?}"),
    }
}

async fn fetch(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}

#[tokio::test]
async fn three_servers_answer_until_they_are_stopped() {
    let settings = settings("--status 127.0.0.1:0 --stats 127.0.0.1:0 --admin 127.0.0.1:0");
    let servers = Servers::bind([settings.status, settings.stats, settings.admin]).unwrap();
    let addresses: Vec<SocketAddr> = servers.listeners.iter().map(|(_, it)| it.local_addr().unwrap()).collect();
    let [status, stats, pages] = addresses[..] else { panic!("three servers") };
    let (stop, stopped) = watch::channel(false);
    let proxy = Arc::new(Stage { ready: true, ..Stage::default() });
    let serving = tokio::spawn(servers.serve(Arc::new(admin(&proxy)), stopped));

    assert!(fetch(status, "/healthz/ready").await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(fetch(stats, "/stats/prometheus").await.contains("process_resident_memory_bytes"));
    assert!(fetch(pages, "/clusters").await.contains("outbound|80||web"));

    stop.send_replace(true);
    serving.await.unwrap();
    assert!(TcpStream::connect(pages).await.is_err());
}

#[tokio::test]
async fn an_address_that_is_taken_names_the_flag() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let settings = settings(&format!("--status 127.0.0.1:0 --stats {address} --admin 127.0.0.1:0"));
    let error = Servers::bind([settings.status, settings.stats, settings.admin]).unwrap_err();
    let own = std::fs::read_to_string("/proc/self/comm").unwrap();
    let holder = format!("process {} (`{}`) has it", std::process::id(), own.trim());
    assert_eq!(
        error.to_string(),
        format!("--stats {address} cannot be bound; {holder}: end that, or choose another with --stats")
    );
}
