//! What ten thousand routes cost: memory of a snapshot, counted at the allocator.

use std::{alloc::System, fmt::Write as _};

use routing::{
    compile::{Compiler, Proxy},
    resources::{Store, parse_files},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const GATEWAY: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
";
const SERVICES: usize = 100;
const OBJECTS: usize = 1000;
const ROUTES: usize = 10;
/// Bytes of a snapshot for one route, with a host of its own for every ten.
const MOST: usize = 2048;

fn service(number: usize) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: s{number}, namespace: shop}}
spec: {{ports: [{{name: http, port: 80}}], selector: {{app: s{number}}}}}
"
    )
}

/// Routes of the usual kind: a prefix, a header, weights, a timeout, a rewritten path, a header that is set.
fn virtual_service(number: usize) -> String {
    let mut text = format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: v{number}, namespace: shop}}
spec:
  hosts: [h{number}.example.com]
  gateways: [istio-system/edge]
  http:
"
    );
    for route in 0..ROUTES {
        let (one, other) = ((number + route) % SERVICES, (number + route + 1) % SERVICES);
        let _ = write!(
            text,
            "  - name: route-{route}
    match: [{{uri: {{prefix: /api/v{route}/}}, headers: {{x-user: {{exact: u{route}}}}}}}]
    rewrite: {{uri: /{route}/}}
    timeout: 5s
    headers: {{request: {{set: {{x-route: r{route}}}}}}}
    route:
    - {{destination: {{host: s{one}}}, weight: 90}}
    - {{destination: {{host: s{other}}}, weight: 10}}
"
        );
    }
    text
}

#[test]
fn a_route_of_the_usual_kind_takes_at_most_2_kib() {
    let mut files = vec![("gateway.yaml".to_owned(), GATEWAY.to_owned())];
    files.extend((0..SERVICES).map(|number| (format!("s{number}.yaml"), service(number))));
    files.extend((0..OBJECTS).map(|number| (format!("v{number}.yaml"), virtual_service(number))));
    let parsed = parse_files(&files);
    let names = files.into_iter().map(|(file, _)| file);
    let (resources, problems) = Store::default().replace(names.zip(parsed).collect());
    assert!(problems.is_empty(), "{:?}", problems.first());

    let mut compiler = Compiler::default();
    let before = Region::new(ALLOCATOR);
    // What the compiler remembers counts, too.
    let compiled = compiler.compile(&resources, &Proxy::default());
    let stats = before.change();
    assert!(compiled.problems.is_empty(), "{:?}", compiled.problems.first());
    let bytes = stats.bytes_allocated as isize - stats.bytes_deallocated as isize + stats.bytes_reallocated;
    let each = usize::try_from(bytes).expect("a snapshot takes memory") / (OBJECTS * ROUTES);
    println!("{each} bytes for a route");
    assert!(each <= MOST, "{each} bytes for a route, and {MOST} are the most");
    assert!(each > 100, "{each} bytes cannot be all");
}
