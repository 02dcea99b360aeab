//! The cases of `tests/conformance`: YAML in, requests, expected answers. Adding a case is adding a file there.

use harness::conformance::{play, topics};

/// A test for every topic, so that a failure names it; the failure itself names the file and the step.
macro_rules! topics {
    ($($topic:ident),* $(,)?) => {
        $(
            #[test]
            fn $topic() {
                play(stringify!($topic));
            }
        )*

        #[test]
        fn every_topic_is_played() {
            assert_eq!(topics(), [$(stringify!($topic)),*], "a folder of tests/conformance is a line here, in order");
        }
    };
}

topics! {
    answers,
    authorization,
    balancing,
    client_certificates,
    connection_pools,
    cors,
    delegates,
    egress,
    faults,
    gateway_tls,
    gateways,
    header_operations,
    headers,
    matching,
    mesh_configuration,
    mirrors,
    networks,
    opaque,
    problems,
    protocols,
    rate_limits,
    redirects,
    reload,
    retries,
    rewriting,
    service_entries,
    services,
    sidecar_inbound,
    sidecar_outbound,
    sidecar_scope,
    subsets,
    timeouts,
    trusted_proxies,
    upstream_tls,
    weights,
}
