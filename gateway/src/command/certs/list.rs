//! The list: from the admin pages of running gateways, or from where ordered certificates are kept.

use std::{
    io::{self, Write},
    net::Ipv4Addr,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    acme::{
        now,
        record::{LABEL, LABEL_VALUE, Record},
        report,
        vault::Vault,
    },
    cli::output::Output,
    command::{admin_page::page, document, table},
    settings::Address,
    stored::Stored,
    trust::{PLACEHOLDER, WORKLOAD},
};

/// The usual port of admin pages.
const ADMIN: u16 = 15000;

/// Every certificate that gateways serve or order, as their `/certs` tells.
///
/// # Errors
/// One cannot be asked.
pub(super) async fn served(addresses: &[Address]) -> Result<Vec<Value>> {
    let given = addresses.iter().map(|address| address.or(Ipv4Addr::LOCALHOST.into()));
    let mut addresses: Vec<_> = given.collect();
    if addresses.is_empty() {
        addresses.push((Ipv4Addr::LOCALHOST, ADMIN).into());
    }
    let mut rows = Vec::new();
    for address in addresses {
        let told = page(address, "/certs").await.context(
            "no running gateway tells its certificates; without one, say where they are kept with --config, --state-dir or \
             --kubernetes",
        )?;
        let listed = told["certificates"].as_array().cloned();
        rows.extend(listed.with_context(|| format!("{address} does not tell as this version does; is it older?"))?);
    }
    Ok(rows)
}

/// Every certificate that is ordered into this place.
///
/// # Errors
/// The place cannot be read.
pub(super) async fn kept(vault: &Vault, namespace: &str) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    for record in vault.list((LABEL, LABEL_VALUE)).await?.values().filter_map(Record::read) {
        let stored = vault.get(&record.secret).await?;
        rows.push(row(namespace, &record, stored.as_ref()));
    }
    Ok(rows)
}

fn row(namespace: &str, record: &Record, stored: Option<&Stored>) -> Value {
    let facts = stored.and_then(|stored| stored.data.get("tls.crt")).and_then(|chain| tls::facts::facts(chain).ok());
    let end = facts.as_ref().and_then(|facts| Timestamp::from_second(facts.not_after).ok());
    json!({
        "name": record.gateway, "hosts": record.hosts, "secret": format!("{namespace}/{}", record.secret),
        "issuer": facts.as_ref().map(|facts| facts.issuer.as_str()),
        "serial": facts.as_ref().map(|facts| facts.serial.as_str()),
        "notAfter": end.map(|end| end.to_string()),
        "order": report::json(record, facts.is_some()),
    })
}

/// Prints rows. Exit code 1 when one needs somebody's attention.
///
/// # Errors
/// None that matters: a reader that went away has seen enough.
pub(super) fn print(rows: &[Value], output: Output) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    let _ = match output {
        Output::Text => text(&mut out, rows),
        Output::Json => document::json(&mut out, &rows),
        Output::Yaml => document::yaml(&mut out, &rows),
    };
    let now = now();
    Ok(ExitCode::from(u8::from(rows.iter().any(|row| needs_attention(row, now)))))
}

/// How getting the next one is doing: an order, or whoever gives the workload's identity.
fn plan(row: &Value) -> &Value {
    if row["order"].is_object() { &row["order"] } else { &row["identity"] }
}

/// It has ended, or the last try to get one failed.
pub(super) fn needs_attention(row: &Value, now: i64) -> bool {
    let end = row["notAfter"].as_str().and_then(|end| end.parse::<Timestamp>().ok());
    plan(row)["lastError"].is_string() || end.is_some_and(|end| end.as_second() <= now)
}

const HEADS: [&str; 8] = ["HOSTS", "SECRET", "SOURCE", "ISSUED BY", "SERIAL", "ENDS", "RENEWAL", "STATE"];
/// Hosts that a row names; the others are counted.
const MOST_HOSTS: usize = 3;

/// For people.
pub(super) fn text(out: &mut impl Write, rows: &[Value]) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "There is no certificate here.");
    }
    let mut lines = vec![HEADS.map(str::to_owned)];
    lines.extend(rows.iter().map(line));
    table::print(out, &lines)?;
    for row in rows.iter().filter(|row| plan(row)["lastError"].is_string()) {
        let (order, text) = (plan(row), |value: &Value| value.as_str().unwrap_or_default().to_owned());
        let again = match order["nextAttempt"].as_str() {
            Some(at) => format!("it is tried again at {at}"),
            None => "it is tried again now".to_owned(),
        };
        writeln!(out, "\n{}: {} failed", text(&row["secret"]), tries(order["failures"].as_u64().unwrap_or(0)))?;
        writeln!(out, "  {} (at {}); {again}", text(&order["lastError"]), text(&order["lastErrorAt"]))?;
    }
    out.flush()
}

fn tries(count: u64) -> String {
    if count == 1 { "the last try".to_owned() } else { format!("the last {count} tries") }
}

fn line(row: &Value) -> [String; 8] {
    let known = |value: &Value| value.as_str().filter(|text| !text.is_empty()).unwrap_or("-").to_owned();
    let day =
        |value: &Value| known(value).replace('T', " ").replace('Z', "").get(..16).map_or("-".to_owned(), str::to_owned);
    let hosts: Vec<&str> = row["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let named = hosts.get(..MOST_HOSTS).unwrap_or(&hosts).join(",");
    let more = hosts.len().saturating_sub(MOST_HOSTS);
    let secret = known(&row["secret"]);
    let order = plan(row);
    let source = match (order["issuer"].as_str(), secret.as_str()) {
        (Some(issuer), _) => format!("acme: {issuer}"),
        (None, WORKLOAD) if order["source"].is_string() => format!("mesh: {}", known(&order["source"])),
        (None, PLACEHOLDER) => "self-signed".to_owned(),
        (None, WORKLOAD) => "mesh".to_owned(),
        (None, path) if path.starts_with('/') || path.starts_with('.') => "file".to_owned(),
        (None, _) => "secret".to_owned(),
    };
    let state = match (order["state"].as_str(), row["kept"].is_string()) {
        (Some(state), _) => state.to_owned(),
        (None, true) => "kept".to_owned(),
        (None, false) => "served".to_owned(),
    };
    [
        match (named.is_empty(), more) {
            (true, _) => "-".to_owned(),
            (_, 0) => named,
            (_, more) => format!("{named},+{more}"),
        },
        secret,
        source,
        known(&row["issuer"]),
        known(&row["serial"]),
        day(&row["notAfter"]),
        day(&order["nextRenewal"]),
        state,
    ]
}
