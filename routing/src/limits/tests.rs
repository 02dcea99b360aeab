use http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::{api::rate_limit::Amount, rule::Action, rule::DirectResponse};

fn limit(name: &str, targets: Vec<Target>, when: Vec<When>) -> Limit {
    let amount = Amount { requests: 1, ..Amount::default() };
    Limit {
        name: name.into(),
        short: name.into(),
        identity: 0,
        targets: targets.into(),
        when: when.into(),
        key: Key::default(),
        place: Place::Local(Rate::new(&amount).unwrap()),
        dry_run: false,
        status: 429,
        tells_refused: true,
        tells_passed: false,
    }
}

fn rule(source: &str, name: &str) -> Rule {
    Rule::new(name, source.into(), Action::Direct(DirectResponse { status: 200, body: Arc::default() }))
}

fn asked<'a>(authority: &'a str, headers: &'a HeaderMap, route: Option<&'a Rule>) -> Asked<'a> {
    let request = RequestView {
        method: "GET",
        scheme: "http",
        authority,
        path: "/a/b",
        query: "",
        port: 80,
        headers,
        token: None,
    };
    Asked { request, client: [127, 0, 0, 1].into(), peer: "", route, inbound: None }
}

fn found(limits: &Limits, asked: &Asked<'_>) -> Vec<String> {
    let mut names = Vec::new();
    let all: Result<(), ()> = limits.each(asked, |_, limit| {
        names.push(limit.name.to_string());
        Ok(())
    });
    assert_eq!(all, Ok(()));
    names
}

fn hosts(all: &[&str]) -> When {
    When { hosts: all.iter().map(|host| host.parse().unwrap()).collect(), ..When::default() }
}

#[test]
fn each_limit_that_is_about_a_request_is_found_once() {
    let doors = |all: &[(u16, &str)]| all.iter().map(|(port, host)| (*port, host.parse().unwrap())).collect();
    let limits = Limits::new(vec![
        limit("all", vec![Target::Proxy], vec![]),
        limit(
            "nested",
            vec![Target::Proxy],
            vec![hosts(&["*.example.com", "a.b.example.com"]), hosts(&["*.b.example.com"])],
        ),
        limit("exact", vec![Target::Proxy], vec![hosts(&["A.b.example.com"])]),
        limit("routes", vec![Target::Routes("shop/one".into(), None), Target::Routes("shop/two".into(), None)], vec![]),
        limit("section", vec![Target::Routes("shop/one".into(), Some("cart".into()))], vec![]),
        limit("named", vec![Target::Proxy], vec![When { routes: ["cart".into()].into(), ..When::default() }]),
        limit(
            "both-names",
            vec![Target::Proxy],
            vec![When { routes: ["cart".into(), "cart.all".into()].into(), ..When::default() }],
        ),
        limit("gateway", vec![Target::Gateway(doors(&[(80, "*"), (443, "a.b.example.com")]))], vec![]),
        limit("secure", vec![Target::Gateway(doors(&[(443, "*")]))], vec![]),
        limit("service", vec![Target::Ports(vec![8080, 9090]), Target::Ports(vec![8080])], vec![]),
        limit("posts", vec![Target::Proxy], vec![When { methods: ["POST".into()].into(), ..hosts(&["*"]) }]),
    ])
    .unwrap();
    let (headers, cart, other) = (HeaderMap::new(), rule("shop/one", "cart"), rule("shop/three", ""));
    let at = asked("a.B.example.com:80", &headers, Some(&cart));
    assert_eq!(found(&limits, &at), ["routes", "section", "named", "both-names", "exact", "nested", "gateway", "all"]);
    assert_eq!(found(&limits, &asked("b.example.com.", &headers, Some(&other))), ["nested", "gateway", "all"]);
    assert_eq!(
        found(&limits, &Asked { inbound: Some(8080), ..asked("example.com", &headers, None) }),
        ["service", "all"]
    );
    let matched = Rule { own_name: 4, ..rule("shop/one", "cart.all") };
    let at = asked("example.org", &headers, Some(&matched));
    assert_eq!(found(&limits, &at), ["routes", "section", "both-names", "named", "gateway", "all"]);
    // One that is called so has no name within its name.
    let whole = rule("shop/three", "cart.all");
    assert_eq!(found(&limits, &asked("example.org", &headers, Some(&whole))), ["both-names", "gateway", "all"]);
    assert!(Limits::new(vec![]).is_none());
}

#[test]
fn a_key_takes_its_parts_apart() {
    use std::hash::{DefaultHasher, Hasher as _};
    let share = |name: &str, skips| Share { name: name.into(), skips };
    let key = |skips| {
        Key([
            (Part::Header("x-a".parse().unwrap()), share("a", skips)),
            (Part::Cookie("b".into()), share("b", skips)),
            (Part::Host, share("host", skips)),
        ]
        .into())
    };
    let hash = |a: Option<&str>, b: Option<&str>, skips| {
        let mut headers = HeaderMap::new();
        a.map(|a| headers.insert("x-a", a.parse().unwrap()));
        b.map(|b| headers.insert("cookie", format!("c=1; b={b}").parse().unwrap()));
        let mut hasher = DefaultHasher::new();
        let asked = asked("Shop.example.com", &headers, None);
        (key(skips).hash(&asked, &mut hasher).then(|| hasher.finish()), key(skips).entries(&asked))
    };
    assert_ne!(hash(Some("ab"), Some("c"), false).0, hash(Some("a"), Some("bc"), false).0);
    assert_ne!(hash(Some(""), Some("c"), false).0, hash(None, Some("c"), false).0);
    assert_eq!(hash(None, Some("c"), false).0, hash(None, Some("c"), false).0);
    assert_eq!(hash(None, Some("c"), true), (None, None));
    let entries = hash(Some("1"), Some("2"), true).1.unwrap();
    let entries: Vec<(&str, &str)> = entries.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(entries, [("a", "1"), ("b", "2"), ("host", "shop.example.com")]);
}

const HOSTS: [&str; 7] =
    ["a.example.com", "b.example.com", "x.a.example.com", "example.com", "a-v1.example.com", "other.org", "org"];
const PATTERNS: [&str; 9] = [
    "*",
    "*.example.com",
    "*.a.example.com",
    "a.example.com",
    "*-v1.example.com",
    "*.org",
    "example.com",
    "*m",
    "x.a.example.com",
];

proptest! {
    /// The index finds what looking at each limit finds, and none twice.
    #[test]
    fn the_index_is_no_other_than_looking_at_all(
        given in prop::collection::vec((0_usize..5, prop::collection::vec(0_usize..9, 0..4), 0_usize..3), 1..12),
        host in 0_usize..7, source in 0_usize..3, name in 0_usize..3, inbound in any::<bool>(), matched in any::<bool>()
    ) {
        let (sources, names) = (["s/a", "s/b", "s/c"], ["one", "two", "three"]);
        let all = given.iter().enumerate().map(|(number, (kind, picked, other))| {
            let patterns: Vec<&str> = picked.iter().map(|at| PATTERNS[*at]).collect();
            let doors = patterns.iter().map(|host| (80 + u16::from(*other == 2), host.parse().unwrap())).collect();
            let (targets, when) = match kind {
                0 => (vec![Target::Proxy], vec![hosts(&patterns)]),
                1 => (vec![Target::Gateway(doors)], vec![]),
                2 => (vec![Target::Routes(sources[*other].into(), None), Target::Gateway(doors)], vec![]),
                3 => (vec![Target::Routes(sources[*other].into(), Some(names[*other].into()))], vec![hosts(&patterns)]),
                _ => (vec![Target::Ports(vec![8080]), Target::Proxy], vec![When {
                    routes: [names[*other].into()].into(), ..hosts(&patterns)
                }]),
            };
            limit(&number.to_string(), targets, when)
        });
        let limits = Limits::new(all.collect()).unwrap();
        let (headers, mut rule) = (HeaderMap::new(), rule(sources[source], names[name]));
        if matched {
            (rule.name, rule.own_name) = (format!("{}.all", names[name]).into(), names[name].len());
        }
        let asked = Asked { inbound: Some(8080), ..asked(HOSTS[host], &headers, (!inbound).then_some(&rule)) };
        let mut index = found(&limits, &asked);
        index.sort();
        let mut plain: Vec<String> =
            limits.all().iter().filter(|limit| limit.concerns(&asked)).map(|limit| limit.name.to_string()).collect();
        plain.sort();
        prop_assert_eq!(index, plain);
    }
}
