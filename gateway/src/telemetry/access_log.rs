//! One line per request in a file or on stdout, written without ever waiting for whoever reads it.
//!
//! Each thread formats into its own lane, a buffer behind a lock that nobody else wants except for the writer thread,
//! which swaps it for an empty one about ten times a second. A lane that is full drops lines and counts them.

pub(crate) mod files;
mod line;
mod text;

#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use routing::log_format::LogFormat;
use tokio::time::Instant;

use self::line::Line;
use super::{metrics::Counter, record::Record};
use crate::settings::AccessLogFormat;

/// How long lines wait for company.
const GATHER: Duration = Duration::from_millis(100);
/// A lane this full does not wait.
const HURRY: usize = 64 << 10;
/// A lane this full takes no more.
const FULL: usize = 1 << 20;

/// What a line looks like.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Form {
    /// Istio's text.
    Text,
    /// Istio's object.
    Json,
    /// What somebody says.
    Own(LogFormat),
}

impl Form {
    /// One of Istio's; `None`: there is no line.
    pub(crate) fn of(format: AccessLogFormat) -> Option<Self> {
        match format {
            AccessLogFormat::Off => None,
            AccessLogFormat::Text => Some(Self::Text),
            AccessLogFormat::Json => Some(Self::Json),
        }
    }
}

/// One log of the process.
#[derive(Debug)]
pub(crate) struct AccessLog {
    sink: Arc<Sink>,
}

/// What the data threads and the writer share.
#[derive(Debug)]
struct Sink {
    dropped: Counter,
    lanes: Mutex<Vec<Arc<Lane>>>,
    /// The writer has nothing to do and must be woken.
    idle: AtomicBool,
    /// The writer should not wait for more.
    hurry: AtomicBool,
    /// The log was dropped: the writer ends when everything is written.
    closed: AtomicBool,
    /// Flushes asked for, and flushes done.
    asked: AtomicU64,
    done: Mutex<u64>,
    flushed: Condvar,
    writer: Mutex<Option<Thread>>,
}

/// One thread's lines.
#[derive(Debug, Default)]
struct Lane(Mutex<Line>);

/// Appends one line of this form, as records of other logs hold it.
pub(crate) fn line(form: &Form, record: &Record<'_>) -> Vec<u8> {
    let mut line = Line::default();
    match form {
        Form::Text => line.text(record),
        Form::Json => line.json(record),
        Form::Own(format) => line.own(format, record),
    }
    line.bytes
}

thread_local! {
    /// Of each log that the thread has written to.
    static LANES: RefCell<Vec<(Arc<Sink>, Arc<Lane>)>> = const { RefCell::new(Vec::new()) };
}

impl AccessLog {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// The thread could not be started.
    pub(crate) fn start(out: Box<dyn Write + Send>, dropped: Counter) -> io::Result<Self> {
        let sink = Arc::new(Sink {
            dropped,
            lanes: Mutex::default(),
            idle: AtomicBool::new(false),
            hurry: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            done: Mutex::default(),
            flushed: Condvar::new(),
            writer: Mutex::default(),
        });
        let writer = Arc::clone(&sink);
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run(out))?;
        *lock(&sink.writer) = Some(thread.thread().clone());
        Ok(Self { sink })
    }

    /// Appends the line of one request, or drops it when the reader of the log is too slow. Never waits.
    pub(crate) fn write(&self, form: &Form, record: &Record<'_>) {
        let written = LANES.try_with(|lanes| {
            let mut lanes = lanes.borrow_mut();
            let known = lanes.iter().position(|(sink, _)| Arc::ptr_eq(sink, &self.sink));
            let at = known.unwrap_or_else(|| {
                // Logs that are no more have gone from here, too.
                lanes.retain(|(sink, _)| !sink.closed.load(Ordering::Relaxed));
                lanes.push((Arc::clone(&self.sink), self.sink.lane()));
                lanes.len() - 1
            });
            self.sink.append(&lanes[at].1, form, record);
        });
        if written.is_err() {
            self.sink.append(&self.sink.lane(), form, record); // the thread is ending
        }
    }

    /// Waits until everything logged before is written, `limit` at most.
    pub(crate) fn flush(&self, limit: Duration) {
        let ticket = self.sink.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.sink.wake_in_hurry();
        let done = lock(&self.sink.done);
        drop(self.sink.flushed.wait_timeout_while(done, limit, |done| *done < ticket));
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.sink.closed.store(true, Ordering::SeqCst);
        self.sink.wake_in_hurry();
    }
}

impl Sink {
    /// A lane for the calling thread.
    fn lane(&self) -> Arc<Lane> {
        let lane = Arc::new(Lane::default());
        lock(&self.lanes).push(Arc::clone(&lane));
        lane
    }

    fn append(&self, lane: &Lane, form: &Form, record: &Record<'_>) {
        let mut line = lock(&lane.0);
        let before = line.bytes.len();
        if before >= FULL {
            self.dropped.inc();
            return;
        }
        match form {
            Form::Text => line.text(record),
            Form::Json => line.json(record),
            Form::Own(format) => line.own(format, record),
        }
        let after = line.bytes.len();
        drop(line);
        if before < HURRY && after >= HURRY {
            self.wake_in_hurry();
        } else if before == 0 && self.idle.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wake_in_hurry(&self) {
        self.hurry.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if let Some(writer) = &*lock(&self.writer) {
            writer.unpark();
        }
    }

    /// The writer's life.
    fn run(&self, mut out: Box<dyn Write + Send>) {
        let (mut spare, mut torn) = (Vec::new(), false);
        loop {
            let closed = self.closed.load(Ordering::SeqCst);
            let asked = self.asked.load(Ordering::SeqCst);
            self.hurry.store(false, Ordering::SeqCst);
            self.idle.store(true, Ordering::SeqCst); // before looking: whoever appends after the look wakes us
            let wrote = self.write_all(&mut *out, &mut spare, &mut torn);
            *lock(&self.done) = asked;
            self.flushed.notify_all();
            if closed {
                return;
            }
            if wrote {
                self.idle.store(false, Ordering::SeqCst);
            } else {
                self.sleep_until(|| !self.idle.load(Ordering::SeqCst) || self.hurry.load(Ordering::SeqCst), None);
            }
            self.sleep_until(|| self.hurry.load(Ordering::SeqCst), Some(GATHER));
        }
    }

    /// Parks this thread until something is so, or for a time.
    fn sleep_until(&self, so: impl Fn() -> bool, limit: Option<Duration>) {
        let start = Instant::now();
        while !so() {
            match limit {
                None => thread::park(),
                Some(limit) => match limit.checked_sub(start.elapsed()) {
                    Some(rest) if !rest.is_zero() => thread::park_timeout(rest),
                    _ => return,
                },
            }
        }
    }

    /// Writes what is in the lanes; false when there was nothing. `torn`: the last line there has no end.
    fn write_all(&self, out: &mut dyn Write, spare: &mut Vec<u8>, torn: &mut bool) -> bool {
        let lanes = lock(&self.lanes).clone();
        let mut wrote = false;
        for lane in &lanes {
            std::mem::swap(&mut lock(&lane.0).bytes, spare);
            if spare.is_empty() {
                continue;
            }
            wrote = true;
            // Nobody reads stdout any more, or the disk is full: what is lost is counted, and serving goes on.
            *torn = *torn && write_some(out, b"\n") == 0;
            let written = if *torn { 0 } else { write_some(out, spare) };
            let flushed = out.flush().is_ok();
            let lost = if flushed { &spare[written..] } else { &spare[..] };
            self.dropped.inc_by(lost.iter().filter(|&&byte| byte == b'\n').count() as u64);
            *torn |= written > 0 && spare[written - 1] != b'\n';
            spare.clear();
            spare.shrink_to(HURRY);
        }
        drop(lanes);
        // Only the list knows a lane whose thread has ended.
        lock(&self.lanes).retain(|lane| Arc::strong_count(lane) > 1 || !lock(&lane.0).bytes.is_empty());
        wrote
    }
}

/// Writes as much of it as can be written: how many bytes.
fn write_some(out: &mut dyn Write, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(count) if count > 0 => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => break,
        }
    }
    written
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
