//! One question and its answer over TCP (RFC 1035 section 4.2.2), as bytes.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};

/// Sends one message to the first address of `nameserver` (`host:port`) that takes a connection, and gives the answer.
/// Before `deadline` every address gets its share of the time; after it the caller gives up.
///
/// # Errors
/// What went wrong, as the end of a sentence.
pub(super) async fn exchange(nameserver: &str, message: &[u8], deadline: Instant) -> Result<Vec<u8>, String> {
    let length = u16::try_from(message.len()).map_err(|_| "the message is too long for DNS".to_owned())?;
    let mut stream = connect(nameserver, deadline).await?;
    let framed = [&length.to_be_bytes(), message].concat();
    talk(&mut stream, &framed).await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "it closed the connection before its answer was complete".to_owned(),
        _ => format!("the connection failed: {error}"),
    })
}

async fn talk(stream: &mut TcpStream, framed: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(framed).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

async fn connect(nameserver: &str, deadline: Instant) -> Result<TcpStream, String> {
    let found = lookup_host(nameserver).await.map_err(|error| format!("its address cannot be found: {error}"))?;
    first_of(&found.collect::<Vec<_>>(), deadline).await
}

async fn first_of(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, String> {
    let mut failures = Vec::new();
    for (tried, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = now + deadline.saturating_duration_since(now) / left;
        match timeout_at(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failures.push(format!("{address}: {error}")),
            Err(_) => failures.push(format!("{address}: no answer")),
        }
    }
    Err(format!("it cannot be reached over TCP ({})", failures.join("; ")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_address_that_refuses_is_passed_over() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);

        let stream = first_of(&[gone, there], deadline).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), there);

        let error = first_of(&[gone], deadline).await.unwrap_err();
        assert!(error.starts_with(&format!("it cannot be reached over TCP ({gone}: Connection refused")), "{error}");
    }

    #[tokio::test]
    async fn an_address_without_a_port_is_none() {
        let error = exchange("ns.example.test", &[], Instant::now() + Duration::from_secs(10)).await.unwrap_err();
        assert!(error.starts_with("its address cannot be found: "), "{error}");
    }
}
