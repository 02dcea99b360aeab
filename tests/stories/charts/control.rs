//! The chart of the control plane.

use std::fs;

use harness::{
    binary, helm,
    injection::{Case, cases},
};
use routing::injection::decide;
use serde_json::{Value, json};

use super::{args, container, kinds, one, pod, selects};

const CONTROL: &str = "sluice-control";

#[test]
fn the_default_values_make_a_control_plane_of_two() {
    let Some(_) = helm::executable("the_default_values_make_a_control_plane_of_two") else { return };
    let objects = helm::template(CONTROL, &[]);
    for kind in ["Deployment", "Service", "ServiceAccount", "ConfigMap", "PodDisruptionBudget"] {
        assert_eq!(one(&objects, kind)["metadata"]["namespace"], "istio-system", "{kind}");
    }
    let deployment = one(&objects, "Deployment");
    assert_eq!(deployment["spec"]["replicas"], 2);
    let labels = &pod(&objects)["metadata"]["labels"];
    assert_eq!(labels["sidecar.istio.io/inject"], "false", "it starts without itself");
    assert!(selects(&one(&objects, "Service")["spec"]["selector"], labels));
    assert!(selects(&one(&objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"], labels));
    let ports = json!([
        {"name": "https-dns", "port": 15012, "protocol": "TCP"},
        {"name": "https-webhook", "port": 443, "targetPort": 15017, "protocol": "TCP"},
        {"name": "http-monitoring", "port": 15014, "protocol": "TCP"},
    ]);
    assert_eq!(one(&objects, "Service")["spec"]["ports"], ports);
    assert_eq!(container(&objects)["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
    assert!(helm::lint(CONTROL, &[]).is_ok());
    let one_replica = helm::template(CONTROL, &["--set", "replicaCount=1"]);
    assert!(!kinds(&one_replica).contains(&"PodDisruptionBudget"));
    let refused = helm::try_template(CONTROL, &["--set", "replicas=3"]).expect_err("no such value");
    assert!(refused.contains("replicas"), "{refused}");
}

#[test]
fn the_executable_knows_every_flag_and_value_of_the_control_planes_chart() {
    let Some(_) = helm::executable("the_executable_knows_every_flag_and_value_of_the_control_planes_chart") else {
        return;
    };
    let help = binary::run(&["help", "control"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let objects = helm::template(CONTROL, &["--set", "revision=canary,meshConfig.trustDomain=example.org"]);
    for flag in args(&objects).into_iter().filter(|it| it.starts_with("--")) {
        let name = flag.split('=').next().unwrap_or_default();
        assert!(help.split_whitespace().any(|word| word == name), "{name} is not in:\n{help}");
    }
    let values = one(&objects, "ConfigMap")["data"]["values.yaml"].as_str().expect("values").to_owned();
    let (settings, unknown) = routing::injection::Settings::read(&values, "").expect("the values are understood");
    assert_eq!((settings.revision.as_str(), unknown), ("canary", Vec::<String>::new()));
}

#[test]
fn two_revisions_share_no_object() {
    let Some(_) = helm::executable("two_revisions_share_no_object") else { return };
    let name = |object: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!(
            "{} {} {}",
            text(&object["kind"]),
            text(&object["metadata"]["namespace"]),
            text(&object["metadata"]["name"])
        )
    };
    let rendered = |revision: &str| {
        let set = format!("revision={revision},istiodService.enabled=true");
        helm::template(CONTROL, &["--set", &set])
    };
    let (default, canary) = (rendered(""), rendered("canary"));
    let before: Vec<String> = default.iter().map(name).collect();
    assert!(before.contains(&"Service istio-system istiod".to_owned()), "{before:?}");
    for object in &canary {
        assert!(!before.contains(&name(object)), "{} is there twice", name(object));
    }
    let account = &one(&canary, "ServiceAccount")["metadata"]["name"];
    assert_eq!(&pod(&canary)["spec"]["serviceAccountName"], account);
    for binding in canary.iter().filter(|it| it["kind"].as_str().is_some_and(|kind| kind.ends_with("Binding"))) {
        let subject = &binding["subjects"][0];
        assert!(subject["kind"] == "Group" || &subject["name"] == account, "{binding}");
        let role = canary.iter().find(|it| {
            it["kind"] == binding["roleRef"]["kind"] && it["metadata"]["name"] == binding["roleRef"]["name"]
        });
        assert!(role.is_some(), "{binding}");
    }
}

/// Whether a pod gets a sidecar where an API server asks the webhook by the chart's selectors.
fn by_the_cluster(case: &Case, entries: &[Value]) -> bool {
    let mut namespace = case.labels().unwrap_or_default();
    namespace.insert("kubernetes.io/metadata.name".to_owned(), case.namespace().to_owned());
    let namespace = json!(namespace);
    let pod = case.pod();
    let asked = entries.iter().any(|entry| {
        holds(&entry["namespaceSelector"], &namespace) && holds(&entry["objectSelector"], &pod["metadata"]["labels"])
    });
    asked && decide(case.namespace(), None, &pod, &case.settings()).inject
}

fn holds(selector: &Value, labels: &Value) -> bool {
    selector["matchExpressions"].as_array().expect("expressions").iter().all(|it| {
        let value = labels.get(it["key"].as_str().unwrap_or_default());
        let among = || it["values"].as_array().is_some_and(|values| value.is_some_and(|value| values.contains(value)));
        match it["operator"].as_str() {
            Some("In") => among(),
            Some("NotIn") => !among(),
            Some("DoesNotExist") => value.is_none(),
            other => panic!("{other:?}"),
        }
    })
}

#[test]
fn the_selectors_of_the_webhook_say_what_the_decision_says() {
    let Some(_) = helm::executable("the_selectors_of_the_webhook_say_what_the_decision_says") else { return };
    let folder = tempfile::TempDir::with_prefix("sluice-selectors-").expect("a temporary folder can be made");
    let path = folder.path().join("values.yaml");
    let mut compared = [0, 0];
    for case in cases().into_iter().filter(|it| it.title.starts_with("decision.yaml") && it.labels().is_some()) {
        let values = if case.values().is_null() { json!({}) } else { case.values().clone() };
        fs::write(&path, values.to_string()).expect("the file can be written");
        let objects = helm::template(CONTROL, &["--values", &path.display().to_string()]);
        let entries = one(&objects, "MutatingWebhookConfiguration")["webhooks"].as_array().expect("entries").clone();
        assert!(entries.iter().all(|it| it["failurePolicy"] == "Fail"));
        let labels = case.labels();
        let wanted = decide(case.namespace(), labels.as_ref(), &case.pod(), &case.settings()).inject;
        assert_eq!(by_the_cluster(&case, &entries), wanted, "{}", case.title);
        compared[usize::from(wanted)] += 1;
    }
    assert!(compared.iter().all(|it| *it >= 10), "{compared:?}");
}

#[test]
fn a_dead_webhook_blocks_nothing_that_the_cluster_needs() {
    let Some(_) = helm::executable("a_dead_webhook_blocks_nothing_that_the_cluster_needs") else { return };
    let objects = helm::template(CONTROL, &[]);
    let validator = &one(&objects, "ValidatingWebhookConfiguration")["webhooks"][0];
    assert_eq!(validator["failurePolicy"], "Ignore");
    for configuration in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        for entry in one(&objects, configuration)["webhooks"].as_array().expect("entries") {
            for name in ["kube-system", "kube-public", "kube-node-lease"] {
                let asked = holds(
                    &json!({"matchExpressions": [entry["namespaceSelector"]["matchExpressions"].as_array().and_then(|it| it.last())]}),
                    &json!({"kubernetes.io/metadata.name": name}),
                );
                assert!(!asked, "{configuration} {name}");
            }
            assert!(entry["timeoutSeconds"].as_u64().is_some_and(|it| it <= 10));
        }
    }
}
