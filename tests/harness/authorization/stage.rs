//! The proxy whose policies are tried.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{
    table::{Place, Row, Table, home},
    tokens::Tokens,
    visit::{Outcome, visit},
};
use crate::{
    eventually::eventually,
    gateway::Proxy,
    jwt::request_authentication,
    mesh::Mesh,
    workload::Workload,
    yaml::{self},
};

/// A gateway, or a sidecar, in front of the echo app.
pub(super) struct Stage {
    pub(super) mesh: Mesh,
    pub(super) place: Place,
    workload: Workload,
    gateway: Option<Proxy>,
    tokens: Tokens,
}

impl Stage {
    /// Starts it, without a policy.
    pub(super) async fn start(table: &Table, place: Place) -> Self {
        let mesh = Mesh::new();
        let ports = [(PLAIN, "http"), (OTHER, "http-other"), (BYTES, "tcp-bytes")];
        mesh.write("services.yaml", &yaml::service("shop", "reviews", &ports));
        if !table.mesh.is_empty() {
            let mesh_config = Value::Object(table.mesh.clone()).to_string();
            let metadata = json!({"name": "istio", "namespace": "istio-system"});
            let object =
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"mesh": mesh_config}});
            mesh.write("mesh.yaml", &object.to_string());
        }
        let tokens = Tokens::of(table);
        if !table.tokens.is_empty() {
            mesh.write("tokens.yaml", &request_authentication(home(place).0, &tokens.rules()));
        }
        // Something that every set changes.
        mesh.write("policies.yaml", &yaml::peer_authentication("somewhere", "STRICT"));
        let workload = mesh.workload("reviews").ports(&[PLAIN, OTHER, BYTES]);
        let (workload, gateway) = match place {
            Place::Gateway => {
                mesh.write("edge.yaml", EDGE);
                mesh.write("routes.yaml", &routes(&[]));
                let workload = workload.start().await;
                (workload, Some(mesh.gateway_with(&["--access-log", "json", "--workers", "1"]).await))
            }
            Place::Sidecar | Place::Bytes => (workload.sidecar().flags(&["--access-log", "json"]).start().await, None),
        };
        Self { mesh, place, workload, gateway, tokens }
    }

    pub(super) fn proxy(&self) -> &Proxy {
        self.gateway.as_ref().unwrap_or_else(|| self.workload.proxy())
    }

    /// Puts these policies, and no others, in force, and waits until they are.
    pub(super) async fn put(&self, policies: &[Value]) {
        self.write("policies.yaml", &policies.iter().map(|policy| format!("{policy}\n---\n")).collect::<String>())
            .await;
    }

    /// Writes a file of the configuration and waits until another configuration is in force.
    pub(super) async fn write(&self, name: &str, text: &str) {
        let generation = async || self.proxy().metrics().await.sum("sluice_snapshot_generation", &[]);
        let before = generation().await;
        self.mesh.write(name, text);
        eventually("what was written is in force", async || generation().await > before).await;
    }

    fn address(&self, row: &Row) -> SocketAddr {
        let usual = match self.place {
            Place::Gateway if row.peer.is_some() => 8443,
            Place::Bytes => BYTES,
            _ => PLAIN,
        };
        let ip = match &self.gateway {
            Some(gateway) => gateway.addresses().main.ip(),
            None => self.workload.address.ip(),
        };
        SocketAddr::new(ip, row.port.unwrap_or(usual))
    }

    /// Does what rows say, one after the other.
    pub(super) async fn outcomes(&self, rows: &[Row]) -> Vec<Outcome> {
        let mut all = Vec::new();
        for (number, row) in rows.iter().enumerate() {
            let row = self.tokens.given(row);
            let visited = visit(&self.mesh, &row, self.address(&row), &mark(number)).await;
            let failed = |error| Outcome { body: format!("{error}"), ..Outcome::default() };
            all.push(visited.unwrap_or_else(failed));
        }
        all
    }

    /// Does what rows say, and tells what was not as they say: of the answer, of the access log.
    pub(super) async fn visit(&self, rows: &[Row]) -> Vec<String> {
        let lines = self.proxy().access_log().lines().count();
        let outcomes = self.outcomes(rows).await;
        let log = async || -> Vec<Value> {
            let log = self.proxy().access_log();
            log.lines().skip(lines).filter_map(|line| serde_json::from_str(line).ok()).collect()
        };
        eventually("every row is in the access log", async || log().await.len() >= rows.len()).await;
        let log = log().await;
        let faults = rows.iter().zip(&outcomes).enumerate().filter_map(|(number, (row, outcome))| {
            outcome.fault(row).or_else(|| {
                let namespace = home(self.place).0;
                let details = row.verdict.details(namespace)?;
                let of_row = |line: &&Value| match row.method.is_empty() {
                    true => outcome.from.is_some_and(|from| line["downstream_remote_address"] == from.to_string()),
                    false => line["user_agent"] == mark(number),
                };
                let logged = log.iter().find(of_row).map(|line| line["response_code_details"].to_string());
                let logged = logged.unwrap_or_else(|| "nothing".into());
                (logged.trim_matches('"') != details)
                    .then(|| format!("`{}`: the access log says {logged}, not {details}", row.text))
            })
        });
        faults.collect()
    }
}

fn mark(number: usize) -> String {
    format!("row-{number}")
}

/// A VirtualService that sends everything to the app; answers of what has exactly one of these paths say which.
pub(super) fn routes(paths: &[&str]) -> String {
    let to = json!([{"destination": {"host": "reviews", "port": {"number": PLAIN}}}]);
    let exact = paths.iter().enumerate().map(|(number, path)| {
        json!({
            "match": [{"uri": {"exact": path}}], "route": to,
            "headers": {"response": {"set": {"x-route": number.to_string()}}},
        })
    });
    let http: Vec<Value> = exact.chain([json!({"route": to})]).collect();
    let metadata = json!({"name": "routes", "namespace": "shop"});
    let spec = json!({"hosts": ["*"], "gateways": ["istio-system/edge"], "http": http});
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata, "spec": spec})
        .to_string()
}

/// Plain HTTP on two ports, and one where clients show certificates of the mesh.
const EDGE: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}
  - {port: {number: 8081, name: http-other, protocol: HTTP}, hosts: ['*']}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: ISTIO_MUTUAL}}
";

const PLAIN: u16 = 8080;
const OTHER: u16 = 8081;
const BYTES: u16 = 3306;
