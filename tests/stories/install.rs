//! The charts and the definitions on an API server, through real kubectl.

use std::{env, fs, path::Path};

use harness::{
    apiserver::{ADMIN, ApiServer},
    binary::{self, repository},
    eventually::eventually,
    helm, kubectl,
    mesh::{HOST, Mesh},
};
use serde_json::{Value, json};
use tokio::process::Command;

/// What kubectl wrote to stdout. Panics with its words when it fails.
async fn run(kubectl: &Path, kubeconfig: &Path, home: &Path, args: &[&str]) -> String {
    let output = Command::new(kubectl)
        .args(args)
        .current_dir(repository())
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        // Its cache of what the server serves is the story's own.
        .env("HOME", home)
        .env("KUBECONFIG", kubeconfig)
        .output()
        .await
        .expect("kubectl can be started");
    assert!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn names(server: &ApiServer, kind: &str) -> Vec<String> {
    server.list(kind).iter().filter_map(|it| it["metadata"]["name"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_applies_the_definitions_the_gateway_and_the_example_in_this_order() {
    const STORY: &str = "kubectl_applies_the_definitions_the_gateway_and_the_example_in_this_order";
    let (Some(_), Some(kubectl)) = (helm::executable(STORY), kubectl::executable(STORY)) else { return };
    let server = ApiServer::bare().await;
    let kubeconfig = server.kubeconfig(ADMIN);
    let folder = tempfile::TempDir::with_prefix("sluice-install-").expect("a temporary folder can be made");
    let kubectl = async |args: &[&str]| run(&kubectl, &kubeconfig, folder.path(), args).await;
    let file = |name: &str, objects: Vec<Value>| {
        let path = folder.path().join(name);
        let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
        fs::write(&path, documents.join("\n---\n")).expect("the file can be written");
        path.display().to_string()
    };
    let base = file("base.yaml", helm::template("sluice-base", &["--include-crds"]));
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}});
    let gateway = file("gateway.yaml", [vec![namespace], helm::template("sluice-gateway", &["--no-hooks"])].concat());

    // Not server-side: the whole object has to fit into an annotation.
    kubectl(&["apply", "-f", &base]).await;
    kubectl(&["apply", "-f", &gateway]).await;
    kubectl(&["apply", "-f", "examples/cloud-cargo"]).await;

    assert_eq!(names(&server, "CustomResourceDefinition").len(), 14);
    assert!(names(&server, "Deployment.apps").contains(&"istio-ingressgateway".to_owned()));
    let by_short_name = kubectl(&["get", "gw,vs,dr,pa", "--all-namespaces", "--output", "name"]).await;
    for kind in ["gateway.networking", "virtualservice.networking", "destinationrule.networking"] {
        assert!(by_short_name.contains(&format!("{kind}.istio.io/")), "{kind}: {by_short_name}");
    }
    assert!(by_short_name.contains("peerauthentication.security.istio.io/"), "{by_short_name}");
    // An old version names the same object.
    let old = kubectl(&["get", "gateways.v1alpha3.networking.istio.io", "--all-namespaces", "--output", "name"]).await;
    assert_eq!(old.lines().count(), names(&server, "Gateway").len());
    // The same again changes nothing.
    let again = kubectl(&["apply", "-f", &gateway]).await;
    assert!(again.lines().all(|line| line.ends_with("unchanged")), "{again}");
}

/// A mesh whose API server obeys these roles; its proxies use the chart's service account.
async fn guarded(roles: Vec<Value>) -> Mesh {
    let mesh = Mesh::with_edge_in_cluster().await;
    mesh.obey(roles).await;
    mesh
}

#[tokio::test]
async fn the_rights_of_the_chart_are_enough_to_serve() {
    let Some(_) = helm::executable("the_rights_of_the_chart_are_enough_to_serve") else { return };
    let mesh = guarded(helm::roles()).await;
    let gateway = mesh.gateway().await;
    eventually("the certificate of the Secret is served", async || {
        mesh.edge_trust().connect(gateway.addresses().main, HOST).await.is_ok()
    })
    .await;
    assert_eq!(mesh.refusals(), Vec::<String>::new());
}

#[tokio::test]
async fn a_gateway_needs_every_resource_that_the_chart_lets_it_read() {
    let Some(_) = helm::executable("a_gateway_needs_every_resource_that_the_chart_lets_it_read") else { return };
    let mut readable = Vec::new();
    for rule in helm::roles().iter().flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default()) {
        if rule["resources"] != json!(["leases"])
            && rule["verbs"].as_array().is_some_and(|it| it.contains(&json!("watch")))
        {
            readable.extend(rule["resources"].as_array().into_iter().flatten().cloned());
        }
    }
    assert!(readable.len() >= 10, "{readable:?}");
    for resource in readable {
        let mut roles = helm::roles();
        for rule in roles.iter_mut().filter_map(|role| role["rules"].as_array_mut()).flatten() {
            if let Some(resources) = rule["resources"].as_array_mut() {
                resources.retain(|it| *it != resource);
            }
        }
        let mesh = guarded(roles).await;
        if mesh.fake_api().is_none() {
            return;
        }
        let _gateway = mesh.launch_gateway(&[]);
        eventually(&format!("{resource} is asked for and refused"), async || {
            mesh.refusals().iter().any(|refusal| resource.as_str().is_some_and(|name| refusal.contains(name)))
        })
        .await;
    }
}

#[test]
fn a_job_takes_the_status_back_before_anything_is_deleted() {
    let Some(_) = helm::executable("a_job_takes_the_status_back_before_anything_is_deleted") else { return };
    let rendered = |args: &[&str]| helm::template("sluice-gateway", args);
    let of = |objects: &[Value], kind: &str| objects.iter().find(|it| it["kind"] == kind).cloned();
    let objects = rendered(&["--set", "name=edge"]);
    let [job, service, gateway] =
        ["Job", "Service", "Deployment"].map(|kind| of(&objects, kind).unwrap_or_else(|| panic!("a {kind}")));
    assert_eq!(job["metadata"]["annotations"]["helm.sh/hook"], "pre-delete");
    let template = &job["spec"]["template"];
    for selector in [&service["spec"]["selector"], &gateway["spec"]["selector"]["matchLabels"]] {
        let mut labels = selector.as_object().expect("labels").iter();
        assert!(
            labels.any(|(key, value)| template["metadata"]["labels"].get(key) != Some(value)),
            "no request is for it"
        );
    }
    let (spec, pod) = (&template["spec"], &gateway["spec"]["template"]["spec"]);
    assert_eq!(spec["serviceAccountName"], pod["serviceAccountName"], "its rights are the gateway's");
    let (container, own) = (&spec["containers"][0], &pod["containers"][0]);
    assert_eq!(container["args"], json!(["status", "withdraw"]));
    assert_eq!((&container["image"], &container["securityContext"]), (&own["image"], &own["securityContext"]));
    let environment = container["env"].as_array().expect("an environment");
    assert!(environment.contains(&json!({"name": "WORKLOAD_NAME", "value": "edge"})), "{environment:?}");
    assert!(binary::run(&["help", "status", "withdraw"]).status.success(), "the executable knows the command");
    for off in ["status.withdraw=false", "status.enabled=false"] {
        assert_eq!(of(&rendered(&["--set", off]), "Job"), None, "{off}");
    }
}
