//! The probes that the injection took over, as the environment tells them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, bail};
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

/// By the path it is asked for.
pub(super) type Probes = BTreeMap<String, Probe>;

/// What is asked of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) how: How,
    /// Longest wait for the answer.
    pub(super) patience: Duration,
}

/// How the application is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    Http { tls: bool, port: u16, path: String, headers: Vec<(HeaderName, HeaderValue)> },
    Tcp { port: u16 },
    Grpc { port: u16, service: String },
}

/// Kubernetes' own default.
const PATIENCE: Duration = Duration::from_secs(1);
/// Paths of `preStop` and `postStart`.
const HOOKS: &str = "/app-lifecycle/";
/// Kubernetes knows no limit; nobody waits longer for an answer.
const LONGEST: Duration = Duration::from_secs(300);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    http_get: Option<HttpGet>,
    tcp_socket: Option<Port>,
    grpc: Option<Grpc>,
    timeout_seconds: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpGet {
    #[serde(default)]
    path: String,
    port: Value,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    http_headers: Vec<Header>,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct Port {
    port: Value,
}

#[derive(Deserialize)]
struct Grpc {
    port: Value,
    #[serde(default)]
    service: Option<String>,
}

/// Reads the JSON that the injection wrote; an empty text is no probe.
///
/// # Errors
/// It is something else.
pub(super) fn read(text: &str) -> Result<Probes> {
    if text.is_empty() {
        return Ok(Probes::new());
    }
    let written: BTreeMap<String, Written> =
        serde_json::from_str(text).context("it is not the JSON of an injection")?;
    written
        .into_iter()
        .map(|(path, written)| {
            let probe = probe(&path, written).with_context(|| format!("the probe {path}"))?;
            Ok((path, probe))
        })
        .collect()
}

fn probe(path: &str, written: Written) -> Result<Probe> {
    // A hook takes the time that it needs; the kubelet gives it up with the pod.
    let usual = if path.starts_with(HOOKS) { LONGEST } else { PATIENCE };
    let seconds = written.timeout_seconds.filter(|seconds| *seconds > 0);
    let patience = seconds.map_or(usual, |seconds| Duration::from_secs(seconds.into())).min(LONGEST);
    let how = match (written.http_get, written.tcp_socket, written.grpc) {
        (Some(get), ..) => {
            let header = |it: Header| Ok((it.name.parse::<HeaderName>()?, it.value.parse::<HeaderValue>()?));
            let path = if get.path.starts_with('/') { get.path } else { format!("/{}", get.path) };
            How::Http {
                tls: get.scheme.eq_ignore_ascii_case("https"),
                port: number(&get.port)?,
                path,
                headers: get.http_headers.into_iter().map(header).collect::<Result<_>>()?,
            }
        }
        (None, Some(socket), _) => How::Tcp { port: number(&socket.port)? },
        (None, None, Some(grpc)) => How::Grpc { port: number(&grpc.port)?, service: grpc.service.unwrap_or_default() },
        (None, None, None) => bail!("it is neither httpGet nor tcpSocket nor grpc"),
    };
    Ok(Probe { how, patience })
}

/// A port, as a number or as its text.
pub(super) fn number(port: &Value) -> Result<u16> {
    let number = match port {
        Value::Number(number) => number.as_u64().and_then(|it| u16::try_from(it).ok()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.filter(|it| *it > 0).with_context(|| format!("port {port} is none"))
}
