//! Listening sockets: one per worker and address, shared by `SO_REUSEPORT`, so that no worker waits for another.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use routing::unix;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tracing::warn;

/// Connections that may wait for `accept`.
pub(crate) const BACKLOG: i32 = 4096;
/// Pause when the process is short of descriptors or memory.
pub(crate) const BACK_OFF: Duration = Duration::from_millis(50);

/// What stands behind a listening socket.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Door {
    /// A gateway's listener.
    Gateway {
        /// Istio `Server.bind`.
        bind: Option<IpAddr>,
        /// Istio `Server.port.number`.
        port: u16,
    },
    /// A sidecar's inbound side.
    Inbound {
        /// The workload port this socket stands for; `None`: the original destination tells.
        port: Option<u16>,
    },
    /// A sidecar's outbound side.
    Outbound,
    /// A port of the outbound side that applications connect to themselves (`Sidecar.egress`).
    Egress {
        /// The port of services that is meant; 0: the host of a request names it.
        port: u16,
    },
}

impl Door {
    /// Whether those who come through it are others than the application of a sidecar.
    pub(crate) fn is_for_others(self) -> bool {
        !matches!(self, Self::Outbound | Self::Egress { .. })
    }
}

/// What a listener tells its connections.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Standing {
    /// It takes no new ones, and these end in order.
    pub(crate) closing: bool,
    /// However long that takes.
    pub(crate) patient: bool,
    /// Changes when some of them may not fit any more what is asked of those who come in: `standing.rs` knows which.
    pub(crate) rules: u64,
}

/// Binds `count` sockets to one address. `beside`: the same port of all IPv4 addresses has sockets of its own.
///
/// # Errors
/// When the address is taken (by anybody, also by another process of this user), not ours, or not allowed.
pub(crate) fn bind(address: SocketAddr, count: usize, beside: bool) -> io::Result<Vec<std::net::TcpListener>> {
    if unix::is_unix(address) {
        return crate::unix::bind(address, count);
    }
    // SO_REUSEPORT would let a second proxy of the same user share the port in silence: ask without it first.
    drop(socket(address, false, beside)?);
    (0..count).map(|_| socket(address, true, beside)).collect()
}

fn socket(address: SocketAddr, share: bool, beside: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    socket.set_nonblocking(true)?;
    if beside && address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    // What is accepted inherits it: a client that is gone without a word is noticed in two minutes.
    socket.set_tcp_keepalive(&keepalive())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// When the system asks whether the other side of a silent connection is still there.
pub(crate) fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)).with_retries(6)
}

/// Accepts until the listener closes, then takes what already waits and closes the socket.
pub(crate) async fn accept_until(
    (listener, address): (std::net::TcpListener, SocketAddr),
    mut standing: watch::Receiver<Standing>,
    serve: impl Fn(TcpStream, SocketAddr),
) {
    if unix::is_unix(address) {
        return crate::unix::accept_until(listener, standing, serve).await;
    }
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return warn!(%error, "a listening socket cannot be used"),
    };
    loop {
        let accepted = tokio::select! {
            biased;
            _ = standing.wait_for(|standing| standing.closing) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, remote)) => serve(tcp, remote),
            // The client was gone before we looked: only this connection failed.
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                warn!(%error, "accept failed, retrying");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
    // The runtime may not have heard yet of those that wait, so the socket itself is asked.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((tcp, remote)) = listener.accept() {
        if tcp.set_nonblocking(true).is_ok()
            && let Ok(tcp) = TcpStream::from_std(tcp)
        {
            serve(tcp, remote);
        }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_that_wait_when_the_socket_closes_are_still_served() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), 1, false).unwrap().remove(0);
        let address = listener.local_addr().unwrap();
        let waiting: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let (_open, closing) = watch::channel(Standing { closing: true, ..Standing::default() });
        let served = std::cell::RefCell::new(Vec::new());
        accept_until((listener, address), closing, |_, remote| served.borrow_mut().push(remote)).await;
        assert_eq!(served.into_inner(), waiting.iter().map(|it| it.local_addr().unwrap()).collect::<Vec<_>>());
    }

    #[test]
    fn a_taken_port_is_an_error_and_a_free_one_is_shared_by_the_workers() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 1, false).unwrap();
        let address = first[0].local_addr().unwrap();
        assert_eq!(bind(address, 1, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert_eq!(bind(address, 3, false).unwrap().len(), 3);
    }
}
