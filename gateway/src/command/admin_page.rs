//! Asking a running proxy's admin pages.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

/// Longest wait for a page.
const ANSWER: Duration = Duration::from_secs(5);

/// The JSON of an admin page.
///
/// # Errors
/// Nobody is there, or it does not answer as a proxy does.
pub(super) async fn page(address: SocketAddr, path: &str) -> Result<Value> {
    let what = || format!("asking {address} for {path}; name the --admin address of a running proxy");
    timeout(ANSWER, fetch(address, path)).await.with_context(what)?.with_context(what)
}

async fn fetch(address: SocketAddr, path: &str) -> Result<Value> {
    let (status, body) = ask(address, Method::GET, path).await?;
    ensure!(status.is_success(), "it answers {status}");
    Ok(serde_json::from_slice(&body)?)
}

/// What an admin page answers, whatever that is.
///
/// # Errors
/// Nobody is there, or it does not answer as a proxy does.
pub(super) async fn text_of(address: SocketAddr, method: Method, path: &str) -> Result<(StatusCode, String)> {
    let what = || format!("asking {address} for {path}");
    let (status, body) = timeout(ANSWER, ask(address, method, path)).await.with_context(what)?.with_context(what)?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

async fn ask(address: SocketAddr, method: Method, path: &str) -> Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Its errors are those of the request.
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let reply = sender.send_request(request).await?;
    let status = reply.status();
    let body = reply.into_body().collect().await?.to_bytes();
    driver.abort();
    Ok((status, body))
}
