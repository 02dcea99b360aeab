//! `sluice check` and the command line (issue: what the CLI promises to scripts).

use harness::{
    binary::{repository, run},
    config_dir::ConfigDir,
    mesh::Mesh,
    yaml,
};
use serde_json::Value;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn folder(config: &ConfigDir) -> &str {
    config.path().to_str().expect("temporary folders have plain names")
}

#[test]
fn a_good_folder_passes_the_check() {
    let mesh = Mesh::with_edge();
    let pod = mesh.workload("reviews").declare();
    mesh.route_all_to("reviews");

    let output = run(&["check", folder(&mesh.config)]);

    assert!(pod.ip().is_loopback());
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("0 errors"), "{}", text(&output.stdout));
}

#[test]
fn json_problems_come_one_per_line_with_exactly_the_promised_members() {
    let config = ConfigDir::new();
    config.write("bad.yaml", &yaml::virtual_service("bad", "shop.example.com", "- timout: 1s\n  route: []"));

    let output = run(&["check", "--output", "json", folder(&config)]);

    assert_eq!(output.status.code(), Some(1));
    let problems: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is a JSON object"))
        .collect();
    let misspelt = problems
        .iter()
        .find(|problem| problem["message"].as_str().is_some_and(|message| message.contains("timout")))
        .expect("the misspelt field is named");
    let members: Vec<&String> = misspelt.as_object().expect("an object").keys().collect();
    let mut promised = ["code", "severity", "kind", "namespace", "name", "field", "file", "line", "column", "message"];
    promised.sort_unstable();
    assert_eq!(members, promised, "serde_json sorts members unless order is preserved");
    assert_eq!(misspelt["severity"], "error");
    assert_eq!(misspelt["kind"], "VirtualService");
    assert_eq!(misspelt["namespace"], "shop");
    assert_eq!(misspelt["name"], "bad");
    assert_eq!(misspelt["line"], 10);
    assert!(misspelt["file"].as_str().is_some_and(|file| file.ends_with("bad.yaml")));
    assert!(misspelt["field"].as_str().is_some_and(|field| field.contains("http[0]")), "{misspelt}");
}

#[test]
fn a_missing_secret_is_named_and_an_error_only_when_the_files_are_complete() {
    let mesh = Mesh::with_edge();
    mesh.config.remove("edge-cert.yaml");

    for (arguments, code, severity) in [
        (&["check", folder(&mesh.config)][..], 0, "warning"),
        (&["check", "--complete", folder(&mesh.config)][..], 1, "error"),
    ] {
        let output = run(arguments);
        let told = text(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{told}");
        let named = told.lines().any(|line| line.contains("edge-cert") && line.contains(&format!(" {severity}: ")));
        assert!(named, "{told}");
    }
}

#[test]
fn every_example_passes_the_check() {
    let examples = std::fs::read_dir(repository().join("examples")).expect("there are examples");
    let mut seen = 0;
    for example in examples.filter_map(Result::ok).filter(|entry| entry.path().is_dir()) {
        let output = run(&["check", example.path().to_str().expect("a plain name")]);
        let told = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{}: {told}", example.path().display());
        assert!(told.contains("0 errors"), "{told}");
        seen += 1;
    }
    assert!(seen >= 2, "{seen} examples");
}

#[test]
fn a_field_that_is_not_honoured_is_named() {
    let mesh = Mesh::with_edge();
    mesh.workload("reviews").declare();
    mesh.routes(
        "- match: [{uri: {prefix: /}, statPrefix: all}]\n  \
         route: [{destination: {host: reviews, port: {number: 8080}}}]",
    );

    let output = run(&["check", "--output", "json", folder(&mesh.config)]);

    let lines = text(&output.stdout);
    let named = lines.lines().any(|line| line.contains("unsupported-field") && line.contains("statPrefix"));
    assert!(named, "{lines}");
}

#[test]
fn bad_usage_is_one_sentence_and_exit_code_two() {
    let wrong: [&[&str]; 4] = [
        &["gateway", "--bogus"],
        &["check", "/nowhere/at/all"],
        &["gateway", "--config", "/nowhere/at/all"],
        &["gateway", "--config", ".", "--port-map", "many"],
    ];

    for arguments in wrong {
        let output = run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "{arguments:?}: {said}");
    }
}

#[test]
fn version_and_help_answer() {
    assert!(text(&run(&["--version"]).stdout).starts_with("sluice "));
    assert!(text(&run(&["help"]).stdout).contains("sluice demo"));
}

#[test]
fn the_check_names_what_keeps_certificates_from_being_ordered() {
    let config = ConfigDir::new();
    let gateway = |name: &str, issuer: &str, host: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata:\n  name: {name}\n  namespace: istio-system\n  \
             annotations: {{acme.sluice.dev/issuer: {issuer}}}\nspec:\n  selector: {{istio: ingressgateway}}\n  servers:\n  \
             - port: {{number: 443, name: {name}, protocol: HTTPS}}\n    hosts: [\"{host}\"]\n    \
             tls: {{mode: SIMPLE, credentialName: {name}-cert}}\n---\n"
        )
    };
    config.write("issuer.yaml", "apiVersion: acme.sluice.dev/v1alpha1\nkind: Issuer\nmetadata: {name: own, namespace: istio-system}\nspec: {server: \"https://ca.example.com/dir\", termsOfServiceAgreed: true}\n");
    let gateways = [
        gateway("misspelt", "letsencript", "a.example.com"),
        gateway("disagreeing", "letsencrypt", "b.example.com"),
        gateway("any", "own", "*"),
        gateway("wildcard", "own", "*.example.com"),
    ];
    config.write("gateways.yaml", &gateways.concat());

    let output = run(&["check", "--output", "json", folder(&config)]);

    let problems: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |name: &str| {
        let found =
            problems.iter().filter(|it| it["kind"] == "Gateway" && it["name"] == name && it["severity"] != "info");
        found.filter_map(|it| Some((it["code"].as_str()?, it["message"].as_str()?))).collect::<Vec<_>>()
    };
    let says = |name: &str, code: &str, part: &str| {
        assert!(of(name).iter().any(|(it, message)| *it == code && message.contains(part)), "{name}: {:?}", of(name));
    };
    assert_eq!(output.status.code(), Some(1));
    says("misspelt", "unknown-issuer", "istio-system/letsencript");
    says("disagreeing", "terms-not-agreed", "terms-of-service-agreed");
    says("any", "not-ordered", "`*`");
    says("wildcard", "not-ordered", "dns01");
}
