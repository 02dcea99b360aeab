//! A connection that means the sidecar itself would be led to it again and again, or past who guards its admin pages.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use socket2::SockRef;
use tokio::net::TcpStream;

use super::{accept::Reception, original_dst::original_dst};

/// The sidecar's two sides, and its admin pages. A gateway has none: nothing is captured there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OwnPorts([u16; 3]);

impl OwnPorts {
    /// Of a sidecar.
    pub(crate) fn new(ports: [u16; 3]) -> Self {
        Self(ports)
    }

    /// Whether a connection from outside means one of them.
    pub(crate) fn means(self, to: SocketAddr) -> bool {
        self.0.contains(&to.port())
    }

    /// Whether a connection of the application means one of them: at an address of this pod, which it comes from itself then.
    pub(crate) fn means_from(self, remote: SocketAddr, to: SocketAddr, addresses: &[IpAddr]) -> bool {
        let ip = to.ip().to_canonical();
        self.means(to) && (ip.is_loopback() || ip == remote.ip().to_canonical() || addresses.contains(&ip))
    }
}

impl Reception {
    /// Where a captured connection was meant to go.
    pub(super) fn meant(&self, tcp: &TcpStream, (remote, local): (SocketAddr, SocketAddr)) -> Option<SocketAddr> {
        // One that nobody redirected means us: forwarding it to where it came would be a loop.
        let meant = original_dst(tcp).unwrap_or(local);
        if meant != local && !self.own_ports.means(meant) {
            return Some(meant);
        }
        self.refuse_own(tcp, (remote, local), meant);
        None
    }

    /// Ends a connection that means the sidecar itself.
    pub(super) fn refuse_own(&self, tcp: &TcpStream, (remote, local): (SocketAddr, SocketAddr), meant: SocketAddr) {
        let why = format_args!("refused: port {} of this pod is the sidecar's own", meant.port());
        self.refusals.tell("OwnPort", remote, local, why);
        let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_port_of_another_pod_is_anothers() {
        let own = OwnPorts::new([15006, 15001, 15000]);
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (app, pod) = (at("10.0.0.1:40000"), "10.0.0.9".parse().unwrap());
        assert!(own.means(at("10.0.0.1:15006")) && !own.means(at("10.0.0.1:15021")));
        assert!(own.means_from(app, at("10.0.0.1:15001"), &[]));
        assert!(own.means_from(app, at("10.0.0.9:15000"), &[pod]));
        assert!(own.means_from(app, at("[::1]:15001"), &[]));
        assert!(!own.means_from(app, at("10.0.0.2:15001"), &[pod]));
        assert!(!OwnPorts::default().means(at("10.0.0.1:15001")));
    }
}
