//! Flag values: text to type. Errors say what would be right; the caller adds the flag and the value.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use routing::{locality::Locality, telemetry::tracing::share};

#[cfg(test)]
mod tests;

/// `ADDR:PORT` or `:PORT`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Address {
    ip: Option<IpAddr>,
    port: u16,
}

impl Address {
    /// The address, with `ip` where only a port was given.
    pub(crate) fn or(self, ip: IpAddr) -> SocketAddr {
        SocketAddr::new(self.ip.unwrap_or(ip), self.port)
    }
}

/// `k=v,...`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LabelList(pub(crate) BTreeMap<String, String>);

/// `443=8443,...`: the port a Gateway names -> the port to bind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PortMap(pub(crate) BTreeMap<u16, u16>);

/// `NAMESPACE/NAME`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct WorkloadName {
    /// Before the slash.
    pub(crate) namespace: String,
    /// After it.
    pub(crate) name: String,
}

/// Reads `127.0.0.1:15000`, `[::1]:15000` or `:15000`.
///
/// # Errors
/// A sentence.
pub(crate) fn parse_address(text: &str) -> Result<Address, String> {
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse().map_err(|_| format!("`{port}` is not a port; write a number from 0 to 65535"))?;
        return Ok(Address { ip: None, port });
    }
    text.parse::<SocketAddr>()
        .map(|it| Address { ip: Some(it.ip()), port: it.port() })
        .map_err(|_| "write an IP address and a port, as in 127.0.0.1:15000 or :15000".to_owned())
}

/// Reads an IP address.
///
/// # Errors
/// A sentence.
pub(crate) fn parse_ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "write an IP address, as in 127.0.0.1 or ::".to_owned())
}

/// Networks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Ranges(pub(crate) Vec<IpNet>);

/// Reads `10.0.0.0/8,192.0.2.7`.
///
/// # Errors
/// A sentence.
pub(crate) fn parse_ranges(text: &str) -> Result<Ranges, String> {
    let range = |text: &str| {
        let text = text.trim();
        let one = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse::<IpNet>()
            .or_else(|_| one())
            .map_err(|_| format!("`{text}` is no network; write 10.0.0.0/8 or an address, several with commas between"))
    };
    text.split(',').map(range).collect::<Result<_, _>>().map(Ranges)
}

/// Networks of which the internet knows nothing (RFC 1918, 6598, 4193, 3927, 4291): a balancer in front of a gateway is in one
/// of them, and a client from elsewhere is not.
pub(crate) fn private_ranges() -> Vec<IpNet> {
    let v4 =
        [([127, 0, 0, 0], 8), ([10, 0, 0, 0], 8), ([172, 16, 0, 0], 12), ([192, 168, 0, 0], 16), ([100, 64, 0, 0], 10)];
    let v4 = v4.into_iter().chain([([169, 254, 0, 0], 16)]).map(|(ip, bits)| IpNet::new_assert(IpAddr::from(ip), bits));
    let v6 = [(0xfc00, 7), (0xfe80, 10)];
    let v6 = v6.map(|(first, bits)| IpNet::new_assert(IpAddr::from([first, 0, 0, 0, 0, 0, 0, 0_u16]), bits));
    v4.chain(v6).chain([IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST))]).collect()
}

/// Reads `k=v,k2=v2`. An empty text is no labels.
///
/// # Errors
/// A sentence.
pub(crate) fn parse_labels(text: &str) -> Result<LabelList, String> {
    let mut labels = BTreeMap::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .filter(|(key, _)| !key.trim().is_empty())
            .ok_or_else(|| format!("`{pair}` is not a label; write key=value, as in istio=ingressgateway"))?;
        if labels.insert(key.trim().to_owned(), value.trim().to_owned()).is_some() {
            return Err(format!("the label `{key}` is given twice; give it once"));
        }
    }
    Ok(LabelList(labels))
}

/// Reads `443=8443,80=8080`.
///
/// # Errors
/// A sentence.
pub(crate) fn parse_port_map(text: &str) -> Result<PortMap, String> {
    let mut ports = BTreeMap::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let numbers = pair.split_once('=').and_then(|(from, to)| Some((port(from)?, port(to)?)));
        let Some((from, to)) = numbers else {
            return Err(format!(
                "`{pair}` is not a pair of ports; write the Gateway's port, =, the port to bind: 443=8443"
            ));
        };
        if ports.insert(from, to).is_some() {
            return Err(format!("port {from} is mapped twice; map it once"));
        }
    }
    Ok(PortMap(ports))
}

fn port(text: &str) -> Option<u16> {
    text.trim().parse().ok().filter(|&port| port != 0)
}

/// Reads `namespace/name`.
///
/// # Errors
/// A sentence.
pub(crate) fn parse_workload(text: &str) -> Result<WorkloadName, String> {
    match text.split_once('/') {
        Some((namespace, name)) if is_name(namespace) && is_name(name) => {
            Ok(WorkloadName { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => {
            Err("write the namespace, a slash and the name of the Pod or Deployment, as in default/reviews-v1"
                .to_owned())
        }
    }
}

/// Reads the namespace and name of any object.
///
/// # Errors
/// A sentence.
pub(crate) fn parse_object(text: &str) -> Result<WorkloadName, String> {
    parse_workload(text).map_err(|_| "write the namespace, a slash and the name, as in default/reviews".to_owned())
}

/// Reads the name of a Kubernetes object.
///
/// # Errors
/// A sentence.
pub(crate) fn parse_name(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err("a name has only a-z, 0-9, `-` and `.`, and begins and ends with a letter or digit".to_owned())
}

/// RFC 1123 subdomain, as Kubernetes names are.
fn is_name(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    text.len() <= 253 && text.bytes().all(allowed) && edge(text.as_bytes().first()) && edge(text.as_bytes().last())
}

/// Reads a trust domain (SPIFFE section 2.1).
///
/// # Errors
/// A sentence.
pub(crate) fn parse_trust_domain(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    if !text.is_empty() && text.len() <= 255 && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err("a trust domain has only a-z, 0-9, `.`, `-` and `_`, as in cluster.local; leave out spiffe://".to_owned())
}

/// Reads `region/zone/subzone`.
///
/// # Errors
/// A sentence.
pub(crate) fn parse_locality(text: &str) -> Result<Locality, String> {
    Locality::parse(text)
        .filter(|locality| !locality.region.is_empty() && !text.contains(['*', ' ']))
        .ok_or_else(|| "write REGION/ZONE/SUBZONE, or as much of it as is known, as in europe-west1/b".to_owned())
}

/// Reads a number of threads.
///
/// # Errors
/// A sentence.
pub(crate) fn parse_workers(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|workers| (1..=1024).contains(workers))
        .ok_or_else(|| "write a number from 1 to 1024, or leave it out for one per core".to_owned())
}

/// Reads a percentage of requests, as `0.5`.
///
/// # Errors
/// A sentence.
pub(crate) fn parse_share(text: &str) -> Result<u32, String> {
    let percentage = text.parse::<f64>().ok().filter(|it| (0.0..=100.0).contains(it));
    percentage.map(share).ok_or_else(|| "write a percentage from 0 to 100, as in 0.5".to_owned())
}

/// Reads `512Mi`, `2Gi` or a bare number of bytes, as Kubernetes writes them.
///
/// # Errors
/// A sentence.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|it: char| it.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "" => Some(1),
        "Ki" => Some(1 << 10),
        "Mi" => Some(1 << 20),
        "Gi" => Some(1 << 30),
        _ => None,
    };
    let size = number.parse::<u64>().ok().zip(scale).and_then(|(number, scale)| number.checked_mul(scale));
    size.filter(|size| *size > 0).ok_or_else(|| "write a number of bytes, as in 512Mi or 2Gi".to_owned())
}

/// Reads `45s`, `500ms`, `2m`, `1h` or a bare number of seconds.
///
/// # Errors
/// A sentence.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(24 * 3600);
    let time = duration(text).filter(|time| *time <= LONGEST && !text.ends_with('d'));
    time.ok_or_else(|| "write a time of at most 24h, as in 45s, 500ms or 2m".to_owned())
}

/// Reads a lifetime: `24h`, `90d`, not nothing.
///
/// # Errors
/// A sentence.
pub(crate) fn parse_long_duration(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    let time = duration(text).filter(|time| *time <= LONGEST && !time.is_zero());
    time.ok_or_else(|| "write a time of at most 36500d, as in 90d, 24h or 30m".to_owned())
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|it: char| it.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => Some(1),
        "" | "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    number
        .parse::<u64>()
        .ok()
        .zip(scale)
        .and_then(|(number, scale)| number.checked_mul(scale))
        .map(Duration::from_millis)
}
