//! `sluice status wait` and `sluice status drain`: what runs in a proxy's own container, beside it, at the begin and the end of
//! its pod.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use http::{Method, StatusCode};
use tokio::time::{Instant, sleep};

use super::admin_page::text_of;
use crate::settings::Address;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits until the proxy is ready. Exit code 1 when it is not after `limit`, with what it waits for.
pub(crate) async fn wait(admin: Option<Address>, limit: Duration) -> ExitCode {
    let address = address(admin);
    let end = Instant::now() + limit;
    loop {
        let why = match text_of(address, Method::GET, "/ready").await {
            Ok((StatusCode::OK, _)) => return ExitCode::SUCCESS,
            Ok((_, text)) => text.trim().to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= end {
            eprintln!("sluice: the proxy is not ready after {limit:?}: {why}");
            return ExitCode::FAILURE;
        }
        sleep(PAUSE).await;
    }
}

/// Tells the proxy that its pod ends.
pub(crate) async fn drain(admin: Option<Address>) -> ExitCode {
    match text_of(address(admin), Method::POST, "/drain").await {
        Ok((StatusCode::OK, _)) => ExitCode::SUCCESS,
        Ok((status, text)) => {
            eprintln!("sluice: the proxy does not drain: {status} {}", text.trim());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("sluice: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn address(admin: Option<Address>) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, 15000));
    admin.map_or(usual, |admin| admin.or(usual.ip()))
}
