//! The objects that stories repeat; whatever a story is about stands in the story itself.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tls::authority::Issued;

/// A Gateway `edge` in istio-system with HTTPS on 443 and HTTP on 80 for these hosts.
pub fn edge_gateway(credential: &str, hosts: &[&str]) -> String {
    let server = |number: u16, name: &str, protocol: &str| json!({"port": {"number": number, "name": name, "protocol": protocol}, "hosts": hosts});
    let mut https = server(443, "https", "HTTPS");
    https["tls"] = json!({"mode": "SIMPLE", "credentialName": credential});
    let servers = json!([https, server(80, "http", "HTTP")]);
    document(
        "networking.istio.io/v1",
        "Gateway",
        ["istio-system", "edge"],
        json!({"selector": {"istio": "ingressgateway"}, "servers": servers}),
    )
}

/// A VirtualService in namespace `shop`, bound to the Gateway `edge`; `http` is the YAML of its routes, a list.
pub fn virtual_service(name: &str, host: &str, http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: {name}\n  namespace: shop\n\
         spec:\n  hosts: [\"{host}\"]\n  gateways: [istio-system/edge]\n  http:\n{}\n---\n",
        indent(http, 4)
    )
}

/// A DestinationRule in namespace `shop`; `spec` is the YAML next to `host`.
pub fn destination_rule(host: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: {host}\n  namespace: shop\n\
         spec:\n  host: {host}\n{}\n---\n",
        indent(spec, 2)
    )
}

/// A PeerAuthentication of this mode for a whole namespace.
pub fn peer_authentication(namespace: &str, mode: &str) -> String {
    document("security.istio.io/v1", "PeerAuthentication", [namespace, "default"], json!({"mtls": {"mode": mode}}))
}

/// A Secret of type `kubernetes.io/tls`.
pub fn tls_secret(namespace: &str, name: &str, issued: &Issued) -> String {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": namespace},
        "data": {"tls.crt": base64(&issued.chain_pem), "tls.key": base64(&issued.key_pem)},
    });
    format!("{object}\n---\n")
}

/// A Service with these ports (number and name; the name's first word is Istio's protocol), selecting `app: NAME`.
pub fn service(namespace: &str, name: &str, ports: &[(u16, &str)]) -> String {
    let ports: Vec<Value> = ports
        .iter()
        .map(|(number, name)| json!({"port": number, "name": name, "targetPort": number, "protocol": "TCP"}))
        .collect();
    document("v1", "Service", [namespace, name], json!({"selector": {"app": name}, "ports": ports}))
}

/// One pod as the API server shows it.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels `app` and canonical service.
    pub app: String,
    /// Label `version`.
    pub version: String,
    /// Address.
    pub ip: String,
    /// Container ports.
    pub ports: Vec<u16>,
    /// True = a sidecar was injected (label `security.istio.io/tlsMode: istio`).
    pub sidecar: bool,
}

impl Pod {
    /// As YAML; its service account is called as the app.
    pub fn yaml(&self) -> String {
        let mut labels = json!({"app": self.app, "version": self.version});
        if self.sidecar {
            labels["security.istio.io/tlsMode"] = "istio".into();
        }
        let ports: Vec<Value> = self.ports.iter().map(|port| json!({"containerPort": port})).collect();
        let containers = json!([{"name": "app", "image": "echo", "ports": ports}]);
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": labels},
            "spec": {"serviceAccountName": self.app, "containers": containers},
            "status": {
                "phase": "Running", "podIP": self.ip, "podIPs": [{"ip": self.ip}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        format!("{object}\n---\n")
    }
}

/// PEM of this DER.
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<String> =
        text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Indents every line.
pub fn indent(text: &str, spaces: usize) -> String {
    let text = text.trim_matches('\n');
    let old = text.lines().map(|line| line.len() - line.trim_start().len()).next().unwrap_or_default();
    let lines = text.lines().map(|line| format!("{}{}", " ".repeat(spaces), line.get(old..).unwrap_or_default()));
    lines.collect::<Vec<_>>().join("\n")
}

fn document(version: &str, kind: &str, [namespace, name]: [&str; 2], spec: Value) -> String {
    let object = json!({
        "apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    });
    format!("{object}\n---\n")
}

fn base64(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}
