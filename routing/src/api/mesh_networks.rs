//! Istio `MeshNetworks`: networks that do not reach each other, and the gateways between them. It stands in the `meshNetworks`
//! entry of the ConfigMap `istio`.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::Deserialize;

use super::check::{BAD_VALUE, CONFLICT, Findings, MISSING_FIELD, NO_EFFECT};

/// Istio `MeshNetworks`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MeshNetworks {
    /// By name.
    pub networks: BTreeMap<String, Network>,
}

/// Istio `Network`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Network {
    /// What is in it, beside what says so itself.
    pub endpoints: Vec<NetworkEndpoints>,
    /// How it is reached from others.
    pub gateways: Vec<NetworkGateway>,
}

/// Istio `Network.NetworkEndpoints`: one of both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetworkEndpoints {
    /// A block of addresses, as `10.1.0.0/16`.
    pub from_cidr: Option<String>,
    /// A cluster, by the name that Istio's control plane has for it.
    pub from_registry: Option<String>,
}

/// Istio `Network.IstioNetworkGateway`: an address or a service, and a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetworkGateway {
    /// IP address or DNS name.
    pub address: Option<String>,
    /// Host of a Service, by whose external addresses the gateway is reached.
    pub registry_service_name: Option<String>,
    /// The gateway's port, as 15443. Required.
    pub port: u16,
    /// Where it is; nothing follows from it, as in Istio.
    pub locality: Option<String>,
}

impl MeshNetworks {
    /// Says what is wrong by itself.
    pub(crate) fn check(&self, findings: &mut Findings) {
        findings.each_key("networks", &self.networks, |findings, _, network| network.check(findings));
    }
}

impl Network {
    fn check(&self, findings: &mut Findings) {
        findings.each("endpoints", &self.endpoints, |findings, _, endpoints| {
            if let Some(block) = endpoints.from_cidr.as_deref().filter(|block| block.parse::<IpNet>().is_err()) {
                findings.error_at("fromCidr", BAD_VALUE, format!("`{block}` is no block of addresses, as 10.1.0.0/16"));
            }
            if endpoints.from_registry.is_some() {
                let message = "one registry is read here, whose endpoints say their network by the label \
                               `topology.istio.io/network` or a WorkloadEntry's `network`";
                findings.warn_at("fromRegistry", NO_EFFECT, message);
            }
        });
        findings.each("gateways", &self.gateways, |findings, _, gateway| {
            if gateway.address.is_some() == gateway.registry_service_name.is_some() {
                findings.error(CONFLICT, "a gateway has one of address and registryServiceName");
            }
            if gateway.port == 0 {
                findings.error_at("port", MISSING_FIELD, "the gateway's port is wanted, as 15443");
            }
        });
    }
}
