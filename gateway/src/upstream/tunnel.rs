//! Istio `tunnel`: the endpoint is a proxy, which is asked to pass bytes on to somewhere else: by HTTP CONNECT (RFC 9110
//! section 9.3.6), or by POST, where they are the bodies of request and answer, as Envoy does it. Of connections that carry no
//! HTTP alone, as in Istio.

use std::future::poll_fn;

use routing::connections::Tunnel;
use tls::stream::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use crate::http::{
    h1::{
        body::Body,
        status::{body, status},
    },
    limits::HEAD,
};

/// Bytes of the answer's head.
const LONGEST: usize = 16 * 1024;

/// Opens the tunnel on a fresh connection. What the target says first is left in its input. `Some`: it is a tunnel by POST, and
/// what goes through is the body of the request and this one of the answer ([`super::posted`]).
///
/// # Errors
/// Why there is none, in words.
pub(crate) async fn open<IO>(stream: &mut Stream<IO>, tunnel: &Tunnel) -> Result<Option<Body>, String>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let target = &tunnel.target;
    let request = match tunnel.post {
        false => format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"),
        true => format!("POST / HTTP/1.1\r\nHost: {target}\r\nTransfer-Encoding: chunked\r\n\r\n"),
    };
    let lost = |error: std::io::Error| format!("tunnel: {error}");
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    stream.flush().await.map_err(lost)?;
    let method = if tunnel.post { "POST" } else { "CONNECT" };
    timeout(HEAD, answer(stream, method))
        .await
        .map_err(|_| format!("tunnel: the proxy did not answer {method} within 10 s"))?
}

async fn answer<IO>(stream: &mut Stream<IO>, method: &str) -> Result<Option<Body>, String>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let read = status(stream.input()).map_err(|error| format!("tunnel: the proxy does not speak HTTP: {error}"))?;
        if let Some((status, length)) = read {
            let body = (method == "POST" && (200..300).contains(&status)).then(|| body(&stream.input()[..length]));
            stream.consume(length);
            match status {
                // Behind the answer to CONNECT are the target's bytes, whatever its fields say of a body.
                200..300 => {
                    return body.transpose().map_err(|why| format!("tunnel: the proxy's answer cannot be read: {why}"));
                }
                100..200 => continue,
                _ => return Err(format!("tunnel: the proxy answered {method} with {status}")),
            }
        }
        if stream.input().len() > LONGEST {
            return Err(format!("tunnel: the proxy's answer to {method} has no end"));
        }
        match poll_fn(|cx| stream.poll_fill(cx)).await {
            Ok(true) => {}
            Ok(false) => {
                return Err(format!("tunnel: the proxy closed the connection instead of answering {method}"));
            }
            Err(error) => return Err(format!("tunnel: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    async fn answered(pieces: &[&str]) -> (String, Result<bool, String>, String) {
        opened(false, pieces).await
    }

    /// What the proxy was asked, whether there is a body to read, and what is left to be read.
    async fn opened(post: bool, pieces: &[&str]) -> (String, Result<bool, String>, String) {
        let (near, mut far) = duplex(4096);
        let mut stream = Stream::new(near);
        let tunnel = Tunnel { post, target: "db.example:5432".into() };
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
        (request, opened.map(|body| body.is_some()), String::from_utf8_lossy(stream.input()).into_owned())
    }

    #[tokio::test]
    async fn a_proxy_is_asked_and_what_follows_its_answer_is_the_targets() {
        let (request, opened, rest) =
            answered(&["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ", "Fine\r\nContent-Length: 4\r\n\r\n", "hello"])
                .await;
        assert_eq!(request, "CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n");
        assert_eq!(opened, Ok(false));
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

    #[tokio::test]
    async fn by_post_the_answer_has_a_body() {
        let (request, opened_by_post, rest) =
            opened(true, &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello"]).await;
        assert_eq!(request, "POST / HTTP/1.1\r\nHost: db.example:5432\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(opened_by_post, Ok(true));
        assert_eq!(rest, "5\r\nhello");
        let refused = opened(true, &["HTTP/1.1 403 No\r\n\r\n"]).await.1;
        assert_eq!(refused, Err("tunnel: the proxy answered POST with 403".to_owned()));
        let odd = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n";
        assert!(opened(true, &[odd]).await.1.is_err_and(|why| why.contains("transfer coding")));
    }
}
