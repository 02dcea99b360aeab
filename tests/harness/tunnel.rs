//! Bytes through one stream of HTTP/2, and WebSockets above them.

use std::{future::poll_fn, io};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};

/// Makes a stream of HTTP/2 one of bytes. Dropped without a shutdown, it resets the stream.
pub(crate) fn bytes(send: SendStream<Bytes>, receive: RecvStream) -> DuplexStream {
    let (ours, theirs) = duplex(PIPE);
    let (read, write) = split(theirs);
    tokio::spawn(upwards(read, send));
    tokio::spawn(downwards(receive, write));
    ours
}

/// Sends bytes as the windows allow.
///
/// # Errors
/// When the stream ends.
pub async fn send_all(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await.ok_or(Reason::CANCEL)??;
        stream.send_data(bytes.split_to(room.min(bytes.len())), false)?;
    }
    Ok(())
}

async fn upwards(mut read: ReadHalf<DuplexStream>, mut send: SendStream<Bytes>) {
    let mut buffer = vec![0; PIPE];
    loop {
        match read.read(&mut buffer).await {
            Ok(0) | Err(_) => break send.send_data(Bytes::new(), true).unwrap_or_default(),
            Ok(count) => {
                if send_all(&mut send, Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
                    break;
                }
            }
        }
    }
}

async fn downwards(mut receive: RecvStream, mut write: WriteHalf<DuplexStream>) -> io::Result<()> {
    while let Some(Ok(data)) = receive.data().await {
        receive.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
        write.write_all(&data).await?;
    }
    write.shutdown().await
}

const PIPE: usize = 16 * 1024;
