//! Clusters, with what their endpoints do now.

use std::sync::Arc;

use routing::{
    reach::Reach,
    snapshot::Snapshot,
    unix,
    upstream::{Cluster, Endpoint},
};

use crate::{
    admin::schema::clusters::{self as schema, Clusters, Limit},
    upstream::endpoints::Upstream,
};

/// All of them. `upstreams`: in the order of the clusters.
pub(crate) fn clusters(snapshot: &Snapshot, upstreams: &[Arc<Upstream>]) -> Clusters {
    let named = snapshot.clusters.iter().enumerate().filter(|(_, cluster)| !cluster.is_vacant());
    Clusters { clusters: named.map(|(number, it)| cluster(it, upstreams.get(number).map(|it| &**it))).collect() }
}

fn cluster(cluster: &Cluster, upstream: Option<&Upstream>) -> schema::Cluster {
    let told = |(index, it): (usize, &Endpoint)| endpoint(cluster, it, upstream, index);
    let endpoints: Vec<_> = cluster.endpoints.iter().enumerate().map(told).collect();
    let breaker = upstream.and_then(|upstream| upstream.breaker.as_ref());
    schema::Cluster {
        name: cluster.name.to_string(),
        host: cluster.host.to_string(),
        port: cluster.port,
        tls: match &cluster.tls {
            None => "none",
            Some(tls) if tls.mesh => "mutual",
            Some(_) => "tls",
        },
        reach: match cluster.reach {
            Reach::Endpoints => "known",
            Reach::Original => "original",
            Reach::Name { .. } => "name",
        },
        healthy: endpoints.iter().filter(|endpoint| endpoint.health == HEALTHY).count(),
        limits: breaker
            .map(|breaker| {
                breaker.figures().map(|(limit, active, overflow)| Limit { limit, active, overflow }).collect()
            })
            .unwrap_or_default(),
        endpoints,
    }
}

const HEALTHY: &str = "healthy";

fn endpoint(cluster: &Cluster, endpoint: &Endpoint, upstream: Option<&Upstream>, index: usize) -> schema::Endpoint {
    let standing = upstream.and_then(|upstream| Some(upstream.varying()?.standing(index)));
    let group = cluster.groups.get(usize::from(endpoint.group));
    schema::Endpoint {
        address: unix::shown(endpoint.address).to_string(),
        workload: format!("{}/{}", endpoint.workload.namespace, endpoint.workload.name),
        weight: endpoint.weight,
        priority: endpoint.priority,
        locality: group.map(|group| group.locality.to_string()).unwrap_or_default(),
        tls: endpoint.tls && cluster.tls.is_some(),
        health: if standing.as_ref().is_some_and(|standing| standing.out) { "ejected" } else { HEALTHY },
        in_flight: upstream.map(|upstream| upstream.in_flight(index)).unwrap_or_default(),
        warmth: standing.map_or(1.0, |standing| standing.warmth),
    }
}
