//! What the replicas of every gateway tell in their Leases, for `sluice status`.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, Result};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, api::ListParams};
use serde_json::Value;

use super::{
    client,
    lease::name_of,
    replicas::{CERTIFICATES, CONTENT, PROBLEMS, REPLICA_OF, SNAPSHOT, VERSION},
};
use crate::settings::KubernetesSettings;

/// What one replica told last.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Told {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its workload.
    pub(crate) workload: String,
    /// Its own name: the pod's.
    pub(crate) replica: String,
    /// It is the one that writes status.
    pub(crate) leader: bool,
    /// Version of the binary.
    pub(crate) version: String,
    /// Hash of what it has read: the same in every replica of its workload that is up to date.
    pub(crate) content: String,
    /// Digest of its snapshot.
    pub(crate) snapshot: String,
    /// Certificates that it serves.
    pub(crate) certificates: u64,
    /// How many of them are last good ones.
    pub(crate) kept: u64,
    /// When the first of them ends, RFC 3339.
    pub(crate) next_end: Option<String>,
    /// Errors in its configuration.
    pub(crate) errors: u64,
    /// Warnings in its configuration.
    pub(crate) warnings: u64,
    /// When it told this, seconds since 1970; `None` = never.
    pub(crate) told_at: Option<i64>,
    /// It is silent when it told nothing for so long; `None` = it was asked just now.
    pub(crate) lives: Option<Duration>,
}

/// Leases in one answer.
const PAGE: u32 = 500;

/// What every replica told last, in one namespace or (`None`) in all.
///
/// # Errors
/// The API server cannot be reached, or refuses.
pub(crate) async fn read(settings: &KubernetesSettings, namespace: Option<&str>) -> Result<Vec<Told>> {
    let client = client::connect(settings).await?;
    let leases: Api<Lease> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut params = ListParams::default().labels(REPLICA_OF).limit(PAGE);
    let (mut all, mut leaders) = (Vec::new(), HashMap::new());
    loop {
        let page = leases.list(&params).await.context("listing the Leases of replicas")?;
        for lease in &page.items {
            all.push(told(&client, lease, &mut leaders).await?);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// Namespace and workload -> the replica that leads.
type Leaders = HashMap<(String, String), String>;

async fn told(client: &Client, lease: &Lease, leaders: &mut Leaders) -> Result<Told> {
    let meta = &lease.metadata;
    let spec = lease.spec.clone().unwrap_or_default();
    let annotation = |name: &str| meta.annotations.as_ref().and_then(|it| it.get(name)).cloned().unwrap_or_default();
    let json = |name: &str| serde_json::from_str::<Value>(&annotation(name)).unwrap_or_default();
    let workload = meta.labels.as_ref().and_then(|it| it.get(REPLICA_OF)).cloned().unwrap_or_default();
    let namespace = meta.namespace.clone().unwrap_or_default();
    let replica = spec.holder_identity.unwrap_or_default();
    let key = (namespace.clone(), workload.clone());
    if !leaders.contains_key(&key) {
        let election: Api<Lease> = Api::namespaced(client.clone(), &namespace);
        let found = election.get_opt(&name_of(&workload)).await.context("reading the Lease of the leader")?;
        let holder = found.and_then(|it| it.spec).and_then(|it| it.holder_identity).unwrap_or_default();
        leaders.insert(key.clone(), holder);
    }
    let leader = !replica.is_empty() && leaders.get(&key) == Some(&replica);
    let certificates = json(CERTIFICATES);
    let problems = json(PROBLEMS);
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let seconds = spec.lease_duration_seconds.and_then(|it| it.try_into().ok()).unwrap_or(0);
    Ok(Told {
        namespace,
        workload,
        replica,
        leader,
        version: annotation(VERSION),
        content: annotation(CONTENT),
        snapshot: annotation(SNAPSHOT),
        certificates: number(&certificates["count"]),
        kept: number(&certificates["kept"]),
        next_end: certificates["next"].as_str().map(str::to_owned),
        errors: number(&problems["errors"]),
        warnings: number(&problems["warnings"]),
        told_at: spec.renew_time.map(|it| it.0.as_second()),
        lives: Some(Duration::from_secs(seconds)),
    })
}
