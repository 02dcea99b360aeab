use http::HeaderValue;

use http::HeaderMap;

use super::*;

fn request(headers: &HeaderMap) -> RequestView<'_> {
    RequestView {
        method: "GET",
        scheme: "https",
        authority: "shop.example.com:8443",
        path: "/cart/7",
        query: "colour=red&size&colour=blue",
        port: 443,
        headers,
        token: None,
    }
}

fn exact(text: &str) -> StringPattern {
    StringPattern::Exact(text.into())
}

fn header(name: &'static str, pattern: StringPattern, inverted: bool) -> Conditions {
    let field = HeaderField::Name(HeaderName::from_static(name));
    Conditions { headers: vec![HeaderCondition { field, pattern, inverted }], ..Conditions::default() }
}

fn path(kind: PathKind, ignore_case: bool) -> PathPattern {
    PathPattern { kind, ignore_case }
}

#[test]
fn a_prefix_is_a_raw_string_prefix() {
    let prefix = path(PathKind::Prefix("/foo".into()), false);
    assert!(prefix.matches("/foo"));
    assert!(prefix.matches("/foo/x"));
    assert!(prefix.matches("/foobar"));
    assert!(!prefix.matches("/FOO"));
    assert!(!prefix.matches("/fo"));
}

#[test]
fn ignore_uri_case_holds_for_exact_and_prefix() {
    assert!(path(PathKind::Prefix("/Foo".into()), true).matches("/fOObar"));
    assert!(path(PathKind::Exact("/Foo".into()), true).matches("/fOO"));
    assert!(!path(PathKind::Exact("/Foo".into()), true).matches("/fOObar"));
    assert!(!path(PathKind::Prefix("/foo".into()), true).matches("/é"));
}

#[test]
fn a_regex_matches_the_whole_path() {
    let regex = |text: &str| path(PathKind::Regex(Expression::whole(text).unwrap()), false);
    assert!(regex("/a|/b").matches("/b"));
    assert!(!regex("/a|/b").matches("/ab"));
    assert!(!regex("/cart").matches("/cart/7"));
    assert!(regex("/cart/[0-9]+").matches("/cart/7"));
    assert!(!regex("/a").matches("/a\n"));
}

#[test]
fn a_regex_cannot_close_the_group_it_is_put_into() {
    assert!(Expression::whole("a)|(b").is_err());
    assert!(Expression::whole("(").is_err());
    assert!(Expression::whole(r"(\pL{1000}){1000}").is_err());
}

#[test]
fn pseudo_headers_and_port() {
    let headers = HeaderMap::new();
    let request = request(&headers);
    let conditions = Conditions {
        method: Some(exact("GET")),
        scheme: Some(exact("https")),
        authority: Some(exact("shop.example.com:8443")),
        ..Conditions::default()
    };
    assert!(conditions.hold(&request));
    assert!(!Conditions { method: Some(exact("get")), ..conditions.clone() }.hold(&request));
    assert!(!Conditions { authority: Some(exact("shop.example.com")), ..conditions.clone() }.hold(&request));
    assert!(!Conditions { scheme: Some(exact("http")), ..conditions }.hold(&request));
}

#[test]
fn several_values_of_a_header_are_joined_with_a_comma() {
    let mut headers = HeaderMap::new();
    headers.append("x-a", HeaderValue::from_static("one"));
    headers.append("x-a", HeaderValue::from_static("two"));
    assert!(header("x-a", exact("one,two"), false).hold(&request(&headers)));
    assert!(!header("x-a", exact("one"), false).hold(&request(&headers)));
}

#[test]
fn an_empty_match_means_present() {
    let mut headers = HeaderMap::new();
    assert!(!header("x-a", StringPattern::Present, false).hold(&request(&headers)));
    headers.insert("x-a", HeaderValue::from_static(""));
    assert!(header("x-a", StringPattern::Present, false).hold(&request(&headers)));
}

#[test]
fn without_headers_is_fulfilled_by_absence() {
    let mut headers = HeaderMap::new();
    assert!(header("x-a", exact("one"), true).hold(&request(&headers)));
    assert!(header("x-a", StringPattern::Present, true).hold(&request(&headers)));
    headers.insert("x-a", HeaderValue::from_static("one"));
    assert!(!header("x-a", exact("one"), true).hold(&request(&headers)));
    assert!(header("x-a", exact("two"), true).hold(&request(&headers)));
}

#[test]
fn the_first_value_of_a_query_parameter_counts() {
    let query = |name: &str, pattern| QueryCondition { name: name.into(), pattern };
    let text = "colour=red&size&colour=blue";
    assert!(query("colour", exact("red")).holds(text));
    assert!(!query("colour", exact("blue")).holds(text));
    assert!(query("size", StringPattern::Present).holds(text));
    assert!(!query("siz", StringPattern::Present).holds(text));
    assert!(!query("colour", exact("red")).holds(""));
}

#[test]
fn the_path_pseudo_header_has_the_query() {
    let headers = HeaderMap::new();
    let condition = |text: &str| HeaderCondition { field: HeaderField::Path, pattern: exact(text), inverted: false };
    assert!(condition("/cart/7?colour=red&size&colour=blue").holds(&request(&headers)));
    assert!(condition("/cart/7").holds(&RequestView { query: "", ..request(&headers) }));
}

#[test]
fn catch_alls_are_recognised() {
    let only = |kind| RouteMatch { path: path(kind, false), conditions: None };
    assert!(RouteMatch::default().is_catch_all());
    assert!(only(PathKind::Prefix("/".into())).is_catch_all());
    assert!(only(PathKind::Regex(Expression::whole(".*").unwrap())).is_catch_all());
    assert!(!only(PathKind::Exact("/".into())).is_catch_all());
    let conditions = Some(Box::new(Conditions { scheme: Some(exact("http")), ..Conditions::default() }));
    assert!(!RouteMatch { conditions, ..RouteMatch::default() }.is_catch_all());
}
