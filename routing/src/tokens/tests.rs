//! Where tokens are found, and what becomes of their claims.

use http::HeaderMap;
use serde_json::json;

use super::*;
use crate::request::RequestView;

fn rule() -> TokenRule {
    TokenRule {
        headers: vec![
            TokenHeader::bearer(),
            TokenHeader { name: HeaderName::from_static("x-token"), prefix: "".into() },
        ],
        params: vec!["access_token".into()],
        cookies: vec!["session".into()],
        ..Tokens::usual()
    }
}

fn found(query: &str, headers: &[(&'static str, &str)]) -> Vec<String> {
    let map: HeaderMap = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect();
    let view = RequestView {
        method: "GET",
        scheme: "https",
        authority: "a.example",
        path: "/",
        query,
        port: 443,
        headers: &map,
        token: None,
    };
    rule().find(&view).into_iter().map(|found| found.token.into_owned()).collect()
}

#[test]
fn tokens_are_found_in_every_place_of_their_rule() {
    assert_eq!(found("", &[("authorization", "Bearer a.b.c")]), ["a.b.c"]);
    assert_eq!(found("", &[("authorization", "Basic a"), ("x-token", "t")]), ["t"]);
    assert_eq!(found("a=1&access_token=p&access%5Ftoken=q", &[]), ["p", "q"]);
    assert_eq!(found("", &[("cookie", "a=b; session=c; session=\"d\""), ("cookie", "session=e")]), ["c", "d", "e"]);
    assert_eq!(found("access_token=&access_tokens=1", &[("cookie", "session=; xsession=1")]), [""; 0]);
    assert_eq!(found("", &[("authorization", "Bearer ")]), [""], "an empty token is a bad one");
    assert_eq!(found("", &[("authorization", "Bearer a"), ("authorization", "Bearer b")]), ["a", "b"]);
}

#[test]
fn what_is_taken_out_leaves_the_rest_as_it_was() {
    assert_eq!(without_param("a=1&access_token=x&b=%20", "access_token"), "a=1&b=%20");
    assert_eq!(without_param("access%5Ftoken=x", "access_token"), "");
    assert_eq!(without_cookie(b"a=b; session=c;d=e", "session"), b"a=b; d=e");
    assert_eq!(without_cookie(b"session=c", "session"), b"");
}

#[test]
fn claims_become_headers_and_lists() {
    let path = |text: &str| text.split('.').map(Into::into).collect();
    let header =
        |name: &'static str, claim: &str| ClaimHeader { header: HeaderName::from_static(name), path: path(claim) };
    let rule = TokenRule {
        claims: vec![
            header("x-sub", "sub"),
            header("x-role", "realm.role"),
            header("x-age", "age"),
            header("x-list", "list"),
            header("x-none", "none"),
            header("x-bad", "bad"),
        ],
        lists: vec!["groups".into()],
        ..rule()
    };
    let claims = json!({"sub": "ada", "realm": {"role": "admin"}, "age": 42, "list": ["a"], "bad": "a\r\nb: c",
        "scope": "read  write", "groups": "x y", "other": "x y"});
    let Value::Object(mut claims) = claims else { unreachable!() };
    let headers = rule.claim_headers(&claims);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let encoded = STANDARD.encode("[\"a\"]");
    assert_eq!(headers, [("x-sub", "ada"), ("x-role", "admin"), ("x-age", "42"), ("x-list", encoded.as_str())]);
    rule.split_lists(&mut claims);
    assert_eq!(claims["scope"], json!(["read", "write"]));
    assert_eq!(claims["groups"], json!(["x", "y"]));
    assert_eq!(claims["other"], json!("x y"));
}
