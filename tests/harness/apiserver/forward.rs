//! Port-forwards to pods, as kubelet does them: two channels for each port in one WebSocket, of which the first carries bytes.

use std::{io, net::SocketAddr};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::{Request, Response, header};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use super::serve::{Body, full};

/// `/api/v1/namespaces/NAMESPACE/pods/NAME/portforward`, as `NAMESPACE/NAME`.
pub(super) fn pod(path: &str) -> Option<String> {
    let (namespace, rest) = path.strip_prefix("/api/v1/namespaces/")?.split_once("/pods/")?;
    Some(format!("{namespace}/{}", rest.strip_suffix("/portforward")?))
}

/// Answers with 101 and carries bytes to `to`.
pub(super) fn answer(mut request: Request<Incoming>, to: SocketAddr) -> Result<Response<Body>, io::Error> {
    let port = request
        .uri()
        .query()
        .and_then(|query| query.split('&').find_map(|it| it.strip_prefix("ports="))?.parse::<u16>().ok());
    let (Some(key), Some(port)) = (request.headers().get(header::SEC_WEBSOCKET_KEY).cloned(), port) else {
        return Err(io::Error::other("no port is asked for, or no WebSocket"));
    };
    let offered = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
    let protocol = offered.and_then(|all| all.split(',').next()).unwrap_or_default().trim().to_owned();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            // Whoever goes away first ends it.
            carry(upgraded, port, to).await.ok();
        }
    });
    let response = Response::builder()
        .status(101)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()))
        .header(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    response.body(full(Vec::new())).map_err(io::Error::other)
}

async fn carry(upgraded: Upgraded, port: u16, to: SocketAddr) -> io::Result<()> {
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    let (mut down, mut up) = socket.split();
    let [low, high] = port.to_le_bytes();
    for channel in [0, 1] {
        down.send(Message::Binary(Bytes::from(vec![channel, low, high]))).await.map_err(io::Error::other)?;
    }
    let mut pod = TcpStream::connect(to).await?;
    let mut buffer = vec![0; 16 << 10];
    loop {
        tokio::select! {
            message = up.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    if let Some((0, rest)) = bytes.split_first() {
                        pod.write_all(rest).await?;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                Some(Ok(_)) => {}
            },
            count = pod.read(&mut buffer) => {
                let count = count?;
                if count == 0 {
                    return down.close().await.map_err(io::Error::other);
                }
                let frame = [&[0][..], &buffer[..count]].concat();
                down.send(Message::Binary(frame.into())).await.map_err(io::Error::other)?;
            }
        }
    }
}
