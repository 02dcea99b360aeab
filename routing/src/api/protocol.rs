//! What is spoken on a port.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// Istio's port protocols. Written in any case; `Display` gives Istio's spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1, or HTTP/2 without TLS where the client begins with its preface.
    Http,
    /// HTTP over TLS.
    Https,
    /// HTTP/2.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web over HTTP.
    GrpcWeb,
    /// TLS that is routed by SNI.
    Tls,
    /// Any bytes.
    Tcp,
    /// Datagrams.
    Udp,
    /// MongoDB.
    Mongo,
    /// Redis.
    Redis,
    /// MySQL.
    Mysql,
    /// An HTTP forward proxy.
    HttpProxy,
}

impl Protocol {
    const NAMES: [(&'static str, Self); 12] = [
        ("HTTP", Self::Http),
        ("HTTPS", Self::Https),
        ("HTTP2", Self::Http2),
        ("GRPC", Self::Grpc),
        ("GRPC-WEB", Self::GrpcWeb),
        ("TLS", Self::Tls),
        ("TCP", Self::Tcp),
        ("UDP", Self::Udp),
        ("MONGO", Self::Mongo),
        ("REDIS", Self::Redis),
        ("MYSQL", Self::Mysql),
        ("HTTP_PROXY", Self::HttpProxy),
    ];

    /// By name in any case, as in `port.protocol`; `None` when unknown.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, protocol)| *protocol)
    }

    /// By Kubernetes port name, `protocol` or `protocol-suffix` as `http-web`; `None` when it names none.
    ///
    /// Source: Istio "Protocol Selection". `grpc-web` needs a look beyond the first dash.
    pub fn from_port_name(name: &str) -> Option<Self> {
        if name.len() >= 8 && name.is_char_boundary(8) {
            let (head, tail) = name.split_at(8);
            if head.eq_ignore_ascii_case("grpc-web") && (tail.is_empty() || tail.starts_with('-')) {
                return Some(Self::GrpcWeb);
            }
        }
        Self::parse(name.split('-').next().unwrap_or(name))
    }

    /// By Kubernetes `appProtocol`, which also has names of its own (`kubernetes.io/h2c`).
    pub fn from_app_protocol(name: &str) -> Option<Self> {
        match name {
            "kubernetes.io/h2c" => Some(Self::Http2),
            "kubernetes.io/ws" => Some(Self::Http),
            "kubernetes.io/wss" => Some(Self::Https),
            _ => Self::from_port_name(name),
        }
    }

    /// Whether requests on the port are routed one by one without TLS in front.
    pub const fn is_plain_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb | Self::HttpProxy)
    }

    /// Whether clients begin with a TLS handshake.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// Whether HTTP/2 is spoken to the service without asking.
    pub const fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Istio's spelling.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, protocol)| *protocol == self).map_or("TCP", |(name, _)| name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| {
            let known: Vec<&str> = Self::NAMES.iter().map(|(name, _)| *name).collect();
            de::Error::custom(format!("`{name}` is not a protocol; one of {} is wanted", known.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_name_tells_the_protocol_before_its_dash() {
        assert_eq!(Protocol::from_port_name("http"), Some(Protocol::Http));
        assert_eq!(Protocol::from_port_name("http2-web"), Some(Protocol::Http2));
        assert_eq!(Protocol::from_port_name("grpc-web"), Some(Protocol::GrpcWeb));
        assert_eq!(Protocol::from_port_name("grpc-web-x"), Some(Protocol::GrpcWeb));
        assert_eq!(Protocol::from_port_name("grpc-website"), Some(Protocol::Grpc));
        assert_eq!(Protocol::from_port_name("web"), None);
        assert_eq!(Protocol::from_port_name("ééééé"), None);
    }

    #[test]
    fn every_protocol_reads_back_from_its_name_in_any_case() {
        for (name, protocol) in Protocol::NAMES {
            assert_eq!(Protocol::parse(&name.to_lowercase()), Some(protocol));
            assert_eq!(protocol.to_string(), name);
        }
    }
}
