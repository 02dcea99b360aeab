//! Real Helm, which renders the charts.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;

use crate::binary;

/// The Helm executable: `SLUICE_TEST_HELM`, else what `make deps` installed.
///
/// Says loudly on stderr that the story is skipped when there is none.
pub fn executable(story: &str) -> Option<PathBuf> {
    let found = binary::peer("SLUICE_TEST_HELM", "helm");
    if found.is_none() {
        eprintln!("SKIPPED story {story}: no Helm: run `make deps`, or set SLUICE_TEST_HELM to a Helm executable");
    }
    found
}

/// The objects that a chart below `charts/` renders to, as release `istio-ingressgateway` in `istio-system`; `args` are
/// further ones of `helm template`. Ask [`executable`] first.
pub fn template(chart: &str, args: &[&str]) -> Vec<Value> {
    try_template(chart, args).unwrap_or_else(|refusal| panic!("helm template {chart} {args:?}: {refusal}"))
}

/// The roles of the gateway's chart and their bindings.
pub fn roles() -> Vec<Value> {
    roles_with(&[])
}

/// The same with further arguments of `helm template`.
pub fn roles_with(args: &[&str]) -> Vec<Value> {
    let mut objects = template("sluice-gateway", args);
    objects.retain(|object| object["kind"].as_str().is_some_and(|kind| kind.contains("Role")));
    assert_eq!(objects.len(), 4, "two roles and two bindings");
    objects
}

/// As [`template`].
///
/// # Errors
/// What Helm says when it does not render, as when values.schema.json refuses a value.
pub fn try_template(chart: &str, args: &[&str]) -> Result<Vec<Value>, String> {
    let folder = chart_folder(chart);
    let release = ["template", "istio-ingressgateway", folder.as_str(), "--namespace", "istio-system"];
    let output = run(&[&release, args].concat());
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(documents(&String::from_utf8_lossy(&output.stdout)))
}

/// `helm lint --strict`, with everything that it prints.
///
/// # Errors
/// The same text, when it found fault.
pub fn lint(chart: &str, args: &[&str]) -> Result<String, String> {
    let folder = chart_folder(chart);
    let output = run(&[&["lint", "--strict", folder.as_str()], args].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text) } else { Err(text) }
}

/// The objects of a stream of YAML documents, read as Kubernetes reads them.
pub fn documents(stream: &str) -> Vec<Value> {
    let options = || serde_saphyr::options! { strict_booleans: true };
    format!("\n{stream}")
        .split("\n---")
        .map(|text| {
            serde_saphyr::from_str_with_options(text, options()).unwrap_or_else(|fault| panic!("{fault}: {text}"))
        })
        .filter(|document: &Value| !document.is_null())
        .collect()
}

fn chart_folder(chart: &str) -> String {
    binary::repository().join("charts").join(chart).display().to_string()
}

fn run(args: &[&str]) -> Output {
    let helm = binary::peer("SLUICE_TEST_HELM", "helm").expect("the story asked for Helm before");
    // Nothing of the user's: neither plug-ins nor a cluster.
    Command::new(helm).args(args).env("KUBECONFIG", "/dev/null").output().expect("Helm can be started")
}
