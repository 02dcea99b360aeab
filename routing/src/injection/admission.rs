//! The webhook's question and answer: `AdmissionReview` of admission.k8s.io/v1, in and out as JSON.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::json::text;
use super::template::NETWORK;
use super::{Context, Settings, Texts, decide, inject, patch};

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
        return (json!({"allowed": true}), Outcome::Skipped(verdict.reason.to_string()), Vec::new());
    }
    match inject(pod, Context { settings, namespace, parameters }) {
        Ok(injected) => {
            let operations = Value::Array(patch(pod, &injected.pod)).to_string();
            let patch = BASE64_STANDARD.encode(operations);
            let response = json!({"allowed": true, "patchType": "JSONPatch", "patch": patch});
            (response, Outcome::Injected, injected.warnings)
        }
        Err(refusal) => {
            let message = format!("the sidecar cannot be injected: {refusal}");
            let status = json!({"status": "Failure", "code": 400, "reason": "BadRequest", "message": message});
            (json!({"allowed": false, "status": status}), Outcome::Refused(refusal.to_string()), Vec::new())
        }
    }
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
