//! The schemas of Kubernetes' own API, which take no field that they do not know, as PyPI's `kubernetes-validate` ships them.

use std::path::PathBuf;

use serde_json::Value;

use crate::program::{executable, run, script};

/// Whoever judges; `None`, said loudly, where it cannot be had.
pub async fn judge(story: &str) -> Option<Judge> {
    let python = executable(story, "python")?;
    let known = run(&python, &["-c", "import kubernetes_validate"], b"").await;
    if !known.status.success() {
        eprintln!(
            "SKIPPED story {story}: no Kubernetes schemas: run `make deps`, or have kubernetes-validate in that Python"
        );
        return None;
    }
    Some(Judge { python })
}

/// See the module.
pub struct Judge {
    python: PathBuf,
}

impl Judge {
    /// What is wrong with these objects, each of them with a name for people, by the schemas of these versions. Gives how many of them
    /// no version of Kubernetes knows, too.
    pub async fn faults(&self, versions: &[&str], objects: &[(String, Value)]) -> (Vec<String>, usize) {
        let arguments: Vec<String> =
            std::iter::once(script("judge_kubernetes.py")).chain(versions.iter().map(|it| (*it).to_owned())).collect();
        let input: String = objects.iter().map(|(_, object)| format!("{object}\n")).collect();
        let output = run(&self.python, &arguments, input.as_bytes()).await;
        assert!(output.status.success(), "the judge failed: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let said: Vec<Option<Vec<String>>> =
            said.lines().map(|line| serde_json::from_str(line).expect("a judgement is JSON")).collect();
        assert_eq!(said.len(), objects.len(), "each is judged");
        let unknown = said.iter().filter(|said| said.is_none()).count();
        let told = objects.iter().zip(said);
        let faults = told.flat_map(|((title, _), said)| {
            said.unwrap_or_default().into_iter().map(move |fault| format!("{title}: {fault}"))
        });
        (faults.collect(), unknown)
    }
}
