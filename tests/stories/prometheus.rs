//! A real Prometheus scrapes a mesh, and gives Kiali and Istio's dashboards what they ask for.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use harness::{
    binary::repository,
    client::Client,
    demo::Demo,
    eventually::within,
    loopback::Loopback,
    process::Process,
    program::{executable, run, serve},
    raw::Raw,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

const RANGE: &str = "30s";

/// One question of Kiali or of a dashboard.
#[derive(Deserialize)]
struct Question {
    name: String,
    source: String,
    query: String,
    #[serde(default)]
    expect: Vec<Expected>,
    #[serde(default)]
    empty: bool,
}

/// A sample that has to be in the answer.
#[derive(Deserialize)]
struct Expected {
    #[serde(default)]
    labels: Value,
    between: Option<(f64, f64)>,
}

impl Expected {
    fn is(&self, sample: &Value) -> bool {
        let value: f64 = sample["value"][1].as_str().unwrap_or_default().parse().unwrap_or(f64::NAN);
        let fits = match self.between {
            Some((least, most)) => (least..=most).contains(&value),
            None => value > 0.0,
        };
        let labels = self.labels.as_object().into_iter().flatten();
        fits && labels.into_iter().all(|(name, label)| sample["metric"][name] == *label)
    }
}

/// The demo, Prometheus, and what leads to both.
struct Scene {
    demo: Demo,
    asks: Client,
    curl: PathBuf,
    /// Addresses of the sidecars of `web` and `orders`.
    callers: [SocketAddr; 2],
    _prometheus: Process,
    _folder: TempDir,
}

/// Names, namespaces, addresses and `app` of the pods that the demo made up.
fn pods(demo: &Demo) -> Vec<(String, String, String, String)> {
    let folder = demo.state.path().join("config");
    let texts = fs::read_dir(folder).expect("the demo wrote its Pods").flatten();
    let texts = texts.filter_map(|file| fs::read_to_string(file.path()).ok());
    let documents = texts.flat_map(|text| text.split("\n---").map(str::to_owned).collect::<Vec<_>>());
    let read = documents.filter_map(|document| serde_saphyr::from_str::<Value>(&document).ok());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    read.filter(|object| object["kind"] == "Pod")
        .map(|pod| {
            let (meta, ip) = (&pod["metadata"], &pod["status"]["podIP"]);
            (text(&meta["name"]), text(&meta["namespace"]), text(ip), text(&meta["labels"]["app"]))
        })
        .filter(|(.., ip, app)| !ip.is_empty() && !app.is_empty())
        .collect()
}

/// What a cluster's relabelling makes of pods, written down.
fn scrapes(demo: &Demo, pods: &[(String, String, String, String)]) -> String {
    let gateway = demo.facts["admin"].as_str().expect("an address").trim_start_matches("http://").to_owned();
    let gateway = gateway.trim_end_matches('/').replace(":15000", ":15090");
    let target = |address: &str, namespace: &str, pod: &str, app: &str| json!({"targets": [address], "labels": {"namespace": namespace, "pod": pod, "app": app}});
    let mut all = vec![target(&gateway, "istio-system", "istio-ingressgateway-1", "istio-ingressgateway")];
    let sidecars = pods.iter().map(|(name, namespace, ip, app)| target(&format!("{ip}:15090"), namespace, name, app));
    all.extend(sidecars);
    json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "pods", "metrics_path": "/stats/prometheus", "static_configs": all}],
    })
    .to_string()
}

impl Scene {
    async fn open(prometheus: &Path, curl: PathBuf) -> Self {
        let demo = Demo::start(&repository().join("tests/promql/mesh")).await;
        let pods = pods(&demo);
        assert_eq!(pods.iter().filter(|(_, namespace, ..)| namespace != "istio-system").count(), 5, "{pods:?}");
        let of = |app: &str| {
            let (.., ip, _) = pods.iter().find(|(.., it)| it == app).expect("the pod is there");
            SocketAddr::new(ip.parse().expect("an address"), 15001)
        };
        let callers = [of("web"), of("orders")];
        let folder = TempDir::with_prefix("sluice-prometheus-").expect("a temporary folder");
        let config = folder.path().join("prometheus.yml");
        fs::write(&config, scrapes(&demo, &pods)).expect("it can be written");
        let own = Loopback::claim();
        let address = own.at(1, 9090);
        let arguments = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            format!("--web.listen-address={address}"),
            "--log.level=warn".to_owned(),
        ];
        let process = serve("prometheus", prometheus, &arguments, &[address]).await;
        Self { demo, asks: Client::plain(address), curl, callers, _prometheus: process, _folder: folder }
    }

    /// The samples that answer a query.
    async fn ask(&self, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let reply = self.asks.get(&format!("http://prometheus/api/v1/query?query={encoded}")).await;
        let answer = reply.json();
        assert_eq!(answer["status"], "success", "{query}: {}", reply.text());
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    async fn sum(&self, query: &str) -> f64 {
        let found = self.ask(&format!("sum({query})")).await;
        found.first().and_then(|it| it["value"][1].as_str()?.parse().ok()).unwrap_or_default()
    }

    /// Ten requests for pages, of which one fails and one is for what is not there; calls within the mesh, by gRPC, and bytes.
    async fn round(&self) {
        let browser = self.demo.browser();
        for number in 0..10 {
            let path = ["/broken", "/nowhere"].get(number).copied().unwrap_or("/pages");
            browser.get(&format!("https://shop.example.com{path}")).await;
        }
        let [web, orders] = self.callers;
        for (from, to) in [(web, "orders.shop"), (orders, "ledger.bank")] {
            let reply = Client::plain(from).get(&format!("http://{to}.svc.cluster.local:8080/")).await;
            assert_eq!(reply.code(), 200, "{}", reply.text());
        }
        for method in ["ServerStream", "Fail"] {
            self.call(method).await;
        }
        self.bytes().await;
    }

    /// One message, to which `ServerStream` answers with five.
    async fn call(&self, method: &str) {
        let port = self.demo.port("https_port").port();
        let url = format!("https://shop.example.com:{port}/echo.Echo/{method}");
        let resolve = format!("shop.example.com:{port}:127.0.0.1");
        let given = ["-sS", "-k", "--http2", "--resolve", &resolve, "-H", "content-type: application/grpc", "-H"];
        let more = ["te: trailers", "--data-binary", "@-", "-o", "/dev/null", &url];
        let arguments: Vec<&str> = given.iter().chain(&more).copied().collect();
        // What curl makes of trailers is its own affair: what came of the call is counted.
        run(&self.curl, &arguments, b"\0\0\0\0\x02hi").await;
    }

    async fn bytes(&self) {
        let commands = self.demo.commands();
        let at = commands.iter().find_map(|it| it.split("telnet://").nth(1)).expect("a command for the port of bytes");
        let at: String = at.chars().take_while(|it| !it.is_whitespace() && *it != '\'').collect();
        let mut client = Raw::connect(at.parse().expect("an address")).await.expect("it listens");
        client.send("hello\nquit\n").await.expect("it is heard");
        let heard = client.hear(Duration::from_secs(10)).await;
        assert!(heard.closed, "{}", heard.text);
    }
}

#[tokio::test]
async fn kiali_and_istios_dashboards_get_their_answers() {
    const STORY: &str = "kiali_and_istios_dashboards_get_their_answers";
    let (Some(prometheus), Some(curl)) = (executable(STORY, "prometheus"), executable(STORY, "curl")) else { return };
    let text = fs::read_to_string(repository().join("tests/promql/queries.yaml")).expect("the questions are there");
    let questions: Vec<Question> = serde_saphyr::from_str(&text).expect("they can be read");
    assert!(questions.len() >= 25, "{}", questions.len());
    let scene = Scene::open(&prometheus, curl).await;

    let mut rounds = 0;
    let mut missing = Vec::new();
    for _ in 0..40 {
        scene.round().await;
        rounds += 1;
        missing.clear();
        for question in &questions {
            let answer = scene.ask(&question.query.replace("[$]", &format!("[{RANGE}]"))).await;
            let wanted = question.expect.iter().filter(|expected| !answer.iter().any(|it| expected.is(it)));
            let wanted: Vec<String> = wanted.map(|it| format!("{} {:?}", it.labels, it.between)).collect();
            if !wanted.is_empty() || question.empty != answer.is_empty() {
                missing.push(format!("{} ({}): {wanted:?} is not in {answer:#?}", question.name, question.source));
            }
        }
        if missing.is_empty() {
            break;
        }
    }
    assert!(missing.is_empty(), "after {rounds} rounds:\n{}", missing.join("\n"));
    assert_eq!(scene.ask("up == 0").await, Vec::<Value>::new(), "every proxy can be scraped");

    let edge = r#"istio_requests_total{reporter="source",source_workload="istio-ingressgateway""#;
    let counts = [
        (format!("{edge}}}"), 12 * rounds),
        (format!(r#"{edge},response_code="503",response_flags="FI"}}"#), rounds),
        (format!(r#"{edge},response_code="404",response_flags="NR"}}"#), rounds),
        (format!(r#"{edge},grpc_response_status="7"}}"#), rounds),
        (r#"istio_requests_total{reporter="destination",destination_workload="ledger-v1"}"#.to_owned(), rounds),
        (r#"istio_response_messages_total{reporter="source"}"#.to_owned(), 5 * rounds),
        // A call that is refused may be over before its message has passed.
        (r#"istio_request_messages_total{reporter="destination",grpc_response_status="0"}"#.to_owned(), rounds),
        (r#"istio_tcp_connections_closed_total{reporter="destination"}"#.to_owned(), rounds),
    ];
    for (query, wanted) in counts {
        within(Duration::from_secs(20), &format!("{query} is {wanted}"), async || {
            (scene.sum(&query).await - f64::from(wanted)).abs() < 0.5
        })
        .await;
    }
}

/// Metrics and rules as promtool wants them.
#[tokio::test]
async fn promtool_has_nothing_to_say() {
    const STORY: &str = "promtool_has_nothing_to_say";
    let Some(promtool) = executable(STORY, "promtool") else { return };
    let files = repository().join("charts/sluice-control/files");
    for arguments in [vec!["check", "rules", "rules.yaml"], vec!["test", "rules", "rules.test.yaml"]] {
        let arguments: Vec<String> = arguments
            .iter()
            .map(|it| if it.ends_with(".yaml") { files.join(it).display().to_string() } else { (*it).to_owned() })
            .collect();
        let output = run(&promtool, &arguments, b"").await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    }
    let shop = crate::shop::Shop::open().await;
    shop.mesh.browser().get("https://shop.example.com/").await;
    let stats = Client::plain(shop.gateway.addresses().stats);
    let text = stats.get("http://localhost/stats/prometheus").await.text();
    let output = run(&promtool, &["check", "metrics"], text.as_bytes()).await;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    // Names of Istio and Envoy, by which dashboards know them.
    let theirs = ["envoy_cluster_outlier_detection_", "istio_request_duration_milliseconds "];
    let others: Vec<&str> = said.lines().filter(|line| !theirs.iter().any(|name| line.starts_with(name))).collect();
    assert!(others.is_empty(), "{others:#?}");
}
