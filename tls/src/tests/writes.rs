//! What goes to the socket together: each write is a system call, and a packet for the peer.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;

/// A pipe that counts.
#[derive(Debug)]
struct Counted {
    pipe: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// Both ends behind a handshake, and what the server has written until now.
async fn shaken(server: &ServerTls, client: &ClientTls) -> (Stream<Counted>, Stream<DuplexStream>, Arc<AtomicUsize>) {
    let (near, pipe) = duplex(64 * 1024);
    let writes = Arc::<AtomicUsize>::default();
    let far = Counted { pipe, writes: Arc::clone(&writes) };
    let serve = async { accept::hello(Stream::new(far)).await?.accept(server).await };
    let (served, asked) = tokio::join!(serve, client.connect("cargo.example", near));
    (served.expect("the server accepts"), asked.expect("the client accepts"), writes)
}

#[tokio::test]
async fn tickets_go_with_the_first_bytes_and_not_by_themselves() {
    let ca = authority();
    let (serving, asking) = (server(&server_spec(&ca)), client(&client_spec(&ca)));

    let (mut served, mut asked, writes) = shaken(&serving, &asking).await;
    served.flush().await.expect("flushes");
    assert_eq!(writes.load(Ordering::Relaxed), 1, "the server's part of the handshake is one write, and tickets none");

    served.write_all(b"s").await.expect("writes");
    served.flush().await.expect("flushes");
    assert_eq!(writes.load(Ordering::Relaxed), 2, "tickets and bytes are one write");

    assert_eq!(asked.read_u8().await.expect("reads"), b's');
    let (again, ..) = shaken(&serving, &asking).await;
    assert!(again.resumed(), "the ticket has arrived");
}

#[tokio::test]
async fn tickets_with_a_long_chain_of_the_client_go_at_once() {
    let ca = authority();
    // Each ticket holds what the client has shown, of which nobody here has verified a word.
    let mut shown = ca.issue_client("long", &[]).expect("issues");
    let many = (0..60).map(|_| ca.issue_client("another", &[]).expect("issues").chain_pem);
    shown.chain_pem.extend(many.collect::<Vec<_>>());
    let serving = server(&ServerSpec { client: ClientAuth::Unverified { required: true }, ..server_spec(&ca) });
    let asking = client(&with_certificate(client_spec(&ca), &shown));

    let (mut served, mut asked, writes) = shaken(&serving, &asking).await;
    assert_eq!(writes.load(Ordering::Relaxed), 2, "the server's part of the handshake, and tickets");
    assert_eq!(served.unsent(), 0);
    served.write_all(b"s").await.expect("writes");
    served.flush().await.expect("flushes");
    assert_eq!(asked.read_u8().await.expect("reads"), b's');
}

#[tokio::test]
async fn tls_1_2_needs_the_servers_last_word_at_once() {
    let ca = authority();
    let (_, _, writes) = shaken(&server(&server_spec(&ca)), &tls12_client()).await;
    assert_eq!(writes.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn the_last_bytes_and_the_end_are_one_write() {
    let ca = authority();
    let (mut served, mut asked, writes) = shaken(&server(&server_spec(&ca)), &client(&client_spec(&ca))).await;
    let before = writes.load(Ordering::Relaxed);

    served.write_all(b"the last").await.expect("writes");
    served.end();
    served.flush().await.expect("flushes");
    assert_eq!(writes.load(Ordering::Relaxed) - before, 1);
    served.shutdown().await.expect("closes");
    assert_eq!(writes.load(Ordering::Relaxed) - before, 1, "it is not said twice");

    let mut heard = Vec::new();
    asked.read_to_end(&mut heard).await.expect("the end is a proper one");
    assert_eq!(heard, b"the last");
}
