use proptest::prelude::*;

use super::*;
use crate::{
    api::virtual_service::{CorsPolicy, HttpRewrite},
    compile::{conditions, expressions::Expressions},
    request::RequestView,
};

fn exact(text: &str) -> Option<StringMatch> {
    Some(StringMatch::Exact(text.to_owned()))
}

fn prefix(text: &str) -> Option<StringMatch> {
    Some(StringMatch::Prefix(text.to_owned()))
}

fn regex(text: &str) -> Option<StringMatch> {
    Some(StringMatch::Regex(text.to_owned()))
}

fn uri(uri: Option<StringMatch>) -> HttpMatch {
    HttpMatch { uri, ..HttpMatch::default() }
}

fn header(name: &str, value: StringMatch) -> HttpMatch {
    HttpMatch { headers: BTreeMap::from([(name.to_owned(), value)]), ..HttpMatch::default() }
}

#[test]
fn a_path_of_the_delegate_lies_below_the_roots() {
    let table = [
        (prefix("/a"), prefix("/a/b"), true),
        (prefix("/a"), prefix("/a"), true),
        (prefix("/a"), exact("/a/b"), true),
        (prefix("/a/b"), prefix("/a"), false),
        (prefix("/a"), exact("/b"), false),
        (exact("/a"), exact("/a"), true),
        (exact("/a"), exact("/b"), false),
        (exact("/a"), prefix("/a"), false),
        (regex("/a"), regex("/a"), false),
        (regex("/a.*"), exact("/ab"), false),
        (prefix("/a"), regex("/a.*"), false),
        (None, regex("/a.*"), true),
        (regex("/a.*"), None, true),
        (prefix("/a"), None, true),
    ];
    for (root, leaf, fits) in table {
        let found = conflict(&uri(root.clone()), &uri(leaf.clone()));
        assert_eq!(found.is_none(), fits, "{root:?} and {leaf:?}: {found:?}");
    }
}

#[test]
fn headers_are_compared_by_name_and_united() {
    let (root, leaf) = (header("x-a", exact("1").unwrap()), header("x-b", exact("2").unwrap()));
    assert_eq!(both(&root, &leaf).headers.len(), 2);
    assert!(conflict(&root, &leaf).is_none());
    assert!(conflict(&root, &header("x-a", exact("1").unwrap())).is_none());
    assert!(conflict(&root, &header("x-a", exact("2").unwrap())).is_some());
    assert!(conflict(&header("x-a", StringMatch::Present), &header("x-a", exact("2").unwrap())).is_some());
}

#[test]
fn clients_of_the_delegate_are_among_the_roots() {
    let with = |change: fn(&mut HttpMatch)| {
        let mut when = HttpMatch::default();
        change(&mut when);
        when
    };
    let none = HttpMatch::default;
    let port = with(|it| it.port = Some(80));
    assert!(conflict(&port, &none()).is_none() && conflict(&none(), &port).is_none());
    assert!(conflict(&port, &with(|it| it.port = Some(81))).is_some());
    let namespace = with(|it| it.source_namespace = Some("a".to_owned()));
    assert!(conflict(&namespace, &none()).is_some(), "Istio takes none for another one");
    assert!(conflict(&none(), &namespace).is_none() && conflict(&namespace, &namespace).is_none());
    let label = with(|it| drop(it.source_labels.insert("app".to_owned(), "a".to_owned())));
    assert!(conflict(&label, &with(|it| drop(it.source_labels.insert("app".to_owned(), "b".to_owned())))).is_some());
    assert!(conflict(&label, &none()).is_none());
    let gateway = with(|it| it.gateways = vec!["a/b".to_owned()]);
    assert!(conflict(&gateway, &with(|it| it.gateways = vec!["a/c".to_owned()])).is_some());
    assert!(conflict(&gateway, &none()).is_none() && conflict(&none(), &gateway).is_none());
    assert!(conflict(&with(|it| it.ignore_uri_case = true), &none()).is_some());
}

#[test]
fn every_match_of_the_delegate_needs_one_of_the_root() {
    let root = [uri(prefix("/a")), uri(prefix("/b"))];
    let (merged, places) = matches(&root, &[uri(exact("/a/1")), uri(exact("/b/1"))]).unwrap();
    assert_eq!(merged, [uri(exact("/a/1")), uri(exact("/b/1"))]);
    assert_eq!(places, [MatchPlace::Delegate(0), MatchPlace::Delegate(1)]);
    let (merged, _) = matches(&root, &[header("x", StringMatch::Present)]).unwrap();
    assert_eq!(merged.len(), 2, "once below each of the root's");
    let conflict = matches(&root, &[uri(exact("/a/1")), uri(exact("/c"))]).unwrap_err();
    assert_eq!(conflict.number, 1);
    assert_eq!(
        conflict.why,
        "uri `exact: /c` does not fit the root's `prefix: /a` (nor does it fit any other of the 2 matches there)"
    );
}

#[test]
fn the_delegate_says_what_happens_and_the_root_what_it_leaves_open() {
    let rewrite = |uri: &str| HttpRewrite { uri: Some(uri.to_owned()), ..HttpRewrite::default() };
    let root = HttpRoute {
        name: Some("root".to_owned()),
        rewrite: Some(rewrite("/root")),
        cors_policy: Some(CorsPolicy::default()),
        ..HttpRoute::default()
    };
    let leaf = HttpRoute { name: Some("leaf".to_owned()), rewrite: Some(rewrite("/leaf")), ..HttpRoute::default() };
    let (merged, _) = routes(&root, &leaf).unwrap();
    assert_eq!((merged.name.as_deref(), &merged.rewrite), (Some("root-leaf"), &leaf.rewrite));
    assert!(merged.cors_policy.is_some());
    let (merged, _) = routes(&root, &HttpRoute::default()).unwrap();
    assert_eq!((merged.name.as_deref(), merged.rewrite), (Some("root"), root.rewrite));
}

fn any_pattern() -> impl Strategy<Value = Option<StringMatch>> {
    prop_oneof![
        Just(None),
        "/[ab]{0,3}".prop_map(|text| Some(StringMatch::Exact(text))),
        "/[ab]{0,2}".prop_map(|text| Some(StringMatch::Prefix(text))),
    ]
}

fn any_match() -> impl Strategy<Value = HttpMatch> {
    (any_pattern(), prop_oneof![Just(None), Just(Some("GET")), Just(Some("PUT"))]).prop_map(|(uri, method)| HttpMatch {
        uri,
        method: method.and_then(exact),
        ..HttpMatch::default()
    })
}

proptest! {
    /// Without a conflict a request follows the merged matches where it follows both.
    #[test]
    fn merged_matches_mean_both(
        root in prop::collection::vec(any_match(), 0..3),
        leaf in prop::collection::vec(any_match(), 0..3),
        path in "/[ab]{0,4}",
        put in any::<bool>(),
    ) {
        let headers = http::HeaderMap::new();
        let request = RequestView {
            method: if put { "PUT" } else { "GET" },
            scheme: "http",
            authority: "a",
            path: &path,
            query: "",
            port: 80,
            headers: &headers,
            token: None,
        };
        let known = Expressions::default();
        let holds = |all: &[HttpMatch]| {
            let each = |when: &HttpMatch| conditions::compile(&known, when).is_ok_and(|when| when.matches(&request));
            all.is_empty() || all.iter().any(each)
        };
        if let Ok((merged, places)) = matches(&root, &leaf) {
            prop_assert_eq!(places.len(), merged.len());
            // A pair that conflicts is left out, and with it what only that pair would have matched.
            if holds(&merged) {
                prop_assert!(holds(&root) && holds(&leaf));
            }
            if root.len() <= 1 && leaf.len() <= 1 {
                prop_assert_eq!(holds(&merged), holds(&root) && holds(&leaf));
            }
        }
    }
}
