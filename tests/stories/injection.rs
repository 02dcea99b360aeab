//! Pods get their sidecar: as data, by `sluice inject`, and by a webhook that an API server asks.

use harness::injection::{cases, lost};
use serde_json::json;

#[test]
fn every_pod_gets_the_sidecar_that_its_case_expects() {
    let cases = cases();
    assert!(cases.len() >= 120, "there are {} cases", cases.len());
    let faults: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let faults = case.play();
            (!faults.is_empty()).then(|| format!("{}\n  {}", case.title, faults.join("\n  ")))
        })
        .collect();
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

#[test]
fn what_judges_pods_sees_what_is_wrong_with_one() {
    let pod = |container: serde_json::Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [container]}});
    assert!(lost(&pod(json!({"name": "a", "image": "b"}))).is_empty());
    assert_eq!(
        lost(&pod(json!({"name": "a", "imagee": "b"}))),
        ["/spec/containers/0/imagee is no field of Kubernetes"]
    );
    assert_eq!(lost(&pod(json!({"name": "a", "args": "b"}))).len(), 1);
}
