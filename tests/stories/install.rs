//! The charts and the definitions on an API server, through real kubectl.

use std::{env, fs, path::Path};

use harness::{
    apiserver::{ADMIN, ApiServer},
    binary::repository,
    helm, kubectl,
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
    let gateway = file("gateway.yaml", [vec![namespace], helm::template("sluice-gateway", &[])].concat());

    // Not server-side: the whole object has to fit into an annotation.
    kubectl(&["apply", "-f", &base]).await;
    kubectl(&["apply", "-f", &gateway]).await;
    kubectl(&["apply", "-f", "examples/cloud-cargo"]).await;

    assert_eq!(names(&server, "CustomResourceDefinition").len(), 6);
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
