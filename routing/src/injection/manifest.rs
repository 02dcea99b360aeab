//! Manifests: the same injection, done to files before they are applied.

use serde_json::Value;

use super::json::{map, text};
use super::{Context, Settings, Texts, decide, inject};
use crate::resources::{read_yaml, write_yaml};

/// A file after the injection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// Its text. Documents without a pod are byte by byte what they were.
    pub text: String,
    /// What became of each object with a pod.
    pub told: Vec<Told>,
}

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its kind and name.
    pub object: String,
    /// What was done.
    pub what: What,
    /// What of its wishes is not honoured.
    pub warnings: Vec<String>,
}

/// What was done to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It has a sidecar now.
    Injected,
    /// It gets none, for this reason.
    Skipped(String),
    /// It cannot have one.
    Refused(String),
}

/// Where kinds have their pod's template.
const TEMPLATES: [(&str, &str); 7] = [
    ("Deployment", "/spec/template"),
    ("StatefulSet", "/spec/template"),
    ("DaemonSet", "/spec/template"),
    ("ReplicaSet", "/spec/template"),
    ("ReplicationController", "/spec/template"),
    ("Job", "/spec/template"),
    ("CronJob", "/spec/jobTemplate/spec/template"),
];

/// Injects every pod of a file of YAML or JSON. Comments of documents that change are lost.
///
/// # Errors
/// A document cannot be read: which one, and why.
pub fn inject_file(file: &str, settings: &Settings) -> Result<Written, String> {
    let mut written = Written::default();
    for (start, document) in documents(file) {
        // The parser counts lines from the beginning of the document.
        let value = read_yaml(document).map_err(|why| format!("the document that begins in line {start}: {why}"))?;
        let mut changed = value.clone();
        object(&mut changed, settings, &mut written.told);
        if changed == value {
            written.text.push_str(document);
        } else if document.trim_start().starts_with('{') {
            written.text.push_str(&format!("{changed:#}\n"));
        } else {
            written.text.push_str(&write_yaml(&changed)?);
        }
        written.text.push_str(after(document, file));
    }
    Ok(written)
}

/// The documents of a file, each with the line it begins in; what divides them is left out.
fn documents(file: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let (mut begin, mut at, mut first) = (0, 0, 1);
    for (number, line) in file.split_inclusive('\n').enumerate() {
        if is_divider(line) {
            found.push((first, &file[begin..at]));
            begin = at + line.len();
            first = number + 2;
        }
        at += line.len();
    }
    found.push((first, &file[begin..]));
    found
}

fn is_divider(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.trim().is_empty() || rest.trim_start().starts_with('#'))
}

/// The divider behind a document, as it stands in the file.
fn after<'a>(document: &str, file: &'a str) -> &'a str {
    let end = document.as_ptr() as usize - file.as_ptr() as usize + document.len();
    let rest = &file[end..];
    let line = rest.split_inclusive('\n').next().unwrap_or_default();
    if is_divider(line) { line } else { "" }
}

fn object(value: &mut Value, settings: &Settings, told: &mut Vec<Told>) {
    let kind = text(value, "/kind").to_owned();
    if kind == "List" || (kind.ends_with("List") && value["items"].is_array()) {
        if let Value::Array(items) = &mut value["items"] {
            items.iter_mut().for_each(|item| object(item, settings, told));
        }
        return;
    }
    let namespace =
        Some(text(value, "/metadata/namespace")).filter(|it| !it.is_empty()).unwrap_or("default").to_owned();
    if kind == "Pod" && value["spec"].is_object() {
        let name = [text(value, "/metadata/name"), text(value, "/metadata/generateName")];
        let name = name.into_iter().find(|it| !it.is_empty()).unwrap_or_default().to_owned();
        one(value, &format!("{kind} {namespace}/{name}"), &namespace, settings, told);
        return;
    }
    let Some((_, pointer)) = TEMPLATES.iter().find(|(known, _)| *known == kind) else { return };
    let name = text(value, "/metadata/name").to_owned();
    let Some(template) = value.pointer_mut(pointer).filter(|it| it["spec"].is_object()) else { return };
    // A template has no name: its pods are known by what it is the template of.
    let mut pod = template.clone();
    map(&mut pod, "metadata").insert("name".to_owned(), name.clone().into());
    let before = pod.clone();
    one(&mut pod, &format!("{kind} {namespace}/{name}"), &namespace, settings, told);
    if pod != before {
        map(&mut pod, "metadata").remove("name");
        if let Some(own) = template.pointer("/metadata/name") {
            map(&mut pod, "metadata").insert("name".to_owned(), own.clone());
        }
        *template = pod;
    }
}

fn one(pod: &mut Value, shown: &str, namespace: &str, settings: &Settings, told: &mut Vec<Told>) {
    let verdict = decide(namespace, None, pod, settings);
    let parameters = Texts::new();
    let mut warnings = Vec::new();
    let what = if verdict.inject {
        match inject(pod, Context { settings, namespace, parameters: &parameters }) {
            Ok(injected) => {
                *pod = injected.pod;
                warnings = injected.warnings;
                What::Injected
            }
            Err(refusal) => What::Refused(refusal.to_string()),
        }
    } else {
        What::Skipped(verdict.reason.to_string())
    };
    told.push(Told { object: shown.to_owned(), what, warnings });
}
