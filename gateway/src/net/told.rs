//! What command operators stand for as far as connections tell it: addresses, TLS, certificates.

use std::{fmt::Display, io::Write as _, net::SocketAddr, sync::OnceLock};

use routing::{
    template::{Fact, Validity},
    unix,
};
use tls::identity::PeerIdentity;

use super::facts::{Facts, TlsFacts};

/// A client's connection, and the one that goes on from it.
#[derive(Clone, Copy)]
pub(crate) struct Connections<'a> {
    /// The client's.
    pub(crate) facts: &'a Facts,
    /// The client, which somebody in front may have named.
    pub(crate) client: SocketAddr,
    /// Ours to the endpoint.
    pub(crate) upstream: Option<&'a Facts>,
    /// The endpoint that could not be connected to.
    pub(crate) tried: Option<SocketAddr>,
}

impl Connections<'_> {
    /// Appends a fact; `false`: it is of something else.
    pub(crate) fn fact(&self, fact: Fact, out: &mut Vec<u8>) -> bool {
        self.address(fact, out) || self.certificate_fact(fact, out) || self.tls_fact(fact, out)
    }

    /// When the client's certificate begins or ends.
    pub(crate) fn certificate(&self, end: Validity) -> Option<i64> {
        let peer = self.peer()?;
        match end {
            Validity::NotBefore => peer.not_before(),
            Validity::NotAfter => Some(peer.not_after),
        }
    }

    fn tls(&self) -> Option<&TlsFacts> {
        self.facts.tls.as_ref()
    }

    fn upstream_tls(&self) -> Option<&TlsFacts> {
        self.upstream?.tls.as_ref()
    }

    fn peer(&self) -> Option<&PeerIdentity> {
        self.tls()?.certificate.as_deref()
    }

    /// Appends one of the addresses; `false`: the fact is something else.
    fn address(&self, fact: Fact, out: &mut Vec<u8>) -> bool {
        let Self { facts, upstream, client, tried } = *self;
        let (place, form) = match fact {
            Fact::DownstreamRemoteAddress => (Some(client), Form::Whole),
            Fact::DownstreamDirectRemoteAddress => (Some(facts.remote), Form::Whole),
            Fact::DownstreamRemoteAddressWithoutPort => (Some(client), Form::Address),
            Fact::DownstreamDirectRemoteAddressWithoutPort => (Some(facts.remote), Form::Address),
            Fact::DownstreamRemotePort => (Some(client), Form::Port),
            Fact::DownstreamDirectRemotePort => (Some(facts.remote), Form::Port),
            Fact::DownstreamLocalAddress => (Some(facts.local), Form::Whole),
            Fact::DownstreamLocalAddressWithoutPort => (Some(facts.local), Form::Address),
            Fact::DownstreamLocalPort => (Some(facts.local), Form::Port),
            Fact::UpstreamHost | Fact::UpstreamRemoteAddress => (upstream.map(|it| it.remote).or(tried), Form::Whole),
            Fact::UpstreamRemoteAddressWithoutPort => (upstream.map(|it| it.remote), Form::Address),
            Fact::UpstreamRemotePort => (upstream.map(|it| it.remote), Form::Port),
            Fact::UpstreamLocalAddress => (upstream.map(|it| it.local), Form::Whole),
            Fact::UpstreamLocalAddressWithoutPort => (upstream.map(|it| it.local), Form::Address),
            Fact::UpstreamLocalPort => (upstream.map(|it| it.local), Form::Port),
            _ => return false,
        };
        if let Some(place) = place {
            form.write(place, out);
        }
        true
    }

    /// Appends what the client's certificate says; `false`: the fact is something else.
    fn certificate_fact(&self, fact: Fact, out: &mut Vec<u8>) -> bool {
        let Some(peer) = self.peer() else { return false };
        match fact {
            Fact::DownstreamPeerSubject => push(out, &peer.subject),
            Fact::DownstreamPeerIssuer => push(out, peer.issuer()),
            Fact::DownstreamPeerSerial => push(out, peer.serial()),
            Fact::DownstreamPeerFingerprint256 => push(out, &peer.sha256_hex),
            Fact::DownstreamPeerFingerprint1 => push(out, peer.sha1_hex()),
            Fact::DownstreamPeerCert => push(out, peer.pem_urlencoded()),
            Fact::DownstreamPeerUriSan => list(out, &peer.uri_sans),
            Fact::DownstreamPeerDnsSan => list(out, &peer.dns_sans),
            Fact::DownstreamPeerIpSan => list(out, &peer.ip_sans()),
            Fact::DownstreamPeerEmailSan => list(out, &peer.email_sans()),
            _ => return false,
        }
        true
    }

    fn tls_fact(&self, fact: Fact, out: &mut Vec<u8>) -> bool {
        match fact {
            Fact::RequestedServerName => push(out, self.facts.sni()),
            Fact::DownstreamLocalUriSan => push(out, self.facts.own()),
            Fact::DownstreamTlsVersion => push(out, self.tls().map_or("", |tls| tls.version)),
            Fact::DownstreamTlsCipher => push(out, self.tls().map_or("", |tls| tls.cipher)),
            Fact::UpstreamTlsVersion => push(out, self.upstream_tls().map_or("", |tls| tls.version)),
            Fact::UpstreamTlsCipher => push(out, self.upstream_tls().map_or("", |tls| tls.cipher)),
            Fact::UpstreamPeerUriSan => push(out, self.upstream.map_or("", Facts::peer)),
            Fact::UpstreamServerName => push(out, self.upstream.map_or("", Facts::sni)),
            Fact::ConnectionId => push(out, self.facts.id),
            Fact::UpstreamConnectionId => {
                if let Some(upstream) = self.upstream {
                    push(out, upstream.id);
                }
            }
            Fact::Hostname => push(out, hostname()),
            _ => return false,
        }
        true
    }
}

/// How an address is told.
#[derive(Clone, Copy)]
enum Form {
    Whole,
    Address,
    Port,
}

impl Form {
    fn write(self, place: SocketAddr, out: &mut Vec<u8>) {
        if let Some(path) = unix::path(place) {
            return match self {
                Self::Whole | Self::Address => push(out, format_args!("{}{path}", unix::SCHEME)),
                Self::Port => {}
            };
        }
        let address = place.ip().to_canonical();
        match self {
            Self::Whole => push(out, SocketAddr::new(address, place.port())),
            Self::Address => push(out, address),
            Self::Port => push(out, place.port()),
        }
    }
}

/// Appends addresses with commas between; `bare`: without their ports.
pub(crate) fn addresses(all: impl Iterator<Item = SocketAddr>, bare: bool, out: &mut Vec<u8>) {
    for (number, place) in all.enumerate() {
        if number > 0 {
            out.push(b',');
        }
        (if bare { Form::Address } else { Form::Whole }).write(place, out);
    }
}

/// Appends a value.
pub(crate) fn push(out: &mut Vec<u8>, value: impl Display) {
    // Writing into a Vec cannot fail.
    let _ = write!(out, "{value}");
}

fn list(out: &mut Vec<u8>, values: &[impl Display]) {
    for (number, value) in values.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        push(out, value);
    }
}

/// Asked of the kernel once: the pod's name in Kubernetes.
fn hostname() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
        name.map(|name| name.trim_end().to_owned()).or_else(|_| std::env::var("HOSTNAME")).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_whole_or_in_parts() {
        let text = |form: Form, place: &str| {
            let mut out = Vec::new();
            form.write(place.parse().unwrap(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(Form::Whole, "[::ffff:192.0.2.1]:80"), "192.0.2.1:80");
        assert_eq!(text(Form::Whole, "[2001:db8::1]:80"), "[2001:db8::1]:80");
        assert_eq!(text(Form::Address, "[2001:db8::1]:80"), "2001:db8::1");
        assert_eq!(text(Form::Port, "192.0.2.1:80"), "80");
    }
}
