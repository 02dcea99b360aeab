//! `HTTPMatchRequest` to its compiled form.

use http::HeaderName;

use super::{expressions::Expressions, report::BAD_VALUE};
use crate::{
    api::{StringMatch, virtual_service::HttpMatch},
    pattern::{
        Conditions, HeaderCondition, HeaderField, PathKind, PathPattern, QueryCondition, RouteMatch, StringPattern,
    },
    re2::Expression,
};

/// Why a match entry cannot be served. Nothing follows it then: a condition that is not understood is never fulfilled.
pub(super) struct Refused {
    /// Below the match entry: `headers[x-user].regex`.
    pub(super) field: String,
    pub(super) code: &'static str,
    pub(super) message: String,
    /// Nothing behind it may be followed either: what it was meant to keep from there is not known.
    pub(super) closes: bool,
}

/// The conditions of one match entry that look at requests.
pub(super) fn compile(known: &Expressions, when: &HttpMatch) -> Result<RouteMatch, Refused> {
    let path = PathPattern { kind: path(known, when)?, ignore_case: when.ignore_uri_case };
    let pseudo = |given: &Option<StringMatch>, field: &str| match given {
        Some(given) => pattern(known, given, field).map(Some),
        None => Ok(None),
    };
    let mut conditions = Conditions {
        scheme: pseudo(&when.scheme, "scheme")?,
        method: pseudo(&when.method, "method")?,
        authority: pseudo(&when.authority, "authority")?,
        ..Conditions::default()
    };
    for (name, given) in &when.headers {
        conditions.headers.push(header(known, name, given, false)?);
    }
    for (name, given) in &when.without_headers {
        conditions.headers.push(header(known, name, given, true)?);
    }
    for (name, given) in &when.query_params {
        let pattern = pattern(known, given, &format!("queryParams[{name}]"))?;
        conditions.query.push(QueryCondition { name: name.as_str().into(), pattern });
    }
    let conditions = (!conditions.is_empty()).then(|| Box::new(conditions));
    Ok(RouteMatch { path, conditions })
}

fn path(known: &Expressions, when: &HttpMatch) -> Result<PathKind, Refused> {
    Ok(match &when.uri {
        None | Some(StringMatch::Present) => PathKind::Any,
        Some(StringMatch::Exact(exact)) => PathKind::Exact(exact.as_str().into()),
        Some(StringMatch::Prefix(prefix)) => PathKind::Prefix(prefix.as_str().into()),
        Some(StringMatch::Regex(expression)) => PathKind::Regex(regex(known, expression, "uri")?),
    })
}

fn header(known: &Expressions, name: &str, given: &StringMatch, inverted: bool) -> Result<HeaderCondition, Refused> {
    let place = || format!("{}[{name}]", if inverted { "withoutHeaders" } else { "headers" });
    let field = match name {
        _ if name.starts_with("@request.auth.") => match claim_path(name) {
            Some(path) => HeaderField::Claim(path),
            None => {
                let message = format!(
                    "`{name}` names no claim; `@request.auth.claims.NAME` or \
                    `@request.auth.claims[NAME][INNER]` is wanted, and no request fulfils this match entry"
                );
                return Err(Refused { field: place(), code: BAD_VALUE, message, closes: false });
            }
        },
        ":method" => HeaderField::Method,
        ":scheme" => HeaderField::Scheme,
        ":path" => HeaderField::Path,
        ":authority" => HeaderField::Authority,
        _ if name.eq_ignore_ascii_case("host") => HeaderField::Authority,
        _ => HeaderField::Name(HeaderName::from_bytes(name.as_bytes()).map_err(|_| Refused {
            field: place(),
            code: BAD_VALUE,
            message: format!("`{name}` is no header name; no request fulfils this match entry"),
            closes: false,
        })?),
    };
    Ok(HeaderCondition { field, pattern: pattern(known, given, &place())?, inverted })
}

/// `@request.auth.claims.a.b` or, for names with dots, `@request.auth.claims[a][b]`.
fn claim_path(name: &str) -> Option<Box<[Box<str>]>> {
    let rest = name.strip_prefix("@request.auth.claims")?;
    let path: Vec<Box<str>> = match rest.strip_prefix('.') {
        Some(dotted) => dotted.split('.').map(Into::into).collect(),
        None => rest.strip_prefix('[')?.strip_suffix(']')?.split("][").map(Into::into).collect(),
    };
    path.iter().all(|name| !name.is_empty()).then(|| path.into())
}

fn pattern(known: &Expressions, given: &StringMatch, field: &str) -> Result<StringPattern, Refused> {
    Ok(match given {
        StringMatch::Present => StringPattern::Present,
        StringMatch::Regex(expression) if expression == "*" => StringPattern::Present,
        StringMatch::Exact(exact) => StringPattern::Exact(exact.as_str().into()),
        StringMatch::Prefix(prefix) => StringPattern::Prefix(prefix.as_str().into()),
        StringMatch::Regex(expression) => StringPattern::Regex(regex(known, expression, field)?),
    })
}

fn regex(known: &Expressions, expression: &str, field: &str) -> Result<Expression, Refused> {
    known.whole(expression).map_err(|fault| Refused {
        field: format!("{field}.regex"),
        code: BAD_VALUE,
        message: format!("{fault}; requests that would come to this match entry or behind it get 503"),
        closes: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_named_with_dots_or_in_brackets() {
        let path = |name: &str| claim_path(name).map(|path| path.join(" "));
        assert_eq!(path("@request.auth.claims.sub").as_deref(), Some("sub"));
        assert_eq!(path("@request.auth.claims.realm.roles").as_deref(), Some("realm roles"));
        assert_eq!(path("@request.auth.claims[https://a.example/x][y]").as_deref(), Some("https://a.example/x y"));
        for bad in [
            "@request.auth.claims",
            "@request.auth.claims.",
            "@request.auth.claims[]",
            "@request.auth.claims[a",
            "@request.auth.claimsub",
            "@request.auth.principal",
        ] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }
}
