//! Where a captured connection meant to go, before iptables redirected it to us.

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The original destination (`SO_ORIGINAL_DST`), or `None` when the connection was made to us directly.
pub(crate) fn original_dst(tcp: &TcpStream) -> Option<SocketAddr> {
    let local = tcp.local_addr().ok()?;
    let socket = SockRef::from(tcp);
    let found = if local.ip().to_canonical().is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    let original = found.ok()?.as_socket()?;
    let original = SocketAddr::new(original.ip().to_canonical(), original.port());
    (original != SocketAddr::new(local.ip().to_canonical(), local.port())).then_some(original)
}
