//! What the real server adds to objects on their way in.

use std::{
    net::Ipv4Addr,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{kinds::Kind, state::State};

/// Completes an object in place.
pub(crate) fn set_defaults(state: &mut State, kind: &Kind, value: &mut Value) {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "namespaces") => {
            default(&mut value["spec"], "finalizers", json!(["kubernetes"]));
            default(&mut value["status"], "phase", "Active".into());
            let name = value["metadata"]["name"].clone();
            default(&mut value["metadata"]["labels"], "kubernetes.io/metadata.name", name);
        }
        ("", "secrets") => secret(value),
        ("", "services") => service(state, value),
        ("", "pods") => {
            default(&mut value["status"], "phase", "Pending".into());
            pod(&mut value["spec"]);
        }
        ("apps", _) => {
            if kind.plural != "daemonsets" {
                default(&mut value["spec"], "replicas", 1.into());
            }
            if let Some(spec) = value.pointer_mut("/spec/template/spec") {
                pod(spec);
            }
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => binding(value),
        ("apiextensions.k8s.io", _) => definition(value),
        _ => {}
    }
}

/// Sets a field of an object that has no value for it; makes the object when there is none.
fn default(object: &mut Value, field: &str, value: Value) {
    if object.is_null() {
        *object = json!({});
    }
    if let Some(fields) = object.as_object_mut() {
        let own = fields.entry(field).or_insert(Value::Null);
        if own.is_null() || *own == "" {
            *own = value;
        }
    }
}

fn secret(value: &mut Value) {
    default(value, "type", "Opaque".into());
    let Some(fields) = value.as_object_mut() else { return };
    let Some(Value::Object(plain)) = fields.remove("stringData") else { return };
    for (key, text) in plain {
        let encoded = BASE64_STANDARD.encode(text.as_str().unwrap_or_default());
        value["data"][key] = encoded.into();
    }
}

fn service(state: &mut State, value: &mut Value) {
    let spec = &mut value["spec"];
    default(spec, "type", "ClusterIP".into());
    default(spec, "sessionAffinity", "None".into());
    default(spec, "internalTrafficPolicy", "Cluster".into());
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        default(port, "protocol", "TCP".into());
        let number = port["port"].clone();
        default(port, "targetPort", number);
    }
    if spec["type"] == "ExternalName" {
        return;
    }
    if spec["clusterIP"].as_str().is_none_or(str::is_empty) {
        state.last_cluster_ip += 1;
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 0, 0).to_bits() + state.last_cluster_ip);
        spec["clusterIP"] = address.to_string().into();
    }
    let own = json!([spec["clusterIP"]]);
    default(spec, "clusterIPs", own);
    default(spec, "ipFamilies", json!(["IPv4"]));
    default(spec, "ipFamilyPolicy", "SingleStack".into());
}

fn pod(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    default(spec, "serviceAccountName", "default".into());
    default(spec, "restartPolicy", "Always".into());
    default(spec, "dnsPolicy", "ClusterFirst".into());
    default(spec, "schedulerName", "default-scheduler".into());
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                default(port, "protocol", "TCP".into());
            }
        }
    }
}

fn binding(value: &mut Value) {
    default(&mut value["roleRef"], "apiGroup", "rbac.authorization.k8s.io".into());
    for subject in value.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        if subject["kind"] != "ServiceAccount" {
            default(subject, "apiGroup", "rbac.authorization.k8s.io".into());
        }
    }
}

fn definition(value: &mut Value) {
    let kind = value["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned();
    if let Some(names) = value.pointer_mut("/spec/names") {
        default(names, "singular", kind.to_lowercase().into());
        default(names, "listKind", format!("{kind}List").into());
    }
    let versions: Vec<Value> = value["spec"]["versions"].as_array().into_iter().flatten().cloned().collect();
    let stored = versions.iter().filter(|version| version["storage"] == true).map(|version| version["name"].clone());
    if !value["status"]["conditions"].is_null() {
        return;
    }
    let condition = |name: &str, reason: &str| json!({"type": name, "status": "True", "reason": reason, "message": "", "lastTransitionTime": now()});
    value["status"] = json!({
        "acceptedNames": value["spec"]["names"],
        "storedVersions": stored.collect::<Vec<_>>(),
        "conditions": [condition("NamesAccepted", "NoConflicts"), condition("Established", "InitialNamesAccepted")],
    });
}

/// The time in seconds, as `metadata.creationTimestamp` has it.
pub(crate) fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map(|it| it.as_secs()).unwrap_or_default();
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Days to a date of the Gregorian calendar, counted in eras of 400 years from the first of March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3_600, time % 3_600 / 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A new unique id.
pub(crate) fn uid() -> String {
    let digits = format!("{:032x}", fastrand::u128(..));
    format!("{}-{}-4{}-a{}-{}", &digits[..8], &digits[8..12], &digits[13..16], &digits[17..20], &digits[20..])
}
