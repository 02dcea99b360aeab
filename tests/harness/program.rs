//! Clients and servers of others, run as they are.

use std::{
    env,
    ffi::OsStr,
    fmt::Debug,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{io::AsyncWriteExt, net::TcpStream, process::Command, time::timeout};

use crate::{binary, eventually::eventually, process::Process};

/// The executable `name`: what `SLUICE_TEST_NAME` names, else what `make deps` found or installed.
///
/// Says loudly on stderr that the story is skipped when there is none.
pub fn executable(story: &str, name: &str) -> Option<PathBuf> {
    let variable = format!("SLUICE_TEST_{}", name.to_uppercase());
    let noted = binary::repository().join("target/peers").join(format!("{name}.path"));
    let path = env::var(&variable).or_else(|_| fs::read_to_string(noted)).unwrap_or_default();
    let found = Some(PathBuf::from(path.trim())).filter(|path| path.is_file());
    if found.is_none() {
        eprintln!("SKIPPED story {story}: no {name}: run `make deps`, or set {variable} to its executable");
    }
    found
}

/// A file of `tests/peers`.
pub fn script(name: &str) -> String {
    binary::repository().join("tests/peers").join(name).display().to_string()
}

/// Runs a client to its end, with these bytes as its input.
pub async fn run(program: &Path, arguments: &[impl AsRef<OsStr> + Debug], input: &[u8]) -> Output {
    run_within(PATIENCE, program, arguments, input).await
}

/// The same, of one that has much to do.
pub async fn run_within(
    limit: Duration,
    program: &Path,
    arguments: &[impl AsRef<OsStr> + Debug],
    input: &[u8],
) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display()));
    let mut stdin = child.stdin.take().expect("there is an input");
    let input = input.to_vec();
    tokio::spawn(async move {
        stdin.write_all(&input).await.ok();
    });
    let output = timeout(limit, child.wait_with_output()).await;
    output
        .unwrap_or_else(|_| panic!("{} {arguments:?} does not end", program.display()))
        .expect("a child can be waited for")
}

/// Starts a server and waits until it listens at all of these addresses.
pub async fn serve(name: &str, program: &Path, arguments: &[impl AsRef<OsStr>], addresses: &[SocketAddr]) -> Process {
    let mut process = Process::start(name, program, arguments);
    for address in addresses {
        eventually(&format!("{name} listens at {address}"), async || {
            assert!(process.ended().is_none(), "{name} ended: {}", process.stderr());
            TcpStream::connect(address).await.is_ok()
        })
        .await;
    }
    process
}

const PATIENCE: Duration = Duration::from_secs(40);
