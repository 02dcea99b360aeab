//! Conditions and destinations in words.

use crate::pattern::{HeaderField, PathKind, RouteMatch, StringPattern};

/// Which requests a route is for: `path begins with /api, method is GET`.
pub fn when(condition: &RouteMatch) -> String {
    let mut parts = Vec::new();
    let case = if condition.path.ignore_case { " (in any case)" } else { "" };
    match &condition.path.kind {
        PathKind::Any => {}
        PathKind::Exact(text) => parts.push(format!("path is {text}{case}")),
        PathKind::Prefix(text) => parts.push(format!("path begins with {text}{case}")),
        PathKind::Regex(regex) => parts.push(format!("path matches {}", regex.as_str())),
    }
    if let Some(rest) = &condition.conditions {
        for (what, pattern) in [("method", &rest.method), ("scheme", &rest.scheme), ("host", &rest.authority)] {
            parts.extend(pattern.as_ref().map(|pattern| format!("{what} {}", is(pattern))));
        }
        for header in &rest.headers {
            let not = if header.inverted { "not: " } else { "" };
            parts.push(format!("{not}{} {}", field(&header.field), is(&header.pattern)));
        }
        parts.extend(rest.query.iter().map(|query| format!("query {} {}", query.name, is(&query.pattern))));
    }
    if parts.is_empty() { "every request".to_owned() } else { parts.join(", ") }
}

fn is(pattern: &StringPattern) -> String {
    match pattern {
        StringPattern::Present => "is there".to_owned(),
        StringPattern::Exact(text) => format!("is {text}"),
        StringPattern::Prefix(text) => format!("begins with {text}"),
        StringPattern::Regex(regex) => format!("matches {}", regex.as_str()),
    }
}

fn field(field: &HeaderField) -> String {
    match field {
        HeaderField::Name(name) => format!("header {name}"),
        HeaderField::Method => "method".to_owned(),
        HeaderField::Scheme => "scheme".to_owned(),
        HeaderField::Authority => "host".to_owned(),
        HeaderField::Path => "path and query".to_owned(),
        HeaderField::Claim(path) => format!("claim {}", path.join(".")),
    }
}

/// `a, b and 3 more`.
pub(super) fn few<T: std::fmt::Display>(all: impl IntoIterator<Item = T>) -> String {
    const NAMED: usize = 5;
    let mut all = all.into_iter();
    let named: Vec<String> = all.by_ref().take(NAMED).map(|one| one.to_string()).collect();
    match all.count() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
