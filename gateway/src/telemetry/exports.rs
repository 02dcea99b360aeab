//! What collectors are told: spans and records of logs, and whom each is for.

mod queue;

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use routing::{api::extension_provider::HttpHeader, telemetry::tracing::Collector};

pub(crate) use self::queue::{Batch, Exports};
use super::metrics::exports::{Exported, Exporting};
use crate::{live::Installed, upstream::endpoints::Upstream};

/// Whom it is for.
pub(crate) struct Destination {
    /// The provider.
    pub(crate) collector: Arc<Collector>,
    /// Its service.
    pub(crate) upstream: Arc<Upstream>,
    /// Name of the log; empty for spans.
    pub(crate) log: Box<str>,
    /// Who tells: the pod.
    pub(crate) node: Box<str>,
    /// The mesh that the pod's environment names, as Istio's injection does; empty: none.
    pub(crate) mesh: Box<str>,
    /// Headers that it is sent besides.
    pub(crate) headers: Box<[(Box<str>, Box<str>)]>,
    /// What came of it.
    pub(crate) counted: Exported,
    /// Of the configuration that it is from.
    generation: u64,
}

impl Destination {
    /// Of spans, or of a log of this name.
    pub(crate) fn new(collector: &Arc<Collector>, installed: &Installed, log: &str, counts: &Exporting) -> Self {
        let node = installed.own.as_ref().map(|own| String::from_utf8_lossy(own.node()).into_owned());
        Self {
            collector: Arc::clone(collector),
            upstream: Arc::clone(installed.upstream(collector.cluster)),
            log: log.into(),
            node: node.unwrap_or_default().into(),
            mesh: std::env::var("ISTIO_META_MESH_ID").unwrap_or_default().into(),
            headers: collector.headers.iter().filter_map(header).collect(),
            counted: counts.of(&collector.provider, if log.is_empty() { "traces" } else { "logs" }),
            generation: installed.generation,
        }
    }

    /// Whether both go to the same in one message. Where that is may have changed.
    fn is_as(&self, other: &Self) -> bool {
        self.log == other.log && self.collector.provider == other.collector.provider
    }
}

impl fmt::Debug for Destination {
    /// Headers may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Destination").field(&self.collector.provider).finish()
    }
}

/// What is written, or what a variable of the environment holds. It may be a secret, so nothing tells of it.
fn header(written: &HttpHeader) -> Option<(Box<str>, Box<str>)> {
    let value = match (&written.value, &written.env_name) {
        (Some(value), _) => value.clone(),
        (None, Some(variable)) => std::env::var(variable).ok()?,
        (None, None) => return None,
    };
    // Names and values are written to the wire as they are.
    HeaderValue::from_str(&value).ok()?;
    Some((HeaderName::try_from(&written.name).ok()?.as_str().into(), value.into()))
}

/// One span or record, and whom it is for.
pub(crate) struct Item {
    pub(crate) to: Arc<Destination>,
    pub(crate) what: Payload,
    bytes: usize,
}

/// What is told.
pub(crate) enum Payload {
    Span(Box<Span>),
    Log(Box<LogRecord>),
}

/// One span.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Span {
    pub(crate) trace: u128,
    pub(crate) id: u64,
    /// 0 = it is the first one of its trace.
    pub(crate) parent: u64,
    /// It serves somebody; else it calls somebody.
    pub(crate) server: bool,
    pub(crate) name: String,
    /// Since 1970.
    pub(crate) start: Duration,
    pub(crate) duration: Duration,
    pub(crate) tags: Vec<(Arc<str>, String)>,
    /// It went wrong.
    pub(crate) error: bool,
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LogRecord {
    /// Since 1970.
    pub(crate) time: Duration,
    pub(crate) body: String,
    pub(crate) attributes: Vec<(Arc<str>, String)>,
    /// Of a request that is traced: trace and span.
    pub(crate) trace: Option<(u128, u64)>,
}

impl Item {
    pub(crate) fn span(to: Arc<Destination>, span: Box<Span>) -> Self {
        let tags: usize = span.tags.iter().map(|(_, value)| value.len() + 32).sum();
        let bytes = 256 + span.name.len() + tags;
        Self { to, what: Payload::Span(span), bytes }
    }

    pub(crate) fn log(to: Arc<Destination>, log: Box<LogRecord>) -> Self {
        let attributes: usize = log.attributes.iter().map(|(_, value)| value.len() + 32).sum();
        let bytes = 256 + log.body.len() + attributes;
        Self { to, what: Payload::Log(log), bytes }
    }
}
