//! Envoy's own RBAC filter as the judge of the tables: given the same policies as Istio would give them, it says the same.

use std::net::SocketAddr;

use harness::{
    authorization::{
        judge, read,
        table::{Place, Row, Set, Verdict},
        visit::{Outcome, visit},
    },
    envoy::{Envoy, executable},
    mesh::Mesh,
    yaml::indent,
};
use serde_json::{Value, json};

use super::envoy::{bootstrap, socket};

/// Sets that Envoy is asked for: what concerns HTTP and is a policy's own business.
fn asked() -> Vec<Set> {
    let tables = ["actions", "conditions", "operations", "sources"];
    let sets = tables.into_iter().flat_map(|name| read(name).sets);
    let is_its_business = |set: &Set| {
        let specs = set.specs();
        set.is_plain()
            && (set.is_for(Place::Gateway) || set.is_for(Place::Sidecar))
            && specs.iter().all(|(_, spec)| spec.get("selector").is_none())
    };
    sets.filter(is_its_business).collect()
}

/// A listener with these policies; whoever passes is answered with 200.
fn listener(mesh: &Mesh, set: &Set, address: SocketAddr, ports: &[(&str, u16)]) -> String {
    let router = json!({"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}});
    let filters: Vec<Value> = judge::filters(&set.specs(), ports).into_iter().chain([router]).collect();
    let manager = json!({
        "name": "http",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "http", "codec_type": "AUTO", "delayed_close_timeout": "0s", "use_remote_address": set.is_for(Place::Gateway),
            "normalize_path": true, "upgrade_configs": [{"upgrade_type": "websocket"}], "http_filters": filters,
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "direct_response": {"status": 200}},
            ]}]},
        },
    });
    let issued = mesh.pki.workload(&harness::pki::spiffe("shop", "reviews"));
    let tls = json!({
        "name": "tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": true,
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [{
                    "certificate_chain": {"inline_string": issued.chain_pem},
                    "private_key": {"inline_string": issued.key_pem},
                }],
                "validation_context": {"trusted_ca": {"inline_string": mesh.pki.mesh.root_pem()}},
            },
        },
    });
    let inspector = json!({"name": "inspector", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}});
    let chains = json!([
        {"name": "tls", "filter_chain_match": {"transport_protocol": "tls"}, "transport_socket": tls, "filters": [manager]},
        {"name": "plain", "filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": [manager]},
    ]);
    let head = format!("- name: '{address}'\n  address: {{{}}}\n", socket(address));
    head + &indent(&format!("listener_filters: [{inspector}]\nfilter_chains: {chains}"), 2) + "\n"
}

/// Envoy's codec turns some requests away before any filter sees them: of those there is no verdict.
fn is_read(row: &Row) -> bool {
    row.target != "*" && !["get", "GETX", "BREW"].contains(&&*row.method)
}

fn disagrees(row: &Row, outcome: &Outcome) -> bool {
    match row.verdict {
        Verdict::Allow => outcome.status != 200,
        Verdict::Deny(_) => outcome.status != 403,
        Verdict::Status(status) => outcome.status != status,
    }
}

#[tokio::test]
async fn envoy_says_of_the_same_policies_the_same() {
    let Some(envoy) = executable("envoy_says_of_the_same_policies_the_same") else { return };
    let (mesh, sets) = (Mesh::new(), asked());
    assert!(sets.len() >= 100, "{} sets", sets.len());
    let address = |number: usize, other: usize| {
        let port = 20_000 + 2 * number + other;
        mesh.block.at(91, u16::try_from(port).expect("there are fewer sets than ports"))
    };
    let listeners = sets.iter().enumerate().flat_map(|(number, set)| {
        let ports = [("8080", address(number, 0).port()), ("8081", address(number, 1).port())];
        [0, 1].map(|other| listener(&mesh, set, address(number, other), &ports))
    });
    let admin = mesh.block.at(91, 9901);
    let configuration = bootstrap(admin, &listeners.collect::<String>(), "[]");
    let envoy = Envoy::start(&envoy, &configuration, admin).await;

    let (mut faults, mut rows) = (Vec::new(), 0);
    for (number, set) in sets.iter().enumerate() {
        for row in set.rows.iter().filter(|row| is_read(row)) {
            let other = usize::from(row.port.is_some());
            let outcome = visit(&mesh, row, address(number, other), "row-0").await.expect("Envoy takes connections");
            rows += 1;
            if disagrees(row, &outcome) {
                faults.push(format!("{}: `{}`: Envoy says {} {}", set.name, row.text, outcome.status, outcome.body));
            }
        }
    }

    assert!(rows >= 300, "{rows} rows");
    assert!(faults.is_empty(), "{} of {rows}:\n{}\n{}", faults.len(), faults.join("\n"), envoy.log());
}
