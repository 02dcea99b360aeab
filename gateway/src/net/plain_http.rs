//! Plain HTTP that was sent to a port that speaks TLS.

use tls::stream::Stream;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

/// What a client hears that speaks HTTP where TLS is expected, in the words that it understands.
pub(super) async fn say_https(mut plain: Stream<TcpStream>, h2: bool) -> Result<(), tls::Error> {
    const SAID: &str = "this port speaks TLS, and plain HTTP was sent to it: use https://";
    let answer = if h2 {
        // Empty settings, and a GOAWAY with INADEQUATE_SECURITY (RFC 9113 sections 6.8 and 7) that carries the text.
        let mut frames = b"\0\0\0\x04\0\0\0\0\0\0\0".to_vec();
        frames.push(8 + SAID.len() as u8);
        frames.extend(b"\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0c");
        frames.extend(SAID.as_bytes());
        frames
    } else {
        let length = SAID.len();
        format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{SAID}"
        )
        .into_bytes()
    };
    plain.write_all(&answer).await.map_err(tls::Error::from_io)?;
    tls::accept::tell(plain).await;
    Ok(())
}
