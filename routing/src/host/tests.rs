use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> HostPattern {
    text.parse().unwrap()
}

fn map(patterns: &[&str]) -> HostMap<String> {
    let mut map = HostMap::default();
    for text in patterns {
        map.insert(&pattern(text), (*text).to_owned());
    }
    map
}

#[test]
fn exact_beats_longest_wildcard_beats_shorter_beats_any() {
    let map = map(&["*", "*.com", "*.example.com", "www.example.com"]);
    let found = |host: &str| map.get(host).unwrap().as_str();
    assert_eq!(found("www.example.com"), "www.example.com");
    assert_eq!(found("api.example.com"), "*.example.com");
    assert_eq!(found("a.b.example.com"), "*.example.com");
    assert_eq!(found("example.com"), "*.com");
    assert_eq!(found("org"), "*");
}

#[test]
fn a_wildcard_needs_something_in_front() {
    assert_eq!(map(&["*.example.com"]).get(".example.com"), None);
    assert_eq!(map(&["*-v1.example.com"]).get("-v1.example.com"), None);
}

#[test]
fn a_wildcard_may_end_inside_of_a_label() {
    let map = map(&["*-v1.example.com", "*1.example.com", "*.example.com"]);
    assert_eq!(map.get("shop-v1.example.com").unwrap(), "*-v1.example.com");
    assert_eq!(map.get("shop1.example.com").unwrap(), "*1.example.com");
    assert_eq!(map.get("shop.example.com").unwrap(), "*.example.com");
}

#[test]
fn case_does_not_matter() {
    let map = map(&["Www.Example.com"]);
    assert_eq!(map.get("wWW.example.COM").unwrap(), "Www.Example.com");
}

#[test]
fn a_second_insert_replaces_and_returns() {
    let mut map = map(&["a.com"]);
    assert_eq!(map.insert(&pattern("a.com"), "new".to_owned()), Some("a.com".to_owned()));
    assert_eq!(map.get("a.com").unwrap(), "new");
    assert_eq!(map.len(), 1);
}

#[test]
fn intersection_is_the_more_specific() {
    let both = |a: &str, b: &str| pattern(a).intersect(&pattern(b)).map(ToString::to_string);
    assert_eq!(both("*.a.com", "x.a.com").as_deref(), Some("x.a.com"));
    assert_eq!(both("*", "*.a.com").as_deref(), Some("*.a.com"));
    assert_eq!(both("*.a.com", "*.b.a.com").as_deref(), Some("*.b.a.com"));
    assert_eq!(both("a.com", "b.com"), None);
    assert_eq!(both("*.a.com", "a.com"), None);
}

#[test]
fn ports_are_stripped() {
    assert_eq!(strip_port("a.com:80"), "a.com");
    assert_eq!(strip_port("a.com"), "a.com");
    assert_eq!(strip_port("a.com:"), "a.com");
    assert_eq!(strip_port("[::1]:8080"), "[::1]");
    assert_eq!(strip_port("[::1]"), "[::1]");
    assert_eq!(strip_port("::1"), "::1");
    assert_eq!(strip_port("a.com:http"), "a.com:http");
}

#[test]
fn what_is_no_host_is_refused_with_a_sentence() {
    assert_eq!("".parse::<HostPattern>(), Err(BadHost::Empty));
    assert_eq!("a.*.com".parse::<HostPattern>(), Err(BadHost::Star));
    assert_eq!("**".parse::<HostPattern>(), Err(BadHost::Star));
    assert_eq!("http://a.com".parse::<HostPattern>(), Err(BadHost::Character));
    assert_eq!("a.com:80".parse::<HostPattern>(), Err(BadHost::Character));
    assert!("10.0.0.1".parse::<HostPattern>().is_ok());
    assert!("::1".parse::<HostPattern>().is_ok());
}

proptest! {
    #[test]
    fn lookup_agrees_with_the_order_of_specificity(
        patterns in proptest::collection::vec(r"\*|\*?[ab.-]{1,5}", 0..8), host in "[ab.-]{1,7}",
    ) {
        let mut patterns: Vec<HostPattern> = patterns.iter().filter_map(|text| text.parse().ok()).collect();
        let mut map = HostMap::default();
        for pattern in &patterns {
            map.insert(pattern, pattern.clone());
        }
        patterns.sort();
        let asked = HostPattern::Exact(host.as_str().into());
        prop_assert_eq!(map.get(&host), patterns.iter().find(|pattern| pattern.covers(&asked)));
    }
}

proptest! {
    #[test]
    fn covering_lists_every_pattern_that_covers(
        patterns in proptest::collection::hash_set(r"\*|\*?[ab.-]{1,4}", 0..8), asked in r"\*|\*?[ab.-]{1,6}",
    ) {
        let mut patterns: Vec<HostPattern> = patterns.iter().filter_map(|text| text.parse().ok()).collect();
        let Ok(asked) = asked.parse::<HostPattern>() else { return Ok(()) };
        let mut map = HostMap::default();
        for pattern in &patterns {
            map.insert(pattern, pattern.clone());
        }
        patterns.sort();
        let expected: Vec<&HostPattern> = patterns.iter().filter(|pattern| pattern.covers(&asked)).collect();
        prop_assert_eq!(map.covering(&asked).collect::<Vec<_>>(), expected);
    }
}
