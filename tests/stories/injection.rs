//! Pods get their sidecar: as data, by `sluice inject`, and by a webhook that an API server asks.

use std::{
    fs,
    process::{Command, Output},
};

use harness::{
    apiserver::documents,
    binary,
    eventually::eventually,
    injection::{Case, cases, live::Webhooks, lost},
};
use serde_json::{Value, json};

#[test]
fn every_pod_gets_the_sidecar_that_its_case_expects() {
    let cases = cases();
    assert!(cases.len() >= 120, "there are {} cases", cases.len());
    report(&cases, Case::play);
}

/// Panics with every case that has faults.
fn report(cases: &[Case], play: impl Fn(&Case) -> Vec<String>) {
    let told = |case: &Case| {
        let faults = play(case);
        (!faults.is_empty()).then(|| format!("{}\n  {}", case.title, faults.join("\n  ")))
    };
    let faults: Vec<String> = cases.iter().filter_map(told).collect();
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

#[test]
fn what_judges_pods_sees_what_is_wrong_with_one() {
    let pod = |container: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [container]}});
    assert!(lost(&pod(json!({"name": "a", "image": "b"}))).is_empty());
    assert_eq!(
        lost(&pod(json!({"name": "a", "imagee": "b"}))),
        ["/spec/containers/0/imagee is no field of Kubernetes"]
    );
    assert_eq!(lost(&pod(json!({"name": "a", "args": "b"}))).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_webhook_gives_the_same_pods_and_counts_them() {
    let webhooks = Webhooks::start("").await;
    let mut cases = cases();
    cases.retain(Case::is_live);
    assert!(cases.len() >= 10, "{} cases", cases.len());
    let mut faults = Vec::new();
    for case in &cases {
        let reply = webhooks.ask(case.path(), &case.review()).await;
        assert_eq!(reply.code(), 200, "{}: {}", case.title, reply.text());
        let found = case.judge_answer(&reply.json());
        faults.extend(found.into_iter().map(|fault| format!("{}: {fault}", case.title)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));

    let asked = webhooks.counted("sidecar_injection_requests_total").await;
    let mut became = 0.0;
    for what in ["success", "skip", "failure"] {
        became += webhooks.counted(&format!("sidecar_injection_{what}_total")).await;
    }
    assert_eq!((asked, became), (cases.len() as f64, cases.len() as f64));
    assert!(webhooks.counted("sidecar_injection_failure_total").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_values_hold_at_once_and_broken_ones_never() {
    let webhooks = Webhooks::start("global: {hub: one.example.com}").await;
    let case = &cases()[0];
    let patch = async |webhooks: &Webhooks| {
        let review = webhooks.ask("/inject", &case.review()).await.json();
        let patch = review["response"]["patch"].as_str().unwrap_or_default().to_owned();
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, patch).expect("base64");
        String::from_utf8(bytes).expect("the patch is text")
    };
    assert!(patch(&webhooks).await.contains("one.example.com/sluice:"));

    webhooks.set_values("global: {hub: two.example.com}");
    eventually("the new values hold", async || patch(&webhooks).await.contains("two.example.com/sluice:")).await;

    // And what the configuration says of proxies.
    let config = |value: &str| {
        format!(
            "apiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig\nmetadata: {{name: all, namespace: istio-system}}\n\
             spec: {{environmentVariables: {{TEAM: {value}}}}}\n"
        )
    };
    for value in ["blue", "green"] {
        webhooks.configure("proxies.yaml", &config(value));
        eventually("a ProxyConfig holds", async || patch(&webhooks).await.contains(value)).await;
    }
    // Nor does a broken one.
    webhooks.configure("proxies.yaml", "a: [");

    webhooks.set_values("global: {hub: [three]}");
    eventually("the broken values are told of", async || {
        webhooks.process.stderr().contains("the settings of the injection stay as they were")
    })
    .await;
    let patch = patch(&webhooks).await;
    assert!(patch.contains("two.example.com/sluice:") && patch.contains("green"), "{patch}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_check_calls_an_error_is_refused_and_nothing_else() {
    let webhooks = Webhooks::start("").await;
    let review = |object: Value| {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "1", "operation": "CREATE", "namespace": "shop", "object": object}})
    };
    let service = |timeout: &str| {
        let route = json!({"route": [{"destination": {"host": "cart.shop.svc.cluster.local"}}], "timeout": timeout});
        json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "cart", "namespace": "shop"},
            "spec": {"hosts": ["cart.shop.svc.cluster.local"], "http": [route]}})
    };
    let good = webhooks.ask("/validate", &review(service("5s"))).await.json();
    assert_eq!(good["response"]["allowed"], true, "{good}");
    let bad = webhooks.ask("/validate", &review(service("soon"))).await.json();
    assert_eq!(bad["response"]["allowed"], false);
    let message = bad["response"]["status"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("spec.http[0].timeout"), "{message}");
    let foreign = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "a"}, "spec": 1});
    assert_eq!(webhooks.ask("/validate", &review(foreign)).await.json()["response"]["allowed"], true);

    for (path, body, code) in [("/inject", json!({}), 400), ("/validate", json!([]), 400), ("/other", json!({}), 404)] {
        assert_eq!(webhooks.ask(path, &body).await.code(), code, "{path}");
    }
}

const MANIFESTS: &str = "\
# What stays has its comments.
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}   # as it is
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec: {containers: [{name: app, image: 'cart:1', args: ['yes', '1', 'a: b']}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: report}
spec:
  schedule: '0 * * * *'
  jobTemplate: {spec: {template: {metadata: {labels: {sidecar.istio.io/inject: 'false'}}, spec: {restartPolicy: Never, containers: [{name: app, image: r}]}}}}
---
apiVersion: v1
kind: List
items: [{apiVersion: v1, kind: Pod, metadata: {name: one}, spec: {containers: [{name: app, image: a}]}}]
";

fn inject(text: &str, more: &[&str]) -> Output {
    let folder = tempfile::TempDir::with_prefix("sluice-inject-").expect("a temporary folder can be made");
    let path = folder.path().join("app.yaml");
    fs::write(&path, text).expect("the file can be written");
    let mut command = Command::new(binary::sluice());
    command.args(["inject", "-f"]).arg(path).args(more).output().expect("the executable can be started")
}

#[test]
fn manifests_get_sidecars_and_what_has_no_pod_stays_as_it_is() {
    let output = inject(MANIFESTS, &[]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    let before: Vec<&str> = MANIFESTS.split("---\n").collect();
    let after: Vec<&str> = out.split("---\n").collect();
    assert_eq!((after.len(), after[0], after[2]), (4, before[0], before[2]));
    let documents = documents(&out);
    let pod = &documents[1]["spec"]["template"];
    assert_eq!(pod["spec"]["containers"][0]["args"], json!(["yes", "1", "a: b"]));
    assert_eq!(pod["spec"]["containers"][1]["name"], "istio-proxy");
    assert_eq!(pod["metadata"].get("name"), None, "a template has no name");
    let variables = pod["spec"]["containers"][1]["env"].as_array().expect("variables");
    assert!(variables.contains(&json!({"name": "WORKLOAD_NAME", "value": "cart"})));
    assert_eq!(documents[3]["items"][0]["spec"]["containers"][1]["name"], "istio-proxy");
    assert_eq!(err, "CronJob default/report: no sidecar: the pod's label sidecar.istio.io/inject\n");

    let again = inject(&out, &[]);
    assert_eq!(String::from_utf8_lossy(&again.stdout), out, "twice is once");
}

#[test]
fn proxy_configs_beside_the_pods_and_in_a_folder_hold() {
    let config = |name: &str, text: &str| {
        format!(
            "apiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig\nmetadata: {{name: {name}, namespace: shop}}\nspec: {text}\n"
        )
    };
    let folder = tempfile::TempDir::with_prefix("sluice-config-").expect("a temporary folder can be made");
    let selected = config("cart", "{selector: {matchLabels: {app: cart}}, environmentVariables: {A: folder}}");
    fs::write(folder.path().join("cart.yaml"), selected).expect("the file can be written");
    let beside = config("all", "{environmentVariables: {A: beside, B: beside}}");
    let output = inject(&format!("{beside}---\n{MANIFESTS}"), &["--config", &folder.path().display().to_string()]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    let documents = documents(&out);
    let variables = &documents[2]["spec"]["template"]["spec"]["containers"][1]["env"];
    for (name, value) in [("A", "folder"), ("B", "beside")] {
        let found = variables.as_array().is_some_and(|all| all.contains(&json!({"name": name, "value": value})));
        assert!(found, "{name}: {variables}");
    }
}

#[test]
fn what_cannot_be_had_is_told_and_nothing_is_written() {
    let wish = "metadata: {labels: {app: cart}, annotations: {sidecar.istio.io/interceptionMode: TPROXY}}";
    let output = inject(&MANIFESTS.replace("metadata: {labels: {app: cart}}", wish), &[]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(err.contains("Deployment shop/cart: error: annotation sidecar.istio.io/interceptionMode"), "{err}");

    let broken = inject("a: [", &[]);
    assert_eq!(broken.status.code(), Some(2));
    let values = inject(MANIFESTS, &["--values", "/nowhere/values.yaml"]);
    assert_eq!(values.status.code(), Some(2));
}

#[test]
fn the_executable_takes_the_arguments_that_the_injection_writes() {
    let mut pods = cases()
        .into_iter()
        .filter(|case| case.title.ends_with("settings of the proxy become its environment and arguments"));
    let case = pods.next().expect("a case with arguments");
    let pod = case.injected().expect("it is injected");
    let arguments = |name: &str| -> Vec<String> {
        let spec = &pod["spec"];
        let mut all = spec["containers"].as_array().into_iter().chain(spec["initContainers"].as_array()).flatten();
        let container = all.find(|it| it["name"] == name).expect("the container is there");
        let arguments = container["args"].as_array().expect("it has arguments").iter();
        arguments.map(|it| it.as_str().unwrap_or_default().to_owned()).collect()
    };
    let help = binary::run(&["help", "sidecar"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for flag in arguments("istio-proxy").iter().filter(|it| it.starts_with("--")) {
        let name = flag.split('=').next().unwrap_or_default();
        assert!(help.split_whitespace().any(|word| word == name), "{name} is not in:\n{help}");
    }
    let mut init = arguments("istio-init");
    init.push("--dry-run".to_owned());
    let init: Vec<&str> = init.iter().map(String::as_str).collect();
    let output = binary::run(&init);
    assert!(output.status.success(), "{init:?}: {}", String::from_utf8_lossy(&output.stderr));
}
