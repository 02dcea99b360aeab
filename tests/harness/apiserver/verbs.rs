//! What each verb does.

use std::sync::Arc;

use http::{header, request::Parts};
use serde_json::{Value, json};

use super::{
    Shared,
    call::Call,
    rbac::{Attributes, User},
    refusal::Refusal,
    serve::{Answer, parse_body},
    state::State,
    store::{Form, Page, Stored, continue_token, read_continue},
    watch::Watcher,
    write::{PatchKind, Write, unsupported},
};

/// A permitted request.
pub(crate) struct Asked<'a> {
    /// What.
    pub(crate) call: Call,
    /// Its head.
    pub(crate) head: &'a Parts,
    /// Its body.
    pub(crate) body: &'a [u8],
    /// By whom.
    pub(crate) user: &'a User,
}

/// Does it.
pub(crate) fn perform(shared: &Arc<Shared>, state: &mut State, asked: Asked<'_>) -> Result<Answer, Refusal> {
    let Asked { call, head, body, user } = asked;
    let media = media_type(head);
    if media.contains("protobuf") {
        return Err(unsupported(media));
    }
    match call.verb {
        "watch" => Ok(Answer::Watch(Box::new(Watcher::start(shared, state, call)?))),
        "list" => list(state, &call),
        "get" => {
            let object = existing(state, &call)?;
            Ok(shown(&call, &object, 200))
        }
        "create" if call.kind.review => review(state, &call, user, parse_body(body)?),
        "create" if call.sub == "token" => token(state, &call),
        "create" => {
            let object = state.create(&write_of(&call, head), parse_body(body)?)?;
            Ok(shown(&call, &object, 201))
        }
        "update" => {
            let object = state.update(&write_of(&call, head), parse_body(body)?)?;
            Ok(shown(&call, &object, 200))
        }
        "patch" => {
            let how = patch_kind(&call, media)?;
            let key = (call.namespace.clone(), call.name.clone());
            let is_new = state.find(&call.kind, &key).is_none();
            let object = state.patch(&write_of(&call, head), how, &parse_body(body)?)?;
            Ok(shown(&call, &object, if is_new { 201 } else { 200 }))
        }
        "delete" => delete(state, &call, head, &parse_body(body)?),
        _ => delete_collection(state, &call, head),
    }
}

fn existing(state: &State, call: &Call) -> Result<Arc<Stored>, Refusal> {
    let key = (call.namespace.clone(), call.name.clone());
    state.find(&call.kind, &key).ok_or_else(|| Refusal::not_found(&call.kind, &call.name))
}

fn shown(call: &Call, object: &Stored, status: u16) -> Answer {
    let mut bytes = Vec::new();
    object.write(&mut bytes, &call.view(), true);
    Answer::Json(status, bytes)
}

fn media_type(head: &Parts) -> &str {
    let value = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

fn write_of(call: &Call, head: &Parts) -> Write {
    let agent = head.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("unknown");
    let manager = match call.query.text("fieldManager") {
        "" => agent.split('/').next().unwrap_or(agent),
        manager => manager,
    };
    let mut write = Write::by(&call.kind, (&call.namespace, &call.name), manager);
    write.status = call.sub == "status";
    write.dry = call.query.text("dryRun") == "All";
    write
}

fn patch_kind(call: &Call, media: &str) -> Result<PatchKind, Refusal> {
    match media {
        "application/merge-patch+json" => Ok(PatchKind::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchKind::Strategic),
        "application/json-patch+json" => Ok(PatchKind::Json),
        "application/apply-patch+yaml" if call.query.text("fieldManager").is_empty() => Err(Refusal::bad_request(
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        )),
        "application/apply-patch+yaml" => Ok(PatchKind::Apply(call.query.flag("force"))),
        other => Err(unsupported(other)),
    }
}

fn list(state: &State, call: &Call) -> Result<Answer, Refusal> {
    let selector = call.selector()?;
    let limit = usize::try_from(call.query.number("limit")?.unwrap_or(0)).unwrap_or(usize::MAX);
    let asked = call.query.number("resourceVersion")?;
    let mut page = Page { namespace: &call.namespace, selector: &selector, limit, after: None };
    let mut revision = state.revision;
    if let Some(asked) = asked.filter(|asked| *asked > revision) {
        return Err(Refusal::too_large(asked, revision));
    }
    let token = call.query.text("continue");
    if !token.is_empty() {
        let (of_first_page, after) = read_continue(token)?;
        revision = of_first_page;
        page.after = Some(after);
    } else if call.query.text("resourceVersionMatch") == "Exact" {
        revision = asked.unwrap_or(revision);
    } else if asked == Some(0) {
        // The real server answers such a list from its cache, which knows no pages.
        page.limit = 0;
    }
    let (objects, left) = if revision == state.revision {
        page.take(state.objects(&call.kind))
    } else {
        page.take(&state.objects_at(&call.kind, revision)?)
    };
    Ok(Answer::Json(200, list_body(call, &objects, revision, left)))
}

fn list_body(call: &Call, objects: &[Arc<Stored>], revision: u64, left: Option<usize>) -> Vec<u8> {
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if let (Some(left), Some(last)) = (left, objects.last()) {
        let text = |field: &str| last.value["metadata"][field].as_str().unwrap_or_default().to_owned();
        metadata["continue"] = continue_token(revision, &(text("namespace"), text("name"))).into();
        if left > 0 {
            metadata["remainingItemCount"] = left.into();
        }
    }
    let (kind, version) = match call.form {
        Form::Whole => (format!("{}List", call.kind.kind), call.kind.api_version(&call.version)),
        Form::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
    };
    let mut bytes =
        format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":[").into_bytes();
    for (at, object) in objects.iter().enumerate() {
        if at > 0 {
            bytes.push(b',');
        }
        // As the real server: items of built-in lists do not repeat their kind.
        object.write(&mut bytes, &call.view(), call.kind.custom);
    }
    bytes.extend_from_slice(b"]}");
    bytes
}

fn delete(state: &mut State, call: &Call, head: &Parts, options: &Value) -> Result<Answer, Refusal> {
    let mut write = write_of(call, head);
    write.dry |= options["dryRun"].as_array().is_some_and(|it| it.iter().any(|it| it == "All"));
    let (object, gone) = state.delete(&write, options)?;
    if !gone {
        return Ok(shown(call, &object, 200));
    }
    let details = json!({
        "name": call.name, "group": call.kind.group, "kind": call.kind.plural, "uid": object.value["metadata"]["uid"],
    });
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    Ok(Answer::Json(200, status.to_string().into_bytes()))
}

fn delete_collection(state: &mut State, call: &Call, head: &Parts) -> Result<Answer, Refusal> {
    let selector = call.selector()?;
    let page = Page { namespace: &call.namespace, selector: &selector, limit: 0, after: None };
    let (objects, _) = page.take(state.objects(&call.kind));
    for object in &objects {
        let text = |field: &str| object.value["metadata"][field].as_str().unwrap_or_default().to_owned();
        let mut write = write_of(call, head);
        write.key = (text("namespace"), text("name"));
        state.delete(&write, &Value::Null)?;
    }
    Ok(Answer::Json(200, list_body(call, &objects, state.revision, None)))
}

/// A TokenRequest: a new token for a service account.
fn token(state: &mut State, call: &Call) -> Result<Answer, Refusal> {
    existing(state, call)?;
    let token = state.access.issue(User::named(&format!("system:serviceaccount:{}:{}", call.namespace, call.name)));
    let answer = json!({
        "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {"name": call.name},
        "spec": {"audiences": []}, "status": {"token": token, "expirationTimestamp": "2099-01-01T00:00:00Z"},
    });
    Ok(Answer::Json(201, answer.to_string().into_bytes()))
}

fn review(state: &State, call: &Call, user: &User, mut body: Value) -> Result<Answer, Refusal> {
    let spec = body["spec"].take();
    body["status"] = match call.kind.kind.as_str() {
        "TokenReview" => token_review(state, &spec),
        "SelfSubjectReview" => json!({"userInfo": user.described()}),
        "SelfSubjectAccessReview" => json!({"allowed": state.allows(user, &reviewed(&spec)?)}),
        _ => {
            let mut other = User::named(spec["user"].as_str().unwrap_or_default());
            let groups = spec["groups"].as_array().into_iter().flatten();
            other.groups.extend(groups.filter_map(|group| group.as_str().map(str::to_owned)));
            json!({"allowed": state.allows(&other, &reviewed(&spec)?)})
        }
    };
    body["spec"] = spec;
    body["kind"] = call.kind.kind.clone().into();
    body["apiVersion"] = call.kind.api_version(&call.version).into();
    Ok(Answer::Json(201, body.to_string().into_bytes()))
}

fn token_review(state: &State, spec: &Value) -> Value {
    let token = spec["token"].as_str().unwrap_or_default();
    let Some(user) = state.access.tokens.get(token) else {
        return json!({"authenticated": false, "error": "[invalid bearer token]"});
    };
    let asked = || spec["audiences"].as_array().into_iter().flatten();
    let meant = |own: &[String]| asked().any(|one| own.iter().any(|own| one == own.as_str()));
    if let Some(own) = state.access.audiences.get(token).filter(|own| !meant(own)) {
        let error = format!("[invalid bearer token, token audiences {own:?} is invalid for the target audiences]");
        return json!({"authenticated": false, "error": error});
    }
    json!({"authenticated": true, "user": user.described(), "audiences": spec["audiences"]})
}

fn reviewed(spec: &Value) -> Result<Attributes, Refusal> {
    let asked = &spec["resourceAttributes"];
    if asked.is_null() {
        return Err(Refusal::bad_request(
            "spec.resourceAttributes is required here: paths of no resource have no rules",
        ));
    }
    let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
    let resource = match text("subresource").as_str() {
        "" => text("resource"),
        sub => format!("{}/{sub}", text("resource")),
    };
    Ok(Attributes {
        verb: text("verb"),
        group: text("group"),
        resource,
        namespace: text("namespace"),
        name: text("name"),
    })
}
