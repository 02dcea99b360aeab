//! What a person types, and what is left running.

use std::fs;

use tokio::process::Command;

/// Exit code and everything printed.
pub async fn shell(command: &str) -> (i32, String) {
    let output = Command::new("sh").args(["-c", command]).output().await.expect("a shell");
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&printed).into_owned())
}

/// Processes of which the command line holds this text.
pub fn running_with(text: &str) -> usize {
    let processes = fs::read_dir("/proc").expect("Linux").flatten();
    let line = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).unwrap_or_default();
    processes.map(line).filter(|line| String::from_utf8_lossy(line).contains(text)).count()
}
