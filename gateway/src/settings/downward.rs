//! What Kubernetes' downward API tells a pod about itself: environment variables and a file of labels.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

/// Where a pod's labels are mounted: the file of a downward API volume.
const LABELS: &str = "/etc/podinfo/labels";
/// Where Kubernetes puts the namespace beside every service account's token.
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// What is known of the pod; everything is `None` outside of one.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Downward {
    /// `POD_NAME`.
    pub(crate) name: Option<String>,
    /// `POD_UID`.
    pub(crate) uid: Option<String>,
    /// `POD_NAMESPACE`, else the namespace of the service account's token.
    pub(crate) namespace: Option<String>,
    /// `SERVICE_ACCOUNT`.
    pub(crate) service_account: Option<String>,
    /// `WORKLOAD_NAME`: the Deployment.
    pub(crate) workload: Option<String>,
    /// `CA_ADDR`, as Istio's injector sets it and the four that follow.
    pub(crate) ca_address: Option<String>,
    /// `CA_SNI`: the name that the CA's certificate has.
    pub(crate) ca_name: Option<String>,
    /// `SECRET_TTL`.
    pub(crate) secret_ttl: Option<String>,
    /// `TRUST_DOMAIN`.
    pub(crate) trust_domain: Option<String>,
    /// `ISTIO_META_CLUSTER_ID`.
    pub(crate) cluster: Option<String>,
    /// `/etc/podinfo/labels`, or the file that `POD_LABELS_FILE` names.
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

/// The pod's address, by Istio's variable and by the usual one.
pub(crate) fn pod_address() -> Option<IpAddr> {
    ["INSTANCE_IP", "POD_IP"].into_iter().find_map(|name| address(std::env::var(name).ok()?.as_str()))
}

/// What stands for all addresses is nobody's own.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified())
}

impl Downward {
    /// Of this process.
    ///
    /// # Errors
    /// The file of labels is there and cannot be understood.
    pub(crate) fn read() -> Result<Self, String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let file = variable("POD_LABELS_FILE").unwrap_or_else(|| LABELS.to_owned());
        Ok(Self {
            name: variable("POD_NAME"),
            uid: variable("POD_UID"),
            namespace: variable("POD_NAMESPACE").or_else(|| text(Path::new(NAMESPACE))),
            service_account: variable("SERVICE_ACCOUNT"),
            workload: variable("WORKLOAD_NAME"),
            ca_address: variable("CA_ADDR"),
            ca_name: variable("CA_SNI"),
            secret_ttl: variable("SECRET_TTL"),
            trust_domain: variable("TRUST_DOMAIN"),
            cluster: variable("ISTIO_META_CLUSTER_ID"),
            labels: match std::fs::read_to_string(&file) {
                Ok(text) => Some(labels(&text).map_err(|line| {
                    format!("`{file}` line {line} is not a label; the downward API writes lines such as app=\"web\"")
                })?),
                Err(_) => None,
            },
        })
    }
}

fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Lines of `key="value"`. The value is quoted as in Go, of which label values need nothing but the quotes.
///
/// # Errors
/// The number of the first line that is something else.
fn labels(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut labels = BTreeMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let value = |value: &str| Some(value.strip_prefix('"')?.strip_suffix('"')?.to_owned());
        let pair = line.split_once('=').and_then(|(key, quoted)| Some((key.to_owned(), value(quoted)?)));
        let (key, value) = pair.ok_or(number + 1)?;
        labels.insert(key, value);
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_all_addresses_is_no_address_of_a_pod() {
        assert_eq!(address("10.0.0.1"), Some(IpAddr::from([10, 0, 0, 1])));
        for text in ["0.0.0.0", "::", "", "pod"] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn labels_are_read_as_the_downward_api_writes_them() {
        let text = "app=\"istio-ingressgateway\"\nistio=\"ingressgateway\"\nempty=\"\"\n";
        let read = labels(text).unwrap();
        assert_eq!(read["app"], "istio-ingressgateway");
        assert_eq!(read["istio"], "ingressgateway");
        assert_eq!(read["empty"], "");
        assert_eq!(labels("app=web"), Err(1));
        assert_eq!(labels("a=\"b\"\nnonsense\n"), Err(2));
    }
}
