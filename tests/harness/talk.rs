//! A client that says every part of a request itself and hears every part of the answer, in both HTTP versions.

use std::{
    future::{Future as _, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use h2::{SendStream, client::SendRequest, ext::Protocol};
use http::{HeaderMap, HeaderValue, Request};
use tokio::{
    io::{AsyncWriteExt, join, sink, split},
    sync::oneshot,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use crate::{
    client::{Client, Failure},
    h1,
    message::{Answer, Ask, Version},
    raw::Raw,
    tls_peer::Stream,
    tunnel,
};

/// A WebSocket in whichever HTTP version.
pub type Socket = WebSocketStream<Box<dyn Stream>>;

/// Sends one request for `host` on a connection of its own.
///
/// # Errors
/// When no answer comes.
pub async fn talk(client: &Client, version: Version, host: &str, ask: Ask) -> Result<Answer, Failure> {
    let answer = async {
        match version {
            Version::One => talk_one(client, host, ask).await,
            Version::Two => talk_two(&mut open(client, host).await?, host, ask).await,
        }
    };
    timeout(PATIENCE, answer).await?
}

async fn talk_one(client: &Client, host: &str, mut ask: Ask) -> Result<Answer, Failure> {
    let (read, mut write) = split(client.dial(host).await?);
    let mut raw = Raw::over(Box::new(join(read, sink())));
    let chunked = !ask.trailers.is_empty();
    ask.headers.insert("host", HeaderValue::from_str(host)?);
    match &ask.body {
        _ if chunked => drop(ask.headers.insert("transfer-encoding", HeaderValue::from_static("chunked"))),
        Some(body) => drop(ask.headers.insert("content-length", (body.len() * ask.times).into())),
        None => {}
    }
    if ask.expects {
        ask.headers.insert("expect", HeaderValue::from_static("100-continue"));
    }
    let head = h1::head(&format!("{} {} HTTP/1.1", ask.method, ask.path), &ask.headers);
    write.write_all(head.as_bytes()).await?;
    write.flush().await?;
    let is_head = ask.method == "HEAD";
    let (go, gate) = oneshot::channel();
    let mut go = ask.expects.then_some(go);
    let gate = ask.expects.then_some(gate);
    let upload = tokio::spawn(async move {
        if let Some(gate) = gate {
            gate.await.ok()?;
        }
        let body = ask.body.unwrap_or_default();
        for _ in 0..ask.times {
            let piece = if chunked && !body.is_empty() { h1::chunk(&body).into() } else { body.clone() };
            write.write_all(&piece).await.ok()?;
        }
        if chunked {
            write.write_all(h1::last_chunk(&ask.trailers).as_bytes()).await.ok()?;
        }
        write.flush().await.ok()?;
        // The connection stays open until the answer is there.
        Some(write)
    });
    let mut answer = Answer::default();
    loop {
        let head = h1::read_head(&mut raw).await?;
        if head.status() == 100 {
            go.take().map(|go| go.send(()));
        }
        if head.status() < 200 && head.status() != 101 {
            answer.interim.push((head.status(), head.headers));
            continue;
        }
        (answer.status, answer.headers) = (head.status(), head.headers);
        break;
    }
    let bodiless = is_head || matches!(answer.status, 101 | 204 | 304);
    if !bodiless {
        match h1::read_body(&mut raw, &answer.headers, true).await {
            Ok((body, trailers)) => (answer.body, answer.trailers) = (body, trailers),
            Err(error) => answer.cut = error.to_string(),
        }
    }
    upload.abort();
    Ok(answer)
}

/// A connection of HTTP/2.
///
/// # Errors
/// When the connection or the handshake fails.
pub async fn open(client: &Client, host: &str) -> Result<SendRequest<Bytes>, Failure> {
    let stream = client.clone().h2().dial(host).await?;
    let (sender, driver) = h2::client::handshake(stream).await?;
    tokio::spawn(async move { drop(driver.await) });
    Ok(sender)
}

/// Sends one request on an open connection of HTTP/2.
///
/// # Errors
/// When no answer comes.
pub async fn talk_two(sender: &mut SendRequest<Bytes>, host: &str, ask: Ask) -> Result<Answer, Failure> {
    let mut request = Request::builder().method(&*ask.method).uri(format!("https://{host}{}", ask.path)).body(())?;
    *request.headers_mut() = ask.headers;
    if ask.expects {
        request.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
    }
    let ended = ask.body.is_none() && ask.trailers.is_empty();
    *sender = sender.clone().ready().await?;
    let (mut response, mut stream) = sender.send_request(request, ended)?;
    let (go, gate) = oneshot::channel();
    let mut go = ask.expects.then_some(go);
    let gate = ask.expects.then_some(gate);
    let upload = tokio::spawn(async move {
        if let Some(gate) = gate {
            gate.await.ok()?;
        }
        let body = ask.body.unwrap_or_default();
        if !ended {
            send_body(&mut stream, body, ask.times, ask.trailers).await.ok()?;
        }
        // The stream stays open until the answer is there.
        Some(stream)
    });
    let mut answer = Answer::default();
    let response = poll_fn(|cx| {
        while let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
            let (parts, ()) = interim?.into_parts();
            if parts.status == 100 {
                go.take().map(|go| go.send(()));
            }
            answer.interim.push((parts.status.as_u16(), parts.headers));
        }
        Pin::new(&mut response).poll(cx)
    })
    .await?;
    let (parts, mut body) = response.into_parts();
    (answer.status, answer.headers) = (parts.status.as_u16(), parts.headers);
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                body.flow_control().release_capacity(data.len())?;
                all.extend_from_slice(&data);
            }
            Err(error) => {
                answer.cut = error.to_string();
                break;
            }
        }
    }
    answer.body = all.into();
    if answer.cut.is_empty() {
        answer.trailers = body.trailers().await?.unwrap_or_default();
    }
    upload.abort();
    Ok(answer)
}

async fn send_body(
    stream: &mut SendStream<Bytes>,
    body: Bytes,
    times: usize,
    trailers: HeaderMap,
) -> Result<(), h2::Error> {
    for _ in 0..times {
        tunnel::send_all(stream, body.clone()).await?;
    }
    if trailers.is_empty() { stream.send_data(Bytes::new(), true) } else { stream.send_trailers(trailers) }
}

/// Opens a WebSocket at `path`; the answer when it is refused.
///
/// # Errors
/// When no answer comes.
pub async fn upgrade(
    client: &Client,
    version: Version,
    host: &str,
    path: &str,
) -> Result<Result<Socket, Box<Answer>>, Failure> {
    let opened = async {
        match version {
            Version::One => upgrade_one(client, host, path).await,
            Version::Two => upgrade_two(client, host, path).await,
        }
    };
    Ok(match timeout(PATIENCE, opened).await?? {
        Ok(stream) => Ok(WebSocketStream::from_raw_socket(stream, Role::Client, None).await),
        Err(answer) => Err(answer),
    })
}

type Opened = Result<Box<dyn Stream>, Box<Answer>>;

async fn upgrade_one(client: &Client, host: &str, path: &str) -> Result<Opened, Failure> {
    let mut raw = Raw::over(client.dial(host).await?);
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
    raw.send(head).await?;
    let head = h1::read_head(&mut raw).await?;
    if head.status() == 101 {
        let accept = head.headers.get("sec-websocket-accept").map(HeaderValue::as_bytes).unwrap_or_default();
        assert_eq!(accept, derive_accept_key(key.as_bytes()).as_bytes(), "{head:?}");
        assert_eq!(head.headers["sec-websocket-protocol"], "chat", "{head:?}");
        return Ok(Ok(raw.into_stream()));
    }
    let (body, _) = h1::read_body(&mut raw, &head.headers, true).await?;
    Ok(Err(Box::new(Answer { status: head.status(), headers: head.headers, body, ..Answer::default() })))
}

async fn upgrade_two(client: &Client, host: &str, path: &str) -> Result<Opened, Failure> {
    let sender = open(client, host).await?;
    let mut sender = sender.ready().await?;
    crate::eventually::eventually("RFC 8441 is offered", async || sender.is_extended_connect_protocol_enabled()).await;
    let request = Request::connect(format!("https://{host}{path}"))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .extension(Protocol::from_static("websocket"))
        .body(())?;
    let (response, stream) = sender.send_request(request, false)?;
    let (parts, mut body) = response.await?.into_parts();
    if parts.status == 200 {
        assert_eq!(parts.headers["sec-websocket-protocol"], "chat", "{parts:?}");
        assert!(!parts.headers.contains_key("sec-websocket-accept"), "{parts:?}");
        return Ok(Ok(Box::new(tunnel::bytes(stream, body))));
    }
    let mut answer = Answer { status: parts.status.as_u16(), headers: parts.headers, ..Answer::default() };
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        all.extend_from_slice(&data?);
    }
    answer.body = all.into();
    Ok(Err(Box::new(answer)))
}

const PATIENCE: Duration = Duration::from_secs(15);
