//! One opaque connection: bytes both ways until both sides are done.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tracing::debug;

use crate::net::{connection::Connection, listen::keepalive};

/// Istio's default connect timeout.
const CONNECT: Duration = Duration::from_secs(10);

/// Connects to an address, from `source` when given.
///
/// # Errors
/// Whatever the operating system says.
pub(crate) async fn connect(to: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive())?;
    if let Some(source) = source.filter(|source| source.is_ipv4() == to.is_ipv4()) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let tcp = socket.connect(to).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// Copies bytes between a client and an address until both are done.
pub(crate) async fn relay(mut client: Connection, to: SocketAddr, source: Option<IpAddr>) {
    let connected = timeout(CONNECT, connect(to, source)).await;
    let mut server = match connected {
        Ok(Ok(server)) => server,
        Ok(Err(error)) => return debug!(%to, %error, "no connection"),
        Err(_) => return debug!(%to, "no connection in time"),
    };
    match copy_bidirectional(&mut client.stream, &mut server).await {
        Ok((received, sent)) => debug!(%to, received, sent, "connection ended"),
        Err(error) => debug!(%to, %error, "connection broke"),
    }
}
