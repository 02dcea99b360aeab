//! Debian's `pebble-challtestsrv` as the DNS that a CA asks.

use std::{
    fs::{self, Permissions},
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    client::{Client, request, with_body},
    eventually::eventually,
    loopback::Loopback,
    process::Process,
    reply::Reply,
};

/// A name server that answers what the story says; its challenge servers are off.
#[derive(Debug)]
pub struct Challtest {
    process: Process,
    dns: SocketAddr,
    management: SocketAddr,
}

impl Challtest {
    /// Starts one at address `last` of a block, where every host has the address `everything` until the story says
    /// otherwise.
    pub async fn start(program: &Path, (block, last): (&Loopback, u8), everything: IpAddr) -> Self {
        let (dns, management) = (block.at(last, DNS_PORT), block.at(last, MANAGEMENT_PORT));
        let off = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""].map(str::to_owned);
        let on = ["-dns01", &dns.to_string(), "-management", &management.to_string()].map(str::to_owned);
        let everything = ["-defaultIPv4".to_owned(), everything.to_string()];
        let flags = off.into_iter().chain(on).chain(everything);
        let mut this = Self { process: Process::start("pebble-challtestsrv", program, flags), dns, management };
        eventually("pebble-challtestsrv answers", async || {
            assert!(this.process.ended().is_none(), "pebble-challtestsrv ended");
            Client::plain(management).status(&this.url("")).await != 0
        })
        .await;
        this
    }

    /// Where it answers DNS, over UDP and TCP.
    pub fn dns(&self) -> SocketAddr {
        self.dns
    }

    /// The URL of a management call (`set-txt`, `clear-txt`), for programs that make it by themselves. Both take a POST of
    /// JSON with `host`, a name with a dot at its end; `set-txt` also takes `value`.
    pub fn url(&self, call: &str) -> String {
        format!("http://{}/{call}", self.management)
    }

    /// This host has these IPv4 addresses from now on.
    pub async fn set_a(&self, host: &str, addresses: &[IpAddr]) {
        self.clear_a(host).await;
        self.call("add-a", &json!({"host": full(host), "addresses": addresses})).await;
    }

    /// This host has the address of every other host again.
    pub async fn clear_a(&self, host: &str) {
        self.call("clear-a", &json!({"host": full(host)})).await;
    }

    /// Adds a TXT record.
    pub async fn set_txt(&self, name: &str, value: &str) {
        self.call("set-txt", &json!({"host": full(name), "value": value})).await;
    }

    /// Removes every TXT record of this name.
    pub async fn clear_txt(&self, name: &str) {
        self.call("clear-txt", &json!({"host": full(name)})).await;
    }

    /// Whether every question about this host is answered with SERVFAIL.
    pub async fn set_broken(&self, host: &str, broken: bool) {
        self.call(if broken { "set-servfail" } else { "clear-servfail" }, &json!({"host": full(host)})).await;
    }

    /// Writes a program for `dns01.exec` that publishes and withdraws TXT records here, run as lego runs its own.
    pub fn write_hook(&self, path: &Path) {
        fs::write(path, HOOK.replace("URL", &self.url(""))).expect("the hook can be written");
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("the hook can be made executable");
    }

    /// How often somebody asked about this name, whatever the record type.
    pub async fn questions(&self, host: &str) -> usize {
        let history = self.call("dns-request-history", &json!({"host": host.trim_end_matches('.')})).await;
        history.json().as_array().map_or(0, Vec::len)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.stdout() + &self.process.stderr()
    }

    async fn call(&self, call: &str, body: &Value) -> Reply {
        let head = request("POST", &self.url(call)).header("content-type", "application/json");
        let reply = Client::plain(self.management).call(with_body(head, body.to_string())).await;
        assert_eq!(reply.code(), 200, "pebble-challtestsrv refused {call} {body}: {}", reply.text());
        reply
    }
}

/// Its TXT records are found by names with a dot at their end only.
fn full(host: &str) -> String {
    format!("{}.", host.trim_end_matches('.'))
}

/// The server forgets every value of a name at once.
const HOOK: &str = r#"#!/bin/sh
set -eu
case "$1" in
present) curl -fsS -d "{\"host\":\"$2\",\"value\":\"$3\"}" "URLset-txt" ;;
cleanup) curl -fsS -d "{\"host\":\"$2\"}" "URLclear-txt" ;;
esac
"#;

const DNS_PORT: u16 = 8053;
const MANAGEMENT_PORT: u16 = 8055;
