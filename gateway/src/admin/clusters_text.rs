//! Clusters and their endpoints for people.

use std::{fmt::Write as _, sync::Arc};

use routing::{
    snapshot::Snapshot,
    unix,
    upstream::{Cluster, Endpoint},
};

use crate::upstream::endpoints::Upstream;

/// The page `/clusters`: one line per endpoint, `cluster address weight tls workload`, and what it does now. `upstreams`: in
/// the order of the clusters.
pub(crate) fn clusters_text(snapshot: &Snapshot, upstreams: &[Arc<Upstream>]) -> String {
    let mut text = String::new();
    let named = snapshot.clusters.iter().enumerate().filter(|(_, cluster)| !cluster.name.is_empty());
    for (number, cluster) in named {
        if cluster.endpoints.is_empty() {
            push_line(&mut text, format_args!("{} has no endpoints", cluster.name));
        }
        for (index, endpoint) in cluster.endpoints.iter().enumerate() {
            push_line(
                &mut text,
                format_args!(
                    "{} {} weight={} tls={} workload={}/{}{}{}",
                    cluster.name,
                    unix::shown(endpoint.address),
                    endpoint.weight,
                    is_encrypted(cluster, endpoint),
                    endpoint.workload.namespace,
                    endpoint.workload.name,
                    place(cluster, endpoint),
                    upstreams.get(number).map(|upstream| doings(upstream, index)).unwrap_or_default(),
                ),
            );
        }
    }
    text
}

/// Where an endpoint stands among the others, as far as there is a difference.
fn place(cluster: &Cluster, endpoint: &Endpoint) -> String {
    let mut text = String::new();
    if cluster.endpoints.iter().any(|other| other.priority != 0) {
        // Writing into a String cannot fail.
        let _ = write!(text, " priority={}", endpoint.priority);
    }
    if let Some(group) = cluster.groups.get(usize::from(endpoint.group)) {
        let _ = write!(text, " locality={}", group.locality);
    }
    text
}

/// What an endpoint does now.
fn doings(upstream: &Upstream, index: usize) -> String {
    let mut text = format!(" in_flight={}", upstream.in_flight(index));
    if let Some(standing) = upstream.varying().map(|varying| varying.standing(index)) {
        if standing.out {
            text.push_str(" ejected");
        }
        if standing.warmth < 1.0 {
            // Writing into a String cannot fail.
            let _ = write!(text, " warm={:.0}%", standing.warmth * 100.0);
        }
    }
    text
}

fn push_line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = writeln!(text, "{line}");
}

fn is_encrypted(cluster: &Cluster, endpoint: &Endpoint) -> bool {
    endpoint.tls && cluster.tls.is_some()
}
