//! Certificates that the folder names and does not have.

use std::collections::{BTreeMap, BTreeSet};

use routing::{
    api::{
        destination_rule::{ClientTls, ClientTlsMode, TrafficPolicy},
        gateway::ServerTlsMode,
    },
    resources::Resources,
};

use super::{GatewayPlan, PodPlan};

/// A server certificate that has to be made.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Credential {
    /// Name of the Secret, in the gateway's namespace.
    pub(crate) name: String,
    /// Hosts it is for, wildcards included.
    pub(crate) hosts: BTreeSet<String>,
}

/// What a gateway needs to speak TLS to an application of the demo.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct ClientCredential {
    /// Name of the Secret, in the gateway's namespace.
    pub(crate) name: String,
    /// Whether it needs a certificate of its own, beside the CA.
    pub(crate) mutual: bool,
}

/// Of a gateway's servers.
pub(super) fn of_servers(resources: &Resources, plan: &GatewayPlan) -> Vec<Credential> {
    let mut hosts: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for server in super::servers(resources, plan) {
        let Some(tls) = server.tls.as_ref().filter(|tls| terminates(tls.mode)) else { continue };
        // Several names stand for several key types of the same hosts.
        for name in tls.credential_name.iter().chain(&tls.credential_names) {
            if resources.secrets.get(&plan.namespace, name).is_none() {
                hosts.entry(name).or_default().extend(server.hosts.iter().flat_map(|host| names_for(resources, host)));
            }
        }
    }
    hosts.into_iter().map(|(name, hosts)| Credential { name: name.to_owned(), hosts }).collect()
}

fn terminates(mode: ServerTlsMode) -> bool {
    matches!(mode, ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual)
}

/// The certificate names of one `[namespace/]host`. No certificate is for every host, so `*` stands for this machine and
/// for whatever VirtualServices name.
fn names_for(resources: &Resources, host: &str) -> Vec<String> {
    let host = host.rsplit('/').next().unwrap_or(host);
    if host != "*" {
        return vec![host.to_owned()];
    }
    let routed = resources.virtual_services.iter().filter(|service| !service.spec.gateways.is_empty());
    let hosts = routed.flat_map(|service| &service.spec.hosts).filter(|host| host.contains('.')).cloned();
    hosts.chain(["localhost".to_owned()]).collect()
}

/// Of the DestinationRules for hosts whose applications the demo runs: who plays the outside knows what it asks for.
pub(super) fn of_rules(resources: &Resources, plan: &GatewayPlan, pods: &[PodPlan]) -> BTreeSet<ClientCredential> {
    let played: BTreeSet<&String> =
        pods.iter().filter_map(|pod| pod.application.tls.as_ref()).flat_map(|tls| &tls.hosts).collect();
    let rules = resources.destination_rules.iter().filter(|rule| played.contains(&rule.spec.host));
    let policies = rules.flat_map(|rule| {
        let subsets = rule.spec.subsets.iter().filter_map(|subset| subset.traffic_policy.as_ref());
        rule.spec.traffic_policy.iter().chain(subsets)
    });
    let absent = |name: &str| resources.secrets.get(&plan.namespace, name).is_none();
    let named = policies.flat_map(tls_of).filter_map(|tls| {
        let name = tls.credential_name.clone()?;
        let wanted = absent(&name) && absent(&format!("{name}-cacert"));
        wanted.then_some(ClientCredential { name, mutual: tls.mode == ClientTlsMode::Mutual })
    });
    named.collect()
}

fn tls_of(policy: &TrafficPolicy) -> impl Iterator<Item = &ClientTls> {
    let ports = policy.port_level_settings.iter().filter_map(|level| level.tls.as_ref());
    policy.tls.iter().chain(ports)
}
