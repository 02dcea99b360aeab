//! What a pod belongs to, by its owner's name.

use serde_json::Value;

use super::json::{items, text};

/// The workload of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Workload {
    /// Of the Deployment, StatefulSet, CronJob, ...; of the pod itself when it has no owner.
    pub(super) name: String,
}

impl Workload {
    pub(super) fn of(pod: &Value) -> Self {
        let own = text(pod, "/metadata/name");
        let own = if own.is_empty() { text(pod, "/metadata/generateName").trim_end_matches('-') } else { own };
        let owner = items(pod, "/metadata/ownerReferences").iter().find(|it| it["controller"] == true);
        let name = owner.map_or_else(|| own.to_owned(), |owner| by_owner(owner, pod));
        Self { name }
    }
}

/// What made the owner, where its name tells.
fn by_owner(owner: &Value, pod: &Value) -> String {
    let name = text(owner, "/name");
    let cut = match text(owner, "/kind") {
        "ReplicaSet" => {
            let hash = text(pod, "/metadata/labels/pod-template-hash");
            let cut = name.strip_suffix(hash).and_then(|it| it.strip_suffix('-'));
            cut.filter(|_| !hash.is_empty())
        }
        // A CronJob adds its minute.
        "Job" => {
            let cut = name.rsplit_once('-');
            cut.filter(|(_, minute)| (8..=11).contains(&minute.len()) && minute.bytes().all(|it| it.is_ascii_digit()))
                .map(|(cut, _)| cut)
        }
        "ReplicationController" => {
            let config = text(pod, "/metadata/labels/deploymentconfig");
            Some(config).filter(|config| !config.is_empty() && name.starts_with(*config))
        }
        _ => None,
    };
    cut.filter(|cut| !cut.is_empty()).unwrap_or(name).to_owned()
}
