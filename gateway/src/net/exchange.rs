//! Who is at the other end of a connection of the mesh that carries no HTTP, and who we are.

use tls::stream::Stream;
use tokio::{net::TcpStream, time::timeout};

use super::{
    accept::{HANDSHAKE, Reception},
    facts::Facts,
};
use crate::{live::Installed, peers::exchange};

impl Reception {
    /// Both sides say who they are, before any byte of the connection's own. `None`: the client is turned away.
    pub(super) async fn exchange(
        &self,
        stream: &mut Stream<TcpStream>,
        facts: &Facts,
        installed: &Installed,
    ) -> Option<()> {
        match timeout(HANDSHAKE, exchange::as_server(stream, installed.own.as_ref())).await {
            Ok(Ok(Some(end))) => match facts.proven() {
                Some(principal) => {
                    let claim = exchange::take(stream, end, (&installed.peers, principal), &facts.heard);
                    self.metrics.claim(claim);
                }
                // Nobody is believed who has proven nothing.
                None => stream.consume(end),
            },
            Ok(Ok(None)) => {}
            Ok(Err(why)) => {
                self.turn_away("PeerExchange", facts, format_args!("connection refused: {why}"));
                return None;
            }
            Err(_) => {
                let why = "connection refused: the client agreed to say who it is and did not within 10 s (ALPN \
                           istio-peer-exchange)";
                self.turn_away("PeerExchange", facts, why);
                return None;
            }
        }
        Some(())
    }
}
