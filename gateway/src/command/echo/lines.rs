//! Bytes that are no HTTP, as a mail server or a broker speaks them: the server has the first word, then every line is
//! answered.
//!
//! ```text
//! < 220 broker v1 (broker-v1-0) is ready
//! > hello
//! < 250 broker-v1-0: hello
//! > quit
//! < 221 broker-v1-0: bye
//! ```

use std::io;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};

use super::Names;

/// A longer line is answered in pieces, bytes.
const LONGEST: u64 = 16 * 1024;

/// Speaks until the client says `quit` or ends.
///
/// # Errors
/// The peer went away.
pub(crate) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, names: &Names) -> io::Result<()> {
    let Names { service, pod, version } = names;
    let mut stream = BufReader::new(stream);
    say(&mut stream, format!("220 {service} {version} ({pod}) is ready\n").as_bytes()).await?;
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut stream).take(LONGEST).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return stream.shutdown().await;
        }
        let text = line.trim_ascii_end();
        if text == b"quit" {
            say(&mut stream, format!("221 {pod}: bye\n").as_bytes()).await?;
            return stream.shutdown().await;
        }
        say(&mut stream, &[format!("250 {pod}: ").as_bytes(), text, b"\n"].concat()).await?;
    }
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    async fn heard(said: &[u8]) -> String {
        let (near, far) = duplex(64 * 1024);
        let names = Names { service: "broker".to_owned(), pod: "broker-v1-0".to_owned(), version: "v1".to_owned() };
        let client = async {
            let mut near = near;
            let mut heard = vec![0; "220 broker v1 (broker-v1-0) is ready\n".len()];
            // Before anything was said.
            near.read_exact(&mut heard).await.unwrap();
            near.write_all(said).await.unwrap();
            near.shutdown().await.unwrap();
            near.read_to_end(&mut heard).await.unwrap();
            String::from_utf8(heard).unwrap()
        };
        let (served, heard) = tokio::join!(serve(far, &names), client);
        served.unwrap();
        heard
    }

    #[tokio::test]
    async fn it_greets_first_and_answers_every_line() {
        let greeting = "220 broker v1 (broker-v1-0) is ready\n";
        assert_eq!(heard(b"").await, greeting);
        let two = format!("{greeting}250 broker-v1-0: a b\n250 broker-v1-0: c\n");
        assert_eq!(heard(b"a b\r\nc").await, two);
        assert_eq!(heard(b"quit\nunheard\n").await, format!("{greeting}221 broker-v1-0: bye\n"));
    }

    #[tokio::test]
    async fn a_line_without_end_takes_no_memory_without_end() {
        let heard = heard(&[b'x'; 40_000]).await;
        assert_eq!(heard.lines().count(), 1 + 3, "a greeting, and an answer for each piece");
        assert_eq!(heard.matches('x').count(), 40_000);
    }
}
