//! The same from the admin pages of running proxies.

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use serde_json::Value;

use crate::{command::admin_page::page, kubernetes::told::Told, settings::Address};

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
    let certificates = certificates["certificates"].as_array().map(Vec::as_slice).unwrap_or_default();
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
