//! Who gets a line about which requests and connections: files and collectors, by side.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use routing::{
    attributes::Expression,
    log_format::LogFormat,
    mesh,
    snapshot::Snapshot,
    telemetry::{
        Sides,
        access_log::{Log, STDOUT, To},
    },
    template::Template,
};

use super::{
    access_log::{AccessLog, Form, files, line},
    exports::{Destination, Exports, Item, LogRecord},
    metrics::{Counter, exports::Exporting},
    record::{Record, Reporter},
};
use crate::{live::Installed, settings::AccessLogFormat};

/// See the module.
pub(crate) struct Logs {
    /// The form that was given by hand; it stays, whatever the mesh configuration says.
    given: Option<AccessLogFormat>,
    dropped: Counter,
    /// Files that are open, by path.
    open: Mutex<HashMap<Box<str>, Arc<AccessLog>>>,
    now: ArcSwap<Now>,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logs")
    }
}

/// What holds now; `None` = nobody gets a line.
#[derive(Default)]
struct Now {
    client: Option<Box<[One]>>,
    server: Option<Box<[One]>>,
}

/// One log.
struct One {
    filter: Option<Expression>,
    form: Form,
    to: Way,
}

enum Way {
    File(Arc<AccessLog>),
    Otlp { destination: Arc<Destination>, attributes: Box<[(Arc<str>, Template)]> },
}

/// The longest attribute of a record, in bytes.
const LONGEST: usize = 4096;

impl Logs {
    /// With stdout being this, until a configuration says more.
    ///
    /// # Errors
    /// The thread that writes it could not be started.
    pub(crate) fn start(
        given: Option<AccessLogFormat>,
        out: Box<dyn std::io::Write + Send>,
        dropped: Counter,
    ) -> std::io::Result<Self> {
        let logs = Self { given, dropped, open: Mutex::default(), now: ArcSwap::default() };
        let Some(form) = Form::of(given.unwrap_or_default()) else { return Ok(logs) };
        let stdout = Arc::new(AccessLog::start(out, logs.dropped.clone())?);
        logs.lock().insert(STDOUT.into(), Arc::clone(&stdout));
        let one = || Some([One { filter: None, form: form.clone(), to: Way::File(Arc::clone(&stdout)) }].into());
        logs.now.store(Arc::new(Now { client: one(), server: one() }));
        Ok(logs)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Box<str>, Arc<AccessLog>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the lines of one record.
    pub(crate) fn write(&self, record: &Record<'_>, exports: &Exports) {
        let now = self.now.load();
        let side = match record.labels.reporter {
            Reporter::Source => &now.client,
            Reporter::Destination => &now.server,
        };
        for one in side.iter().flatten() {
            if one.filter.as_ref().is_some_and(|filter| !filter.holds(record.told.0)) {
                continue;
            }
            match &one.to {
                Way::File(log) => log.write(&one.form, record),
                Way::Otlp { destination, attributes } => {
                    let log = Box::new(log_record(&one.form, attributes, record));
                    exports.push(Item::log(Arc::clone(destination), log));
                }
            }
        }
    }

    /// A configuration was installed.
    pub(crate) fn installed(&self, installed: &Installed, counts: &Exporting) {
        if self.given == Some(AccessLogFormat::Off) {
            return;
        }
        let snapshot = &installed.snapshot;
        let said = snapshot.telemetry.as_ref().and_then(|telemetry| telemetry.logged.as_ref());
        let mut now = Now::default();
        let beside = self.beside(snapshot);
        // One that says nothing of a side leaves it to the mesh configuration.
        let sides = said.map_or((None, None), |Sides { client, server }| (client.as_ref(), server.as_ref()));
        for (logs, side) in [(sides.0, &mut now.client), (sides.1, &mut now.server)] {
            let logs: Vec<One> = match logs {
                Some(logs) => logs.iter().filter_map(|log| self.one(log, installed, counts)).collect(),
                None => beside.iter().filter_map(|(path, form)| self.file(path, form.clone(), None)).collect(),
            };
            *side = (!logs.is_empty()).then(|| logs.into());
        }
        self.close_others(&now);
        self.now.store(Arc::new(now));
    }

    /// Files that nobody names any more are closed; stdout stays.
    fn close_others(&self, now: &Now) {
        let sides = || [&now.client, &now.server].into_iter().flatten().flat_map(|side| side.iter());
        let used = |log: &Arc<AccessLog>| sides().any(|one| matches!(&one.to, Way::File(it) if Arc::ptr_eq(it, log)));
        self.lock().retain(|path, log| &**path == STDOUT || used(log));
    }

    /// What the mesh configuration says beside Telemetry: path and form; `None`: there is no log.
    fn beside(&self, snapshot: &Snapshot) -> Option<(Box<str>, Form)> {
        let mesh = &snapshot.mesh;
        let path = mesh.config.access_log_file.as_deref().filter(|path| !path.is_empty()).unwrap_or(STDOUT);
        let said = match mesh.access_log() {
            _ if self.given.is_some() => self.given,
            Some(mesh::AccessLog::Off) => Some(AccessLogFormat::Off),
            Some(mesh::AccessLog::Text) => Some(AccessLogFormat::Text),
            Some(mesh::AccessLog::Json) => Some(AccessLogFormat::Json),
            None => None,
        };
        let form = said.unwrap_or_default();
        let fits = |format: &LogFormat| match format {
            LogFormat::Text(_) => form == AccessLogFormat::Text,
            LogFormat::Json(_) => form == AccessLogFormat::Json,
        };
        let own = mesh.log_format().filter(fits).map(Form::Own);
        Some((path.into(), own.or_else(|| Form::of(form))?)).filter(|_| form != AccessLogFormat::Off)
    }

    fn one(&self, log: &Log, installed: &Installed, counts: &Exporting) -> Option<One> {
        // A provider without a format has the mesh's, also where that has no log of its own.
        let mesh = || {
            let json = match self.given {
                Some(given) => given == AccessLogFormat::Json,
                None => installed.snapshot.mesh.logs_json(),
            };
            let fits = |format: &LogFormat| matches!(format, LogFormat::Json(_)) == json;
            let own = installed.snapshot.mesh.log_format().filter(fits).map(Form::Own);
            own.unwrap_or(if json { Form::Json } else { Form::Text })
        };
        let form = log.format.clone().map_or_else(mesh, Form::Own);
        match &log.to {
            To::File(path) => self.file(path, form, log.filter.clone()),
            To::Otlp { collector, name, attributes } => {
                let form = if let Some(format) = &log.format { Form::Own(format.clone()) } else { Form::Text };
                let destination = Arc::new(Destination::new(collector, installed, name, counts));
                let to = Way::Otlp { destination, attributes: attributes.clone() };
                Some(One { filter: log.filter.clone(), form, to })
            }
        }
    }

    fn file(&self, path: &str, form: Form, filter: Option<Expression>) -> Option<One> {
        let mut open = self.lock();
        let log = match open.get(path) {
            Some(log) => Arc::clone(log),
            None => {
                let started = AccessLog::start(files::out(path), self.dropped.clone());
                let log = started.inspect_err(|error| tracing::error!(path, %error, "the access log is not written"));
                let log = Arc::new(log.ok()?);
                open.insert(path.into(), Arc::clone(&log));
                log
            }
        };
        Some(One { filter, form, to: Way::File(log) })
    }

    /// Writes what the logs still hold, within `limit` each.
    pub(crate) fn flush(&self, limit: Duration) {
        let all: Vec<Arc<AccessLog>> = self.lock().values().cloned().collect();
        all.iter().for_each(|log| log.flush(limit));
    }
}

fn log_record(form: &Form, attributes: &[(Arc<str>, Template)], record: &Record<'_>) -> LogRecord {
    let mut body = line(form, record);
    if body.last() == Some(&b'\n') {
        body.pop();
    }
    let attributes = attributes.iter().map(|(name, template)| {
        let mut value = Vec::new();
        template.fill(record.told.0, "-", &mut value);
        value.truncate(LONGEST);
        (Arc::clone(name), String::from_utf8_lossy(&value).into_owned())
    });
    LogRecord {
        time: record.start.duration_since(UNIX_EPOCH).unwrap_or_default(),
        body: String::from_utf8_lossy(&body).into_owned(),
        attributes: attributes.collect(),
        trace: record.trace,
    }
}

#[cfg(test)]
mod tests;
