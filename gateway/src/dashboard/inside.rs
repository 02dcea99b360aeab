//! A connection that begins in the network namespace of another process. A thread of its own enters the namespace, connects
//! and ends: a socket stays in the namespace that it was made in, whoever uses it.

use std::{fs::File, net::SocketAddr, os::fd::AsFd as _, thread, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{net::TcpStream, sync::oneshot};

/// Longest wait for the connection.
const CONNECT: Duration = Duration::from_secs(2);

/// Connects to `address` as `process` would. Wants the right to enter namespaces (`CAP_SYS_ADMIN`).
pub(super) async fn connect(process: u32, address: SocketAddr) -> Result<TcpStream> {
    let (give, given) = oneshot::channel();
    let enter = move || {
        // Whoever waited may be gone.
        let _ = give.send(from_within(process, address));
    };
    thread::Builder::new().name("sluice-inside".to_owned()).spawn(enter).context("starting a thread")?;
    let stream = given.await.map_err(|_| anyhow!("the thread that connects ended"))??;
    TcpStream::from_std(stream).context("using the connection")
}

fn from_within(process: u32, address: SocketAddr) -> Result<std::net::TcpStream> {
    let namespace = File::open(format!("/proc/{process}/ns/net"))
        .with_context(|| format!("opening the network namespace of process {process}, which may have ended"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("entering the network namespace of process {process} (wants root)"))?;
    let stream = std::net::TcpStream::connect_timeout(&address, CONNECT)
        .with_context(|| format!("nobody listens on {address} within process {process}'s network"))?;
    stream.set_nonblocking(true).context("using the connection")?;
    Ok(stream)
}
