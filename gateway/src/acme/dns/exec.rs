//! Programs that publish TXT records, run as lego runs those of its `exec` provider:
//! `PROGRAM present|cleanup _acme-challenge.example.com. VALUE`.

use std::{
    env,
    path::{Path, PathBuf},
    pin::pin,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use futures::future;
use routing::acme::Exec;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    fs,
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::timeout,
};

use super::{Change, TxtRecord};

#[cfg(test)]
mod tests;

/// What a program may know of our environment; everything else could be a secret.
const ENVIRONMENT: [&str; 3] = ["PATH", "HOME", "LANG"];
/// Bytes of its output that are kept: the last ones.
const KEPT: usize = 64 * 1024;
/// Characters of its output that a failure shows: the last ones.
const SHOWN: usize = 500;
/// After its end, somebody that it started may still hold its output open. That is not waited for.
const LINGER: Duration = Duration::from_millis(200);

/// Runs the program for one record. It, and whatever it started, is ended when this is dropped or takes too long.
///
/// # Errors
/// A sentence that names the program: it is not there, took too long, or did not end with exit code 0; then with the end
/// of what it wrote.
pub(super) async fn run(
    program: &Exec,
    record: &TxtRecord,
    change: Change,
    hooks: Option<&Path>,
) -> Result<(), String> {
    let Some(hooks) = hooks else {
        return Err(format!(
            "the hook {:?} cannot be run: start the gateway with --acme-hooks FOLDER, the folder that it is in",
            program.command
        ));
    };
    let path = find(&program.command, hooks).await?;
    let action = match change {
        Change::Publish => "present",
        Change::Withdraw => "cleanup",
    };
    let said = format!("the hook {} {action} {}", path.display(), record.name);
    let mut running = Running::start(&path, action, record).map_err(|error| {
        format!("{said} cannot be started: {error}; it has to be executable and to name its interpreter (#!)")
    })?;
    match timeout(program.timeout, running.ended()).await {
        Ok(Ok((status, _))) if status.success() => Ok(()),
        Ok(Ok((status, output))) => Err(format!("{said} failed ({status}): {}", shown(&output))),
        Ok(Err(error)) => Err(format!("{said} could not be waited for: {error}")),
        Err(_) => Err(format!("{said} was ended after {} s: it takes too long", program.timeout.as_secs_f32())),
    }
}

/// The program's absolute path. It may be a symbolic link, as every file of a mounted ConfigMap is: who may write to the
/// folder decides what runs. Its name may not lead out of the folder.
async fn find(command: &str, hooks: &Path) -> Result<PathBuf, String> {
    if command.is_empty() || command == "." || command == ".." || command.contains(['/', '\0']) {
        return Err(format!(
            "the hook {command:?} has to be the name of a file in the folder of --acme-hooks, no path"
        ));
    }
    // Absolute, because the program does not run in our working directory.
    let folder = fs::canonicalize(hooks).await;
    let folder = folder.map_err(|error| format!("the folder of --acme-hooks, {}: {error}", hooks.display()))?;
    let path = folder.join(command);
    match fs::metadata(&path).await {
        Ok(found) if found.is_file() => Ok(path),
        Ok(_) => Err(format!("the hook {} is not a file", path.display())),
        Err(error) => Err(format!("the hook {} cannot be run: {error}", path.display())),
    }
}

/// A program in a process group of its own.
struct Running(Child);

impl Running {
    fn start(path: &Path, action: &str, record: &TxtRecord) -> std::io::Result<Self> {
        let mut command = Command::new(path);
        command.arg(action).arg(format!("{}.", record.name)).arg(&record.value).env_clear().process_group(0);
        command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, env::var_os(name)?))));
        if let Some(folder) = path.parent() {
            command.current_dir(folder);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().map(Self)
    }

    /// Its end, with the last of what it wrote: to stderr, or to stdout when there is nothing.
    async fn ended(&mut self) -> std::io::Result<(ExitStatus, Vec<u8>)> {
        let (stdout, stderr) = (self.0.stdout.take(), self.0.stderr.take());
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let status = {
            let mut reading = pin!(future::join(keep(stdout, &mut output), keep(stderr, &mut errors)));
            tokio::select! {
                biased;
                _ = &mut reading => self.0.wait().await?,
                status = self.0.wait() => {
                    let _ = timeout(LINGER, &mut reading).await;
                    status?
                }
            }
        };
        Ok((status, if errors.is_empty() { output } else { errors }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // `id` is `None` once the program was waited for, so the number cannot belong to somebody else.
        let group = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            // Fails only for a program that has just ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads to the end, and keeps the last bytes. A failed read ends it too: the exit code tells what matters.
async fn keep(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    while from.read_buf(kept).await.is_ok_and(|read| read > 0) {
        if kept.len() > 2 * KEPT {
            kept.drain(..kept.len() - KEPT);
        }
    }
}

/// The end of an output, in one line and without anything that a terminal would act on.
fn shown(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let text = text.trim();
    if text.is_empty() {
        return "it wrote nothing about it".to_owned();
    }
    let skipped = text.chars().count().saturating_sub(SHOWN);
    let escaped = text.chars().skip(skipped).flat_map(|sign| {
        let (escape, plain) = if sign.is_control() { (Some(sign.escape_default()), None) } else { (None, Some(sign)) };
        escape.into_iter().flatten().chain(plain)
    });
    escaped.collect()
}
