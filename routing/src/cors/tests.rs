use http::HeaderMap;

use super::*;
use crate::re2::Expression;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    pairs.collect()
}

fn judged(cors: &Cors, method: &str, pairs: &[(&'static str, &'static str)]) -> Verdict {
    let headers = headers(pairs);
    let view = RequestView {
        method,
        scheme: "https",
        authority: "api.example.com",
        path: "/",
        query: "",
        port: 443,
        headers: &headers,
        token: None,
    };
    cors.judge(&view)
}

fn policy(origin: StringPattern) -> Cors {
    Cors { origins: vec![origin], ..Cors::default() }
}

fn exact(text: &str) -> StringPattern {
    StringPattern::Exact(text.into())
}

const SHOP: &str = "https://shop.example.com";

#[test]
fn origins_are_compared_in_each_of_the_three_ways() {
    let may = |pattern, origin| judged(&policy(pattern), "GET", &[("origin", origin)]) == Verdict::Mark;
    assert!(may(exact(SHOP), SHOP) && !may(exact(SHOP), "http://shop.example.com"));
    let prefix = || StringPattern::Prefix("https://shop.".into());
    assert!(may(prefix(), SHOP) && !may(prefix(), "https://other.example.com"));
    let regex = || StringPattern::Regex(Expression::whole(r"https://[a-z]+\.example\.com").unwrap());
    assert!(may(regex(), SHOP) && !may(regex(), "https://shop.example.com.evil.net"));
    assert!(may(exact("*"), SHOP) && may(exact("*"), "null"));
    let anything = || StringPattern::Regex(Expression::whole(".*").unwrap());
    assert!(may(anything(), SHOP));
    assert_eq!(judged(&Cors::default(), "GET", &[("origin", SHOP)]), Verdict::Pass);
}

#[test]
fn a_preflight_is_options_with_origin_and_the_method_that_is_asked_for() {
    const ASKED: (&str, &str) = ("access-control-request-method", "PUT");
    let (shop, other) = (("origin", SHOP), ("origin", "https://other.example.com"));
    let cors = policy(exact(SHOP));
    assert_eq!(judged(&cors, "OPTIONS", &[shop, ASKED]), Verdict::Answer);
    assert_eq!(judged(&cors, "OPTIONS", &[shop]), Verdict::Mark);
    assert_eq!(judged(&cors, "PUT", &[shop, ASKED]), Verdict::Mark);
    assert_eq!(judged(&cors, "OPTIONS", &[ASKED]), Verdict::Pass);
    assert_eq!(judged(&cors, "OPTIONS", &[("origin", ""), ASKED]), Verdict::Pass);
    assert_eq!(judged(&cors, "OPTIONS", &[other, ASKED]), Verdict::Pass);
    let strict = Cors { ignore_unmatched: true, ..cors };
    assert_eq!(judged(&strict, "OPTIONS", &[other, ASKED]), Verdict::Ignore);
    assert_eq!(judged(&strict, "PUT", &[other, ASKED]), Verdict::Pass);
}

#[test]
fn a_preflight_is_told_what_is_allowed() {
    let cors = Cors {
        methods: Some(HeaderValue::from_static("GET,PUT")),
        headers: Some(HeaderValue::from_static("*")),
        max_age: Some(HeaderValue::from_static("600")),
        credentials: true,
        ..policy(exact(SHOP))
    };
    let asked = headers(&[("origin", SHOP), ("access-control-request-headers", "x-a, x-b")]);
    let mut answer = HeaderMap::new();
    cors.answer(&asked, &mut answer);
    let expected = [
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-headers", "x-a, x-b"),
        ("access-control-allow-methods", "GET,PUT"),
        ("access-control-allow-origin", SHOP),
        ("access-control-max-age", "600"),
    ];
    assert_eq!(answer, headers(&expected));
}

#[test]
fn what_is_not_configured_is_not_told() {
    let mut answer = HeaderMap::new();
    let asked = headers(&[("origin", SHOP), ("access-control-request-headers", "x-a")]);
    policy(exact("*")).answer(&asked, &mut answer);
    assert_eq!(answer, headers(&[("access-control-allow-origin", SHOP)]));
}

#[test]
fn the_answer_of_the_service_is_overruled() {
    let cors = Cors { expose: Some(HeaderValue::from_static("x-total")), ..policy(exact(SHOP)) };
    let mut answer = headers(&[("access-control-allow-origin", "*"), ("x-total", "3")]);
    cors.mark(&headers(&[("origin", SHOP)]), &mut answer);
    let expected =
        [("access-control-allow-origin", SHOP), ("access-control-expose-headers", "x-total"), ("x-total", "3")];
    assert_eq!(answer, headers(&expected));
}
