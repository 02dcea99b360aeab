//! What comes out of the injection, of the charts and of `sluice crds`, by the schemas of Kubernetes' own API: a field that they do
//! not know is a fault, as it is for an API server that is asked strictly.

use harness::{apiserver::documents, binary, helm, injection::cases, kubernetes_schemas::judge};
use serde_json::{Value, json};

/// The oldest that the charts are for, one between, and the newest.
const VERSIONS: [&str; 3] = ["1.25", "1.31", "1.37"];
/// Containers that go on running among the init containers are older nowhere.
const WITH_NATIVE_SIDECARS: [&str; 2] = ["1.29", "1.37"];

#[tokio::test]
async fn every_injected_pod_is_one_of_kubernetes_own() {
    let Some(judge) = judge("that injected pods are Kubernetes' own").await else { return };
    let pod = |case: &harness::injection::Case| Some((case.title.clone(), case.injected()?));
    let pods: Vec<(String, Value)> = cases().iter().filter_map(pod).collect();
    assert!(pods.len() >= 100, "{}", pods.len());
    let (faults, unknown) = judge.faults(&WITH_NATIVE_SIDECARS, &pods).await;
    assert_eq!((faults, unknown), (Vec::new(), 0));

    // It sees what a type alone would not.
    let mut odd = pods[0].1.clone();
    odd["spec"]["containers"][0]["livenesProbe"] = json!({});
    odd["spec"]["containers"][0]["ports"] = json!([{"containerPort": "http"}]);
    let (faults, _) = judge.faults(&["1.37"], &[("odd".to_owned(), odd)]).await;
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults.iter().any(|fault| fault.contains("livenesProbe")), "{faults:?}");
}

#[tokio::test]
async fn the_charts_and_the_definitions_are_kubernetes_own() {
    let story = "that the charts are Kubernetes' own";
    let (Some(_), Some(judge)) = (helm::executable(story), judge(story).await) else { return };
    let wishes: [(&str, &[&str]); 7] = [
        ("sluice-gateway", &[]),
        ("sluice-gateway", &["--set", "kind=DaemonSet,service.type=None,autoscaling.enabled=false"]),
        (
            "sluice-gateway",
            &["--set", "identity.caAddress=istiod.istio-system.svc:15012,podDisruptionBudget.minAvailable=1"],
        ),
        ("sluice-control", &[]),
        (
            "sluice-control",
            &["--set", "revision=canary,revisionTags={stable},istiodService.enabled=true,meshConfig.trustDomain=a.b"],
        ),
        ("sluice-control", &["--set", "podDisruptionBudget.minAvailable=1,env.ENABLE_CLUSTER_TRUST_BUNDLE_API=true"]),
        ("sluice-control", &["--set", "monitoring.rules.enabled=true,monitoring.dashboards.enabled=true"]),
    ];
    let mut objects = Vec::new();
    for (chart, flags) in wishes {
        let rendered = helm::template(chart, flags);
        assert!(rendered.len() >= 4, "{chart} {flags:?}: {}", rendered.len());
        objects.extend(
            rendered
                .into_iter()
                .map(|it| (format!("{chart} {flags:?}: {}/{}", it["kind"], it["metadata"]["name"]), it)),
        );
    }
    let crds = binary::run(&["crds"]);
    let crds = documents(&String::from_utf8_lossy(&crds.stdout));
    assert!(crds.len() >= 10, "{}", crds.len());
    objects.extend(crds.into_iter().map(|it| (format!("sluice crds: {}", it["metadata"]["name"]), it)));
    let (faults, unknown) = judge.faults(&VERSIONS, &objects).await;
    // PrometheusRules are somebody else's.
    assert_eq!((faults, unknown), (Vec::new(), 1));
}
