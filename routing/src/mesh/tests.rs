//! Which mesh configuration holds, and what it means.

use super::*;
use crate::problem::Severity;

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME, namespace: NS}\ndata:\n  mesh: |-\n    trustDomain: \
                   DOMAIN\n    trustDomainAliases: [old]\n";

fn map(namespace: &str, name: &str, domain: &str) -> String {
    MAP.replace("NAME", name).replace("NS", namespace).replace("DOMAIN", domain)
}

fn read(texts: &[String]) -> Resources {
    let (resources, problems) = Resources::read([("mesh.yaml", texts.join("---\n").as_str())]);
    assert!(problems.iter().all(|problem| problem.severity == Severity::Info), "{problems:?}");
    resources
}

fn domain(resources: &Resources, labels: &[(&str, &str)]) -> Option<String> {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Mesh::of(resources, &Proxy { labels, ..Proxy::default() }).config.trust_domain
}

#[test]
fn the_revision_of_the_pod_chooses_the_document() {
    let all = read(&[
        map("istio-system", "istio", "main"),
        map("istio-system", "istio-canary", "canary"),
        map("elsewhere", "istio", "other"),
    ]);
    assert_eq!(domain(&all, &[]).as_deref(), Some("main"));
    assert_eq!(domain(&all, &[("istio.io/rev", "canary")]).as_deref(), Some("canary"));
    assert_eq!(domain(&all, &[("istio.io/rev", "gone")]).as_deref(), Some("main"));
    assert_eq!(domain(&all, &[("istio.io/rev", "default")]).as_deref(), Some("main"));
    let others = read(&[map("elsewhere", "istio", "other")]);
    assert_eq!(domain(&others, &[]), None, "who may write in another namespace does not rule the mesh");
    assert_eq!(domain(&read(&[]), &[]), None);
}

#[test]
fn a_file_of_its_own_is_read_too() {
    let (resources, problems) = Resources::read([("mesh", "trustDomain: td\nrootNamespace: mesh\n")]);
    assert!(problems.is_empty(), "{problems:?}");
    let proxy = Proxy::default().within(&resources);
    assert_eq!((proxy.trust_domain.as_str(), proxy.root_namespace.as_str()), ("td", "mesh"));
}

#[test]
fn the_root_namespace_moves_policies_and_not_the_mesh_configuration() {
    let text = MAP.replace("NAME", "istio").replace("NS", "istio-system") + "    rootNamespace: policies\n";
    let taken = map("policies", "istio", "taken-over");
    let resources = read(&[text.replace("DOMAIN", "mine"), taken]);
    let once = Proxy::default().within(&resources);
    assert_eq!((once.trust_domain.as_str(), once.root_namespace.as_str()), ("mine", "policies"));
    assert_eq!(once.within(&resources), once);
}

#[test]
fn a_config_map_wins_over_a_file() {
    let (resources, problems) = Resources::read([
        ("a", "trustDomain: file\nrootNamespace: mesh\n"),
        ("b.yaml", map("istio-system", "istio", "map").as_str()),
    ]);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(domain(&resources, &[]).as_deref(), Some("map"));
}

#[test]
fn a_template_in_the_entry_is_no_mistake() {
    let (resources, problems) =
        Resources::read([("a.yaml", map("istio-system", "istio", "{{ .Values.td }}").as_str())]);
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!((problem.severity, problem.field.as_str()), (Severity::Info, "data.mesh"), "{problem:?}");
    assert!(resources.meshes.is_empty());
}

#[test]
fn what_is_given_by_hand_wins() {
    let resources = read(&[map("istio-system", "istio", "written")]);
    let given = Proxy { trust_domain: "by.hand".to_owned(), trust_domain_given: true, ..Proxy::default() };
    assert_eq!(given.within(&resources).trust_domain, "by.hand");
    assert_eq!(Proxy::default().within(&resources).trust_domain, "written");
}

#[test]
fn problems_have_the_place_inside_of_the_text() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: istio\n  namespace: istio-system\ndata:\n  mesh: |-\n    # \
                of the mesh\n    outboundTrafficPolicy:\n      mode: NOBODY\n";
    let (_, problems) = Resources::read([("a.yaml", text)]);
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    let place = problem.place.as_ref().unwrap();
    assert_eq!((problem.field.as_str(), place.line, place.column), ("data.mesh.outboundTrafficPolicy.mode", 10, 7));
    assert_eq!(problem.severity, Severity::Error);
    let (_, problems) = Resources::read([("a.yaml", text.replace("mode: NOBODY", "mode: [").as_str())]);
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert!(problem.place.as_ref().unwrap().line >= 10, "{problem:?}");
    assert!(problem.message.starts_with("the mesh configuration is not YAML"), "{problem:?}");
}

#[test]
fn other_config_maps_are_nobody_s_business() {
    for name in ["istio-ca-root-cert", "istio-sidecar-injector", "app"] {
        let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{x: 'y'}}\n");
        let (resources, problems) = Resources::read([("a.yaml", text.as_str())]);
        assert!(problems.is_empty() && resources.meshes.is_empty(), "{problems:?}");
    }
}

#[test]
fn the_pod_s_annotation_is_laid_over_the_mesh() {
    let mesh = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |-\n    \
                defaultConfig:\n      drainDuration: 30s\n      terminationDrainDuration: 7s\n      proxyMetadata: {A: mesh, \
                EXIT_ON_ZERO_ACTIVE_CONNECTIONS: 'true'}\n";
    let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  namespace: shop\n  annotations:\n    \
               proxy.istio.io/config: |\n      drainDuration: 5s\n      holdApplicationUntilProxyStarts: true\n      \
               proxyMetadata: {A: pod, MINIMUM_DRAIN_DURATION: 9s}\n";
    let resources = read(&[mesh.to_owned(), pod.to_owned()]);
    let role = Role::Sidecar { namespace: "shop".to_owned(), workload: "web".to_owned() };
    let found = Mesh::of(&resources, &Proxy { role, ..Proxy::default() }).proxy;
    let seconds = |duration: Option<api::ProtoDuration>| duration.map(|duration| duration.get().as_secs());
    assert_eq!((seconds(found.drain_duration), seconds(found.termination_drain_duration)), (Some(5), Some(7)));
    let variable = |name: &str| found.proxy_metadata.get(name).map(String::as_str);
    assert_eq!(variable("A"), Some("pod"), "each variable by itself");
    let ending = api::ending::Ending::read(|name| variable(name).map(str::to_owned)).unwrap();
    assert_eq!(ending.at_zero(), Some(Duration::from_secs(9)));
}

#[test]
fn the_access_log_is_off_only_where_its_file_is_empty() {
    let log = |text: &str| {
        let (resources, _) = Resources::read([("mesh", format!("trustDomain: a\n{text}").as_str())]);
        Mesh::of(&resources, &Proxy::default()).access_log()
    };
    assert_eq!(log(""), None);
    assert_eq!(log("accessLogFile: ''\n"), Some(AccessLog::Off));
    assert_eq!(log("accessLogFile: /dev/stdout\n"), Some(AccessLog::Text));
    assert_eq!(log("accessLogFile: /dev/stdout\naccessLogEncoding: JSON\n"), Some(AccessLog::Json));
    assert_eq!(log("accessLogEncoding: JSON\n"), Some(AccessLog::Json));
}
