//! The processes of a demo: started with their logs in files, watched until ready, ended with the demo.

use std::{
    ffi::OsString,
    fmt,
    fs::File,
    net::SocketAddr,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use futures::future;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::net::holder;

/// What to start.
#[derive(Debug)]
pub(crate) struct Job {
    /// Name for people, and of the log file.
    pub(crate) name: String,
    /// Arguments of `sluice`.
    pub(crate) arguments: Vec<String>,
    /// How it tells that it is ready.
    pub(crate) ready: Ready,
    /// In which pod, when pods are namespaces.
    pub(crate) inside: Option<Inside>,
}

/// A place in a pod.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inside {
    /// A process whose network and files the new one shares.
    pub(crate) process: u32,
    /// Its group, when it is another than the demo's.
    pub(crate) group: Option<u32>,
}

/// How a process tells that it is ready.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ready {
    /// A path answers 200.
    Answers(SocketAddr, &'static str),
    /// It takes connections: what it says then is no HTTP that could be asked.
    Listens(SocketAddr),
    /// The same for a port in the network of this process.
    ListensIn(u32, u16),
}

impl fmt::Display for Ready {
    /// What is missing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answers(address, path) => write!(f, "no 200 from http://{address}{path}"),
            Self::Listens(address) => write!(f, "nobody listens on {address}"),
            Self::ListensIn(_, port) => write!(f, "nobody listens on port {port} of its pod"),
        }
    }
}

/// A running process.
#[derive(Debug)]
struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ready: Ready,
}

/// All of them. Dropping kills whatever still runs.
#[derive(Debug, Default)]
pub(crate) struct Processes(Vec<Process>);

impl Processes {
    /// Starts every job with its output in `logs/NAME.log`.
    pub(crate) fn start(jobs: Vec<Job>, logs: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding the sluice binary, which the demo starts again")?;
        let launcher = Launcher::find(program);
        let mut all = Self::default();
        for job in jobs {
            let log = logs.join(format!("{}.log", job.name));
            let child = launcher.start(&job, &log).with_context(|| format!("starting {}", job.name))?;
            all.0.push(Process { name: job.name, child, log, ready: job.ready });
        }
        Ok(all)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Waits until every process says that it is ready.
    ///
    /// # Errors
    /// Names the process that ended or is late, with the end of its log.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        for process in &mut self.0 {
            let answer = tokio::select! {
                status = process.child.wait() => bail!("{}", ended(&process.name, status.ok(), &process.log)),
                answer = timeout_at(deadline, is_ready(process.ready)) => answer,
            };
            if answer.is_err() {
                bail!(
                    "{} is not ready after {} s ({}){}",
                    process.name,
                    READY_WITHIN.as_secs(),
                    process.ready,
                    last_lines(&process.log)
                );
            }
        }
        Ok(())
    }

    /// Resolves when any process ends, with a text that names it and shows the end of its log.
    pub(crate) async fn any_ends(&mut self) -> String {
        if self.0.is_empty() {
            return future::pending().await;
        }
        let waits = self.0.iter_mut().map(|process| {
            Box::pin(async {
                let status = process.child.wait().await;
                ended(&process.name, status.ok(), &process.log)
            })
        });
        future::select_all(waits).await.0
    }

    /// Ends all of them: SIGTERM, and SIGKILL for those that take too long. A demo does not wait for long downloads.
    pub(crate) async fn stop(mut self) {
        for process in &self.0 {
            process.terminate();
        }
        let deadline = Instant::now() + STOP_WITHIN;
        for process in &mut self.0 {
            if timeout_at(deadline, process.child.wait()).await.is_err() {
                // Fails only for a process that has just ended by itself.
                let _ = process.child.kill().await;
            }
        }
    }
}

impl Process {
    fn terminate(&self) {
        // `id` is `None` once the process was waited for, so the number cannot belong to somebody else.
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Fails only for a process that has just ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

/// How children are started so that they do not outlive the demo, even when it is killed.
#[derive(Debug)]
struct Launcher {
    program: PathBuf,
    /// util-linux' `setpriv` can ask the kernel to signal a process when its parent dies, and then becomes that process.
    setpriv: bool,
}

impl Launcher {
    fn find(program: PathBuf) -> Self {
        let probe = std::process::Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        Self { program, setpriv: probe.is_ok_and(|status| status.success()) }
    }

    fn start(&self, job: &Job, log: &Path) -> anyhow::Result<Child> {
        let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let errors = output.try_clone().context("sharing the log file")?;
        let mut words: Vec<OsString> = Vec::new();
        if let Some(Inside { process, .. }) = job.inside {
            words.extend(["nsenter", "--target", &process.to_string(), "--net", "--mount"].map(Into::into));
        }
        let group = job.inside.and_then(|inside| inside.group);
        if self.setpriv || group.is_some() {
            words.extend(["setpriv", "--pdeathsig", "KILL"].map(Into::into));
        }
        if let Some(group) = group {
            words.extend(["--regid", &group.to_string(), "--clear-groups"].map(Into::into));
        }
        words.push(self.program.clone().into());
        let mut command = std::process::Command::new(&words[0]);
        command.args(&words[1..]).args(&job.arguments).stdin(Stdio::null()).stdout(output).stderr(errors);
        // An own process group: Ctrl-C in the terminal reaches the demo alone, which then ends the others in order.
        command.process_group(0);
        let mut command = Command::from(command);
        command.kill_on_drop(true).spawn().with_context(|| format!("running {}", self.program.display()))
    }
}

/// Asks until it is.
async fn is_ready(ready: Ready) {
    let ask = async || match ready {
        Ready::Answers(address, path) => answers_200(address, path).await,
        Ready::Listens(address) => TcpStream::connect(address).await.map(|_| true),
        Ready::ListensIn(process, port) => Ok(holder::listens_in(process, port)),
    };
    while !timeout(ASK_WITHIN, ask()).await.is_ok_and(|answer| answer.unwrap_or(false)) {
        sleep(ASK_EVERY).await;
    }
}

async fn answers_200(address: SocketAddr, path: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut status = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut status).await?;
    Ok(status == *b"HTTP/1.1 200")
}

fn ended(name: &str, status: Option<ExitStatus>, log: &Path) -> String {
    let how = match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => format!("with exit code {code}"),
        Some((None, Some(signal))) => format!("by signal {signal}"),
        _ => "for a reason the system does not tell".to_owned(),
    };
    format!("{name} ended {how}{}", last_lines(log))
}

/// The end of a log, to be printed behind a sentence about its process.
fn last_lines(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return format!("; its log {} is empty", log.display());
    }
    let last = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
    format!("; the end of {}:\n    {}", log.display(), last.join("\n    "))
}

/// For all processes together, from their start.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// From SIGTERM to SIGKILL.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Between two questions for readiness.
const ASK_EVERY: Duration = Duration::from_millis(25);

/// For one answer about readiness.
const ASK_WITHIN: Duration = Duration::from_secs(1);

/// Of a log, when its process failed.
const SHOWN_LINES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_shown_and_an_empty_one_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let log = scratch.path().join("edge.log");
        assert!(last_lines(&log).contains("is empty"));

        let lines: Vec<String> = (0..20).map(|number| format!("line {number}")).collect();
        std::fs::write(&log, lines.join("\n")).unwrap();
        let shown = last_lines(&log);
        assert!(shown.contains("line 19") && shown.contains("line 12") && !shown.contains("line 11"), "{shown}");
    }

    #[test]
    fn an_end_is_told_with_its_reason() {
        let told = ended("edge", Some(ExitStatus::from_raw(0x0200)), Path::new("/nonexistent"));
        assert!(told.starts_with("edge ended with exit code 2"), "{told}");
        let told = ended("edge", Some(ExitStatus::from_raw(9)), Path::new("/nonexistent"));
        assert!(told.starts_with("edge ended by signal 9"), "{told}");
    }

    #[tokio::test]
    async fn who_speaks_no_http_is_ready_when_he_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ready = Ready::Listens(listener.local_addr().unwrap());
        timeout(ASK_WITHIN, is_ready(ready)).await.unwrap();
        drop(listener);
        assert!(timeout(ASK_EVERY * 4, is_ready(ready)).await.is_err());
    }

    #[tokio::test]
    async fn only_200_is_ready() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            for answer in ["HTTP/1.1 503 no\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        tokio::join!(server, async {
            assert!(!answers_200(address, "/").await.unwrap());
            assert!(answers_200(address, "/").await.unwrap());
        });
    }
}
