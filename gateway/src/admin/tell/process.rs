//! The process itself.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{
    admin::{
        Readiness,
        schema::process::{Memory, ServerInfo},
    },
    telemetry::process::Usage,
};

/// What `/server_info` answers.
pub(in crate::admin) fn server_info(readiness: &Readiness) -> ServerInfo {
    let usage = Usage::now();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let (state, ready) = match readiness {
        Readiness::Ready => ("LIVE", "ready".to_owned()),
        Readiness::ReadyBut(what) => ("LIVE", format!("ready, but {what}")),
        Readiness::NotReady(why) if why.starts_with("draining") => ("DRAINING", format!("not ready: {why}")),
        Readiness::NotReady(why) => ("PRE_INITIALIZING", format!("not ready: {why}")),
    };
    ServerInfo {
        version: env!("CARGO_PKG_VERSION"),
        state,
        ready,
        uptime_seconds: (now - usage.started).max(0.0) as u64,
        pid: std::process::id(),
        threads: usage.threads,
        open_files: usage.open_files,
        memory: of(&usage),
    }
}

/// What `/memory` answers.
pub(in crate::admin) fn memory() -> Memory {
    of(&Usage::now())
}

fn of(usage: &Usage) -> Memory {
    Memory { resident_bytes: usage.resident_bytes, cpu_seconds: usage.cpu_seconds }
}
