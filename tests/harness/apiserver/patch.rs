//! Merge patch, strategic merge patch, JSON patch, and the merge of server-side apply.

use serde_json::{Map, Value, json};

use super::{
    fields::{ListKind, item_key, list_kind},
    kinds::Kind,
    refusal::Refusal,
};

/// RFC 7386.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(fields) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Kubernetes' own merge: lists with a merge key by that key, others replaced; understands the `$patch`,
/// `$deleteFromPrimitiveList/`, `$setElementOrder/` and `$retainKeys` that kubectl writes. The merge key is the first
/// key of [`list_kind`]; `$setElementOrder` is not followed, as no kind here gives the order of a keyed list a meaning.
pub(crate) fn strategic<'a>(kind: &Kind, path: &mut Vec<&'a str>, target: &mut Value, patch: &'a Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if patch.get("$patch").is_some_and(|it| it == "replace") || !target.is_object() {
        *target = json!({});
    }
    let Some(fields) = target.as_object_mut() else { return };
    if patch.get("$patch").is_some_and(|it| it == "delete") {
        fields.clear();
        return;
    }
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        fields.retain(|key, _| kept.iter().any(|it| it == key));
    }
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().cloned().unwrap_or_default();
            if let Some(items) = fields.get_mut(list).and_then(Value::as_array_mut) {
                items.retain(|item| !gone.contains(item));
            }
        } else if key.starts_with('$') {
            continue;
        } else if value.is_null() {
            fields.remove(key);
        } else {
            path.push(key);
            let own = fields.entry(key.clone()).or_insert(Value::Null);
            match (value.as_array(), list_kind(kind, path)) {
                (Some(items), ListKind::Map(keys)) => strategic_items(kind, path, (own, &keys), items),
                (Some(items), ListKind::Set) => add_missing(own, items),
                _ => strategic(kind, path, own, value),
            }
            path.pop();
        }
    }
}

fn strategic_items<'a>(kind: &Kind, path: &mut Vec<&'a str>, own: (&mut Value, &[String]), patch: &'a [Value]) {
    let (own, keys) = own;
    if patch.iter().any(|item| item["$patch"] == "replace") {
        *own = patch.iter().filter(|item| item["$patch"].is_null()).cloned().collect();
        return;
    }
    let Some(key) = keys.first() else { return };
    if !own.is_array() {
        *own = json!([]);
    }
    let Some(items) = own.as_array_mut() else { return };
    for change in patch {
        let found = items.iter().position(|item| item.get(key) == change.get(key));
        match (found, change["$patch"] == "delete") {
            (Some(found), true) => {
                items.remove(found);
            }
            (Some(found), false) => strategic(kind, path, &mut items[found], change),
            (None, true) => {}
            (None, false) => items.push(change.clone()),
        }
    }
}

fn add_missing(own: &mut Value, more: &[Value]) {
    if !own.is_array() {
        *own = json!([]);
    }
    if let Some(items) = own.as_array_mut() {
        let new: Vec<Value> = more.iter().filter(|item| !items.contains(item)).cloned().collect();
        items.extend(new);
    }
}

/// The merge of server-side apply: fields that are applied are set, all others stay.
pub(crate) fn apply<'a>(kind: &Kind, path: &mut Vec<&'a str>, live: &mut Value, applied: &'a Value) {
    match applied {
        Value::Object(fields) => {
            if !live.is_object() {
                *live = json!({});
            }
            let Some(own) = live.as_object_mut() else { return };
            for (key, value) in fields {
                path.push(key);
                apply(kind, path, own.entry(key.clone()).or_insert(Value::Null), value);
                path.pop();
            }
        }
        Value::Array(items) => match list_kind(kind, path) {
            ListKind::Atomic => *live = applied.clone(),
            ListKind::Set => add_missing(live, items),
            ListKind::Map(keys) => {
                if !live.is_array() {
                    *live = json!([]);
                }
                let Some(own) = live.as_array_mut() else { return };
                for item in items {
                    let key = item_key(&keys, item);
                    match own.iter().position(|it| item_key(&keys, it) == key) {
                        Some(found) => apply(kind, path, &mut own[found], item),
                        None => own.push(item.clone()),
                    }
                }
            }
        },
        _ => *live = applied.clone(),
    }
}

/// RFC 6902.
pub(crate) fn json_patch(target: &mut Value, patch: &Value) -> Result<(), Refusal> {
    let steps = patch.as_array().ok_or_else(|| Refusal::bad_request("a JSON patch is a list of operations"))?;
    steps.iter().try_for_each(|step| operation(target, step))
}

fn operation(target: &mut Value, step: &Value) -> Result<(), Refusal> {
    let wrong = || {
        Refusal::new(422, "Invalid", format!("the server rejected our request due to an error in our request: {step}"))
    };
    let pointer = |name: &str| step[name].as_str().ok_or_else(wrong);
    let path = pointer("path")?;
    match step["op"].as_str().unwrap_or_default() {
        "add" => add(target, path, step["value"].clone()).ok_or_else(wrong),
        "remove" => remove(target, path).map(|_| ()).ok_or_else(wrong),
        "replace" => {
            *target.pointer_mut(path).ok_or_else(wrong)? = step["value"].clone();
            Ok(())
        }
        "move" => {
            let value = remove(target, pointer("from")?).ok_or_else(wrong)?;
            add(target, path, value).ok_or_else(wrong)
        }
        "copy" => {
            let value = target.pointer(pointer("from")?).cloned().ok_or_else(wrong)?;
            add(target, path, value).ok_or_else(wrong)
        }
        "test" if target.pointer(path) == Some(&step["value"]) => Ok(()),
        _ => Err(wrong()),
    }
}

fn parent<'a>(target: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((target.pointer_mut(parent)?, last.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *target = value;
        return Some(());
    }
    let (parent, last) = parent(target, path)?;
    match parent {
        Value::Object(fields) => {
            fields.insert(last, value);
        }
        Value::Array(items) => {
            let at = if last == "-" { items.len() } else { last.parse().ok()? };
            if at > items.len() {
                return None;
            }
            items.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(target: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = parent(target, path)?;
    match parent {
        Value::Object(fields) => fields.remove(&last),
        Value::Array(items) => {
            let at: usize = last.parse().ok()?;
            (at < items.len()).then(|| items.remove(at))
        }
        _ => None,
    }
}

/// Drops nulls inside of objects: an object that is created by a merge has no use for them.
pub(crate) fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let kept: Map<String, Value> = std::mem::take(fields).into_iter().filter(|(_, it)| !it.is_null()).collect();
            *fields = kept;
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::built_in;

    #[test]
    fn a_strategic_patch_merges_containers_by_name() {
        let kinds = built_in();
        let deployment = kinds.iter().find(|kind| kind.is_called("Deployment")).expect("a built-in kind");
        let mut target = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "app", "image": "a:1", "ports": [{"containerPort": 80}]}, {"name": "old"},
        ]}}}});
        let patch = json!({"spec": {"template": {"spec": {
            "$setElementOrder/containers": [{"name": "app"}],
            "containers": [{"name": "app", "image": "a:2"}, {"name": "old", "$patch": "delete"}],
        }}}});
        strategic(deployment, &mut Vec::new(), &mut target, &patch);
        let expected = json!([{"name": "app", "image": "a:2", "ports": [{"containerPort": 80}]}]);
        assert_eq!(target["spec"]["template"]["spec"]["containers"], expected);
    }

    #[test]
    fn a_json_patch_adds_moves_and_tests() {
        let mut target = json!({"a": [1, 2], "b/c": "x"});
        let patch = json!([
            {"op": "test", "path": "/b~1c", "value": "x"}, {"op": "add", "path": "/a/-", "value": 3},
            {"op": "remove", "path": "/a/0"}, {"op": "move", "from": "/b~1c", "path": "/d"},
        ]);
        json_patch(&mut target, &patch).expect("a good patch");
        assert_eq!(target, json!({"a": [2, 3], "d": "x"}));
        let failing = json!([{"op": "test", "path": "/d", "value": "y"}]);
        assert_eq!(json_patch(&mut target, &failing).expect_err("the test fails").code, 422);
    }
}
