//! Every fault by itself, out of `testdata/check/faults.txt`: it is told at its line, and nothing else is.

use std::{fs, path::Path};

use routing::resources::Extent;

use super::check;

/// One document with one fault.
struct Case<'t> {
    head: &'t str,
    document: String,
    told: String,
    part: &'t str,
}

impl<'t> Case<'t> {
    /// `=== KIND LINE SEVERITY CODE FIELD ~ PART`, and what is below.
    fn read(text: &'t str) -> Self {
        let (head, body) = text.split_once('\n').unwrap();
        let (words, part) = head.split_once(" ~ ").unwrap();
        let words: Vec<&str> = words.split(' ').collect();
        let [kind, line, severity, code, field] = words.as_slice() else { panic!("not five words: {head}") };
        let field = if *field == "-" { "" } else { field };
        Self { head, document: document(kind, body), told: format!("{line} {severity} {code} {field}"), part }
    }
}

fn document(kind: &str, body: &str) -> String {
    let group = match kind {
        "-" => return body.to_owned(),
        "PeerAuthentication" | "AuthorizationPolicy" | "RequestAuthentication" => "security.istio.io",
        "Telemetry" => "telemetry.istio.io",
        _ => "networking.istio.io",
    };
    let spec: String = body.lines().map(|line| format!("  {line}\n")).collect();
    format!("apiVersion: {group}/v1\nkind: {kind}\nmetadata:\n  name: it\nspec:\n{spec}")
}

#[test]
fn each_fault_is_told_at_its_line_and_nothing_else_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/check");
    let around = fs::read_to_string(folder.join("around.yaml")).unwrap();
    let text = fs::read_to_string(folder.join("faults.txt")).unwrap();
    let cases: Vec<Case<'_>> = text.split("\n=== ").skip(1).map(Case::read).collect();
    assert!(cases.len() >= 100, "{} cases", cases.len());

    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("around.yaml"), around).unwrap();
    assert_eq!(check(vec![root.path().to_owned()], Extent::Part).unwrap().problems, [], "nothing is wrong around");
    let file = root.path().join("it.yaml");
    let mut wrong = Vec::new();
    for case in cases {
        fs::write(&file, &case.document).unwrap();
        let problems = check(vec![root.path().to_owned()], Extent::Part).unwrap().problems;
        let told: Vec<String> = problems
            .iter()
            .map(|it| {
                let place = it.place.as_ref().filter(|place| Path::new(&*place.file) == file);
                format!("{} {} {} {}", place.map_or(0, |place| place.line), it.severity, it.code, it.field)
            })
            .collect();
        if told != [case.told.as_str()] || !problems[0].message.contains(case.part) {
            let messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
            wrong.push(format!("{}\n{}\n", case.head, messages.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
