//! The same from the admin pages of running proxies.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use crate::{kubernetes::told::Told, settings::Address};

/// Longest wait for a page.
const ANSWER: Duration = Duration::from_secs(5);

/// Asks every one of these admin addresses.
///
/// # Errors
/// One does not answer as a proxy does.
pub(super) async fn read(addresses: &[Address]) -> Result<Vec<Told>> {
    let mut all = Vec::new();
    for address in addresses {
        let address = address.or(std::net::Ipv4Addr::LOCALHOST.into());
        let (dump, certificates) = (page(address, "/config_dump").await?, page(address, "/certs").await?);
        all.push(told(address, &dump, &certificates));
    }
    Ok(all)
}

fn told(address: SocketAddr, dump: &Value, certificates: &Value) -> Told {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let certificates = certificates.as_array().map(Vec::as_slice).unwrap_or_default();
    let problems = dump["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    let count = |items: usize| u64::try_from(items).unwrap_or(u64::MAX);
    let of = |severity: &str| count(problems.iter().filter(|it| it["severity"] == severity).count());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Told {
        namespace: text(&dump["workload"]["namespace"]),
        workload: text(&dump["workload"]["name"]),
        replica: address.to_string(),
        leader: false,
        version: text(&dump["version"]),
        content: text(&dump["digest"]),
        snapshot: text(&dump["digest"]),
        // Those that are only ordered have no end yet.
        certificates: count(certificates.iter().filter(|it| it["notAfter"].is_string()).count()),
        kept: count(certificates.iter().filter(|it| it["kept"].is_string()).count()),
        // All of them are in UTC, so that the order of the texts is that of the times.
        next_end: certificates.iter().filter_map(|it| it["notAfter"].as_str()).min().map(str::to_owned),
        errors: of("error"),
        warnings: of("warning"),
        told_at: i64::try_from(now.as_secs()).ok(),
        lives: None,
    }
}

async fn page(address: SocketAddr, path: &str) -> Result<Value> {
    let what = || format!("asking {address} for {path}; name the --admin address of a running proxy");
    timeout(ANSWER, fetch(address, path)).await.with_context(what)?.with_context(what)
}

async fn fetch(address: SocketAddr, path: &str) -> Result<Value> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Its errors are those of the request.
    let driver = tokio::spawn(connection);
    let request = Request::get(path).header(header::HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let reply = sender.send_request(request).await?;
    let status = reply.status();
    let body = reply.into_body().collect().await?.to_bytes();
    driver.abort();
    ensure!(status.is_success(), "it answers {status}");
    Ok(serde_json::from_slice(&body)?)
}
