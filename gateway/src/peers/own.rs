//! What this proxy tells of its own workload: made once for a configuration.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use routing::snapshot::Workload;

use super::{exchange, metadata};
use crate::telemetry::labels::cluster_of;

/// See the module.
#[derive(Debug)]
pub(crate) struct Own {
    metadata: Box<[u8]>,
    node: Box<[u8]>,
    announcement: Box<[u8]>,
}

/// Which kind of proxy it is, as Istio's names of proxies begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A gateway.
    Router,
    /// A sidecar.
    Sidecar,
}

impl Own {
    /// Of a workload, the name of its pod, and an address of it.
    pub(crate) fn new(kind: Kind, workload: &Workload, pod: &str, address: IpAddr) -> Self {
        let kind = match kind {
            Kind::Router => "router",
            Kind::Sidecar => "sidecar",
        };
        let namespace = &workload.namespace;
        let node = format!("{kind}~{address}~{pod}.{namespace}~{namespace}.svc.cluster.local");
        let cluster = cluster_of(workload);
        let said = metadata::encode_any(workload, (pod, &node), cluster);
        Self {
            metadata: STANDARD.encode(metadata::encode(workload, pod, cluster)).into_bytes().into(),
            announcement: exchange::frame(&said).into(),
            node: node.into_bytes().into(),
        }
    }

    /// The value of `x-envoy-peer-metadata`.
    pub(crate) fn metadata(&self) -> &[u8] {
        &self.metadata
    }

    /// The value of `x-envoy-peer-metadata-id`.
    pub(crate) fn node(&self) -> &[u8] {
        &self.node
    }

    /// What is said before the first byte of a connection without HTTP.
    pub(crate) fn announcement(&self) -> &[u8] {
        &self.announcement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_told_of_the_cluster_that_was_named() {
        for (given, told) in [("", "Kubernetes"), ("west", "west")] {
            let workload = Workload { name: "web".into(), cluster: given.into(), ..Workload::default() };
            let own = Own::new(Kind::Sidecar, &workload, "web-1", IpAddr::from([10, 0, 0, 1]));
            let header = STANDARD.decode(own.metadata()).unwrap();
            assert_eq!(&*metadata::decode(&header).unwrap().cluster, told);
            let (_, announced) = own.announcement().split_at(8);
            assert_eq!(&*metadata::decode_any(announced).unwrap().cluster, told);
        }
    }
}
