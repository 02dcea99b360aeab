use http::{HeaderMap, HeaderName};

use super::*;
use crate::template::Template;

fn rewrite(path: PathRewrite) -> Rewrite {
    Rewrite { path: Some(path), authority: None }
}

fn prefix_rewrite(from: &str, to: &str, path: &str) -> String {
    rewrite(PathRewrite::Prefix { matched: from.len(), with: to.into() }).path(path).unwrap()
}

fn location(redirect: Redirect, scheme: &str, authority: &str, query: &str) -> String {
    let headers = HeaderMap::new();
    redirect.location(&RequestView {
        method: "GET",
        scheme,
        authority,
        path: "/foo/bar",
        query,
        port: 8080,
        headers: &headers,
        token: None,
    })
}

fn ops(
    remove: &[&'static str],
    set: &[(&'static str, &'static str)],
    add: &[(&'static str, &'static str)],
) -> HeaderOps {
    let pairs = |list: &[(&'static str, &'static str)]| {
        list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    };
    HeaderOps {
        remove: remove.iter().map(|name| HeaderName::from_static(name)).collect(),
        set: pairs(set),
        add: pairs(add),
        ..HeaderOps::default()
    }
}

fn rule(destinations: usize, own: HeaderOps, theirs: &HeaderOps) -> Rule {
    let destination = || Destination {
        request_headers: theirs.clone().boxed(),
        response_headers: theirs.clone().boxed(),
        ..Destination::new(None, "x".into())
    };
    let all = Destinations { all: (0..destinations).map(|_| destination()).collect(), total: destinations as u32 };
    Rule {
        request_headers: own.clone().boxed(),
        response_headers: own.boxed(),
        ..Rule::new("r", "default/v".into(), Action::Route(all))
    }
}

fn edited(rule: &Rule) -> String {
    let Action::Route(to) = &rule.action else { unreachable!("the rules of these tests forward") };
    let mut headers = HeaderMap::new();
    rule.edit_request(Some(&to.all[0]), &mut headers);
    headers.get("x-a").unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_prefix_is_replaced_textually() {
    assert_eq!(prefix_rewrite("/foo/", "/", "/foo/bar"), "/bar");
    assert_eq!(prefix_rewrite("/foo", "/", "/foo/bar"), "//bar");
    assert_eq!(prefix_rewrite("/foo", "/x", "/foobar"), "/xbar");
}

#[test]
fn an_exact_match_replaces_the_whole_path() {
    assert_eq!(rewrite(PathRewrite::Full("/new".into())).path("/foo/bar").unwrap(), "/new");
    assert_eq!(rewrite(PathRewrite::Full("/foo".into())).path("/foo"), None);
}

#[test]
fn a_regex_replaces_every_match() {
    let pattern = Expression::part("b(.)").unwrap();
    let change = rewrite(PathRewrite::Regex { pattern, with: Substitution::new(r"\1x").unwrap() });
    assert_eq!(change.path("/ba/bc").unwrap(), "/ax/cx");
}

#[test]
fn a_path_keeps_its_leading_slash() {
    assert_eq!(prefix_rewrite("/foo/", "bar", "/foo/x"), "/barx");
    assert_eq!(rewrite(PathRewrite::Prefix { matched: 1, with: "".into() }).path("/x").unwrap(), "/x");
}

#[test]
fn a_redirect_keeps_what_it_does_not_name() {
    let moved = Redirect { authority: Some("b.com".to_owned()), ..Redirect::default() };
    assert_eq!(location(moved, "http", "a.com:8080", "q=1"), "http://b.com/foo/bar?q=1");
    let path = Redirect { path: Some(RedirectPath::Full("/new".to_owned())), ..Redirect::default() };
    assert_eq!(location(path, "http", "a.com:8080", "q=1"), "http://a.com:8080/new?q=1");
    let prefix = RedirectPath::Prefix { matched: "/foo".len(), with: "/x".to_owned() };
    let prefix = Redirect { path: Some(prefix), ..Redirect::default() };
    assert_eq!(location(prefix, "http", "a.com", ""), "http://a.com/x/bar");
}

#[test]
fn a_query_in_the_redirect_replaces_the_requests() {
    let path = Redirect { path: Some(RedirectPath::Full("/new?z".to_owned())), ..Redirect::default() };
    assert_eq!(location(path, "http", "a.com", "q=1"), "http://a.com/new?z");
}

#[test]
fn a_changed_scheme_drops_the_default_port_only() {
    let secure = || Redirect { scheme: Some("https".to_owned()), ..Redirect::default() };
    assert_eq!(location(secure(), "http", "a.com:80", ""), "https://a.com/foo/bar");
    assert_eq!(location(secure(), "http", "a.com:443", ""), "https://a.com/foo/bar");
    assert_eq!(location(secure(), "http", "a.com:8080", ""), "https://a.com:8080/foo/bar");
    assert_eq!(location(secure(), "http", "[::1]:8080", ""), "https://[::1]:8080/foo/bar");
}

#[test]
fn ports_of_a_redirect() {
    let to = |port| Redirect { port, ..Redirect::default() };
    assert_eq!(location(to(RedirectPort::Fixed(9000)), "http", "a.com:1", ""), "http://a.com:9000/foo/bar");
    assert_eq!(location(to(RedirectPort::Fixed(80)), "http", "a.com:1", ""), "http://a.com/foo/bar");
    assert_eq!(location(to(RedirectPort::Request), "http", "a.com:1", ""), "http://a.com:8080/foo/bar");
    assert_eq!(location(to(RedirectPort::Protocol), "http", "a.com:1", ""), "http://a.com/foo/bar");
}

#[test]
fn headers_are_removed_then_set_then_added() {
    let mut headers = HeaderMap::new();
    headers.insert("x-a", HeaderValue::from_static("old"));
    headers.insert("x-b", HeaderValue::from_static("old"));
    ops(&["x-a"], &[("x-b", "set")], &[("x-a", "new"), ("x-b", "more")]).apply(&mut headers);
    let values = |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(values("x-a"), ["new"]);
    assert_eq!(values("x-b"), ["set", "more"]);
}

#[test]
fn the_only_destination_wins_over_the_route_and_one_of_several_does_not() {
    let (own, theirs) = (ops(&[], &[("x-a", "route")], &[]), ops(&[], &[("x-a", "destination")], &[]));
    assert_eq!(edited(&rule(1, own.clone(), &theirs)), "destination");
    assert_eq!(edited(&rule(2, own, &theirs)), "route");
}

#[test]
fn destinations_share_by_weight() {
    let mut rule = rule(2, HeaderOps::default(), &HeaderOps::default());
    let Action::Route(to) = &mut rule.action else { unreachable!("forwards") };
    to.all[0].weight = 3;
    to.all[0].cluster_name = "first".into();
    to.total = 4;
    let first = (0..100).filter(|&random| &*to.pick(random).cluster_name == "first").count();
    assert_eq!(first, 75);
}

#[test]
fn operations_of_the_only_destination_are_done_with_the_routes() {
    let rule = rule(1, ops(&[], &[("x-a", "route")], &[]), &ops(&["x-a"], &[], &[("x-a", "destination")]));
    let Action::Route(to) = &rule.action else { unreachable!("the rule forwards") };
    let mut headers = HeaderMap::new();
    headers.insert("x-a", HeaderValue::from_static("client"));
    rule.edit_request(Some(&to.all[0]), &mut headers);
    let values: Vec<&HeaderValue> = headers.get_all("x-a").iter().collect();
    assert_eq!(values, ["route", "destination"], "what one of them sets, the other one's removal came before");
}

#[test]
fn computed_values_stand_beside_the_others_and_empty_ones_change_nothing() {
    let template = |text: &str| Template::parse(text).unwrap();
    let computed = Computed {
        set: vec![(HeaderName::from_static("x-a"), template("")), (HeaderName::from_static("x-b"), template("set"))],
        add: vec![(HeaderName::from_static("x-b"), template("more"))],
    };
    let ops = HeaderOps { computed: Some(Box::new(computed)), ..ops(&[], &[], &[("x-b", "added")]) };
    assert!(!ops.is_empty());
    let mut headers = HeaderMap::new();
    headers.insert("x-a", HeaderValue::from_static("old"));
    ops.apply(&mut headers);
    assert_eq!(headers["x-a"], "old");
    let values: Vec<&HeaderValue> = headers.get_all("x-b").iter().collect();
    assert_eq!(values, ["set", "added", "more"]);
}
