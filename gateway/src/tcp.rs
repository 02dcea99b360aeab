//! Connections that we make, to IP addresses and to the unix sockets that have one.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::net::{TcpSocket, TcpStream};

use crate::net::listen::keepalive;

/// Connects to an address, from `source` when given.
///
/// # Errors
/// Whatever the operating system says.
pub(crate) async fn connect(to: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    if routing::unix::is_unix(to) {
        return crate::unix::connect(to).await;
    }
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive())?;
    if let Some(source) = source {
        let cannot = |error| io::Error::other(format!("cannot come from {source}: {error}"));
        socket.bind(SocketAddr::new(source, 0)).map_err(cannot)?;
    }
    let tcp = socket.connect(to).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}
