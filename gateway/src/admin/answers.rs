//! What answers are made of, here and on the page of a mesh.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde::Serialize;

use super::{door, page};
pub(crate) use super::{schema::SCHEMA, tell::asked::parameter};
use crate::settings::AdminPeers;

/// An answer.
pub(crate) type Reply = Response<Full<Bytes>>;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The answer to somebody who may not ask.
pub(crate) fn refused<B>(request: &Request<B>) -> Option<Reply> {
    door::refusal(request).map(|why| text(StatusCode::FORBIDDEN, format!("{why}\n")))
}

/// The answer to somebody on another machine who may not ask.
pub(super) fn refused_stranger<B>(request: &Request<B>, peers: AdminPeers) -> Option<Reply> {
    door::strangers_refusal(request, peers).map(|why| text(StatusCode::FORBIDDEN, format!("{why}\n")))
}

/// Text for people.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    reply(status, TEXT, body)
}

/// JSON for programs, and for people who read it.
pub(crate) fn json(value: &impl Serialize) -> Reply {
    written(serde_json::to_string_pretty(value))
}

/// JSON for programs alone: what is asked for again and again.
pub(super) fn short_json(value: &impl Serialize) -> Reply {
    written(serde_json::to_string(value))
}

fn written(json: serde_json::Result<String>) -> Reply {
    match json {
        Ok(text) => raw_json(text + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("this cannot be told in JSON: {error}\n")),
    }
}

/// JSON that is written already.
pub(crate) fn raw_json(body: impl Into<Bytes>) -> Reply {
    reply(StatusCode::OK, JSON, body)
}

/// A file of the page.
pub(crate) fn file<B>(request: &Request<B>, path: &str) -> Reply {
    match page::file(path) {
        Some(file) => tagged(request, file),
        None => text(StatusCode::NOT_FOUND, "there is no such page; try GET /help for the list of pages\n"),
    }
}

/// Nothing is sent again to somebody who has it.
pub(crate) fn tagged<B>(request: &Request<B>, mut reply: Reply) -> Reply {
    let mut digest = DefaultHasher::new();
    content(&reply).hash(&mut digest);
    let tag = format!("\"{:016x}\"", digest.finish());
    let known = request.headers().get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    if known && reply.status() == StatusCode::OK {
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        *reply.body_mut() = Full::default();
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        reply.headers_mut().insert(header::ETAG, tag);
    }
    reply
}

/// What a reply holds; it is whole already.
fn content(reply: &Reply) -> Bytes {
    let all = reply.body().clone().collect().now_or_never();
    all.and_then(Result::ok).map(|all| all.to_bytes()).unwrap_or_default()
}

pub(super) fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}
