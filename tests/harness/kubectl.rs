//! Real kubectl as a client.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use crate::{binary, eventually::SOON, process::Process};

/// kubectl with a kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    path: PathBuf,
    kubeconfig: PathBuf,
}

/// What a run of kubectl said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// True = exit code 0.
    pub ok: bool,
}

impl Kubectl {
    /// With an executable of [`executable`] and a kubeconfig file.
    pub fn new(path: &Path, kubeconfig: &Path) -> Self {
        Self { path: path.to_owned(), kubeconfig: kubeconfig.to_owned() }
    }

    /// Runs it to its end; panics with what it said when it fails.
    pub async fn run(&self, arguments: &[&str]) -> String {
        let said = self.try_run(arguments, "").await;
        assert!(said.ok, "kubectl {arguments:?} failed: {}{}", said.out, said.err);
        said.out
    }

    /// Runs it to its end with this standard input.
    pub async fn try_run(&self, arguments: &[&str], input: &str) -> Said {
        let mut child = Command::new(&self.path)
            .args(self.flags())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("kubectl can be started");
        let mut stdin = child.stdin.take().expect("its input is a pipe");
        // It may end before it read everything, and then says why.
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
        let output = timeout(4 * SOON, child.wait_with_output()).await;
        let output =
            output.unwrap_or_else(|_| panic!("kubectl {arguments:?} does not end")).expect("kubectl can be waited for");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { out: text(&output.stdout), err: text(&output.stderr), ok: output.status.success() }
    }

    /// Starts it and lets it run.
    pub fn start(&self, arguments: &[&str]) -> Process {
        let arguments = self.flags().into_iter().chain(arguments.iter().map(|it| (*it).to_owned()));
        Process::start("kubectl", &self.path, arguments)
    }

    fn flags(&self) -> Vec<String> {
        // Discovery of another server at the same address may lie in the user's cache folder.
        let cache = self.kubeconfig.with_extension("cache");
        vec![format!("--kubeconfig={}", self.kubeconfig.display()), format!("--cache-dir={}", cache.display())]
    }
}

/// The kubectl executable: `SLUICE_TEST_KUBECTL`, else what `make deps` installed, else the one in `PATH`.
///
/// Says loudly on stderr that the story is skipped when there is none.
pub fn executable(story: &str) -> Option<PathBuf> {
    let found = binary::peer("SLUICE_TEST_KUBECTL", "kubectl").or_else(in_path);
    if found.is_none() {
        eprintln!(
            "SKIPPED story {story}: no kubectl: run `make deps`, or set SLUICE_TEST_KUBECTL to a kubectl executable"
        );
    }
    found
}

fn in_path() -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join("kubectl")).find(|path| path.is_file())
}
