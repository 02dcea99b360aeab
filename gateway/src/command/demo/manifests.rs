//! The objects that a cluster would add to the folder: Pods with addresses, endpoints of gateways, Secrets with certificates.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
};

use super::{
    addresses::Addresses,
    authorities::Authorities,
    plan::{Application, GatewayPlan, Plan, PodPlan, with_sidecar},
    state::{Access, State},
};

/// Writes `config/pods.yaml`.
pub(crate) fn write_pods(state: &State, plan: &Plan, addresses: &Addresses) -> anyhow::Result<()> {
    let pods = plan.pods.iter().enumerate().map(|(index, pod)| pod_yaml(pod, &addresses.pod(index).to_string()));
    state.write("config/pods.yaml", &documents("What kubelet and scheduler would report.", pods), Access::Public)
}

/// Writes `config/gateways.yaml`: the gateways that a Service selects, as its endpoints. They listen on ports of this machine
/// that others have left, whatever its `targetPort` says.
pub(crate) fn write_gateways(state: &State, plan: &Plan, addresses: &Addresses) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for (index, gateway) in plan.gateways.iter().enumerate().filter(|(_, gateway)| !gateway.services.is_empty()) {
        let edge = &addresses.edge[index];
        let pod = gateway.pod(edge);
        found.push(pod_yaml(&pod, &addresses.gateway(index).to_string()));
        for (service, ports) in &gateway.services {
            let ports = ports.iter().filter_map(|(name, number)| Some((name.as_str(), *edge.get(number)?)));
            found.push(slice_yaml(service, (&pod, addresses.bind(gateway)), &ports.collect::<Vec<_>>()));
        }
    }
    let text = documents("What kubelet and the endpoints controller would report of gateways.", found.into_iter());
    state.write("config/gateways.yaml", &text, Access::Public)
}

impl GatewayPlan {
    /// The pod that a cluster would run for it; `edge`: where it listens for each of its ports.
    fn pod(&self, edge: &BTreeMap<u16, u16>) -> PodPlan {
        PodPlan {
            namespace: self.namespace.clone(),
            name: format!("{}-0", self.name),
            labels: with_sidecar(&self.labels),
            annotations: BTreeMap::new(),
            service_account: self.service_account.clone(),
            ports: edge.values().map(|port| (String::new(), *port)).collect(),
            service: self.name.clone(),
            sidecar: false,
            application: Application::default(),
        }
    }
}

/// Writes `config/secrets.yaml`: a certificate for every Secret that a Gateway names, or a DestinationRule for what the demo
/// plays, and the folder lacks.
pub(crate) fn write_secrets(state: &State, plan: &Plan, authorities: &Authorities) -> anyhow::Result<()> {
    let mut secrets = Vec::new();
    let mut written = BTreeSet::new();
    for gateway in &plan.gateways {
        for credential in &gateway.credentials {
            let issued = authorities.issue_server(credential)?;
            let values = [
                ("tls.crt", issued.chain_pem.as_str()),
                ("tls.key", issued.key_pem.as_str()),
                ("ca.crt", authorities.edge_root()),
            ];
            secrets.push(secret_yaml(&gateway.namespace, &credential.name, &values));
            written.insert((&gateway.namespace, &credential.name));
        }
    }
    for gateway in &plan.gateways {
        for wanted in &gateway.client_credentials {
            if !written.insert((&gateway.namespace, &wanted.name)) {
                continue;
            }
            let own =
                wanted.mutual.then(|| authorities.client(&format!("{}.demo.client", gateway.name))).transpose()?;
            let mut values = vec![("ca.crt", authorities.edge_root())];
            if let Some(own) = &own {
                values.extend([("tls.crt", own.chain_pem.as_str()), ("tls.key", own.key_pem.as_str())]);
            }
            secrets.push(secret_yaml(&gateway.namespace, &wanted.name, &values));
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

/// The endpoint that a gateway is of a Service.
fn slice_yaml(service: &str, (pod, address): (&PodPlan, IpAddr), ports: &[(&str, u16)]) -> String {
    let (name, namespace) = (quoted(&format!("{service}-{}", pod.name)), quoted(&pod.namespace));
    let mut yaml = String::from("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n");
    let _ = writeln!(yaml, "  name: {name}\n  namespace: {namespace}");
    let _ = writeln!(yaml, "  labels:\n    kubernetes.io/service-name: {}", quoted(service));
    let _ =
        writeln!(yaml, "addressType: IPv4\nendpoints:\n  - addresses: [{address}]\n    conditions:\n      ready: true");
    let pod = quoted(&pod.name);
    let _ = writeln!(yaml, "    targetRef:\n      kind: Pod\n      namespace: {namespace}\n      name: {pod}");
    yaml.push_str(if ports.is_empty() { "ports: []\n" } else { "ports:\n" });
    for (name, port) in ports {
        let _ = writeln!(yaml, "  - name: {}\n    port: {port}\n    protocol: TCP", quoted(name));
    }
    yaml
}

fn secret_yaml(namespace: &str, name: &str, values: &[(&str, &str)]) -> String {
    let kind = if values.iter().any(|(key, _)| *key == "tls.key") { "kubernetes.io/tls" } else { "Opaque" };
    let mut yaml = format!("apiVersion: v1\nkind: Secret\ntype: {kind}\nmetadata:\n");
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
    use crate::command::demo::{
        addresses::EDGE,
        plan::tests::{gateway, pod},
    };

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
    fn a_gateway_is_found_where_it_listens_under_its_services_ports() {
        let pod = gateway(&[443]).pod(&BTreeMap::from([(443, 9443)]));
        let all = [pod_yaml(&pod, "127.10.0.1"), slice_yaml("egress", (&pod, EDGE), &[("https", 9443)])];
        let text = documents("Test.", all.into_iter());
        let (resources, problems) = Resources::read([("gateways.yaml", text.as_str())]);

        assert_eq!(problems, []);
        let read = resources.pods.get("istio-system", "edge-0").unwrap();
        assert_eq!(read.meta.labels["security.istio.io/tlsMode"], "istio");
        let slice = resources.endpoint_slices.get("istio-system", "egress-edge-0").unwrap();
        assert_eq!(slice.meta.labels["kubernetes.io/service-name"], "egress");
        assert_eq!(
            (slice.spec.endpoints[0].addresses[0].as_str(), slice.spec.ports[0].port),
            ("127.0.0.1", Some(9443))
        );
        assert_eq!(slice.spec.endpoints[0].target_ref.as_ref().unwrap().name, "edge-0");
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
