//! Kubernetes `Service` (v1).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de};

/// Kubernetes `Service`, as far as routing reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Service {
    /// `spec`.
    pub spec: ServiceSpec,
    /// `status`.
    pub status: ServiceStatus,
}

/// Kubernetes `ServiceStatus`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceStatus {
    /// What stands in front of it.
    pub load_balancer: LoadBalancerStatus,
}

/// Kubernetes `LoadBalancerStatus`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LoadBalancerStatus {
    /// Its addresses.
    pub ingress: Vec<LoadBalancerIngress>,
}

/// Kubernetes `LoadBalancerIngress`: an address or a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LoadBalancerIngress {
    /// IP address; empty when unset.
    pub ip: String,
    /// DNS name; empty when unset.
    pub hostname: String,
}

/// Kubernetes `ServiceSpec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// As `ClusterIP`, `LoadBalancer`, `ExternalName`; `ClusterIP` when empty.
    #[serde(rename = "type")]
    pub kind: String,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Labels of the pods; endpoints are managed by hand when empty.
    pub selector: BTreeMap<String, String>,
    /// Virtual IP, or `None` for headless services; empty when unset.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// Virtual IPs of both families.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// Whether clients use endpoints of their own node alone (`Local`).
    #[serde(rename = "internalTrafficPolicy", deserialize_with = "is_local")]
    pub node_local: bool,
    /// Whether pods count before they are ready.
    pub publish_not_ready_addresses: bool,
    /// Target of an `ExternalName` service.
    pub external_name: Option<String>,
    /// Addresses that lead to it from outside.
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<String>,
    /// Which endpoints are preferred, as `PreferClose`.
    pub traffic_distribution: Option<String>,
}

/// `Cluster`, which API servers write where nothing was written, is the same as nothing.
fn is_local<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.is_some_and(|policy| policy == "Local"))
}

/// Kubernetes `ServicePort`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort {
    /// Empty only when the service has one port.
    pub name: String,
    /// The service's port.
    pub port: u16,
    /// Port of the pods; `port` when unset.
    pub target_port: Option<TargetPort>,
    /// `TCP`, `UDP` or `SCTP`; TCP when empty.
    pub protocol: String,
    /// What is spoken; wins over the port's name.
    pub app_protocol: Option<String>,
}

/// Kubernetes `IntOrString` of a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetPort {
    /// A port number.
    Number(u16),
    /// Name of a container's port.
    Name(String),
}

impl<'de> Deserialize<'de> for TargetPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PortVisitor;

        impl de::Visitor<'_> for PortVisitor {
            type Value = TargetPort;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a port number or the name of a container's port")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<TargetPort, E> {
                u16::try_from(number)
                    .map(TargetPort::Number)
                    .map_err(|_| E::custom(format!("{number} is out of range; a port from 1 to 65535 is wanted")))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<TargetPort, E> {
                Err(E::custom(format!("{number} is out of range; a port from 1 to 65535 is wanted")))
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<TargetPort, E> {
                if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
                    let message =
                        format!("`{name}` in quotes is a name, and names of ports have a letter; write {name}");
                    return Err(E::custom(message));
                }
                Ok(TargetPort::Name(name.to_owned()))
            }
        }

        deserializer.deserialize_any(PortVisitor)
    }
}
