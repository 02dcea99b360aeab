//! What a demo says: progress while it starts, then what to try.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::Path,
};

use routing::problem::Severity;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    state::State,
    tour::{Step, Tour},
};

/// One line for each thing that was done, with the seconds since the start.
#[derive(Debug)]
pub(crate) struct Progress {
    start: Instant,
}

impl Progress {
    /// From now on.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Something is done.
    pub(crate) fn done(&self, what: &str) {
        say(&format!("{:6.2} s  {what}\n", self.start.elapsed().as_secs_f64()));
    }
}

/// Prints the table and the commands. `page`: where the dashboard is.
pub(crate) fn tour(tour: &Tour, directory: &Path, state: &State, page: &str) {
    let mut text = format!("\n  Look at it: {page}\n\n");
    let steps = || tour.edge.iter().chain(&tour.mesh);
    let width = steps().map(|step| step.url.len()).max().unwrap_or(0);
    for Step { url, expect, .. } in steps() {
        text.push_str(&format!("  {url:width$}  {expect}\n"));
    }
    text.push_str("\nTry them; every command works as printed:\n\n");
    for step in steps() {
        text.push_str(&format!("  # {}\n  {}\n\n", step.expect, step.command));
    }
    text.push_str(&format!(
        "Edit the YAML in {} and run a command again: changes are live within a second.\n",
        directory.display()
    ));
    text.push_str(&format!("Logs of every process: {}\n", state.path("logs").display()));
    if state.is_kept() {
        text.push_str(&format!("For scripts: {}\n", state.path("demo.json").display()));
    }
    text.push_str("Ctrl-C ends the demo.\n");
    say(&text);
}

/// Prints what compiling found, the worst first, without flooding the terminal.
pub(crate) fn problems(tour: &Tour, directory: &Path) {
    let mut worth: Vec<_> = tour.problems.iter().filter(|problem| problem.severity != Severity::Info).collect();
    worth.sort_by_key(|problem| problem.severity);
    for problem in worth.iter().take(MOST_PROBLEMS) {
        say(&format!("          {problem}\n"));
    }
    if worth.len() > MOST_PROBLEMS {
        let more = worth.len() - MOST_PROBLEMS;
        say(&format!("          and {more} more: sluice check {}\n", directory.display()));
    }
}

/// `demo.json`.
#[derive(Debug, Serialize)]
struct DemoJson<'a> {
    host: &'a str,
    https_port: Option<u16>,
    http_port: Option<u16>,
    admin: Option<String>,
    dashboard: &'a str,
    proxies: &'a [AdminPages],
    curl: Vec<&'a str>,
}

/// Where a proxy's admin pages are.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct AdminPages {
    /// `namespace/name`.
    pub(crate) name: String,
    /// Address and port.
    pub(crate) admin: SocketAddr,
    /// In the network namespace of this process alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) process: Option<u32>,
}

/// What scripts read; `admin` is the address of the first gateway's admin pages.
pub(crate) fn demo_json(tour: &Tour, admin: Option<String>, page: &str, proxies: &[AdminPages]) -> String {
    let content = DemoJson {
        host: &tour.host,
        https_port: tour.https_port,
        http_port: tour.http_port,
        admin,
        dashboard: page,
        proxies,
        curl: tour.edge.iter().chain(&tour.mesh).map(|step| step.command.as_str()).collect(),
    };
    // Strings and numbers cannot fail to serialise; an empty object would be seen at once.
    serde_json::to_string_pretty(&content).unwrap_or_else(|_| "{}".to_owned())
}

/// A reader that went away is no reason to end the demo, which `println!` would do.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Shown before `sluice check` is named instead.
const MOST_PROBLEMS: usize = 10;
