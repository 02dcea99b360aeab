//! What `sluice check` would say of one object, before an API server takes it.

use routing::{
    problem::Severity,
    resources::{Extent, Store, parse_object},
};
use serde_json::{Value, json};

use crate::command::check;

/// Most sentences that an answer holds of either kind; `kubectl` shows them all.
const MOST: usize = 20;

/// An answer.
pub(super) struct Judged {
    pub(super) review: Value,
    /// Kind of the object, when it is one of ours.
    pub(super) kind: Option<&'static str>,
    pub(super) allowed: bool,
    /// Namespace and name, for the log.
    pub(super) object: String,
}

/// Answers a question about an object. What is no object of ours passes.
///
/// # Errors
/// It is no `AdmissionReview` of version v1, and nobody could be answered.
pub(super) fn judge(review: &Value) -> Result<Judged, String> {
    if review["kind"] != "AdmissionReview" || review["apiVersion"] != "admission.k8s.io/v1" {
        return Err("an AdmissionReview of admission.k8s.io/v1 is wanted".to_owned());
    }
    let request = &review["request"];
    let uid = request["uid"].as_str().filter(|uid| !uid.is_empty()).ok_or("request.uid is missing")?;
    let object = &request["object"];
    let text = |field: &str| request[field].as_str().unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_else(|| text("name"));
    let shown = format!("{}/{name}", text("namespace"));
    let mut kind = None;
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    // Nothing is there to judge of what is deleted.
    if object.is_object() {
        let parsed = parse_object(object);
        kind = routing::resources::Kind::named(object["kind"].as_str().unwrap_or_default()).map(|kind| kind.name());
        let (resources, found) = Store::default().replace(vec![(String::new(), parsed)]);
        for problem in check::findings(&resources.with_extent(Extent::Part), found) {
            let at = if problem.field.is_empty() { String::new() } else { format!("{}: ", problem.field) };
            let sentence = format!("{at}{} ({})", problem.message, problem.code);
            match problem.severity {
                Severity::Error => errors.push(sentence),
                Severity::Warning => warnings.push(sentence),
                _ => {}
            }
        }
    }
    if is_settled(request) {
        // It stands there already: refusing would only keep it from losing its finalizers, or from being told its status.
        warnings.splice(0..0, errors.drain(..));
    }
    let mut response = json!({"uid": uid, "allowed": errors.is_empty()});
    if !errors.is_empty() {
        let more = errors.len().saturating_sub(MOST);
        errors.truncate(MOST);
        let mut message = errors.join("; ");
        if more > 0 {
            message.push_str(&format!("; and {more} more"));
        }
        response["status"] = json!({"status": "Failure", "code": 400, "reason": "BadRequest", "message": message});
    }
    warnings.truncate(MOST);
    if !warnings.is_empty() {
        response["warnings"] = warnings.into();
    }
    let allowed = response["allowed"] == true;
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Ok(Judged { review, kind, allowed, object: shown })
}

/// Whether nothing changes that could be judged: the object is on its way out, or is as it was but for what others note on it.
fn is_settled(request: &Value) -> bool {
    let substance = |object: &Value| {
        let mut object = object.clone();
        if let Value::Object(fields) = &mut object {
            fields.retain(|name, _| name != "metadata" && name != "status");
        }
        object
    };
    let (old, new) = (&request["oldObject"], &request["object"]);
    old.is_object() && (new["metadata"]["deletionTimestamp"].is_string() || substance(old) == substance(new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(object: &Value) -> Value {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "u", "namespace": "shop", "operation": "CREATE", "object": object},
        });
        judge(&review).unwrap().review["response"].clone()
    }

    fn service(spec: &Value) -> Value {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "cart", "namespace": "shop"}, "spec": spec,
        })
    }

    #[test]
    fn an_error_refuses_and_says_where() {
        let route = json!({"route": [{"destination": {"host": "cart"}}], "timeout": "soon"});
        let response = asked(&service(&json!({"hosts": ["cart"], "http": [route]})));
        assert_eq!((&response["uid"], &response["allowed"]), (&json!("u"), &json!(false)));
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.contains("spec.http[0].timeout: "), "{message}");
    }

    #[test]
    fn what_stands_there_already_can_be_left_behind() {
        let update = |old: &Value, new: &Value| {
            let request =
                json!({"uid": "u", "namespace": "shop", "operation": "UPDATE", "oldObject": old, "object": new});
            let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
            judge(&review).unwrap().review["response"].clone()
        };
        let wrong = |timeout: &str| {
            let route = json!({"route": [{"destination": {"host": "cart"}}], "timeout": timeout});
            service(&json!({"hosts": ["cart"], "http": [route]}))
        };
        let mut without_finalizer = wrong("soon");
        without_finalizer["metadata"]["labels"] = json!({"a": "b"});
        let response = update(&wrong("soon"), &without_finalizer);
        assert_eq!(response["allowed"], true, "{response}");
        assert!(response["warnings"][0].as_str().unwrap().contains("spec.http[0].timeout: "), "{response}");

        assert_eq!(update(&wrong("soon"), &wrong("later"))["allowed"], false);
        let mut leaving = wrong("later");
        leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(update(&wrong("soon"), &leaving)["allowed"], true);
        assert_eq!(asked(&leaving)["allowed"], false, "a new object has nothing to say of its end");
    }

    #[test]
    fn what_is_in_order_passes() {
        let route = json!({"route": [{"destination": {"host": "cart.shop.svc.cluster.local"}}]});
        let response = asked(&service(&json!({"hosts": ["cart.shop.svc.cluster.local"], "http": [route]})));
        assert_eq!(response["allowed"], true, "{response}");
    }

    #[test]
    fn what_is_not_ours_or_gone_passes() {
        let foreign = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": 7});
        assert_eq!(asked(&foreign)["allowed"], true);
        assert_eq!(asked(&Value::Null)["allowed"], true);
        assert!(judge(&json!({"kind": "Pod"})).is_err());
    }
}
