//! What waits for collectors: spans and records of logs. Requests put it there and go on; tasks of the workers take it in
//! batches. There is room for so much, and what finds none is counted and gone.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use routing::{api::extension_provider::HttpHeader, telemetry::tracing::Collector};
use tokio::sync::Notify;

use super::metrics::exports::{Exported, Exporting, Result};
use crate::{live::Installed, upstream::endpoints::Upstream};

/// Room for all of it, in bytes.
const ROOM: usize = 8 << 20;
/// Items of a batch, and bytes.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 512 << 10;

/// See the module.
#[derive(Default)]
pub(crate) struct Exports {
    queue: Mutex<Queue>,
    /// There is something, or much.
    pub(crate) some: Notify,
    /// There is a batch, or more.
    pub(crate) much: Notify,
}

impl fmt::Debug for Exports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exports")
    }
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
}

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
    /// Headers that it is sent besides.
    pub(crate) headers: Box<[(Box<str>, Box<str>)]>,
    /// What came of it.
    pub(crate) counted: Exported,
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
            headers: collector.headers.iter().filter_map(header).collect(),
            counted: counts.of(&collector.provider, if log.is_empty() { "traces" } else { "logs" }),
        }
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

impl Exports {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something there, if there is room. Never waits for whoever takes it.
    pub(crate) fn push(&self, item: Item) {
        let mut queue = self.lock();
        if queue.bytes + item.bytes > ROOM {
            drop(queue);
            item.to.counted.add(Result::NoRoom, 1);
            return;
        }
        queue.bytes += item.bytes;
        queue.items.push_back(item);
        let much = queue.items.len() >= BATCH || queue.bytes >= BATCH_BYTES;
        let first = queue.items.len() == 1;
        drop(queue);
        if first {
            self.some.notify_one();
        }
        if much {
            self.much.notify_one();
        }
    }

    /// The oldest ones that are for the same; empty: there is nothing.
    pub(crate) fn batch(&self) -> Vec<Item> {
        let mut queue = self.lock();
        let mut batch: Vec<Item> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = queue.items.front() {
            let same = batch.first().is_none_or(|first| first.to.is_as(&next.to));
            if !same || batch.len() == BATCH || (bytes + next.bytes > BATCH_BYTES && !batch.is_empty()) {
                break;
            }
            bytes += next.bytes;
            batch.extend(queue.items.pop_front());
        }
        queue.bytes -= bytes;
        if queue.items.is_empty() {
            queue.items.shrink_to(BATCH);
        }
        batch
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().items.is_empty()
    }
}

impl Destination {
    /// Whether both go to the same place in one message.
    fn is_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.upstream, &other.upstream) && self.log == other.log && self.collector == other.collector
    }
}
