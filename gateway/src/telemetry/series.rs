//! Each thread's memory of which time series a request belongs to: building 25 label values per request would cost more
//! than routing it. What differs between requests is a handful of references and numbers; they are the key.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasher as _, BuildHasherDefault, Hash as _, Hasher},
    sync::Arc,
};

use foldhash::fast::RandomState;
use routing::snapshot::Workload;

use super::{
    labels,
    record::{Record, Reporter},
    said::Said,
    standard::Series,
};

/// Where a request is counted: a series for each group of metrics with the same labels.
pub(super) type Found = Box<[Arc<Series>]>;

/// Entries per thread; when full, the thread starts again with none.
const CAPACITY: usize = 4096;

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
}

#[derive(Default)]
struct Known {
    epoch: u64,
    seed: RandomState,
    /// What the expressions say of the present request.
    said: Said,
    entries: HashMap<u64, Entry, BuildHasherDefault<Given>>,
}

/// The parts of a record that label values are made of, kept so that equal hashes cannot mix series up. Holding `peer`
/// keeps its address from being used for another workload.
struct Entry {
    reporter: Reporter,
    peer: Option<Arc<Workload>>,
    peer_principal: Box<str>,
    service_host: Box<str>,
    service_name: Box<str>,
    service_namespace: Box<str>,
    status: u16,
    flags: &'static str,
    grpc: bool,
    grpc_status: Option<u16>,
    mutual_tls: bool,
    said: Said,
    series: Found,
}

/// Counts a record in its series, which `find` looks up when this thread does not know them yet. `epoch` says which earlier
/// answers are still good; `say` what labels of its own the request has.
pub(super) fn observe(
    epoch: u64,
    record: &Record<'_>,
    say: impl FnOnce(&mut Said),
    find: impl Fn() -> Found,
    count: impl Fn(&Series),
) {
    let count = |found: &Found| found.iter().for_each(|series| count(series));
    let observed = KNOWN.try_with(|known| {
        let mut known = known.borrow_mut();
        say(&mut known.said);
        count(known.entry(epoch, record, &find));
    });
    if observed.is_err() {
        count(&find()); // the thread is ending and has no memory any more
    }
}

impl Known {
    fn entry(&mut self, epoch: u64, record: &Record<'_>, find: impl Fn() -> Found) -> &Found {
        if self.epoch != epoch || self.entries.len() >= CAPACITY {
            self.entries.clear();
            self.epoch = epoch;
        }
        let entry = self.entries.entry(key(record, &self.said, &self.seed));
        let entry = entry.or_insert_with(|| Entry::new(record, &self.said, find()));
        if !entry.is_of(record, &self.said) {
            *entry = Entry::new(record, &self.said, find());
        }
        &entry.series
    }
}

impl Entry {
    fn new(record: &Record<'_>, said: &Said, series: Found) -> Self {
        let labels = &record.labels;
        Self {
            reporter: labels.reporter,
            peer: labels.peer.cloned(),
            peer_principal: labels.peer_principal.into(),
            service_host: labels.service_host.into(),
            service_name: labels.service_name.into(),
            service_namespace: labels.service_namespace.into(),
            status: labels::status(record.status),
            flags: record.flags,
            grpc: labels.grpc,
            grpc_status: labels::grpc_status(labels),
            mutual_tls: labels.mutual_tls,
            said: said.clone(),
            series,
        }
    }

    fn is_of(&self, record: &Record<'_>, said: &Said) -> bool {
        let labels = &record.labels;
        self.status == labels::status(record.status)
            && self.reporter == labels.reporter
            && self.grpc == labels.grpc
            && self.grpc_status == labels::grpc_status(labels)
            && self.mutual_tls == labels.mutual_tls
            && address(self.peer.as_ref()) == address(labels.peer)
            && *self.service_host == *labels.service_host
            && *self.peer_principal == *labels.peer_principal
            && self.flags == record.flags
            && *self.service_name == *labels.service_name
            && *self.service_namespace == *labels.service_namespace
            && self.said == *said
    }
}

/// A hash of what usually tells series apart; [`Entry::is_of`] compares the rest.
fn key(record: &Record<'_>, said: &Said, seed: &RandomState) -> u64 {
    let labels = &record.labels;
    let mut hasher = seed.build_hasher();
    address(labels.peer).hash(&mut hasher);
    labels.service_host.hash(&mut hasher);
    labels.peer_principal.hash(&mut hasher);
    record.flags.hash(&mut hasher);
    (labels.reporter, labels::status(record.status), labels.grpc, labels::grpc_status(labels), labels.mutual_tls)
        .hash(&mut hasher);
    said.hash(&mut hasher);
    hasher.finish()
}

fn address(peer: Option<&Arc<Workload>>) -> usize {
    peer.map_or(0, |peer| Arc::as_ptr(peer) as usize)
}

/// Keys are hashes already.
#[derive(Default)]
struct Given(u64);

impl Hasher for Given {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
