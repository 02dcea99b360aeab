//! Every folder of `examples` does what its README says, played by `sluice demo`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use harness::{
    binary::{repository, run},
    client::{get, request, with_body},
    demo::Demo,
    eventually::within,
    grpc::Grpc,
    raw::Raw,
    shell::shell,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

const BOOKS: &str = "https://books.example.com/";

fn example(name: &str) -> PathBuf {
    repository().join("examples").join(name)
}

/// A copy of an example, to change while it runs.
pub(super) fn copy(name: &str) -> TempDir {
    let folder = TempDir::with_prefix("sluice-example-").expect("a temporary folder can be made");
    for file in fs::read_dir(example(name)).expect("the example is there").flatten() {
        fs::copy(file.path(), folder.path().join(file.file_name())).expect("a file can be copied");
    }
    folder
}

pub(super) fn replace(folder: &Path, file: &str, old: &str, new: &str) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).expect("a file of the example");
    assert!(text.contains(old), "{file} has no `{old}`");
    let draft = folder.join(format!(".{file}"));
    fs::write(&draft, text.replace(old, new)).expect("the file can be written");
    fs::rename(draft, path).expect("the file can be renamed");
}

/// The Deployment of the pod that answers: `reviews-v1`.
async fn version(demo: &Demo, url: &str, headers: &[(&str, &str)]) -> String {
    let call = headers.iter().fold(request("GET", url), |call, (name, value)| call.header(*name, *value));
    let reply = demo.browser().call(with_body(call, "")).await;
    assert_eq!(reply.code(), 200, "{}", reply.text());
    deployment(&reply.echoed("pod"))
}

fn deployment(pod: &str) -> String {
    pod.split('-').take(2).collect::<Vec<_>>().join("-")
}

#[test]
fn every_example_passes_the_check() {
    let folders = fs::read_dir(repository().join("examples")).expect("the examples").flatten();
    let folders: Vec<PathBuf> = folders.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    assert!(folders.len() >= 10, "{folders:?}");
    for folder in folders {
        let output = run(&["check", "--output", "json", &folder.display().to_string()]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        // The demo makes the certificates, so the folders do not have them.
        let found: Vec<Value> = lines.filter(|it| it["severity"] != "info" && it["code"] != "missing-secret").collect();
        assert!(output.status.success() && found.is_empty(), "{}: {found:?}", folder.display());
    }
}

#[tokio::test]
async fn canary_goes_to_testers_and_to_one_in_ten() {
    let folder = copy("canary");
    let demo = Demo::start(folder.path()).await;

    assert_eq!(version(&demo, BOOKS, &[("x-canary", "yes")]).await, "reviews-v2");
    let mut connection = demo.browser().connect("books.example.com").await.expect("HTTPS works");
    let mut pods = BTreeMap::<String, usize>::new();
    for _ in 0..300 {
        let reply = connection.send(get(BOOKS)).await.expect("an answer");
        *pods.entry(deployment(&reply.echoed("pod"))).or_default() += 1;
    }
    assert!((8..=60).contains(&pods["reviews-v2"]), "a tenth of 300 is 30, give or take five deviations: {pods:?}");

    replace(folder.path(), "routing.yaml", "weight: 90", "weight: 0");
    let all_new = async || {
        let mut all = true;
        for _ in 0..5 {
            all &= version(&demo, BOOKS, &[]).await == "reviews-v2";
        }
        all
    };
    within(Duration::from_secs(3), "everybody gets v2", all_new).await;
}

#[tokio::test]
async fn a_client_has_five_searches_and_a_key_its_quota() {
    let folder = copy("rate-limit");
    let demo = Demo::start(folder.path()).await;
    let browser = demo.browser();

    for expected in [200, 200, 200, 200, 200, 429] {
        assert_eq!(browser.status("https://books.example.com/search").await, expected);
    }
    assert_eq!(browser.status(BOOKS).await, 200, "all else is not limited");
    let left = async |key: &str| {
        let reply = browser.call(with_body(request("GET", BOOKS).header("x-api-key", key), "")).await;
        assert_eq!(reply.code(), 200, "{}", reply.text());
        reply.header("ratelimit").to_owned()
    };
    assert_eq!(left("ada").await, "\"quota\";r=9;t=8640");
    assert!(left("ada").await.starts_with("\"quota\";r=8;"));
    assert_eq!(left("bob").await, "\"quota\";r=9;t=8640");

    replace(folder.path(), "limits.yaml", "burst: 5", "burst: 4");
    let again = async || browser.status("https://books.example.com/search").await == 200;
    within(Duration::from_secs(3), "the new limit begins with a full bucket", again).await;
    assert!(left("ada").await.starts_with("\"quota\";r=7;"), "the quota goes on where it was");
}

#[tokio::test]
async fn who_has_logged_in_is_known_and_the_group_chooses_the_version() {
    let demo = Demo::start(&example("jwt")).await;
    let readme = fs::read_to_string(example("jwt").join("README.md")).unwrap();
    // As the reader of the README has them.
    let token = |name: &str| {
        let line = readme.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        format!("Bearer {}", line.unwrap_or_else(|| panic!("the README has no token {name}")))
    };
    let ask = async |token: &str| {
        demo.browser().call(with_body(request("GET", BOOKS).header("authorization", token), "")).await
    };

    assert_eq!(demo.browser().status(BOOKS).await, 403, "without a token nobody gets in");
    let bob = ask(&token("BOB")).await;
    assert_eq!(bob.code(), 200, "{}", bob.text());
    assert!(bob.text().contains("\"x-user\": \"bob\"") || bob.text().contains("\"x-user\":\"bob\""), "{}", bob.text());
    assert!(bob.text().contains("reviews-v1"), "{}", bob.text());
    let ada = ask(&token("ADA")).await;
    assert!(ada.code() == 200 && ada.text().contains("reviews-v2"), "{}", ada.text());
    // And as the demo prints them.
    let printed: Vec<String> = demo.commands().into_iter().filter(|it| it.contains("Authorization: Bearer")).collect();
    assert_eq!(printed.len(), 2, "{printed:?}");
    for (command, version) in printed.iter().zip(["reviews-v2", "reviews-v1"]) {
        let (code, answer) = shell(command).await;
        assert!(code == 0 && answer.contains(version), "$ {command}\n{answer}");
    }
    for name in ["OLD", "FORGED"] {
        let reply = ask(&token(name)).await;
        assert_eq!(reply.code(), 401, "{name}: {}", reply.text());
        assert!(reply.header("www-authenticate").contains("invalid_token"), "{name}");
    }
}

#[tokio::test]
async fn blue_turns_green_with_one_word_and_nothing_fails() {
    let folder = copy("blue-green");
    let demo = Demo::start(folder.path()).await;

    assert_eq!(version(&demo, BOOKS, &[]).await, "reviews-blue");
    assert_eq!(version(&demo, "https://next.books.example.com/", &[]).await, "reviews-green");

    replace(folder.path(), "live.yaml", "subset: blue", "subset: green");
    within(Duration::from_secs(3), "customers get green", async || version(&demo, BOOKS, &[]).await == "reviews-green")
        .await;
}

#[tokio::test]
async fn faults_are_for_those_who_ask() {
    let demo = Demo::start(&example("fault-injection")).await;
    let ask = |fault: &str| with_body(request("GET", BOOKS).header("x-fault", fault), "");

    let start = Instant::now();
    let slow = demo.browser().call(ask("slow")).await;
    assert!(slow.code() == 200 && start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
    let broken = demo.browser().call(ask("broken")).await;
    assert_eq!((broken.code(), broken.text().as_str()), (503, "fault filter abort"));
    assert!(version(&demo, BOOKS, &[]).await.starts_with("ratings"));
}

#[tokio::test]
async fn the_mirror_sees_every_request_and_is_not_heard() {
    let demo = Demo::start(&example("mirroring")).await;
    let url = "https://books.example.com/copied";
    for _ in 0..5 {
        assert_eq!(version(&demo, url, &[]).await, "reviews-v1");
    }
    let copies = async || demo.logs("reviews-v2").matches("GET /copied").count() >= 5;
    within(Duration::from_secs(5), "the mirror logs its copies", copies).await;
}

#[tokio::test]
async fn grpc_calls_of_one_connection_are_spread_over_the_replicas() {
    let demo = Demo::start(&example("grpc")).await;
    let channel = Grpc::connect(&demo.browser().h2(), "https://grpc.example.com").await.expect("a connection");
    let call = channel.unary("/echo.Echo/Unary", "hello").await.expect("an answer");
    assert_eq!((call.http_status, call.status), (200, Some(0)));

    let mut connection = demo.browser().h2().connect("grpc.example.com").await.expect("a connection");
    let mut pods = BTreeMap::<String, usize>::new();
    for _ in 0..90 {
        let reply = connection.send(get("https://grpc.example.com/")).await.expect("an answer");
        *pods.entry(reply.echoed("pod")).or_default() += 1;
    }
    assert_eq!(pods.len(), 3, "{pods:?}");
    assert!(pods.values().all(|count| *count >= 10), "{pods:?}");
}

/// Answers of `curl telnet://...` as printed, many times: by version, how many greetings.
async fn greetings(command: &str, count: usize) -> BTreeMap<String, usize> {
    let mut versions = BTreeMap::new();
    for _ in 0..count {
        let (code, heard) = shell(command).await;
        assert_eq!(code, 0, "{command}: {heard}");
        let version = heard.split_whitespace().nth(2).unwrap_or_default().to_owned();
        *versions.entry(version).or_default() += 1;
    }
    versions
}

#[tokio::test]
async fn a_broker_has_the_first_word_and_one_connection_in_five_is_for_the_new_one() {
    let folder = copy("tcp");
    let demo = Demo::start(folder.path()).await;
    let command = demo.command("telnet://");
    let address = command.rsplit("telnet://").next().and_then(|at| at.parse().ok()).expect("an address");

    let mut open = Raw::connect(address).await.expect("the gateway listens");
    let greeting = open.read_until("\n").await.expect("nothing had to be said first");
    assert!(greeting.starts_with("220 orders v"), "{greeting}");
    let versions = greetings(&command, 60).await;
    assert!((2..=30).contains(&versions["v2"]), "a fifth of 60 is 12, give or take five deviations: {versions:?}");

    replace(folder.path(), "routing.yaml", "weight: 80", "weight: 0");
    let all_new = async || greetings(&command, 5).await.keys().eq(["v2"]);
    within(Duration::from_secs(3), "every new connection is for v2", all_new).await;
    open.send("still here\n").await.expect("the open one stays");
    assert!(open.read_until("\n").await.expect("an answer").ends_with(": still here\n"));

    let (code, told) = shell(&demo.command(":5672/")).await;
    assert!(code != 0 && told.contains("reset"), "plain text to the STRICT sidecar: {code} {told}");
    let (code, metrics) = shell(&demo.command("grep")).await;
    assert!(code == 0 && metrics.contains("destination_version=\"v2\""), "{code} {metrics}");
}

#[tokio::test]
async fn what_leaves_the_mesh_leaves_by_the_egress_gateway() {
    let folder = copy("egress");
    let demo = Demo::start(folder.path()).await;
    let heard = async |host: &str| {
        let (code, told) = shell(&demo.command(host)).await;
        assert_eq!(code, 0, "{host}: {told}");
        serde_json::from_str::<Value>(&told).unwrap_or_else(|_| panic!("{host}: {told}"))
    };

    let rates = heard("rates.example.com").await;
    assert_eq!((&rates["tls"]["sni"], &rates["tls"]["client"]), (&"rates.example.com".into(), &Value::Null));
    assert_eq!(rates["peer"], "spiffe://cluster.local/ns/bookshop/sa/cart", "the gateway knew who asked");
    let bank = heard("bank.example.com").await;
    assert_eq!(bank["tls"]["client"], "istio-egressgateway.demo.client");
    // curl itself trusts the outside's certificate: nobody in between could have shown it.
    assert_eq!(heard("docs.example.com").await["service"], "docs");
    for (proxy, cluster) in [
        ("sidecar-bookshop-cart", "outbound|443|bank|istio-egressgateway.istio-system.svc.cluster.local"),
        ("gateway-istio-system-istio-egressgateway", "outbound|443||bank.example.com"),
        ("gateway-istio-system-istio-egressgateway", "outbound|443||docs.example.com"),
    ] {
        let told = async || demo.logs(proxy).contains(cluster);
        within(Duration::from_secs(3), &format!("{proxy} logs {cluster}"), told).await;
    }

    let command = demo.command("rates.example.com").replace("curl", "curl -o /dev/null -w '%{http_code}'");
    let (_, elsewhere) = shell(&command.replace("rates.example.com", "other.example.com")).await;
    assert_eq!(elsewhere, "502", "nothing leaves that is not written down");
    replace(folder.path(), "gateway.yaml", "        - rates.example.com\n", "");
    // The connection of before knows the name no more, a new one is not taken.
    let refused = async || ["404", "503"].contains(&shell(&command).await.1.as_str());
    within(Duration::from_secs(3), "the gateway takes it no more", refused).await;
}

#[tokio::test]
async fn guestbook_alone_may_ask_the_analyzer_and_by_post_alone() {
    let folder = copy("guestbook");
    let demo = Demo::start(folder.path()).await;
    let asked = demo.command("analyzer");
    assert!(asked.contains("-X POST"), "{asked}");

    let (_, answer) = shell(&asked).await;
    let reply: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
    assert_eq!((&reply["service"], &reply["method"]), (&"analyzer".into(), &"POST".into()), "{answer}");
    assert_eq!(reply["peer"], "spiffe://cluster.local/ns/default/sa/guestbook");
    let (_, refused) = shell(&asked.replace("-X POST", "-X DELETE")).await;
    assert_eq!(refused.trim(), "RBAC: access denied");
    let is_logged = async || demo.logs("analyzer").contains("rbac_access_denied_matched_policy[none]");
    within(Duration::from_secs(5), "the access log says why", is_logged).await;
    assert_eq!(demo.browser().get("https://guestbook.example.com/").await.code(), 200);

    replace(folder.path(), "policies.yaml", "sa/guestbook", "sa/somebody-else");
    let is_refused = async || shell(&asked).await.1.trim() == "RBAC: access denied";
    within(Duration::from_secs(5), "the analyzer is closed for the guestbook, too", is_refused).await;
}
