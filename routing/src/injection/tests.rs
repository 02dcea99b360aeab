//! Whatever somebody sends in the place of a pod.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Context, Settings, Texts, admission, inject, manifest, patch, patched};

/// Names that mean something, in a place where they may mean nothing.
const NAMES: [&str; 32] = [
    "metadata",
    "labels",
    "annotations",
    "name",
    "spec",
    "containers",
    "initContainers",
    "volumes",
    "volumeMounts",
    "ports",
    "containerPort",
    "env",
    "lifecycle",
    "postStart",
    "livenessProbe",
    "readinessProbe",
    "httpGet",
    "tcpSocket",
    "grpc",
    "port",
    "path",
    "host",
    "httpHeaders",
    "timeoutSeconds",
    "restartPolicy",
    "securityContext",
    "sysctls",
    "imagePullSecrets",
    "sidecar.istio.io/status",
    "proxy.istio.io/overrides",
    "proxy.istio.io/config",
    "prometheus.istio.io/scrape-targets",
];
/// Texts that somebody may read.
const TEXTS: [&str; 12] = [
    "istio-proxy",
    "istio-init",
    "app",
    "true",
    "8080",
    "15020",
    "/x",
    "Always",
    "auto",
    "concurrency: 2",
    "8080:/m,9090:/n",
    r#"{"containers":["istio-proxy"],"volumes":[7],"labels":["app"],"annotations":[1],"sysctls":"x"}"#,
];

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1_i64..70_000).prop_map(Value::from),
        proptest::sample::select(&TEXTS[..]).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 5, |inner| {
        let named = (proptest::sample::select(&NAMES[..]).prop_map(str::to_owned), inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            proptest::collection::vec(named, 0..6).prop_map(|all| Value::from(all.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// One that has what an injection begins with.
fn odd_pod() -> impl Strategy<Value = Value> {
    let containers = proptest::collection::vec(anything(), 0..4);
    (anything(), anything(), containers).prop_map(|(metadata, spec, containers)| {
        let mut spec = if spec.is_object() { spec } else { json!({}) };
        spec["containers"] = containers.into();
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    })
}

proptest! {
    #[test]
    fn whatever_is_sent_is_answered(object in anything()) {
        let request = json!({"uid": "u", "namespace": "shop", "operation": "CREATE", "object": object});
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        let answer = admission::answer(&review, &Settings::default(), &Texts::new()).unwrap();
        prop_assert_eq!(&answer.review["response"]["uid"], "u");
        prop_assert!(admission::answer(&object, &Settings::default(), &Texts::new()).is_err());
    }

    #[test]
    fn an_odd_pod_is_injected_or_refused_and_the_patch_fits(pod in odd_pod()) {
        let (settings, parameters) = (Settings::default(), Texts::new());
        let context = Context { settings: &settings, namespace: "shop", parameters: &parameters };
        if let Ok(injected) = inject(&pod, context) {
            prop_assert_eq!(patched(&pod, &patch(&pod, &injected.pod)).unwrap(), injected.pod);
        }
    }

    #[test]
    fn an_odd_manifest_is_written_or_refused(pod in odd_pod()) {
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": {"template": pod}});
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [deployment, pod, pod["spec"]]});
        drop(manifest::inject_file(&list.to_string(), &Settings::default()));
    }
}
