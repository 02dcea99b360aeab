use crate::{
    compile::{Proxy, Role, compile},
    resources::Resources,
    unix,
};

const GATEWAY: &str = "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: g, namespace: istio-system}, spec: \
                       {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}}\n---\n{apiVersion: \
                       networking.istio.io/v1, kind: VirtualService, metadata: {name: v, namespace: a}, spec: {hosts: [all.test], \
                       gateways: [istio-system/g, mesh], http: [{route: [{destination: {host: all.test}}]}]}}\n";

/// What leads to `path` from `namespace`, and the kinds of problems with it.
fn leads(proxy: &Proxy, namespace: &str, path: &str, entry: bool) -> (Vec<String>, Vec<String>) {
    let (direct, beside) = if entry {
        let entry = format!(
            "{{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {{name: w, namespace: {namespace}}}, spec: {{address: \
             'unix://{path}', labels: {{app: w}}}}}}"
        );
        ("workloadSelector: {labels: {app: w}}".to_owned(), entry)
    } else {
        (format!("endpoints: [{{address: 'unix://{path}'}}]"), String::new())
    };
    let text = format!(
        "{GATEWAY}---\n{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: s, namespace: {namespace}}}, spec: \
         {{hosts: [all.test], location: MESH_INTERNAL, resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}], \
         {direct}}}}}\n---\n{beside}\n"
    );
    let (resources, problems) = Resources::read([("a.yaml", text.as_str())]);
    assert!(problems.is_empty(), "{problems:?}");
    let compiled = compile(&resources, proxy);
    let cluster =
        compiled.snapshot.named_clusters().find(|cluster| &*cluster.host == "all.test").expect("a route leads there");
    let shown = cluster.endpoints.iter().map(|it| unix::shown(it.address).to_string()).collect();
    let said = compiled.problems.iter().filter(|problem| problem.code == "foreign-unix-socket");
    (shown, said.map(|problem| format!("{} {}", problem.object, problem.field)).collect())
}

#[test]
fn only_the_namespace_of_the_proxy_and_the_root_lead_to_unix_sockets() {
    let gateway = Proxy { namespace: "edge".to_owned(), ..Proxy::default() };
    let role = Role::Sidecar { namespace: "edge".to_owned(), workload: "w".to_owned() };
    let sidecar = Proxy { role, ..gateway.clone() };
    for proxy in [&gateway, &sidecar] {
        for namespace in ["edge", "istio-system"] {
            for entry in [false, true] {
                let (shown, said) = leads(proxy, namespace, "/run/good.sock", entry);
                assert_eq!(
                    (shown.as_slice(), said.len()),
                    (["unix:///run/good.sock".to_owned()].as_slice(), 0),
                    "{namespace}"
                );
            }
        }
        for (entry, field) in [(false, "spec.endpoints[0].address"), (true, "spec.address")] {
            let (shown, said) = leads(proxy, "a", "/run/bad.sock", entry);
            assert_eq!(shown, Vec::<String>::new());
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].ends_with(field), "{said:?}");
        }
    }
    assert!(!unix::is_known("unix:///run/bad.sock"), "others take no room in the table of paths");
    assert!(unix::is_known("unix:///run/good.sock"));
}
