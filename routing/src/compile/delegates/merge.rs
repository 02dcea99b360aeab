//! What a route of a root and one of its delegate are together. Source: Istio's rules for delegates.

use std::collections::BTreeMap;

use super::super::entry::MatchPlace;
use crate::api::{
    StringMatch,
    virtual_service::{HttpMatch, HttpRoute},
};

/// A match of the delegate that no match of the root leaves room for.
#[derive(Debug)]
pub(super) struct Conflict {
    /// In the delegate's route.
    pub(super) number: usize,
    pub(super) why: String,
}

/// The route of both: the matches of both together, all else the delegate's where it says something.
pub(super) fn routes(root: &HttpRoute, leaf: &HttpRoute) -> Result<(HttpRoute, Vec<MatchPlace>), Conflict> {
    let (matches, places) = matches(&root.matches, &leaf.matches)?;
    // The two spellings of mirrors exclude each other, so they are handed on together.
    let mirrors_own = leaf.mirror.is_some() || !leaf.mirrors.is_empty();
    let mirror = if mirrors_own { leaf } else { root };
    let (mirror, mirrors) = (mirror.mirror.clone(), mirror.mirrors.clone());
    let leaf = leaf.clone();
    let merged = HttpRoute {
        name: join(root.name.as_ref(), leaf.name.as_ref()),
        matches,
        rewrite: leaf.rewrite.or_else(|| root.rewrite.clone()),
        direct_response: leaf.direct_response,
        timeout: leaf.timeout.or(root.timeout),
        retries: leaf.retries.or_else(|| root.retries.clone()),
        fault: leaf.fault.or_else(|| root.fault.clone()),
        mirror,
        mirrors,
        mirror_percent: leaf.mirror_percent.or(root.mirror_percent),
        mirror_percentage: leaf.mirror_percentage.or(root.mirror_percentage),
        cors_policy: leaf.cors_policy.or_else(|| root.cors_policy.clone()),
        headers: leaf.headers.or_else(|| root.headers.clone()),
        route: leaf.route,
        redirect: leaf.redirect,
        delegate: None,
    };
    Ok((merged, places))
}

fn join(root: Option<&String>, leaf: Option<&String>) -> Option<String> {
    match (root, leaf) {
        (Some(root), Some(leaf)) => Some(format!("{root}-{leaf}")),
        (root, leaf) => root.or(leaf).cloned(),
    }
}

/// Every match of the delegate with each of the root's that leaves room for it; where one side has none, those of the other.
fn matches(root: &[HttpMatch], leaf: &[HttpMatch]) -> Result<(Vec<HttpMatch>, Vec<MatchPlace>), Conflict> {
    if leaf.is_empty() {
        return Ok((root.to_vec(), (0..root.len()).map(MatchPlace::Root).collect()));
    }
    if root.is_empty() {
        return Ok((leaf.to_vec(), (0..leaf.len()).map(MatchPlace::Delegate).collect()));
    }
    let (mut merged, mut places) = (Vec::new(), Vec::new());
    for (number, own) in leaf.iter().enumerate() {
        let before = merged.len();
        let mut why = None;
        for given in root {
            match conflict(given, own) {
                None => merged.push(both(given, own)),
                Some(found) => why = why.or(Some(found)),
            }
        }
        if let Some(why) = why.filter(|_| merged.len() == before) {
            let others = match root.len() {
                1 => String::new(),
                more => format!(" (nor does it fit any other of the {more} matches there)"),
            };
            return Err(Conflict { number, why: why + &others });
        }
        places.resize(merged.len(), MatchPlace::Delegate(number));
    }
    Ok((merged, places))
}

/// What both ask for.
fn both(root: &HttpMatch, leaf: &HttpMatch) -> HttpMatch {
    HttpMatch {
        name: join(root.name.as_ref(), leaf.name.as_ref()),
        uri: leaf.uri.clone().or_else(|| root.uri.clone()),
        scheme: leaf.scheme.clone().or_else(|| root.scheme.clone()),
        method: leaf.method.clone().or_else(|| root.method.clone()),
        authority: leaf.authority.clone().or_else(|| root.authority.clone()),
        headers: united(&root.headers, &leaf.headers),
        without_headers: united(&root.without_headers, &leaf.without_headers),
        query_params: united(&root.query_params, &leaf.query_params),
        ignore_uri_case: leaf.ignore_uri_case,
        port: leaf.port.filter(|port| *port != 0).or(root.port),
        source_labels: united(&root.source_labels, &leaf.source_labels),
        source_namespace: leaf.source_namespace.clone().or_else(|| root.source_namespace.clone()),
        gateways: if leaf.gateways.is_empty() { root.gateways.clone() } else { leaf.gateways.clone() },
        stat_prefix: leaf.stat_prefix.clone().or_else(|| root.stat_prefix.clone()),
    }
}

fn united<V: Clone>(root: &BTreeMap<String, V>, leaf: &BTreeMap<String, V>) -> BTreeMap<String, V> {
    let mut all = root.clone();
    all.extend(leaf.iter().map(|(name, value)| (name.clone(), value.clone())));
    all
}

/// Why no request can be meant by both, in words; `None` when the delegate's match fits into the root's.
fn conflict(root: &HttpMatch, leaf: &HttpMatch) -> Option<String> {
    let single = [
        ("uri", &root.uri, &leaf.uri),
        ("scheme", &root.scheme, &leaf.scheme),
        ("method", &root.method, &leaf.method),
        ("authority", &root.authority, &leaf.authority),
    ];
    let single = single.into_iter().find_map(|(name, root, leaf)| pattern(name, root.as_ref()?, leaf.as_ref()?));
    let named = || {
        let maps = [
            ("headers", &root.headers, &leaf.headers),
            ("withoutHeaders", &root.without_headers, &leaf.without_headers),
            ("queryParams", &root.query_params, &leaf.query_params),
        ];
        maps.into_iter().find_map(|(field, root, leaf)| {
            let both = leaf.iter().filter_map(|(name, leaf)| Some((name, root.get(name)?, leaf)));
            both.into_iter().find_map(|(name, root, leaf)| pattern(&format!("{field}[{name}]"), root, leaf))
        })
    };
    single.or_else(named).or_else(|| of_clients(root, leaf))
}

/// Conflicts of what does not look at a single value of the request.
fn of_clients(root: &HttpMatch, leaf: &HttpMatch) -> Option<String> {
    if root.ignore_uri_case != leaf.ignore_uri_case {
        return Some("ignoreUriCase differs from the root's; write the same".to_owned());
    }
    let port = |given: Option<u16>| given.filter(|port| *port != 0);
    if let (Some(root), Some(leaf)) = (port(root.port), port(leaf.port))
        && root != leaf
    {
        return Some(format!("port {leaf} is not the root's {root}"));
    }
    if let Some(namespace) = root.source_namespace.as_ref().filter(|_| root.source_namespace != leaf.source_namespace) {
        return Some(format!("sourceNamespace is not the root's `{namespace}`; write the same"));
    }
    let label =
        leaf.source_labels.iter().find(|(name, value)| root.source_labels.get(*name).is_some_and(|it| it != *value));
    if let Some((name, value)) = label {
        return Some(format!("sourceLabels[{name}] `{value}` is not the root's"));
    }
    let stranger = leaf.gateways.iter().find(|gateway| !root.gateways.contains(gateway));
    let stranger = stranger.filter(|_| !root.gateways.is_empty());
    stranger.map(|gateway| format!("gateway `{gateway}` is not among the root's"))
}

/// Istio compares how values are written, not what they mean: expressions never fit beside anything, equal ones included.
fn pattern(field: &str, root: &StringMatch, leaf: &StringMatch) -> Option<String> {
    use StringMatch::{Exact, Prefix, Regex};
    let fits = match (root, leaf) {
        (Exact(root), Exact(leaf)) => root == leaf,
        (Prefix(root), Prefix(leaf) | Exact(leaf)) => leaf.starts_with(root.as_str()),
        _ => false,
    };
    if fits {
        return None;
    }
    let expressions = matches!((root, leaf), (Regex(_), _) | (_, Regex(_)));
    let rule = if expressions { "; where one side has a regex, only one side may say something" } else { "" };
    Some(format!("{field} {} does not fit the root's {}{rule}", words(leaf), words(root)))
}

fn words(given: &StringMatch) -> String {
    match given {
        StringMatch::Present => "`{}`".to_owned(),
        StringMatch::Exact(text) => format!("`exact: {text}`"),
        StringMatch::Prefix(text) => format!("`prefix: {text}`"),
        StringMatch::Regex(text) => format!("`regex: {text}`"),
    }
}

#[cfg(test)]
mod tests;
