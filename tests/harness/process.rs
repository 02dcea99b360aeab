//! A child process with its output kept, ended when dropped.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

/// A running child. Its output goes to files, so a slow reader never blocks it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: tokio::process::Child,
    output: TempDir,
}

impl Process {
    /// Starts `program`.
    pub fn start<I, S>(name: &str, program: &Path, arguments: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Self::start_in(name, program, arguments, &[])
    }

    /// The same with these variables in its environment, next to those of the story.
    pub fn start_in<I, S>(name: &str, program: &Path, arguments: I, variables: &[(&str, String)]) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let output = TempDir::with_prefix("sluice-output-").expect("a temporary folder can be made");
        let file = |name: &str| fs::File::create(output.path().join(name)).expect("an output file can be made");
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .env("NO_COLOR", "1")
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display()));
        Self { name: name.to_owned(), child, output }
    }

    /// What it wrote to stdout so far.
    pub fn stdout(&self) -> String {
        read(self.output.path().join("stdout"))
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        read(self.output.path().join("stderr"))
    }

    /// Its process id; `None` when it ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its exit status when it ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// Sends a signal by its name (`TERM`, `INT`, `KILL`).
    pub fn signal(&self, signal: &str) {
        let Some(id) = self.id() else { return };
        let sent = std::process::Command::new("kill").args([&format!("-{signal}"), &id.to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{signal} could not be sent to {}", self.name);
    }

    /// Asks it to end.
    pub fn sigterm(&self) {
        self.signal("TERM");
    }

    /// Waits for its end; panics when it is still there after `deadline`.
    pub async fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        match timeout(deadline, self.child.wait()).await {
            Ok(status) => status.expect("a child can be waited for"),
            Err(_) => panic!("{} did not end within {deadline:?}", self.name),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            let (stderr, stdout) = (last(&self.stderr()), last(&self.stdout()));
            eprintln!("--- stderr of {name}\n{stderr}\n--- stdout of {name}\n{stdout}", name = self.name);
        }
    }
}

/// Waits until no other story holds this name: for what a machine can run only once.
pub fn alone(name: &str) -> fs::File {
    let path = std::env::temp_dir().join(format!("sluice-stories-{name}.lock"));
    let lock = fs::File::create(path).expect("a lock file can be made");
    lock.lock().expect("the lock file can be locked");
    lock
}

fn last(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

fn read(path: PathBuf) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

const SHOWN_LINES: usize = 40;
