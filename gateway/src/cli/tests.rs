use std::net::SocketAddr;

use super::*;
use crate::net::everywhere::any;
use crate::settings::{RoleSettings, SourceSettings};

fn run(line: &str) -> Result<Command, ExitMessage> {
    parse(std::iter::once("sluice").chain(line.split_whitespace()).map(OsString::from))
}

fn mistake(line: &str) -> String {
    let message = run(line).unwrap_err();
    assert_eq!(message.code, 2, "{}", message.text);
    assert_eq!(message.text.lines().count(), 1, "{}", message.text);
    message.text
}

fn gateway(line: &str) -> Settings {
    match run(&format!("gateway --config Cargo.toml {line}")).unwrap() {
        Command::Gateway(settings) => *settings,
        other => panic!("{other:?}"),
    }
}

#[test]
fn alone_it_says_what_to_do_first() {
    let message = run("").unwrap_err();
    assert_eq!(message.code, 0);
    assert!(message.text.starts_with("An ingress gateway and sidecar proxy"), "{}", message.text);
    assert!(message.text.contains("sluice demo examples/cloud-cargo"), "{}", message.text);
    assert!(!message.text.contains("echo"), "{}", message.text);
}

#[test]
fn version_and_help_are_no_mistakes() {
    assert_eq!(
        run("--version").unwrap_err(),
        ExitMessage { text: format!("sluice {}", env!("CARGO_PKG_VERSION")), code: 0 }
    );
    assert!(run("help gateway").unwrap_err().text.contains("--port-map"));
    assert_eq!(run("help").unwrap_err().code, 0);
}

#[test]
fn a_gateway_has_istios_defaults() {
    let settings = gateway("");
    assert_eq!(settings.role, RoleSettings::Gateway);
    assert_eq!(settings.name, "istio-ingressgateway");
    assert_eq!(settings.namespace, "istio-system");
    assert_eq!(settings.labels, None);
    assert_eq!(settings.trust_domain, None);
    assert_eq!(settings.admin.to_string(), "127.0.0.1:15000");
    assert_eq!(settings.status, SocketAddr::new(any(), 15021));
    assert_eq!(settings.stats, SocketAddr::new(any(), 15090));
    assert_eq!((settings.access_log, settings.drain_time, settings.drain_delay), (None, None, None));
    assert!(settings.workers >= 1);
}

#[test]
fn flags_override_the_defaults() {
    let settings = gateway(
        "--config src --name edge --namespace edge-ns --labels istio=edge,x=y --port-map 443=8443 --admin :1 --status :2 \
         --stats 127.0.0.3:3 --workers 3 --access-log json --drain-time 2s --bind 127.0.0.9",
    );
    assert_eq!(settings.source, SourceSettings::Files(vec!["Cargo.toml".into(), "src".into()]));
    assert_eq!((settings.name.as_str(), settings.namespace.as_str()), ("edge", "edge-ns"));
    assert_eq!(settings.labels.unwrap().len(), 2);
    assert_eq!(settings.port_map[&443], 8443);
    assert_eq!(settings.admin.to_string(), "127.0.0.1:1");
    assert_eq!(settings.status, SocketAddr::new(any(), 2));
    assert_eq!(settings.stats.to_string(), "127.0.0.3:3");
    assert_eq!((settings.workers, settings.access_log), (3, Some(AccessLogFormat::Json)));
    assert_eq!(settings.bind.to_string(), "127.0.0.9");
}

#[test]
fn a_sidecar_takes_its_names_from_the_workload() {
    let command = run(
        "sidecar --config src --workload shop/cart-v1 --app-address 127.0.0.2 --inbound 127.0.0.3:15006 --outbound :1",
    );
    let Command::Sidecar(settings) = command.unwrap() else { panic!("a sidecar") };
    assert_eq!((settings.name.as_str(), settings.namespace.as_str()), ("cart-v1", "shop"));
    let RoleSettings::Sidecar { app_address, inbound, outbound, .. } = settings.role else { panic!("a sidecar") };
    assert_eq!(app_address.unwrap().to_string(), "127.0.0.2");
    assert_eq!(inbound.unwrap().to_string(), "127.0.0.3:15006");
    assert_eq!(outbound.unwrap().to_string(), "127.0.0.1:1");
}

#[test]
fn who_writes_status_is_elected() {
    let refused = mistake("gateway --kubernetes --write-status true --leases false");
    assert!(refused.contains("leave --leases false out"), "{refused}");
}

#[test]
fn mistakes_get_one_sentence() {
    for (line, expected) in [
        (
            "gatewy",
            "there is no command `gatewy`; there are gateway, sidecar, control, check, describe, status, certs, ca, dashboard, demo, crds, inject, init and help (try `sluice help`)",
        ),
        ("gateway", "`--config <PATH>...` or `--kubernetes` is missing (try `sluice help gateway`)"),
        (
            "gateway --kubernetes --config src",
            "`--kubernetes` and `--config <PATH>...` exclude each other (try `sluice help gateway`)",
        ),
        (
            "gateway --config src --context c",
            "--context is about an API server; give --kubernetes instead of --config (try `sluice help gateway`)",
        ),
        (
            "gateway --config src --write-status true",
            "--write-status is about an API server; give --kubernetes instead of --config (try `sluice help gateway`)",
        ),
        (
            "gateway --kubernetes --kubeconfig /no/such/file",
            "--kubeconfig names `/no/such/file`, which does not exist; name an existing file or folder (try `sluice help gateway`)",
        ),
        ("gateway --config", "`--config <PATH>...` needs a value (try `sluice help gateway`)"),
        (
            "gateway --config /no/such/file",
            "--config names `/no/such/file`, which does not exist; name an existing file or folder (try `sluice help gateway`)",
        ),
        (
            "gateway --config src --acces-log off",
            "there is no flag `--acces-log`; did you mean `--access-log`? (try `sluice help gateway`)",
        ),
        (
            "gateway --config src --access-log xml",
            "`--access-log <FORMAT>` cannot be `xml`; it can be off, text, json (try `sluice help gateway`)",
        ),
        (
            "gateway --config src --port-map 443",
            "`--port-map <PORT=PORT,...>` cannot be `443`: `443` is not a pair of ports; write the Gateway's port, =, the \
             port to bind: 443=8443 (try `sluice help gateway`)",
        ),
        (
            "gateway --config src --admin localhost",
            "`--admin <ADDR:PORT>` cannot be `localhost`: write an IP address and a port, as in 127.0.0.1:15000 or :15000 \
             (try `sluice help gateway`)",
        ),
        (
            "gateway --config src --identity-dir Cargo.toml",
            "--identity-dir names `Cargo.toml`, which is a file; name the folder it is in (try `sluice help gateway`)",
        ),
        ("sidecar --config src", "`--workload <NAMESPACE/NAME>` is missing (try `sluice help sidecar`)"),
        ("check", "`<PATH>...` is missing (try `sluice help check`)"),
        (
            "demo nowhere",
            "DIR names `nowhere`, which does not exist; name an existing file or folder (try `sluice help demo`)",
        ),
    ] {
        assert_eq!(mistake(line), expected);
    }
}

#[test]
fn a_flag_given_twice_is_a_mistake() {
    assert!(mistake("gateway --config src --name a --name b").contains("--name"));
}

#[test]
fn echo_has_its_flags() {
    let Ok(Command::Echo(flags)) = run("echo --address 127.0.0.2 --port 8080 --port 80 --service s --pod p") else {
        panic!("echo")
    };
    assert_eq!((flags.ports.as_slice(), flags.service.as_str(), flags.pod.as_str()), (&[8080, 80][..], "s", "p"));
}

#[test]
fn describe_wants_a_kind_an_object_and_a_source() {
    let command = run("describe service shop/cart --config src Cargo.toml --output json");
    let Command::Describe(flags, source) = command.unwrap() else { panic!("a description") };
    assert_eq!(flags.kind, DescribeKind::Service);
    assert_eq!((flags.object.namespace.as_str(), flags.object.name.as_str()), ("shop", "cart"));
    assert_eq!(source, SourceSettings::Files(vec!["src".into(), "Cargo.toml".into()]));
    assert_eq!(flags.output, Output::Json);
    assert!(mistake("describe node a/b --config src").contains("it can be service, pod"));
    assert!(mistake("describe pod cart --config src").contains("the namespace, a slash and the name"));
    assert!(mistake("describe pod shop/cart --config /no/such").contains("does not exist"));
    assert!(mistake("describe pod shop/cart").contains("is missing"));
}

#[test]
fn a_root_that_would_be_renewed_all_the_time_is_refused() {
    let of = |life: &str| format!("control --config Cargo.toml --root-lifetime {life}");
    assert!(mistake(&of("59s")).contains("--root-lifetime 59s is too short"));
    assert!(matches!(run(&of("60s")), Ok(Command::Control(_))));
}

#[test]
fn a_ca_is_looked_at_in_one_place() {
    assert!(mistake("ca status").contains("--state-dir or --ca-dir"));
    assert!(mistake("ca status --ca-dir src --state-dir src").contains("--state-dir"));
    assert!(matches!(run("ca rotate --ca-dir src"), Ok(Command::Ca(_))));
}
