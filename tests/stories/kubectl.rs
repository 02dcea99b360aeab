//! The stories' API server is one for kubectl, too.

use harness::{
    apiserver::{ADMIN, ApiServer},
    binary::repository,
    eventually::eventually,
    kubectl::{Kubectl, executable},
};
use serde_json::{Value, json};

async fn server(story: &str) -> Option<(ApiServer, Kubectl)> {
    let path = executable(story)?;
    let server = ApiServer::start().await;
    // The example's Gateway lives where the gateway runs, and a chart made that namespace.
    server.apply("{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}");
    let kubectl = Kubectl::new(&path, &server.kubeconfig(ADMIN));
    Some((server, kubectl))
}

fn cargo() -> String {
    repository().join("examples/cloud-cargo").display().to_string()
}

#[tokio::test]
async fn kubectl_applies_the_example_and_a_second_time_changes_nothing() {
    let Some((server, kubectl)) = server("kubectl_applies_the_example_and_a_second_time_changes_nothing").await else {
        return;
    };
    for flags in [&["apply", "-f"][..], &["apply", "--server-side", "--force-conflicts", "-f"]] {
        kubectl.run(&[flags, &[&cargo()]].concat()).await;
        assert_eq!(server.list("VirtualService").len(), 1);
        assert_eq!(server.list("Deployment").len(), 3);
        let service = &server.list("Service")[0];
        assert!(service["spec"]["clusterIP"].as_str().is_some_and(|it| it.starts_with("10.")), "{service}");
        let before = server.list("Gateway");

        let again = kubectl.run(&[flags, &[&cargo()]].concat()).await;

        assert_eq!(server.list("Gateway"), before);
        assert!(!again.contains("created") && !again.contains("configured"), "{again}");
    }
}

#[tokio::test]
async fn kubectl_gets_patches_and_deletes() {
    let Some((server, kubectl)) = server("kubectl_gets_patches_and_deletes").await else { return };
    kubectl.run(&["apply", "-f", &cargo()]).await;
    let all = ["-n", "cloud-cargo"];

    let listed = kubectl.run(&[&all[..], &["get", "vs,dr,svc,deploy,peerauthentication"]].concat()).await;
    assert!(listed.contains("deployment.apps/cargo-webapp"), "{listed}");
    let old =
        kubectl.run(&[&all[..], &["get", "virtualservices.v1beta1.networking.istio.io", "-o", "json"]].concat()).await;
    let old: Value = serde_json::from_str(&old).expect("JSON");
    assert_eq!(old["items"][0]["apiVersion"], "networking.istio.io/v1beta1");

    kubectl
        .run(&["-n", "cloud-cargo", "patch", "svc", "cargo-webapp", "-p", r#"{"metadata":{"labels":{"x":"y"}}}"#])
        .await;
    let patch = r#"[{"op":"add","path":"/metadata/annotations/a","value":"b"}]"#;
    kubectl.run(&["-n", "cloud-cargo", "patch", "svc", "cargo-webapp", "--type=json", "-p", patch]).await;
    kubectl.run(&["-n", "cloud-cargo", "label", "deploy", "--all", "tier=front"]).await;
    let service = server.get("Service", "cloud-cargo", "cargo-webapp").expect("it is there");
    assert_eq!(
        (&service["metadata"]["labels"]["x"], &service["metadata"]["annotations"]["a"]),
        (&json!("y"), &json!("b"))
    );

    for arguments in [
        &["-n", "cloud-cargo", "annotate", "svc", "--all", "x=y"][..],
        &["-n", "cloud-cargo", "describe", "svc", "cargo-webapp"],
        &["-n", "cloud-cargo", "rollout", "restart", "deploy/cargo-webapp"],
        &["get", "events", "-A"],
        &["api-resources"],
        &["version"],
        &["replace", "-f", &cargo()],
    ] {
        kubectl.run(arguments).await;
    }

    kubectl.run(&["delete", "-f", &format!("{}/virtual-service.yaml", cargo())]).await;
    assert_eq!(server.list("VirtualService").len(), 0);
    kubectl.run(&["delete", "namespace", "cloud-cargo"]).await;
    assert_eq!(server.list("Service").len(), 0);
}

#[tokio::test]
async fn kubectl_waits_for_a_condition_and_watches() {
    let Some((server, kubectl)) = server("kubectl_waits_for_a_condition_and_watches").await else { return };
    kubectl.run(&["apply", "-f", &cargo()]).await;
    let gateway = server.list("Gateway").remove(0);
    let [namespace, name] = ["namespace", "name"].map(|it| gateway["metadata"][it].as_str().unwrap_or_default());
    let mut waiting =
        kubectl.start(&["-n", namespace, "wait", "--for=condition=Accepted", &format!("gw/{name}"), "--timeout=30s"]);
    let watching = kubectl.start(&["-n", namespace, "get", "gw", "-w", "-o", "name"]);
    eventually("both watch", async || server.watches() == 2 && watching.stdout().contains(name)).await;
    assert!(waiting.ended().is_none(), "{}", waiting.stderr());

    let condition = json!({"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""});
    server.patch_status("Gateway", [namespace, name], &json!({"conditions": [condition]}));

    let status = waiting.wait_exit(harness::eventually::SOON).await;
    assert!(status.success() && waiting.stdout().contains("condition met"), "{}", waiting.stderr());
    eventually("the watch shows the change", async || watching.stdout().matches(name).count() == 2).await;
}

#[tokio::test]
async fn kubectl_installs_a_definition_and_uses_it() {
    let Some(path) = executable("kubectl_installs_a_definition_and_uses_it") else { return };
    let server = ApiServer::bare().await;
    let kubectl = Kubectl::new(&path, &server.kubeconfig(ADMIN));
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "boats.sea.example.com"},
        "spec": {
            "group": "sea.example.com", "scope": "Namespaced",
            "names": {"plural": "boats", "kind": "Boat", "shortNames": ["bt"]},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    assert!(kubectl.try_run(&["apply", "-f", "-"], &definition.to_string()).await.ok);
    kubectl.run(&["wait", "--for=condition=Established", "crd/boats.sea.example.com", "--timeout=10s"]).await;
    let boat =
        json!({"apiVersion": "sea.example.com/v1", "kind": "Boat", "metadata": {"name": "tug"}, "spec": {"knots": 9}});
    let said = kubectl.try_run(&["create", "-f", "-"], &boat.to_string()).await;
    assert!(said.ok, "{}", said.err);
    assert_eq!(kubectl.run(&["get", "bt", "-o", "name"]).await.trim(), "boat.sea.example.com/tug");

    kubectl.run(&["delete", "crd", "boats.sea.example.com"]).await;

    assert!(!kubectl.try_run(&["get", "bt"], "").await.ok);
}

#[tokio::test]
async fn kubectl_is_told_what_roles_permit() {
    let Some((server, _)) = server("kubectl_is_told_what_roles_permit").await else { return };
    let Some(path) = executable("kubectl_is_told_what_roles_permit") else { return };
    server.rbac(true);
    let kubectl = Kubectl::new(&path, &server.kubeconfig(&server.token("shop", "reader")));
    server.apply(ROLE);

    let asked = json!({"verb": "list", "group": "networking.istio.io", "resource": "gateways", "namespace": "shop"});
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    });
    let allowed = kubectl
        .try_run(&["create", "--validate=false", "-f", "-", "-o", "jsonpath={.status.allowed}"], &review.to_string())
        .await;
    assert_eq!(allowed.out, "true", "{}", allowed.err);
    kubectl.run(&["-n", "shop", "get", "gateways"]).await;
    kubectl.run(&["-n", "shop", "get", "secret", "edge", "--ignore-not-found"]).await;
    let refused = kubectl.try_run(&["-n", "shop", "get", "secrets"], "").await;
    assert!(
        refused.err.contains("secrets is forbidden: User \"system:serviceaccount:shop:reader\" cannot list"),
        "{}",
        refused.err
    );
    assert!(!kubectl.try_run(&["get", "gateways", "-A"], "").await.ok);
}

const ROLE: &str = r"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: shop}
rules:
- {apiGroups: [networking.istio.io], resources: [gateways], verbs: [get, list, watch]}
- {apiGroups: [''], resources: [secrets], resourceNames: [edge], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: shop}
roleRef: {kind: Role, name: reader}
subjects:
- {kind: ServiceAccount, name: reader, namespace: shop}
";
