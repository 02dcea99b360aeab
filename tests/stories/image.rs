//! What `make image` builds.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

/// Runs it with an engine that only writes down what it is told; gives that.
fn told(name: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (engine, log) = (folder.path().join("docker"), folder.path().join("log"));
    fs::write(&engine, format!("#!/bin/sh\necho \"$@\" >> {}\n", log.display())).expect("a file can be written");
    fs::set_permissions(&engine, fs::Permissions::from_mode(0o755)).expect("a file can be made executable");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in the workspace");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap_or_default());
    let run = Command::new(root.join(".ci/image"))
        .arg("build")
        .args(name)
        .env("PATH", path)
        .env("CARGO_TARGET_DIR", folder.path().join("target"))
        .output()
        .expect("it can be run");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    fs::read_to_string(log).expect("the engine was asked")
}

#[test]
fn both_images_that_the_injector_names_are_built() {
    let text = told(&["127.0.0.1:5000/team/sluice:7"]);
    let builds: Vec<&str> = text.lines().filter(|line| line.starts_with("build ")).collect();
    assert_eq!(builds.len(), 2, "{text}");
    assert!(builds[0].starts_with("build --tag 127.0.0.1:5000/team/sluice:7 "), "{text}");
    let second = "build --build-arg IMAGE=127.0.0.1:5000/team/sluice:7 --tag 127.0.0.1:5000/team/sluice-init:7 ";
    assert!(builds[1].starts_with(second), "{text}");
    // Without a name it is that of the chart's defaults.
    let text = told(&[]);
    let version = env!("CARGO_PKG_VERSION");
    assert!(text.contains(&format!("--tag sluice:{version} ")), "{text}");
    assert!(text.contains(&format!("--tag sluice-init:{version} ")), "{text}");
}
