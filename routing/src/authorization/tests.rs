use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::HeaderMap;

use super::{
    attribute::Attribute,
    pattern::Pattern,
    rule::{Check, Wanted},
    *,
};

fn rule(id: &str, attribute: Attribute, patterns: &[&str]) -> Rule {
    let wanted = Wanted::Texts(attribute, patterns.iter().map(|text| Pattern::of(text)).collect());
    Rule { from: vec![vec![Check::new(false, wanted)]], ..Rule::everything(id.into()) }
}

fn access<'a>(peer: &'a str, path: &'a str, headers: &'a HeaderMap) -> Access<'a> {
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let request = RequestView {
        method: "GET",
        scheme: "http",
        authority: "a.example",
        path,
        query: "",
        port: 80,
        headers,
        token: None,
    };
    Access { peer, source: here, remote: here, local: SocketAddr::new(here, 80), sni: "", request: Some(request) }
}

#[test]
fn of_many_rules_few_are_compared() {
    let mut rules: Vec<Rule> =
        (0..5000).map(|n| rule(&format!("p{n}"), Attribute::Path, &[&format!("/p{n}/*")])).collect();
    rules.extend((0..5000).map(|n| rule(&format!("i{n}"), Attribute::Principal, &[&format!("td/ns/n/sa/s{n}")])));
    let rules = Rules::of(rules);
    let headers = HeaderMap::new();
    let access = access("spiffe://td/ns/n/sa/s7", "/p4321/x", &headers);
    assert_eq!(rules.compared(&access), 2);
    assert_eq!(rules.first(&access).map(|rule| &*rule.id), Some("i7"));
    assert_eq!(rules.matching(&access).len(), 2);
}

#[test]
fn the_rule_with_the_first_id_is_told() {
    let ids = ["ns[a]-policy[b]-rule[2]", "ns[a]-policy[b]-rule[10]", "ns[a]-policy[c]-rule[0]"];
    let rules = Rules::of(ids.iter().map(|id| rule(id, Attribute::Path, &["/*", "/a*"])).collect());
    let headers = HeaderMap::new();
    assert_eq!(rules.first(&access("", "/a", &headers)).map(|rule| &*rule.id), Some("ns[a]-policy[b]-rule[10]"));
    assert!(rules.first(&access("", "b", &headers)).is_none());
}

#[test]
fn each_field_of_a_name_is_looked_at() {
    let mut headers = HeaderMap::new();
    headers.append("x-role", "a".parse().unwrap());
    let rules = |text: &str| Rules::of(vec![rule("r", Attribute::of_header("X-Role").unwrap(), &[text])]);
    assert!(rules("a").first(&access("", "/", &headers)).is_some());
    headers.append("x-role", "b".parse().unwrap());
    let access = access("", "/", &headers);
    assert!(rules("a").first(&access).is_some() && rules("b").first(&access).is_some());
    assert!(rules("a,b").first(&access).is_none() && rules("c").first(&access).is_none());
}
