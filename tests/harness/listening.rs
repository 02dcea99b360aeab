//! A server's ear: accepts until it is stopped, and then cuts every connection.

use std::{net::SocketAddr, os::fd::OwnedFd, path::Path};

use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};

/// A listening server in the test. Dropped, it stops soon.
#[derive(Debug)]
pub struct Listening {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Serves every connection to `address`.
    pub async fn start<F>(address: SocketAddr, serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.expect("the address of a server is free");
        Self::serving(Ear::Tcp(listener), serve)
    }

    /// Serves every connection to a unix socket, whose path nobody else has.
    pub fn start_unix<F>(path: &Path, serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Left behind by a server that died.
        std::fs::remove_file(path).ok();
        Self::serving(Ear::Unix(UnixListener::bind(path).expect("the path can be made")), serve)
    }

    fn serving<F>(ear: Ear, serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(accept(ear, serve, stopped));
        Self { stop, task }
    }

    /// Stops listening and cuts every connection, as a server that died.
    pub async fn stop(self) {
        // Both only fail when the task ended already.
        self.stop.send(()).ok();
        self.task.await.ok();
    }
}

enum Ear {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Ear {
    /// A stream is a stream, whatever it came through.
    async fn hear(&self) -> std::io::Result<TcpStream> {
        match self {
            Self::Tcp(listener) => Ok(listener.accept().await?.0),
            Self::Unix(listener) => TcpStream::from_std(OwnedFd::from(listener.accept().await?.0.into_std()?).into()),
        }
    }
}

async fn accept<F>(listener: Ear, serve: impl Fn(TcpStream) -> F, mut stopped: oneshot::Receiver<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.hear() => if let Ok(stream) = accepted {
                connections.spawn(serve(stream));
            },
        }
    }
    drop(listener);
    connections.shutdown().await;
}
