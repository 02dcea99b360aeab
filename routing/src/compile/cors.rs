//! `CorsPolicy` to its compiled form; equal ones are compiled once.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use http::HeaderValue;

use super::{context::Context, entry::Entry, report::BAD_VALUE};
use crate::{
    api::{
        StringMatch,
        virtual_service::{CorsPolicy, UnmatchedPreflights},
    },
    cors::Cors,
    pattern::StringPattern,
};

/// The policies so far, by what they say.
#[derive(Default)]
pub(super) struct Policies(RefCell<HashMap<String, Arc<Cors>>>);

/// The policy of a route. An origin that cannot be looked at is allowed nothing.
pub(super) fn compile(context: &Context<'_>, entry: &Entry<'_, '_>, policy: &CorsPolicy) -> Arc<Cors> {
    // Looked at at each place: what is wrong is told there.
    let origins = allowed(policy).into_iter().enumerate();
    let compiled: Vec<Option<StringPattern>> =
        origins.map(|(index, origin)| origin_pattern(context, entry, index, &origin)).collect();
    let sound = compiled.iter().all(Option::is_some);
    let key = format!("{policy:?}");
    if let Some(known) = context.cors.0.borrow().get(&key).filter(|_| sound) {
        return known.clone();
    }
    let cors = Arc::new(Cors {
        origins: compiled.into_iter().flatten().collect(),
        methods: list(&policy.allow_methods),
        headers: list(&policy.allow_headers),
        expose: list(&policy.expose_headers),
        max_age: policy.max_age.map(|age| HeaderValue::from(age.get().as_secs())),
        credentials: policy.allow_credentials == Some(true),
        ignore_unmatched: policy.unmatched_preflights == UnmatchedPreflights::Ignore,
    });
    if sound {
        context.cors.0.borrow_mut().insert(key, cors.clone());
    }
    cors
}

/// `allowOrigins`; the old `allowOrigin` counts without it only.
fn allowed(policy: &CorsPolicy) -> Vec<StringMatch> {
    match policy.allow_origins.as_slice() {
        [] => policy.allow_origin.iter().map(|origin| StringMatch::Exact(origin.clone())).collect(),
        origins => origins.to_vec(),
    }
}

fn origin_pattern(
    context: &Context<'_>,
    entry: &Entry<'_, '_>,
    index: usize,
    origin: &StringMatch,
) -> Option<StringPattern> {
    Some(match origin {
        // Refused when the object was read.
        StringMatch::Present => return None,
        StringMatch::Exact(exact) => StringPattern::Exact(exact.as_str().into()),
        StringMatch::Prefix(prefix) => StringPattern::Prefix(prefix.as_str().into()),
        StringMatch::Regex(expression) => {
            let compiled = context.expressions.whole(expression).map_err(|fault| {
                let (object, field) = entry.place(|route| route.cors_policy.is_some());
                let field = format!("{field}.corsPolicy.allowOrigins[{index}].regex");
                let message = format!("{fault}; no origin is allowed by it");
                context.report.error(object, BAD_VALUE, &field, message);
            });
            StringPattern::Regex(compiled.ok()?)
        }
    })
}

fn list(names: &[String]) -> Option<HeaderValue> {
    // Names that cannot be sent were refused when the object was read.
    if names.is_empty() { None } else { HeaderValue::from_str(&names.join(",")).ok() }
}
