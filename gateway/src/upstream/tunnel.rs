//! Istio `tunnel`: the endpoint is a proxy, which is asked by HTTP CONNECT to pass bytes on to somewhere else (RFC 9110
//! section 9.3.6). Of connections that carry no HTTP alone, as in Istio.

use std::future::poll_fn;

use routing::connections::Tunnel;
use tls::stream::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use crate::http::{h1::status::status, limits::HEAD};

/// Bytes of the answer's head.
const LONGEST: usize = 16 * 1024;

/// Opens the tunnel on a fresh connection. What the target says first is left in its input.
///
/// # Errors
/// Why there is none, in words.
pub(crate) async fn open<IO>(stream: &mut Stream<IO>, tunnel: &Tunnel) -> Result<(), String>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    if tunnel.post {
        return Err("a tunnel by POST is not supported; tunnel.protocol CONNECT is".to_owned());
    }
    let target = &tunnel.target;
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let lost = |error: std::io::Error| format!("tunnel: {error}");
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    stream.flush().await.map_err(lost)?;
    timeout(HEAD, answer(stream))
        .await
        .map_err(|_| "tunnel: the proxy did not answer CONNECT within 10 s".to_owned())?
}

async fn answer<IO>(stream: &mut Stream<IO>) -> Result<(), String>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let read = status(stream.input()).map_err(|error| format!("tunnel: the proxy does not speak HTTP: {error}"))?;
        if let Some((status, length)) = read {
            stream.consume(length);
            match status {
                // Behind it are the target's bytes, whatever its fields say of a body.
                200..300 => return Ok(()),
                100..200 => continue,
                _ => return Err(format!("tunnel: the proxy answered CONNECT with {status}")),
            }
        }
        if stream.input().len() > LONGEST {
            return Err("tunnel: the proxy's answer to CONNECT has no end".to_owned());
        }
        match poll_fn(|cx| stream.poll_fill(cx)).await {
            Ok(true) => {}
            Ok(false) => return Err("tunnel: the proxy closed the connection instead of answering CONNECT".to_owned()),
            Err(error) => return Err(format!("tunnel: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    async fn answered(pieces: &[&str]) -> (String, Result<(), String>, String) {
        let (near, mut far) = duplex(4096);
        let mut stream = Stream::new(near);
        let tunnel = Tunnel { post: false, target: "db.example:5432".into() };
        let proxy = async {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(far.read_u8().await.unwrap());
            }
            for piece in pieces {
                far.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
            far.shutdown().await.unwrap();
            String::from_utf8(request).unwrap()
        };
        let (opened, request) = tokio::join!(open(&mut stream, &tunnel), proxy);
        (request, opened, String::from_utf8_lossy(stream.input()).into_owned())
    }

    #[tokio::test]
    async fn a_proxy_is_asked_and_what_follows_its_answer_is_the_targets() {
        let (request, opened, rest) =
            answered(&["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ", "Fine\r\nContent-Length: 4\r\n\r\n", "hello"])
                .await;
        assert_eq!(request, "CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n");
        assert_eq!(opened, Ok(()));
        assert!("hello".starts_with(&rest));
    }

    #[tokio::test]
    async fn a_refusal_is_told() {
        for (answer, told) in [
            ("HTTP/1.1 403 Forbidden\r\n\r\n", "tunnel: the proxy answered CONNECT with 403"),
            ("", "tunnel: the proxy closed the connection instead of answering CONNECT"),
            ("SSH-2.0-x\r\n", "tunnel: the proxy does not speak HTTP: invalid HTTP version"),
        ] {
            assert_eq!(answered(&[answer]).await.1, Err(told.to_owned()), "{answer}");
        }
    }
}
