//! Cases that are data: YAML in, requests, expected answers. `tests/conformance/README.md` documents the form.
//!
//! ```text
//! case file -> Case (case.rs) + objects
//!                |
//!              Stage (stage.rs): certificates, Peers (peer.rs), the folder of YAML, proxies, `sluice check`
//!                |
//!              steps (step.rs): say -> Heard -> judged against `expect` (judge.rs, text.rs)
//! ```

mod case;
mod certificates;
mod heard;
mod judge;
mod peer;
mod stage;
mod step;
mod text;

use std::{
    any::Any,
    env, fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::time::timeout;

use crate::binary::repository;
use case::Case;
use stage::Stage;

/// Plays every case of `tests/conformance/TOPIC`, some at once, and panics with everything that was not as expected.
///
/// `SLUICE_CASE` plays those only whose path contains that text.
pub fn play(topic: &str) {
    let wanted = env::var("SLUICE_CASE").unwrap_or_default();
    let cases: Vec<PathBuf> = files(topic).into_iter().filter(|path| shown(path).contains(&wanted)).collect();
    assert!(!(cases.is_empty() && wanted.is_empty()), "there is no case of {topic}");
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(path) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = play_alone(path.clone());
                    if !found.is_empty() {
                        let report = format!("{}\n{}", shown(path), found.join("\n"));
                        faults.lock().unwrap_or_else(PoisonError::into_inner).push(report);
                    }
                }
            });
        }
    });
    let mut faults = faults.into_inner().unwrap_or_else(PoisonError::into_inner);
    faults.sort();
    assert!(faults.is_empty(), "{} of {topic} are not as they should be:\n\n{}\n", faults.len(), faults.join("\n\n"));
}

/// The topics: folders with cases.
pub fn topics() -> Vec<String> {
    let entries = fs::read_dir(folder()).expect("the folder of the cases").flatten();
    let mut topics: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    topics.sort();
    topics
}

/// Everything that was not as expected; a panic in the case is one of these. It has a thread and a runtime of its own.
fn play_alone(path: PathBuf) -> Vec<String> {
    let played = thread::spawn(move || {
        let text = fs::read_to_string(&path).map_err(|error| vec![format!("  cannot be read: {error}")])?;
        let (case, objects) = Case::parse(&text).map_err(|error| vec![format!("  {error}")])?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be made").block_on(async {
            let played = timeout(LONGEST, play_case(&case, &objects)).await;
            played.unwrap_or_else(|_| Err(vec![format!("  is not done after {LONGEST:?}")]))
        })
    });
    match played.join() {
        Ok(Ok(())) => Vec::new(),
        Ok(Err(faults)) => faults,
        Err(panic) => vec![format!("  {}", said(panic))],
    }
}

async fn play_case(case: &Case, objects: &str) -> Result<(), Vec<String>> {
    let mut stage = Stage::build(case, objects).await.map_err(|error| vec![format!("  {error}")])?;
    let mut faults = stage.check(&case.problems).await;
    if case.steps.is_empty() && case.problems.is_empty() {
        faults.push("  has neither steps nor problems".into());
    }
    if !case.steps.is_empty() {
        stage.launch(case).await?;
    }
    for (number, step) in case.steps.iter().enumerate() {
        let found = step::play(&mut stage, step).await;
        let what = format!("  step {} ({}):", number + 1, step.title());
        if !found.is_empty() {
            faults.push(format!("{what}\n    {}", found.join("\n    ")));
            // What follows would only repeat it in other words.
            faults.extend(stage.logs());
            break;
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn files(topic: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder().join(topic)).unwrap_or_else(|error| panic!("{topic}: {error}"));
    let paths = entries.flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|it| it == "yaml")).collect();
    paths.sort();
    paths
}

fn folder() -> PathBuf {
    repository().join("tests/conformance")
}

fn shown(path: &Path) -> String {
    path.strip_prefix(repository()).unwrap_or(path).display().to_string()
}

fn said(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Cases of a topic that are played at the same time: most of a case is waiting for a process to start.
const AT_ONCE: usize = 3;

const LONGEST: Duration = Duration::from_secs(60);
