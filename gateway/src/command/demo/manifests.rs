//! The objects that a cluster would add to the folder: Pods with addresses, and Secrets with certificates.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    addresses::Addresses,
    authorities::Authorities,
    plan::{Plan, PodPlan},
    state::{Access, State},
};

/// Writes `config/pods.yaml`.
pub(crate) fn write_pods(state: &State, plan: &Plan, addresses: &Addresses) -> anyhow::Result<()> {
    let pods = plan.pods.iter().enumerate().map(|(index, pod)| pod_yaml(pod, &addresses.pod(index).to_string()));
    state.write("config/pods.yaml", &documents("What kubelet and scheduler would report.", pods), Access::Public)
}

/// Writes `config/secrets.yaml`: a certificate for every Secret that a Gateway names and the folder lacks.
pub(crate) fn write_secrets(state: &State, plan: &Plan, authorities: &Authorities) -> anyhow::Result<()> {
    let mut secrets = Vec::new();
    for gateway in &plan.gateways {
        for credential in &gateway.credentials {
            let issued = authorities.issue_server(credential)?;
            let values = [
                ("tls.crt", issued.chain_pem.as_str()),
                ("tls.key", issued.key_pem.as_str()),
                ("ca.crt", authorities.edge_root()),
            ];
            secrets.push(secret_yaml(&gateway.namespace, &credential.name, &values));
        }
    }
    let text = documents("Certificates that an operator or cert-manager would bring.", secrets.into_iter());
    state.write("config/secrets.yaml", &text, Access::Private)
}

fn documents(title: &str, documents: impl Iterator<Item = String>) -> String {
    let mut text = format!("# Made by `sluice demo`. {title}\n");
    for document in documents {
        text.push_str("---\n");
        text.push_str(&document);
    }
    text
}

fn pod_yaml(pod: &PodPlan, address: &str) -> String {
    let mut yaml = String::from("apiVersion: v1\nkind: Pod\nmetadata:\n");
    let _ = writeln!(yaml, "  name: {}\n  namespace: {}", quoted(&pod.name), quoted(&pod.namespace));
    map_yaml(&mut yaml, "labels", &pod.labels);
    map_yaml(&mut yaml, "annotations", &pod.annotations);
    let _ = writeln!(yaml, "spec:\n  serviceAccountName: {}", quoted(&pod.service_account));
    yaml.push_str("  containers:\n    - name: app\n");
    if !pod.ports.is_empty() {
        yaml.push_str("      ports:\n");
    }
    for (name, port) in &pod.ports {
        let _ = writeln!(yaml, "        - containerPort: {port}");
        if !name.is_empty() {
            let _ = writeln!(yaml, "          name: {}", quoted(name));
        }
    }
    let _ = writeln!(yaml, "status:\n  phase: Running\n  podIP: {address}");
    yaml
}

fn map_yaml(yaml: &mut String, field: &str, map: &BTreeMap<String, String>) {
    if !map.is_empty() {
        let _ = writeln!(yaml, "  {field}:");
    }
    for (key, value) in map {
        let _ = writeln!(yaml, "    {}: {}", quoted(key), quoted(value));
    }
}

fn secret_yaml(namespace: &str, name: &str, values: &[(&str, &str)]) -> String {
    let mut yaml = String::from("apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata:\n");
    let _ = writeln!(yaml, "  name: {}\n  namespace: {}\nstringData:", quoted(name), quoted(namespace));
    for (key, value) in values {
        let _ = writeln!(yaml, "  {key}: |");
        for line in value.lines() {
            let _ = writeln!(yaml, "    {line}");
        }
    }
    yaml
}

/// A JSON string is a YAML string, whatever is in it: `on`, `1.0` and `"` stay text.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use routing::resources::Resources;

    use super::*;
    use crate::command::demo::plan::tests::pod;

    #[test]
    fn a_pod_reads_back_as_it_was_planned() {
        let mut planned = pod("rating", 8080);
        planned.labels.insert("version".to_owned(), "1.0".to_owned());
        planned.annotations.insert("sidecar.istio.io/note".to_owned(), "say \"on\": # off".to_owned());

        let text = documents("Test.", [pod_yaml(&planned, "127.10.1.1")].into_iter());
        let (resources, problems) = Resources::read([("pods.yaml", text.as_str())]);

        assert_eq!(problems, []);
        let read = resources.pods.get("cargo", "rating-0").unwrap();
        assert_eq!((&read.meta.labels, &read.meta.annotations), (&planned.labels, &planned.annotations));
        assert_eq!(read.spec.status.pod_ip, "127.10.1.1");
        assert_eq!(read.spec.spec.account(), "rating");
        assert_eq!(read.spec.spec.containers[0].ports[0].container_port, 8080);
    }

    #[test]
    fn a_secret_reads_back_with_its_lines() {
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let text = documents("Test.", [secret_yaml("istio-system", "certs", &[("tls.crt", pem)])].into_iter());
        let (resources, problems) = Resources::read([("secrets.yaml", text.as_str())]);
        assert_eq!(problems, []);
        assert_eq!(resources.secrets.get("istio-system", "certs").unwrap().spec.data["tls.crt"], pem.as_bytes());
    }
}
