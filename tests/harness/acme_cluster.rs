//! What stories look at when a gateway orders its certificates into an API server.

use std::time::Duration;

use serde_json::Value;

use crate::{
    acme::{AcmeMesh, NAMESPACE, SECRET, Setting},
    eventually::{eventually, within},
    helm,
};

impl AcmeMesh {
    /// One for these hosts whose gateways are the chart's service account and have its rights, where Helm can tell them;
    /// `None` = there is no pebble, and that was said loudly.
    pub async fn in_cluster(story: &str, hosts: &[&str], setting: Setting) -> Option<Self> {
        let acme = Self::with(story, hosts, Setting { in_cluster: true, ..setting }).await?;
        if helm::executable("that orders need no more rights than the chart's").is_some() {
            acme.mesh.obey(helm::roles()).await;
        }
        Some(acme)
    }

    /// A Secret of the gateway's namespace.
    pub async fn secret(&self, name: &str) -> Option<Value> {
        self.mesh.api().get("Secret", NAMESPACE, name).await
    }

    /// Waits until the ordered certificate is in its Secret.
    pub async fn stored_within(&self, deadline: Duration) -> Value {
        let mut last = None;
        within(deadline, "the certificate is in its Secret", async || {
            last = self.secret(SECRET).await;
            last.is_some()
        })
        .await;
        last.expect("it was just read")
    }

    /// The condition of this type of the Gateway `edge`: status, reason and message, each empty when there is none.
    pub async fn condition(&self, kind: &str) -> [String; 3] {
        let gateway = self.mesh.api().get("Gateway", NAMESPACE, "edge").await.unwrap_or_default();
        let conditions = gateway["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|it| it["type"] == kind).unwrap_or_default();
        ["status", "reason", "message"].map(|field| found[field].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until a condition of the Gateway `edge` has this status and reason; gives its message.
    pub async fn comes_to(&self, kind: &str, [status, reason]: [&str; 2]) -> String {
        let mut last = [const { String::new() }; 3];
        eventually(&format!("the Gateway has {kind}={status} because of {reason}"), async || {
            last = self.condition(kind).await;
            last[..2] == [status, reason]
        })
        .await;
        let [_, _, message] = last;
        message
    }

    /// Who leads the gateways of this name; empty = nobody.
    pub async fn leader(&self, workload: &str) -> String {
        let lease = self.mesh.api().get("Lease", NAMESPACE, &format!("sluice-{workload}")).await.unwrap_or_default();
        lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until somebody leads who is not `before`; gives who.
    pub async fn led_within(&self, deadline: Duration, before: &str) -> String {
        let mut last = String::new();
        within(deadline, "another replica leads", async || {
            last = self.leader(WORKLOAD).await;
            !last.is_empty() && last != before
        })
        .await;
        last
    }

    /// Waits until so many replicas tell that they are there.
    pub async fn replicas_tell(&self, count: usize) {
        eventually(&format!("{count} replicas tell what they have"), async || {
            let leases = self.mesh.api().list("Lease").await;
            let told = leases.iter().filter(|it| it["metadata"]["labels"]["sluice.dev/replica-of"] == WORKLOAD);
            told.count() == count
        })
        .await;
    }

    /// Reasons and notes of the events about the Gateway `edge`.
    pub async fn events(&self) -> Vec<[String; 2]> {
        let events = self.mesh.api().list("events.events.k8s.io").await;
        let about = events.iter().filter(|it| it["regarding"]["name"] == "edge" && it["regarding"]["uid"].is_string());
        about.map(|it| ["reason", "note"].map(|field| it[field].as_str().unwrap_or_default().to_owned())).collect()
    }
}

/// The gateways' name.
pub const WORKLOAD: &str = "istio-ingressgateway";
