//! The charts, rendered by real Helm: what a cluster would get, and what a wrong value is answered with.

use std::fs;

use harness::{binary, helm};
use serde_json::{Value, json};

mod control;
mod values;

const GATEWAY: &str = "sluice-gateway";
const BASE: &str = "sluice-base";

/// The one object of a kind.
fn one<'o>(objects: &'o [Value], kind: &str) -> &'o Value {
    let found: Vec<&Value> = objects.iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "one {kind} is wanted of {:?}", kinds(objects));
    found[0]
}

fn kinds(objects: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<&str> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
    kinds.sort_unstable();
    kinds
}

fn pod(objects: &[Value]) -> &Value {
    let workload = objects.iter().find(|it| it["kind"] == "Deployment" || it["kind"] == "DaemonSet");
    &workload.expect("a workload is rendered")["spec"]["template"]
}

fn container(objects: &[Value]) -> &Value {
    &pod(objects)["spec"]["containers"][0]
}

fn args(objects: &[Value]) -> Vec<&str> {
    container(objects)["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Every label of `selector` is one of `labels`, with the same value.
fn selects(selector: &Value, labels: &Value) -> bool {
    selector
        .as_object()
        .is_some_and(|it| !it.is_empty() && it.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// API groups, resources and verbs of a role's rules, one line each.
fn rules(role: &Value) -> Vec<String> {
    let words = |value: &Value| {
        value.as_array().expect("a list").iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
    };
    let rules = role["rules"].as_array().expect("a role has rules");
    let plain = |rule: &Value| rule.as_object().is_some_and(|rule| rule.len() == 3);
    let one_object =
        |rule: &Value| rule["resources"] == json!(["configmaps"]) && rule["resourceNames"] == json!(["istio"]);
    assert!(rules.iter().all(|rule| plain(rule) || one_object(rule)), "nothing but the three");
    rules
        .iter()
        .map(|rule| format!("{}/{}: {}", words(&rule["apiGroups"]), words(&rule["resources"]), words(&rule["verbs"])))
        .collect()
}

#[test]
fn the_charts_stand_up_to_helms_own_lint() {
    let Some(_) = helm::executable("the_charts_stand_up_to_helms_own_lint") else { return };
    for chart in [BASE, GATEWAY] {
        let said = helm::lint(chart, &[]).unwrap_or_else(|fault| panic!("{fault}"));
        assert!(said.contains("0 chart(s) failed"), "{said}");
    }
}

#[test]
fn the_base_chart_carries_what_sluice_crds_prints() {
    let printed = binary::run(&["crds"]);
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).expect("YAML is text");
    let folder = binary::repository().join("charts/sluice-base/crds");
    let file = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    // Ours are files of their own, for clusters that have Istio's already.
    let committed = file("acme.yaml") + &file("istio.yaml") + &file("policy.yaml");
    assert!(committed == printed, "the types changed since charts/sluice-base/crds was written: run `make crds`");

    let Some(_) = helm::executable("the_base_chart_carries_what_sluice_crds_prints") else { return };
    let rendered = helm::template(BASE, &["--include-crds"]);
    assert_eq!(rendered, helm::documents(&printed));
    assert_eq!(rendered.len(), 14);
    assert!(helm::template(BASE, &["--skip-crds"]).is_empty(), "the definitions can be left to Istio");
}

#[test]
fn the_default_values_make_a_gateway_behind_a_load_balancer() {
    let Some(_) = helm::executable("the_default_values_make_a_gateway_behind_a_load_balancer") else { return };
    let objects = helm::template(GATEWAY, &[]);

    let wanted = [
        "ClusterRole",
        "ClusterRoleBinding",
        "Deployment",
        "HorizontalPodAutoscaler",
        "Job",
        "Role",
        "RoleBinding",
        "Service",
        "ServiceAccount",
    ];
    assert_eq!(kinds(&objects), wanted);
    let service = one(&objects, "Service");
    assert_eq!(service["spec"]["type"], "LoadBalancer");
    assert_eq!(
        service["spec"]["ports"],
        json!([
            {"name": "status-port", "port": 15021, "protocol": "TCP", "targetPort": 15021},
            {"name": "http2", "port": 80, "protocol": "TCP", "targetPort": 8080},
            {"name": "https", "port": 443, "protocol": "TCP", "targetPort": 8443},
        ])
    );
    // What a Gateway with `selector: {istio: ingressgateway}` compares with.
    let labels = &pod(&objects)["metadata"]["labels"];
    assert_eq!(labels["istio"], "ingressgateway");
    assert_eq!(labels["app"], "istio-ingressgateway");
    assert_eq!(labels["sidecar.istio.io/inject"], "false");
    assert!(selects(&service["spec"]["selector"], labels));
    assert!(selects(&one(&objects, "Deployment")["spec"]["selector"]["matchLabels"], labels));
    assert_eq!(one(&objects, "Deployment")["spec"].get("replicas"), None, "the autoscaler decides");
    let scaler = &one(&objects, "HorizontalPodAutoscaler")["spec"];
    assert_eq!((&scaler["minReplicas"], &scaler["maxReplicas"]), (&json!(1), &json!(5)));
    assert_eq!(scaler["scaleTargetRef"]["name"], one(&objects, "Deployment")["metadata"]["name"]);
    for object in &objects {
        let clusterwide = object["kind"].as_str().is_some_and(|kind| kind.starts_with("Cluster"));
        assert_eq!(object["metadata"].get("namespace").is_none(), clusterwide, "{}", object["kind"]);
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/instance"], "istio-ingressgateway");
    }
}

#[test]
fn the_pod_can_do_little_and_knows_itself() {
    let Some(_) = helm::executable("the_pod_can_do_little_and_knows_itself") else { return };
    let objects = helm::template(GATEWAY, &["--set", "identity.secretName=mesh-identity"]);
    let spec = &pod(&objects)["spec"];

    assert_eq!(
        spec["securityContext"],
        json!({"runAsNonRoot": true, "runAsUser": 1337, "runAsGroup": 1337, "fsGroup": 1337,
            "seccompProfile": {"type": "RuntimeDefault"}}),
        "no sysctl is needed for 8080 and 8443"
    );
    assert_eq!(
        container(&objects)["securityContext"],
        json!({"allowPrivilegeEscalation": false, "privileged": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]}})
    );
    assert!(container(&objects)["resources"]["limits"]["memory"].is_string());
    assert!(container(&objects)["resources"]["requests"]["cpu"].is_string());
    assert_eq!(container(&objects)["readinessProbe"]["httpGet"], json!({"path": "/healthz/ready", "port": 15021}));

    let environment = container(&objects)["env"].as_array().expect("an environment");
    let field = |name: &str| {
        let entry = environment.iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("{name} is missing"));
        entry.pointer("/valueFrom/fieldRef/fieldPath").or(entry.get("value")).cloned()
    };
    assert_eq!(field("POD_NAME"), Some(json!("metadata.name")));
    assert_eq!(field("POD_NAMESPACE"), Some(json!("metadata.namespace")));
    assert_eq!(field("POD_IP"), Some(json!("status.podIP")));
    assert_eq!(field("SERVICE_ACCOUNT"), Some(json!("spec.serviceAccountName")));
    assert_eq!(field("WORKLOAD_NAME"), Some(one(&objects, "Deployment")["metadata"]["name"].clone()));
    let labels = json!({"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}});
    assert_eq!(
        spec["volumes"],
        json!([
            {"name": "podinfo", "downwardAPI": {"items": [labels]}},
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "identity", "secret": {"secretName": "mesh-identity"}},
        ])
    );
    let mounts = json!([
        {"name": "podinfo", "mountPath": "/etc/podinfo", "readOnly": true},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "identity", "mountPath": "/etc/sluice/identity", "readOnly": true},
    ]);
    assert_eq!(container(&objects)["volumeMounts"], mounts);
    assert!(args(&objects).contains(&"--identity-dir=/etc/sluice/identity"));
    assert!(args(&objects).starts_with(&["gateway", "--kubernetes"]));

    assert_eq!(spec["automountServiceAccountToken"], true);
    assert_eq!(one(&objects, "ServiceAccount")["automountServiceAccountToken"], false);
    let spread = spec["topologySpreadConstraints"].as_array().expect("a list");
    assert!(spread.iter().all(|it| selects(&it["labelSelector"]["matchLabels"], &pod(&objects)["metadata"]["labels"])));
    assert_eq!(spread.len(), 2);
}

#[test]
fn a_gateway_that_asks_a_ca_has_what_it_asks_with() {
    let Some(_) = helm::executable("a_gateway_that_asks_a_ca_has_what_it_asks_with") else { return };
    let objects = helm::template(GATEWAY, &["--set", "identity.caAddress=istiod.istio-system.svc:15012"]);
    let token =
        json!({"serviceAccountToken": {"path": "istio-token", "audience": "istio-ca", "expirationSeconds": 43200}});
    let volumes = pod(&objects)["spec"]["volumes"].as_array().expect("a list").clone();
    assert_eq!(volumes[2], json!({"name": "istio-token", "projected": {"sources": [token]}}));
    let roots = json!({"name": "istio-ca-root-cert", "optional": true});
    assert_eq!(volumes[3], json!({"name": "istiod-ca-cert", "configMap": roots}));
    let lists = json!({"name": "istio-ca-crl", "optional": true});
    assert_eq!(volumes[4], json!({"name": "istio-ca-crl", "configMap": lists}));
    let mounts = container(&objects)["volumeMounts"].as_array().expect("a list").clone();
    assert_eq!(mounts[2]["mountPath"], "/var/run/secrets/tokens");
    assert_eq!(mounts[3]["mountPath"], "/var/run/secrets/istio");
    assert_eq!(mounts[4]["mountPath"], "/var/run/secrets/istio/crl");
    assert!(args(&objects).contains(&"--ca-address=istiod.istio-system.svc:15012"));
}

#[test]
fn the_executable_knows_every_flag_that_the_chart_gives_it() {
    let Some(_) = helm::executable("the_executable_knows_every_flag_that_the_chart_gives_it") else { return };
    let help = binary::run(&["help", "gateway"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let objects = helm::template(GATEWAY, &["--set", "identity.caAddress=ca:15012,acme.hooks=dns-hooks"]);
    for flag in args(&objects).into_iter().filter_map(|it| it.strip_prefix("--")) {
        let name = flag.split('=').next().unwrap_or_default();
        assert!(
            help.split_whitespace().any(|word| word.trim_start_matches("--") == name),
            "--{name} is not in:\n{help}"
        );
    }
}

#[test]
fn the_programs_of_a_config_map_are_mounted_to_be_run() {
    let Some(_) = helm::executable("the_programs_of_a_config_map_are_mounted_to_be_run") else { return };
    let objects = helm::template(GATEWAY, &["--set", "acme.hooks=dns-hooks"]);
    let spec = &pod(&objects)["spec"];
    let volume = json!({"name": "acme-hooks", "configMap": {"name": "dns-hooks", "defaultMode": 0o555}});
    assert_eq!(spec["volumes"][2], volume);
    let mount = json!({"name": "acme-hooks", "mountPath": "/etc/sluice/acme-hooks", "readOnly": true});
    assert_eq!(container(&objects)["volumeMounts"][2], mount);
    assert!(args(&objects).contains(&"--acme-hooks=/etc/sluice/acme-hooks"));
    assert!(!args(&helm::template(GATEWAY, &[])).iter().any(|it| it.contains("acme")));
}

#[test]
fn requests_may_finish_before_the_pod_is_killed() {
    let Some(_) = helm::executable("requests_may_finish_before_the_pod_is_killed") else { return };
    for (grace, drain) in [("50", "45s"), ("30", "25s"), ("5", "1s"), ("600", "595s")] {
        let objects = helm::template(GATEWAY, &["--set", &format!("terminationGracePeriodSeconds={grace}")]);
        assert_eq!(pod(&objects)["spec"]["terminationGracePeriodSeconds"].to_string(), grace);
        assert!(args(&objects).contains(&format!("--drain-time={drain}").as_str()), "{:?}", args(&objects));
    }
}

const READ: [&str; 9] = [
    "networking.istio.io/gateways,virtualservices,destinationrules,serviceentries: get,list,watch",
    "networking.istio.io/workloadentries: list,watch",
    "security.istio.io/peerauthentications,authorizationpolicies,requestauthentications: get,list,watch",
    "acme.sluice.dev/issuers: list,watch",
    "telemetry.istio.io/telemetries: get,list,watch",
    "policy.sluice.dev/ratelimits: get,list,watch",
    "/services,pods: list,watch",
    "/nodes: list,watch",
    "discovery.k8s.io/endpointslices: list,watch",
];
const WRITE_STATUS: [&str; 4] = [
    "networking.istio.io/gateways/status,virtualservices/status,destinationrules/status,serviceentries/status: patch",
    "security.istio.io/peerauthentications/status,authorizationpolicies/status,requestauthentications/status: patch",
    "telemetry.istio.io/telemetries/status: patch",
    "policy.sluice.dev/ratelimits/status: patch",
];
const LEASES: &str = "coordination.k8s.io/leases: get,list,watch,create,update,patch,delete";
const MESH: &str = "/configmaps: list,watch";
const EVENTS: &str = "events.k8s.io/events: create";

#[test]
fn the_rights_are_exactly_these() {
    let Some(_) = helm::executable("the_rights_are_exactly_these") else { return };
    let objects = helm::template(GATEWAY, &[]);

    assert_eq!(rules(one(&objects, "ClusterRole")), [READ.as_slice(), &WRITE_STATUS, &[EVENTS]].concat());
    assert_eq!(
        rules(one(&objects, "Role")),
        ["/secrets: get,list,watch", "/secrets: create,patch,delete", LEASES, MESH]
    );
    for (binding, role) in [("ClusterRoleBinding", "ClusterRole"), ("RoleBinding", "Role")] {
        let account = json!({"kind": "ServiceAccount", "name": "istio-ingressgateway", "namespace": "istio-system"});
        assert_eq!(one(&objects, binding)["subjects"], json!([account]));
        assert_eq!(one(&objects, binding)["roleRef"]["kind"], role);
        assert_eq!(one(&objects, binding)["roleRef"]["name"], one(&objects, role)["metadata"]["name"]);
    }
    assert_eq!(one(&objects, "Role")["metadata"]["namespace"], "istio-system", "Secrets of no other namespace");

    let silent = helm::template(GATEWAY, &["--set", "status.enabled=false"]);
    assert_eq!(rules(one(&silent, "ClusterRole")), [READ.as_slice(), &[EVENTS]].concat());
    assert!(args(&silent).contains(&"--write-status=false"));

    let orders_nothing = helm::template(GATEWAY, &["--set", "acme.enabled=false"]);
    assert_eq!(rules(one(&orders_nothing, "Role")), ["/secrets: get,list,watch", LEASES, MESH]);

    let none = helm::template(GATEWAY, &["--set", "rbac.enabled=false"]);
    assert!(!kinds(&none).iter().any(|kind| kind.contains("Role")));
}

#[test]
fn the_mesh_configuration_is_read_where_it_is_and_nowhere_else() {
    let Some(_) = helm::executable("the_mesh_configuration_is_read_where_it_is_and_nowhere_else") else { return };
    for (revision, names) in
        [("", json!(["istio"])), ("default", json!(["istio"])), ("canary", json!(["istio-canary", "istio"]))]
    {
        let revision = format!("revision={revision}");
        let elsewhere = helm::template(GATEWAY, &["--set", &revision, "--namespace", "shop"]);
        let grants = |role: &&Value| {
            role["rules"]
                .as_array()
                .is_some_and(|rules| rules.iter().any(|it| it["resources"] == json!(["configmaps"])))
        };
        let granting: Vec<&Value> = elsewhere.iter().filter(grants).collect();
        let [role] = granting.as_slice() else { panic!("{granting:?}") };
        assert_eq!((&role["kind"], &role["metadata"]["namespace"]), (&json!("Role"), &json!("istio-system")));
        assert_eq!(role["rules"][0]["resourceNames"], names, "{revision}");
        let binds = |it: &&Value| it["kind"] == "RoleBinding" && it["metadata"]["namespace"] == "istio-system";
        let binding = elsewhere.iter().find(binds).expect("the role is bound");
        assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
        assert_eq!(binding["subjects"][0]["namespace"], "shop");
    }
}

#[test]
fn a_disruption_budget_stands_only_where_another_replica_is_left() {
    let Some(_) = helm::executable("a_disruption_budget_stands_only_where_another_replica_is_left") else { return };
    let kinds_with = |args: &[&str]| {
        let objects = helm::template(GATEWAY, args);
        let has = |kind: &str| kinds(&objects).contains(&kind);
        (has("PodDisruptionBudget"), has("HorizontalPodAutoscaler"))
    };
    assert_eq!(kinds_with(&["--set", "autoscaling.minReplicas=2"]), (true, true));
    assert_eq!(kinds_with(&["--set", "autoscaling.enabled=false"]), (false, false));
    assert_eq!(kinds_with(&["--set", "autoscaling.enabled=false,replicaCount=3"]), (true, false));
    assert_eq!(kinds_with(&["--set", "kind=DaemonSet,autoscaling.minReplicas=2"]), (false, false));
    // Says more than one but the autoscaler may go down to one.
    assert_eq!(kinds_with(&["--set", "replicaCount=3"]), (false, true));

    let fixed = helm::template(GATEWAY, &["--set", "autoscaling.enabled=false,replicaCount=3"]);
    assert_eq!(one(&fixed, "Deployment")["spec"]["replicas"], 3);
    let budget = &one(&fixed, "PodDisruptionBudget")["spec"];
    assert_eq!(budget["maxUnavailable"], 1);
    assert!(selects(&budget["selector"]["matchLabels"], &pod(&fixed)["metadata"]["labels"]));

    let own = ["--set", "autoscaling.minReplicas=2", "--set", "podDisruptionBudget.minAvailable=0"];
    let budget = &helm::template(GATEWAY, &own);
    assert_eq!(one(budget, "PodDisruptionBudget")["spec"]["minAvailable"], 0);
    assert_eq!(one(budget, "PodDisruptionBudget")["spec"].get("maxUnavailable"), None);
}
