use proptest::prelude::*;

use http::HeaderMap;

use super::*;
use crate::{
    pattern::{Conditions, PathKind, PathPattern, StringPattern},
    re2::Expression,
    rule::{Action, DirectResponse},
};

/// A rule that can be told apart by its name.
fn rule(number: usize) -> Arc<Rule> {
    let action = Action::Direct(DirectResponse { status: 200, body: Arc::default() });
    Arc::new(Rule::new(number.to_string(), "default/test".into(), action))
}

fn host_of(matches: Vec<RouteMatch>) -> VirtualHost {
    let routes = matches.into_iter().enumerate().map(|(number, when)| Route { when, rule: rule(number) });
    let routes: Vec<Route> = routes.collect();
    // As if there were many.
    let index = PathIndex::of_many(&routes);
    VirtualHost { domain: "*".into(), https_redirect: false, routes: Arc::new(RouteList { routes, index }) }
}

fn when(kind: PathKind) -> RouteMatch {
    RouteMatch { path: PathPattern { kind, ignore_case: false }, conditions: None }
}

fn prefix(text: &str) -> RouteMatch {
    when(PathKind::Prefix(text.into()))
}

fn exact(text: &str) -> RouteMatch {
    when(PathKind::Exact(text.into()))
}

fn only_method(mut when: RouteMatch, method: &str) -> RouteMatch {
    let method = Some(StringPattern::Exact(method.into()));
    when.conditions = Some(Box::new(Conditions { method, ..Conditions::default() }));
    when
}

fn found<'a>(host: &'a VirtualHost, method: &str, path: &str) -> Option<&'a str> {
    let headers = HeaderMap::new();
    let request = RequestView {
        method,
        scheme: "http",
        authority: "a.com",
        path,
        query: "",
        port: 80,
        headers: &headers,
        token: None,
    };
    host.route(&request).map(|rule| &*rule.name)
}

/// The definition that the index is held against: routes in order, the first match wins.
fn scan<'a>(host: &'a VirtualHost, method: &str, path: &str) -> Option<&'a str> {
    let headers = HeaderMap::new();
    let request = RequestView {
        method,
        scheme: "http",
        authority: "a.com",
        path,
        query: "",
        port: 80,
        headers: &headers,
        token: None,
    };
    host.routes.routes().iter().find(|route| route.when.matches(&request)).map(|route| &*route.rule.name)
}

#[test]
fn the_first_match_wins_not_the_longest() {
    let host = host_of(vec![prefix("/api"), prefix("/api/v2"), exact("/api/v2/x")]);
    assert_eq!(found(&host, "GET", "/api/v2/x"), Some("0"));
}

#[test]
fn a_route_whose_conditions_fail_gives_way_to_the_next() {
    let host = host_of(vec![only_method(prefix("/api/v2"), "POST"), prefix("/api"), prefix("/")]);
    assert_eq!(found(&host, "POST", "/api/v2/x"), Some("0"));
    assert_eq!(found(&host, "GET", "/api/v2/x"), Some("1"));
    assert_eq!(found(&host, "GET", "/ap"), Some("2"));
}

#[test]
fn a_prefix_matches_itself_and_inside_of_a_segment() {
    let host = host_of(vec![prefix("/foo")]);
    assert_eq!(found(&host, "GET", "/foo"), Some("0"));
    assert_eq!(found(&host, "GET", "/foobar"), Some("0"));
    assert_eq!(found(&host, "GET", "/fo"), None);
}

#[test]
fn exact_and_prefix_of_the_same_text_keep_their_order() {
    let host = host_of(vec![exact("/foo"), prefix("/foo"), exact("/foo/bar")]);
    assert_eq!(found(&host, "GET", "/foo"), Some("0"));
    assert_eq!(found(&host, "GET", "/foo/bar"), Some("1"));
}

#[test]
fn regexes_and_catch_alls_stand_in_the_same_order_as_the_rest() {
    let regex = when(PathKind::Regex(Expression::whole("/a.*").unwrap()));
    let host = host_of(vec![exact("/a/1"), regex, exact("/a/2"), RouteMatch::default(), prefix("/b")]);
    assert_eq!(found(&host, "GET", "/a/1"), Some("0"));
    assert_eq!(found(&host, "GET", "/a/2"), Some("1"));
    assert_eq!(found(&host, "GET", "/b"), Some("3"));
}

#[test]
fn braces_are_ordinary_characters() {
    let host = host_of(vec![exact("/{id}"), prefix("/{*rest}")]);
    assert_eq!(found(&host, "GET", "/{id}"), Some("0"));
    assert_eq!(found(&host, "GET", "/{*rest}/x"), Some("1"));
    assert_eq!(found(&host, "GET", "/anything"), None);
}

#[test]
fn the_port_does_not_choose_the_host() {
    let mut table = RouteTable::default();
    table.hosts.insert(&"a.com".parse().unwrap(), host_of(vec![prefix("/")]));
    assert!(table.host("A.com:8443").is_some());
    assert!(table.host("b.com").is_none());
}

#[test]
fn deeply_nested_prefixes_are_found() {
    let text = format!("/{}", "a".repeat(3000));
    let host = host_of((1..=text.len()).rev().map(|length| prefix(&text[..length])).collect());
    assert_eq!(found(&host, "GET", &text), Some("0"));
    assert_eq!(found(&host, "GET", &text[..3000]), Some("1"));
    assert_eq!(found(&host, "GET", "/b"), Some("3000"));
}

fn any_match() -> impl Strategy<Value = RouteMatch> {
    let path = "(/|/[abA{}é*/]{0,4}|[a]?)";
    let kind = prop_oneof![
        4 => path.prop_map(|text| PathKind::Prefix(text.into())),
        3 => path.prop_map(|text| PathKind::Exact(text.into())),
        1 => "/[ab]{0,2}(\\.\\*)?".prop_map(|text| PathKind::Regex(Expression::whole(&text).unwrap())),
        1 => Just(PathKind::Any),
    ];
    (kind, proptest::bool::weighted(0.15), proptest::option::weighted(0.4, "(GET|POST)")).prop_map(
        |(kind, ignore_case, method)| {
            let route = RouteMatch { path: PathPattern { kind, ignore_case }, conditions: None };
            match method {
                Some(method) => only_method(route, &method),
                None => route,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_index_answers_like_the_plain_scan(
        matches in proptest::collection::vec(any_match(), 0..12),
        paths in proptest::collection::vec("/[abAB{}é*/]{0,6}", 1..8),
        method in "(GET|POST|PUT)",
    ) {
        let host = host_of(matches);
        let routes = host.routes.routes().to_vec();
        let few = VirtualHost { domain: "*".into(), https_redirect: false, routes: Arc::new(RouteList::new(routes)) };
        for path in &paths {
            let right = scan(&host, &method, path);
            prop_assert_eq!(found(&host, &method, path), right, "{}", path);
            prop_assert_eq!(found(&few, &method, path), right, "{} among few", path);
        }
    }
}
