//! Loading as a whole: broken documents and their messages, reloads, positions, digests.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::*;

/// `testdata/broken`: every broken document with exactly the messages it gets. `BLESS=1` writes them anew.
#[test]
fn every_broken_document_gets_its_message() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/broken");
    let mut inputs: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.retain(|path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "json"));
    inputs.sort();
    assert!(inputs.len() >= 30, "{} documents", inputs.len());

    let mut differences = String::new();
    for input in inputs {
        let name = input.file_name().unwrap().to_str().unwrap();
        let (_, problems) = Resources::read([(name, std::fs::read_to_string(&input).unwrap().as_str())]);
        let told: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
        assert!(!told.is_empty(), "{name} is not broken");
        let expected = input.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expected, &told).unwrap();
        }
        let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
        if told != wanted {
            write!(differences, "\n{name}\n--- wanted\n{wanted}--- told\n{told}").unwrap();
        }
    }
    assert!(differences.is_empty(), "{differences}\nBLESS=1 writes what is told now");
}

const GOOD: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: cargo}\nspec: {ports: [{port: 80}]}\n";
const BROKEN: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: cargo}\nspec: {ports: [{port: x}]}\n";
const NOT_YAML: &str =
    "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  namespace: cargo\nspec: {ports: [{port: 80]}\n";
const NAMELESS: &str = "{[{\n";

fn files(list: &[(&str, &str)]) -> Vec<(String, Parsed)> {
    list.iter().map(|(file, text)| ((*file).to_owned(), parse_file(file, text))).collect()
}

fn port(resources: &Resources) -> u16 {
    resources.services.get("cargo", "web").unwrap().spec.spec.ports[0].port
}

#[test]
fn a_broken_document_keeps_its_last_good_version() {
    for broken in [BROKEN, NOT_YAML, NAMELESS] {
        let mut store = Store::default();
        store.replace(files(&[("a.yaml", GOOD)]));
        let (resources, problems) = store.replace(files(&[("a.yaml", broken)]));
        assert_eq!(port(&resources), 80);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].message.contains("the last good version"), "{}", problems[0]);

        let (resources, problems) = store.replace(files(&[("a.yaml", &GOOD.replace("80", "81"))]));
        assert_eq!(port(&resources), 81);
        assert_eq!(problems, []);
    }
}

#[test]
fn a_kept_version_survives_any_number_of_reloads() {
    let mut store = Store::default();
    store.replace(files(&[("a.yaml", GOOD)]));
    for _ in 0..3 {
        let (resources, _) = store.replace(files(&[("a.yaml", NAMELESS)]));
        assert_eq!(port(&resources), 80);
    }
}

#[test]
fn without_a_good_version_a_broken_document_gives_no_object() {
    let (resources, problems) = Store::default().replace(files(&[("a.yaml", BROKEN)]));
    assert!(resources.services.is_empty());
    assert!(!problems[0].message.contains("last good"), "{}", problems[0]);
}

#[test]
fn a_deleted_object_goes_even_when_another_of_its_file_is_broken() {
    let other = GOOD.replace("web", "api");
    let mut store = Store::default();
    store.replace(files(&[("a.yaml", &format!("{GOOD}---\n{other}"))]));
    let (resources, _) = store.replace(files(&[("a.yaml", BROKEN)]));
    assert!(resources.services.get("cargo", "web").is_some());
    assert!(resources.services.get("cargo", "api").is_none());
}

#[test]
fn an_unreadable_file_keeps_all_of_its_objects_but_not_those_that_moved() {
    let mut store = Store::default();
    let other = GOOD.replace("web", "api");
    store.replace(files(&[("a.yaml", &format!("{GOOD}---\n{other}"))]));
    let moved = other.replace("80", "81");
    let files = vec![
        ("a.yaml".to_owned(), Parsed::unreadable("a.yaml", "permission denied; let sluice read the file")),
        ("b.yaml".to_owned(), parse_file("b.yaml", &moved)),
    ];
    let (resources, problems) = store.replace(files);
    assert_eq!(port(&resources), 80);
    assert_eq!(resources.services.get("cargo", "api").unwrap().spec.spec.ports[0].port, 81);
    assert!(
        problems[0].message.ends_with("the last good version of 1 object of this file keeps serving"),
        "{}",
        problems[0]
    );
}

#[test]
fn a_policy_without_a_name_is_one_of_its_kind_that_was_there() {
    let nameless = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {namespace: cargo}\nspec: \
                    {action: DENY, rules: [{}]}\n";
    let named = nameless.replace("{namespace", "{name: a, namespace");
    for (before, after, closing) in
        [(GOOD, nameless.to_owned(), 1), (&named, nameless.to_owned(), 0), (&named, nameless.repeat(2), 1)]
    {
        let mut store = Store::default();
        store.replace(files(&[("a.yaml", before)]));
        let (resources, problems) = store.replace(files(&[("a.yaml", &after)]));
        assert_eq!(resources.rejected().values().filter(|it| it.closes()).count(), closing, "{before}{after}");
        assert_eq!(problems.iter().any(|it| it.message.contains("fails closed")), closing > 0, "{problems:#?}");
        assert_eq!(resources.kept().len(), 1);
    }
}

#[test]
fn only_what_closes_something_says_so() {
    for (kind, name, says) in [
        ("AuthorizationPolicy", "a", true),
        ("AuthorizationPolicy", "'{{ .Values.name }}'", true),
        ("RequestAuthentication", "a", true),
        // No token is asked for by what is still a template.
        ("RequestAuthentication", "'{{ .Values.name }}'", false),
    ] {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: cargo}}\nspec: {{ruls: 1}}\n"
        );
        let (resources, problems) = Resources::read([("a.yaml", text.as_str())]);
        assert_eq!(problems.iter().any(|it| it.message.contains("fails closed")), says, "{problems:#?}");
        assert_eq!(resources.rejected().values().any(|it| it.closes()), says, "{kind} {name}");
    }
}

#[test]
fn of_two_objects_the_first_by_file_name_holds() {
    let (resources, problems) =
        Store::default().replace(files(&[("b.yaml", &GOOD.replace("80", "81")), ("a.yaml", GOOD)]));
    assert_eq!(port(&resources), 80);
    assert!(problems[0].message.contains("a.yaml:1") && problems[0].message.contains("b.yaml:1"), "{}", problems[0]);
}

#[test]
fn an_ignored_kind_is_named_once_over_all_files() {
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\n";
    let (_, problems) = Resources::read([("a.yaml", job), ("b.yaml", job)]);
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].code, problems[0].severity), ("ignored-kind", Severity::Info));
}

#[test]
fn the_digest_depends_on_content_and_not_on_layout() {
    let other = GOOD.replace("web", "api");
    let digest = |list: &[(&str, &str)]| Resources::read(list.iter().copied()).0.digest();
    let apart = digest(&[("a.yaml", GOOD), ("b.yaml", &other)]);
    let json = r#"{"kind":"Service","apiVersion":"v1","spec":{"ports":[{"port":80}]},"status":{},"metadata":{"namespace":"cargo","name":"web","resourceVersion":"7"}}"#;
    assert_eq!(apart, digest(&[("c.yaml", &format!("# note\n{other}---\n{GOOD}"))]));
    assert_eq!(apart, digest(&[("a.json", json), ("b.yaml", &other)]));
    assert_ne!(apart, digest(&[("a.yaml", &GOOD.replace("80", "81")), ("b.yaml", &other)]));
    assert_ne!(apart, digest(&[("a.yaml", GOOD)]));
}

#[test]
fn objects_are_walked_oldest_first_then_by_name_then_by_namespace() {
    let service = |namespace: &str, name: &str, time: &str| {
        format!("---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: {namespace}, name: {name}{time}}}\n")
    };
    let text = [
        service("b", "x", ", creationTimestamp: \"2024-01-01T00:00:00Z\""),
        service("a", "x", ", creationTimestamp: \"2024-01-01T00:00:00Z\""),
        service("a", "late", ", creationTimestamp: \"2025-01-01T00:00:00Z\""),
        service("z", "ageless", ""),
    ]
    .concat();
    let (resources, _) = Resources::read([("a.yaml", text.as_str())]);
    let order: Vec<(&str, &str)> =
        resources.services.iter().map(|object| (object.namespace(), object.name())).collect();
    assert_eq!(order, [("z", "ageless"), ("a", "x"), ("b", "x"), ("a", "late")]);
    assert_eq!(resources.services.in_namespace("a").len(), 2);
}

#[test]
fn a_field_is_found_where_it_is_written_or_else_its_parent() {
    let text = "# note\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: web\nspec:\n  hosts:\n    - a.example.com\n    - b.example.com\n  http:\n  - cors_policy:\n      max_age: 24h\n    match:\n    - headers: {x.y: {exact: a}}\n    route: [{destination: {host: web}}]\n";
    let (resources, problems) = Resources::read([("web.yaml", text)]);
    assert!(problems.iter().all(|problem| problem.code == "field-spelling"), "{problems:?}");
    let object = resources.virtual_services.get("default", "web").unwrap();
    let at = |field: &str| object.place(field).map(|place| (place.line, place.column)).unwrap();
    assert_eq!(at("spec.hosts[1]"), (10, 7));
    assert_eq!(at("spec.http[0].corsPolicy.maxAge"), (13, 7));
    assert_eq!(at(r#"spec.http[0].match[0].headers["x.y"].exact"#), (15, 23));
    assert_eq!(at("spec.http[0].timeout"), (12, 5));
    assert_eq!(at("spec.tls[3].route"), (7, 1));
    assert_eq!(at(""), (3, 1));
}

#[test]
fn every_spelling_of_protobufs_json_form_is_read() {
    let text = "apiVersion: networking.istio.io/v1alpha3\nkind: DestinationRule\nmetadata: {name: web, labels: {a: no}}\nspec:\n  host: web\n  export_to: null\n  trafficPolicy:\n    tls: {mode: ISTIO_MUTUAL}\n    loadBalancer: {consistentHash: {use_source_ip: true, ringHash: {minimumRingSize: 2048.0}}}\n    portLevelSettings: [{port: {number: 8080}, connectionPool: {tcp: {connectTimeout: 1.5s, maxConnections: 1e3}}}]\n";
    let (resources, problems) = Resources::read([("web.yaml", text)]);
    let told: Vec<_> = problems.iter().map(|it| (it.code, it.severity, it.place.as_ref().unwrap().line)).collect();
    assert_eq!(told, [("field-spelling", Severity::Warning, 6), ("field-spelling", Severity::Warning, 9)]);
    let object = resources.destination_rules.get("default", "web").unwrap();
    assert_eq!(object.meta.labels["a"], "no");
    let policy = object.spec.traffic_policy.as_ref().unwrap();
    assert_eq!(policy.tls.as_ref().unwrap().mode, crate::api::destination_rule::ClientTlsMode::IstioMutual);
    let hash = policy.load_balancer.as_ref().unwrap().consistent_hash.as_ref().unwrap();
    assert_eq!(hash.ring_hash.unwrap().minimum_ring_size, Some(2048));
    let settings = &policy.port_level_settings[0];
    let tcp = settings.connection_pool.as_ref().unwrap().tcp.as_ref().unwrap();
    assert_eq!(settings.port.unwrap().number, 8080);
    assert_eq!(tcp.connect_timeout, Some(crate::api::ProtoDuration::from_millis(1500)));
    assert_eq!(tcp.max_connections, 1000);
}

#[test]
fn a_field_in_both_spellings_is_an_error() {
    let text = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web}\nspec: {host: web, exportTo: [a], export_to: [b]}\n";
    let (_, problems) = Resources::read([("web.yaml", text)]);
    assert!(problems[0].message.contains("`exportTo` is given twice"), "{}", problems[0]);
}

#[test]
fn a_secret_merges_its_data_and_never_prints_it() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: key}\ndata:\n  a: aGlkZGVu\n  b: aGlkZGVu\nstringData: {b: also hidden}\n";
    let (resources, problems) = Resources::read([("key.yaml", text)]);
    assert_eq!(problems, []);
    let secret = resources.secrets.get("default", "key").unwrap();
    assert_eq!(secret.spec.data["a"], b"hidden");
    assert_eq!(secret.spec.data["b"], b"also hidden");
    let printed = format!("{secret:?} {resources:?}");
    assert!(!printed.contains("hidden") && !printed.contains("aGlk") && !printed.contains("104, 105"), "{printed}");
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in "(?s).{0,300}") {
        parse_file("any.yaml", &text);
    }

    #[test]
    fn any_damage_to_a_good_document_is_survived(at in 0usize..400, junk in "[\\[\\]{}:,&*!|>'\"%@`#\\-? \\n\\ta-z0-9]{1,6}") {
        let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: web\nspec:\n  hosts: [\"a.example.com\"]\n  http:\n  - match:\n    - uri: {prefix: /api}\n      headers: {x-a: {exact: b}}\n    route:\n    - destination: {host: web, port: {number: 80}}\n    timeout: 3s\n---\napiVersion: v1\nkind: Service\nmetadata: {name: last}\n";
        let mut damaged = text.to_owned();
        let at = at.min(text.len());
        damaged.insert_str(at, &junk);
        for problem in parse_file("web.yaml", &damaged).problems {
            let place = problem.place.unwrap();
            prop_assert!(place.line >= 1 && place.column >= 1);
        }
    }
}

#[test]
fn an_object_of_an_api_server_is_the_same_as_from_a_file() {
    let (from_file, _) = Resources::read([("a.yaml", GOOD)]);
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "web", "namespace": "cargo", "uid": "7", "resourceVersion": "12", "generation": 3,
            "creationTimestamp": "2026-01-31T12:00:00Z", "managedFields": [{"manager": "kubectl"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
        },
        "spec": {"ports": [{"port": 80}], "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"},
        "status": {"loadBalancer": {}}
    });
    let mut store = Store::default();
    let (served, problems) = store.replace(vec![(String::new(), parse_object(&object))]);
    assert_eq!(problems, []);
    assert_eq!(served.digest(), from_file.digest());
    assert_eq!(port(&served), 80);
    let mut broken = object;
    broken["spec"]["ports"][0]["port"] = "x".into();
    let (kept, problems) = store.replace(vec![(String::new(), parse_object(&broken))]);
    assert_eq!(port(&kept), 80);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].place, None);
    assert!(problems[0].message.ends_with("the last good version keeps serving"), "{}", problems[0]);
}

#[test]
fn the_age_of_objects_is_told_apart_without_changing_the_digest() {
    let text = |old: &str, new: &str| {
        let one = |name: &str, year: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, creationTimestamp: \"{year}-01-01T00:00:00Z\"}}\nspec: {{servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [\"*\"]}}]}}\n"
            )
        };
        format!("{}---\n{}", one(old, "2024"), one(new, "2025"))
    };
    let read = |text: &str| Resources::read([("a.yaml", text)]).0;
    let (first, second) = (read(&text("a", "b")), read(&text("b", "a")));
    assert_eq!(first.digest(), second.digest());
    assert_ne!(first.order(), second.order());
}

#[test]
fn what_is_sound_of_a_mesh_configuration_holds_until_there_is_a_good_one() {
    let text = |mesh: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |-\n    {mesh}\n"
        )
    };
    let mut store = Store::default();
    let mut read = |mesh: &str| {
        let (resources, problems) = store.replace(files(&[("a.yaml", &text(mesh))]));
        let domain = resources.meshes.iter().next().and_then(|it| it.spec.mesh.trust_domain.clone());
        (domain.unwrap_or_default(), problems.iter().map(|it| it.message.clone()).collect::<Vec<_>>().join("\n"))
    };
    for domain in ["one", "two"] {
        let (found, told) = read(&format!("{{trustDomain: {domain}, connectTimeout: fast}}"));
        assert_eq!(found, domain);
        assert!(told.ends_with("; it is passed over, and the rest holds"), "{told}");
    }
    assert_eq!(read("{trustDomain: good}"), ("good".to_owned(), String::new()));
    let (found, told) = read("{trustDomain: three, connectTimeout: fast}");
    assert_eq!(found, "good");
    assert!(told.ends_with("the last good version keeps serving"), "{told}");
}
