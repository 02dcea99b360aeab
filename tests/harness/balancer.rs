//! A TCP load balancer: connections go round robin to whoever is in the list.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A listening balancer; ends when dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    backends: Vec<SocketAddr>,
    next: usize,
    counts: HashMap<SocketAddr, usize>,
}

impl Balancer {
    /// Starts one.
    pub async fn start(address: SocketAddr, backends: &[SocketAddr]) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address of a balancer is free");
        let state = Arc::new(Mutex::new(State { backends: backends.to_vec(), ..State::default() }));
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// New connections go to these from now on; open ones stay where they are. Empty = they are closed at once.
    pub fn set(&self, backends: &[SocketAddr]) {
        locked(&self.state).backends = backends.to_vec();
    }

    /// How many connections this backend got.
    pub fn count(&self, backend: SocketAddr) -> usize {
        locked(&self.state).counts.get(&backend).copied().unwrap_or_default()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((client, _)) = listener.accept().await {
        if let Some(backend) = locked(&state).pick() {
            tokio::spawn(relay(client, backend));
        }
    }
}

async fn relay(mut client: TcpStream, backend: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(backend).await else { return };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    // Whoever ends first ends both; that is what the story looks at, not how.
    copy_bidirectional(&mut client, &mut server).await.ok();
}

impl State {
    fn pick(&mut self) -> Option<SocketAddr> {
        let backend = *self.backends.get(self.next % self.backends.len().max(1))?;
        self.next = self.next.wrapping_add(1);
        *self.counts.entry(backend).or_default() += 1;
        Some(backend)
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
