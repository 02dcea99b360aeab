//! Many workloads at once that live by a mesh's CA: Python's gRPC, as many calls at a time as the CA takes.

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{control_plane::Answer, program};

/// For one certificate each.
const PATIENCE: Duration = Duration::from_secs(60);

/// Them all; see `tests/peers/ca_crowd.py` for what a workload is.
#[derive(Debug)]
pub struct Crowd {
    // It ends with this.
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

/// What became of one certificate for each.
#[derive(Debug)]
pub struct Told {
    /// Those that were given.
    pub issued: u64,
    /// Of these, by a certificate that was held.
    pub by_certificate: u64,
    /// Some of the failures.
    pub failed: Vec<String>,
    /// What some of them hold now, and since when, in seconds since 1970.
    pub held: Vec<(Answer, u64)>,
    /// Rate, and how long one took, for the report.
    pub figures: String,
}

impl Crowd {
    /// Starts these, who ask nobody yet; certificates of `life` seconds.
    pub async fn start(python: &Path, ca: SocketAddr, roots: &Path, life: u32, workloads: &[Value]) -> Self {
        let mut child = Command::new(python)
            .args([program::script("ca_crowd.py"), ca.to_string(), roots.display().to_string(), life.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the crowd can be started");
        let mut input = child.stdin.take().expect("there is an input");
        let output = BufReader::new(child.stdout.take().expect("there is an output")).lines();
        let text: String = workloads.iter().map(|it| format!("{it}\n")).collect();
        input.write_all(text.as_bytes()).await.expect("the crowd reads");
        Self { _child: child, input, output }
    }

    /// Has everybody get another certificate.
    pub async fn renew(&mut self, word: &str) -> Told {
        self.input.write_all(format!("{word}\n").as_bytes()).await.expect("the crowd reads");
        let line = timeout(PATIENCE, self.output.next_line()).await.expect("it answers in time");
        let line = line.expect("it can be read").expect("it has not ended");
        let told: Value = serde_json::from_str(&line).expect("it tells JSON");
        let number = |field: &str| told[field].as_f64().unwrap_or_default();
        let texts = |value: &Value| {
            value.as_array().into_iter().flatten().map(|it| it.as_str().unwrap_or_default().to_owned()).collect()
        };
        let held = told["held"].as_array().into_iter().flatten().map(|held| {
            let answer = Answer { code: "OK".to_owned(), details: String::new(), chain: texts(&held[0]) };
            (answer, held[1].as_f64().unwrap_or_default() as u64)
        });
        let figures = format!(
            "{word}: {:.0} certificates a second, p50 {:.0} ms, p99 {:.0} ms",
            number("per_second"),
            number("p50") * 1000.0,
            number("p99") * 1000.0
        );
        Told {
            issued: told["issued"].as_u64().unwrap_or_default(),
            by_certificate: told["by_certificate"].as_u64().unwrap_or_default(),
            failed: texts(&told["failed"]),
            held: held.collect(),
            figures,
        }
    }
}
