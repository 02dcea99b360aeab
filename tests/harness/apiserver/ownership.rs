//! `managedFields` on writes, and the conflicts of server-side apply.

use serde_json::{Value, json};

use super::{
    defaults::now,
    fields::{changed, fields_of, has, has_leaf, leaves, list_kind, remove_at, retain_leaves, shown, union, value_at},
    patch,
    refusal::Refusal,
    write::Write,
};

/// Notes a create, update or patch: its manager owns what it changed, and nobody else does any more.
pub(crate) fn updated(write: &Write, old: &Value, new: &mut Value) {
    let kind = &write.kind;
    let plain = |value: &Value| {
        let mut value = value.clone();
        if let Some(fields) = value.as_object_mut() {
            let has_status = kind.status;
            fields.retain(|key, _| {
                !has_status || (key == "status") == write.status || (key == "metadata" && !write.status)
            });
        }
        value
    };
    let (set, gone) = changed(kind, &plain(old), &plain(new));
    let mut entries = old["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    for entry in &mut entries {
        let mine = is_mine(entry, write, "Update");
        retain_leaves(&mut entry["fieldsV1"], &mut Vec::new(), &mut |path| {
            !has_leaf(&gone, path) && (mine || path.last().is_some_and(|it| it == ".") || !has_leaf(&set, path))
        });
    }
    if !is_empty(&set) {
        record(&mut entries, write, "Update", |own| union(own, &set));
    }
    entries.retain(|entry| !is_empty(&entry["fieldsV1"]));
    new["metadata"]["managedFields"] = entries.into();
}

/// The live object with what is applied, or the conflicts.
pub(crate) fn applied(write: &Write, live: &Value, config: &Value, force: bool) -> Result<Value, Refusal> {
    let kind = &write.kind;
    let wanted = fields_of(kind, config);
    let mut entries = live["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let differs = |path: &[String]| {
        path.last().is_none_or(|it| it != ".") && value_at(kind, live, path) != value_at(kind, config, path)
    };
    let taken: Vec<Vec<String>> = leaves(&wanted).into_iter().filter(|path| differs(path)).collect();
    let mut conflicts = Vec::new();
    for entry in entries.iter_mut().filter(|entry| !is_mine(entry, write, "Apply")) {
        let owner = entry["manager"].as_str().unwrap_or_default().to_owned();
        let own = entry["fieldsV1"].clone();
        let lost: Vec<&Vec<String>> = taken.iter().filter(|path| has_leaf(&own, path)).collect();
        conflicts.extend(lost.iter().map(|path| (owner.clone(), shown(path))));
        retain_leaves(&mut entry["fieldsV1"], &mut Vec::new(), &mut |path| !lost.iter().any(|it| *it == path));
    }
    if !conflicts.is_empty() && !force {
        return Err(Refusal::apply_conflict(kind, &write.key.1, &conflicts));
    }
    let mut merged = live.clone();
    patch::apply(kind, &mut Vec::new(), &mut merged, config);
    let before = entries.iter().find(|entry| is_mine(entry, write, "Apply")).map(|entry| entry["fieldsV1"].clone());
    let mut dropped = leaves(&before.unwrap_or_default());
    // Fields of an item go before the item's own mark, so that keys are still there to find it by.
    dropped.sort_by_key(|path| std::cmp::Reverse(path.len()));
    for path in dropped.iter().filter(|path| !has(&wanted, path)) {
        let others = entries.iter().filter(|entry| !is_mine(entry, write, "Apply"));
        let shared = others.into_iter().any(|entry| has(&entry["fieldsV1"], path));
        if !shared && !is_key(write, path) {
            remove_at(kind, &mut merged, path);
        }
    }
    record(&mut entries, write, "Apply", |own| *own = wanted.clone());
    entries.retain(|entry| !is_empty(&entry["fieldsV1"]));
    merged["metadata"]["managedFields"] = entries.into();
    Ok(merged)
}

/// True for the fields that an item of a keyed list is found by: they go with the item only.
fn is_key(write: &Write, path: &[String]) -> bool {
    let [before @ .., item, last] = path else { return false };
    let names: Vec<&str> = before.iter().filter_map(|step| step.strip_prefix("f:")).collect();
    match list_kind(&write.kind, &names) {
        super::fields::ListKind::Map(keys) if item.starts_with("k:") => {
            keys.iter().any(|key| last.strip_prefix("f:") == Some(key))
        }
        _ => false,
    }
}

fn is_mine(entry: &Value, write: &Write, operation: &str) -> bool {
    let subresource = if write.status { "status" } else { "" };
    entry["manager"] == write.manager.as_str()
        && entry["operation"] == operation
        && entry["subresource"].as_str().unwrap_or_default() == subresource
}

fn record(entries: &mut Vec<Value>, write: &Write, operation: &str, change: impl FnOnce(&mut Value)) {
    let found = entries.iter().position(|entry| is_mine(entry, write, operation));
    let at = found.unwrap_or_else(|| {
        let mut entry = json!({
            "manager": write.manager, "operation": operation, "apiVersion": write.kind.api_version(write.kind.version()),
            "fieldsType": "FieldsV1", "fieldsV1": {},
        });
        if write.status {
            entry["subresource"] = "status".into();
        }
        entries.push(entry);
        entries.len() - 1
    });
    let before = entries[at]["fieldsV1"].clone();
    change(&mut entries[at]["fieldsV1"]);
    if entries[at]["fieldsV1"] != before || operation == "Update" {
        entries[at]["time"] = now().into();
    }
}

fn is_empty(fields: &Value) -> bool {
    fields.as_object().is_none_or(serde_json::Map::is_empty)
}

/// True when two states differ in nothing but the times of their managers.
pub(crate) fn same_but_for_times(one: &Value, other: &Value) -> bool {
    let timeless = |value: &Value| {
        let mut metadata = value["metadata"].clone();
        for entry in metadata["managedFields"].as_array_mut().into_iter().flatten() {
            entry["time"] = Value::Null;
        }
        metadata
    };
    let (Some(one_fields), Some(other_fields)) = (one.as_object(), other.as_object()) else { return false };
    let rest = |fields: &serde_json::Map<String, Value>| {
        fields
            .iter()
            .filter(|(key, _)| *key != "metadata")
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<Vec<_>>()
    };
    rest(one_fields) == rest(other_fields) && timeless(one) == timeless(other)
}
