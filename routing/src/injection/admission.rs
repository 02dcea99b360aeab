//! The webhook's question and answer: `AdmissionReview` of admission.k8s.io/v1, in and out as JSON.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::decision::asks;
use super::json::{map, text};
use super::template::NETWORK;
use super::{Context, SKIPPED, Settings, Texts, decide, inject, patch};

/// What the answer does, so that it can be counted and logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The pod got a proxy.
    Injected,
    /// It gets none, for this reason.
    Skipped(String),
    /// It asks for what cannot be had, and is not made.
    Refused(String),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The `AdmissionReview` that is sent back.
    pub review: Value,
    /// What it does.
    pub outcome: Outcome,
    /// Namespace and name of the pod, for the log.
    pub pod: String,
    /// What of the pod's wishes is not honoured.
    pub warnings: Vec<String>,
}

/// Answers a question about a pod.
///
/// # Errors
/// It is no `AdmissionReview` of version v1, and nobody could be answered.
pub fn answer(review: &Value, settings: &Settings, parameters: &Texts) -> Result<Answer, String> {
    if review["kind"] != "AdmissionReview" || review["apiVersion"] != "admission.k8s.io/v1" {
        let (kind, version) = (&review["kind"], &review["apiVersion"]);
        return Err(format!("an AdmissionReview of admission.k8s.io/v1 is wanted, not kind {kind} of {version}"));
    }
    let request = &review["request"];
    let uid = text(request, "/uid");
    if uid.is_empty() {
        return Err("request.uid is missing".to_owned());
    }
    let pod = &request["object"];
    let namespace = Some(text(request, "/namespace")).filter(|it| !it.is_empty());
    let namespace = namespace.unwrap_or_else(|| text(pod, "/metadata/namespace"));
    let name = [text(pod, "/metadata/name"), text(request, "/name"), text(pod, "/metadata/generateName")];
    let name = name.into_iter().find(|it| !it.is_empty()).unwrap_or_default();
    let (response, outcome, warnings) = decided(pod, namespace, settings, parameters);
    let mut response = response;
    response["uid"] = uid.into();
    if !warnings.is_empty() {
        response["warnings"] = warnings.clone().into();
    }
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Ok(Answer { review, outcome, pod: format!("{namespace}/{name}"), warnings })
}

fn decided(pod: &Value, namespace: &str, settings: &Settings, parameters: &Texts) -> (Value, Outcome, Vec<String>) {
    let verdict = decide(namespace, None, pod, settings);
    if !verdict.inject {
        return skipped(pod, verdict.reason.to_string(), settings);
    }
    match inject(pod, Context { settings, namespace, parameters }) {
        Ok(injected) => (allowed(pod, &injected.pod), Outcome::Injected, injected.warnings),
        Err(refusal) => {
            let message = format!("the sidecar cannot be injected: {refusal}");
            let status = json!({"status": "Failure", "code": 400, "reason": "BadRequest", "message": message});
            (json!({"allowed": false, "status": status}), Outcome::Refused(refusal.to_string()), Vec::new())
        }
    }
}

/// A pod that asks by itself is told why it gets none: on itself, where its owner will look, and to whoever makes it.
fn skipped(pod: &Value, why: String, settings: &Settings) -> (Value, Outcome, Vec<String>) {
    if !asks(pod, settings) {
        return (json!({"allowed": true}), Outcome::Skipped(why), Vec::new());
    }
    let mut told = pod.clone();
    map(&mut told["metadata"], "annotations").insert(SKIPPED.to_owned(), format!("skipped: {why}").into());
    let warning = format!("the pod asks for a sidecar and gets none: {why}");
    (allowed(pod, &told), Outcome::Skipped(why), vec![warning])
}

/// The answer that makes one pod of the other.
fn allowed(before: &Value, after: &Value) -> Value {
    let patch = BASE64_STANDARD.encode(Value::Array(patch(before, after)).to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

/// The environment that a path behind `/inject` asks for: `/inject/cluster/east/net/one`, or `/inject/:ENV:cluster=east:ENV:net=one`
/// as of old. `--slash--` stands for a slash.
///
/// # Errors
/// A sentence.
pub fn parameters(path: &str) -> Result<Texts, String> {
    let path = path.strip_prefix("/inject").unwrap_or(path).trim_matches('/');
    let pairs: Vec<(&str, &str)> = if path.starts_with(":ENV:") {
        path.split(":ENV:").skip(1).map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect()
    } else {
        let parts: Vec<&str> = path.split('/').filter(|it| !it.is_empty()).collect();
        if parts.len() % 2 == 1 {
            return Err(format!("the path `/inject/{path}` has a name without a value; write /inject/NAME/VALUE"));
        }
        parts.chunks(2).map(|pair| (pair[0], pair[1])).collect()
    };
    let variable = |(name, value): (&str, &str)| {
        let name = match name {
            "cluster" => "ISTIO_META_CLUSTER_ID",
            "net" => NETWORK,
            other => other,
        };
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if name.is_empty() || !name.bytes().all(valid) {
            return Err(format!("`{name}` is no name of an environment variable"));
        }
        Ok((name.to_owned(), value.replace("--slash--", "/")))
    };
    pairs.into_iter().map(variable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::injection::patched;

    /// The pod that comes out, and the warnings.
    fn asked(pod: &Value) -> (Value, Vec<String>) {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "u", "namespace": "shop", "operation": "CREATE", "object": pod},
        });
        let answer = answer(&review, &Settings::default(), &Texts::new()).unwrap();
        assert_eq!(answer.review["response"]["allowed"], true);
        let patch = answer.review["response"]["patch"].as_str().map_or(b"[]".to_vec(), |patch| {
            assert_eq!(answer.review["response"]["patchType"], "JSONPatch");
            BASE64_STANDARD.decode(patch).unwrap()
        });
        let operations: Vec<Value> = serde_json::from_slice(&patch).unwrap();
        (patched(pod, &operations).unwrap(), answer.warnings)
    }

    fn pod(metadata: &Value, host_network: bool) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": {"hostNetwork": host_network, "containers": [{"name": "app", "image": "app:1"}]},
        })
    }

    #[test]
    fn a_pod_that_asks_and_gets_none_says_why() {
        for metadata in [
            json!({"name": "a", "labels": {"sidecar.istio.io/inject": "true"}}),
            json!({"name": "a", "annotations": {"sidecar.istio.io/inject": "True"}}),
            json!({"name": "a", "labels": {"istio.io/rev": "default"}}),
        ] {
            let (told, warnings) = asked(&pod(&metadata, true));
            let said = told["metadata"]["annotations"][SKIPPED].as_str().unwrap();
            assert!(said.starts_with("skipped: the pod has hostNetwork"), "{said}");
            assert!(warnings[0].contains("gets none: the pod has hostNetwork"), "{warnings:?}");
            assert_eq!((told["spec"]["containers"].as_array().unwrap().len(), warnings.len()), (1, 1));

            let mut mended = told;
            mended["spec"]["hostNetwork"] = false.into();
            let (injected, _) = asked(&mended);
            assert_eq!(injected["metadata"]["annotations"][SKIPPED], Value::Null);
            assert_eq!(injected["spec"]["containers"][1]["name"], "istio-proxy");
        }
    }

    #[test]
    fn a_pod_that_nobody_asked_for_stays_as_it_is() {
        for metadata in [
            json!({"name": "a"}),
            json!({"name": "a", "labels": {"istio.io/rev": "canary"}}),
            json!({"name": "a", "labels": {"sidecar.istio.io/inject": "false", "istio.io/rev": "default"}}),
            json!({"name": "a", "labels": {"sidecar.istio.io/inject": "false"}, "annotations": {"sidecar.istio.io/inject": "true"}}),
        ] {
            let before = pod(&metadata, true);
            assert_eq!(asked(&before), (before, Vec::new()));
        }
    }
}
