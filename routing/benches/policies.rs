//! What it costs to judge a request: it must not grow with the number of policies.
//!
//! `cargo bench -p sluice-routing --bench policies`; 1,000 policies of ten rules are to stay within twice one of them.

use std::{
    fmt::Write as _,
    hint::black_box,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use divan::Bencher;
use http::HeaderMap;
use routing::{
    authorization::Access,
    compile::{Proxy, compile},
    guard::Guard,
    request::RequestView,
    resources::Resources,
};

const COUNTS: [usize; 3] = [1, 100, 1000];

fn main() {
    divan::main();
}

/// The guard of a gateway with this many policies of ten rules; `rule` writes one, by number.
fn guard(count: usize, action: &str, rule: impl Fn(usize) -> String) -> Box<Guard> {
    let mut text = String::new();
    for policy in 0..count {
        let _ = write!(
            text,
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p{policy}, namespace: \
             istio-system}}\nspec:\n  action: {action}\n  rules:\n"
        );
        for number in 0..10 {
            let _ = writeln!(text, "  - {}", rule(policy * 10 + number));
        }
    }
    let (resources, problems) = Resources::read([("bench.yaml", text.as_str())]);
    assert!(problems.iter().all(|problem| problem.code == "denies-bytes"), "{problems:#?}");
    compile(&resources, &Proxy::default()).snapshot.guard.expect("there are policies")
}

fn judge(bencher: Bencher<'_, '_>, guard: &Guard, allowed: bool) {
    let headers = HeaderMap::new();
    let request = RequestView {
        method: "GET",
        scheme: "https",
        authority: "shop.example.com",
        path: "/api/v1/things3/items/17",
        query: "",
        port: 8443,
        headers: &headers,
        token: None,
    };
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let access = Access {
        peer: "spiffe://cluster.local/ns/shop/sa/front3",
        source: here,
        remote: here,
        local: SocketAddr::new(here, 8443),
        sni: "shop.example.com",
        request: Some(request),
    };
    let authorization = guard.authorization.as_ref().expect("there are policies");
    let judge = |access: &Access<'_>| authorization.judge(access).denied.is_none();
    assert_eq!(judge(&access), allowed);
    bencher.bench(|| judge(black_box(&access)));
}

/// Identities and paths, as the policies of a mesh have them: one rule of all allows.
#[divan::bench(args = COUNTS)]
fn allow(bencher: Bencher<'_, '_>, count: usize) {
    let rule = |number: usize| {
        format!(
            "{{from: [{{source: {{principals: [cluster.local/ns/shop/sa/front{number}]}}}}], to: [{{operation: {{methods: [GET], \
             paths: ['/api/v1/things{number}/*']}}}}]}}"
        )
    };
    judge(bencher, &guard(count, "ALLOW", rule), true);
}

/// One identity, and paths that tell rules apart: none denies.
#[divan::bench(args = COUNTS)]
fn deny(bencher: Bencher<'_, '_>, count: usize) {
    let rule = |number: usize| {
        format!(
            "{{from: [{{source: {{notNamespaces: [shop]}}}}], to: [{{operation: {{methods: [GET, POST], paths: \
             ['/api/v1/things{number}/*', '/admin{number}']}}}}]}}"
        )
    };
    judge(bencher, &guard(count, "DENY", rule), true);
}

/// Blocks of addresses.
#[divan::bench(args = COUNTS)]
fn blocks(bencher: Bencher<'_, '_>, count: usize) {
    let rule = |number: usize| {
        format!(
            "{{from: [{{source: {{ipBlocks: [10.{}.{}.0/24, 127.{}.{}.1]}}}}]}}",
            number / 250,
            number % 250,
            number / 250,
            number % 250
        )
    };
    judge(bencher, &guard(count, "ALLOW", rule), true);
}
