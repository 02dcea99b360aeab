//! Envoy's own RBAC filter as the judge of the tables: given the same policies as Istio would give them, it says the same.

use std::net::SocketAddr;

use harness::{
    authorization::{
        judge, read,
        table::{Place, Row, Set, Verdict},
        visit::{Outcome, visit},
    },
    endpoint::{Call, Endpoint},
    envoy::{Envoy, executable},
    mesh::Mesh,
    message::{Answer, Version},
    yaml::indent,
};
use serde_json::{Value, json};

use super::envoy::{bootstrap, cluster, socket};

/// Sets that Envoy is asked for: what concerns HTTP and is a policy's own business. With how paths are normalised.
fn asked() -> Vec<(Value, Set)> {
    let base = json!({"normalize_path": true});
    let merge = json!({"normalize_path": true, "merge_slashes": true});
    let decode = json!({
        "normalize_path": true, "merge_slashes": true, "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
    });
    let none = json!({});
    let tables = [
        ("actions", &base),
        ("conditions", &base),
        ("operations", &base),
        ("sources", &base),
        ("paths_base", &base),
        ("paths_decode", &decode),
        ("paths_merge", &merge),
        ("paths_none", &none),
    ];
    let sets = tables.into_iter().flat_map(|(name, form)| read(name).sets.into_iter().map(|set| (form.clone(), set)));
    let is_its_business = |(_, set): &(Value, Set)| {
        let specs = set.specs();
        set.is_plain()
            && (set.is_for(Place::Gateway) || set.is_for(Place::Sidecar))
            && specs.iter().all(|(_, spec)| spec.get("selector").is_none())
    };
    sets.filter(is_its_business).collect()
}

/// A listener with these policies; whoever passes is answered with 200.
fn listener(mesh: &Mesh, (form, set): (&Value, &Set), address: SocketAddr, ports: &[(&str, u16)]) -> String {
    let router = json!({"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}});
    let filters: Vec<Value> = judge::filters(&set.specs(), ports).into_iter().chain([router]).collect();
    let mut manager = json!({
        "name": "http",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "http", "codec_type": "AUTO", "delayed_close_timeout": "0s", "use_remote_address": set.is_for(Place::Gateway),
            "upgrade_configs": [{"upgrade_type": "websocket"}], "http_filters": filters,
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "direct_response": {"status": 200}},
            ]}]},
        },
    });
    for (name, value) in form.as_object().into_iter().flatten() {
        manager["typed_config"][name.as_str()] = value.clone();
    }
    chains(mesh, &json!([manager]), &["h2", "http/1.1"], address)
}

/// These filters behind TLS of the mesh, and behind none.
fn chains(mesh: &Mesh, filters: &Value, alpn: &[&str], address: SocketAddr) -> String {
    let issued = mesh.pki.workload(&harness::pki::spiffe("shop", "reviews"));
    let tls = json!({
        "name": "tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": true,
            "common_tls_context": {
                "alpn_protocols": alpn,
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
        {"name": "tls", "filter_chain_match": {"transport_protocol": "tls"}, "transport_socket": tls, "filters": filters},
        {"name": "plain", "filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": filters},
    ]);
    let head = format!("- name: '{address}'\n  address: {{{}}}\n", socket(address));
    head + &indent(&format!("listener_filters: [{inspector}]\nfilter_chains: {chains}"), 2) + "\n"
}

/// Envoy's codec turns some requests away before any filter sees them: of those there is no verdict. Nor is there one of paths
/// that are none, which are refused here and not everywhere there.
fn is_read(row: &Row) -> bool {
    let path = row.verdict != Verdict::Status(400) || !row.target.contains(['%', '#']);
    // Envoy takes `..;` for `..` as it is written, and `%2e%2e;` not, which an application may do all the same.
    let spelled = !row.target.contains("%2e;");
    row.target != "*" && !["get", "GETX", "BREW"].contains(&&*row.method) && path && spelled
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
    let listeners = sets.iter().enumerate().flat_map(|(number, (form, set))| {
        let ports = [("8080", address(number, 0).port()), ("8081", address(number, 1).port())];
        [0, 1].map(|other| listener(&mesh, (form, set), address(number, other), &ports))
    });
    let admin = mesh.block.at(91, 9901);
    let configuration = bootstrap(admin, &listeners.collect::<String>(), "[]");
    let envoy = Envoy::start(&envoy, &configuration, admin).await;

    let (mut faults, mut rows) = (Vec::new(), 0);
    for (number, (_, set)) in sets.iter().enumerate() {
        for row in set.rows.iter().filter(|row| is_read(row)) {
            let other = usize::from(row.port.is_some());
            let outcome = visit(&mesh, row, address(number, other), "row-0").await.expect("Envoy takes connections");
            rows += 1;
            if disagrees(row, &outcome) {
                faults.push(format!("{}: `{}`: Envoy says {} {}", set.name, row.text, outcome.status, outcome.body));
            }
        }
    }

    assert!(rows >= 400, "{rows} rows");
    assert!(faults.is_empty(), "{} of {rows}:\n{}\n{}", faults.len(), faults.join("\n"), envoy.log());
}

/// A listener of bytes with these policies, and an application behind it.
fn bytes_listener(mesh: &Mesh, set: &Set, address: SocketAddr, app: &str) -> String {
    let relay = json!({"name": "relay", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "bytes", "cluster": app,
    }});
    let ports = [("3306", address.port())];
    let filters: Vec<Value> = judge::network_filters(&set.specs(), &ports).into_iter().chain([relay]).collect();
    chains(mesh, &filters.into(), &["istio"], address)
}

#[tokio::test]
async fn envoy_says_the_same_of_connections_whose_bytes_nobody_looks_at() {
    let Some(envoy) = executable("envoy_says_the_same_of_connections_whose_bytes_nobody_looks_at") else { return };
    let mesh = Mesh::new();
    let sets: Vec<Set> = read("bytes").sets.into_iter().filter(|set| set.is_plain()).collect();
    assert!(sets.len() >= 40, "{} sets", sets.len());
    let app = mesh.block.at(92, 8080);
    let _app = Endpoint::start(app, Version::One, |mut call: Call| async move {
        call.read().await;
        call.answer(Answer::new(200, "it passed")).await;
    })
    .await;
    let address =
        |number: usize| mesh.block.at(91, u16::try_from(20_000 + number).expect("there are fewer sets than ports"));
    let listeners = sets.iter().enumerate().map(|(number, set)| bytes_listener(&mesh, set, address(number), "app"));
    let admin = mesh.block.at(91, 9901);
    let configuration = bootstrap(admin, &listeners.collect::<String>(), &cluster("app", app, ""));
    let envoy = Envoy::start(&envoy, &configuration, admin).await;

    let (mut faults, mut rows) = (Vec::new(), 0);
    for (number, set) in sets.iter().enumerate() {
        for row in set.rows.iter().filter(|row| row.method.is_empty()) {
            let outcome = visit(&mesh, row, address(number), "row-0").await.expect("Envoy takes connections");
            rows += 1;
            let (passed, wanted) = (outcome.status == 200, row.verdict == Verdict::Allow);
            if passed != wanted {
                faults.push(format!("{}: `{}`: Envoy says {} {}", set.name, row.text, outcome.status, outcome.body));
            }
        }
    }

    assert!(rows >= 60, "{rows} rows");
    assert!(faults.is_empty(), "{} of {rows}:\n{}\n{}", faults.len(), faults.join("\n"), envoy.log());
}
