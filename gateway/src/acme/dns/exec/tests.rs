use std::{os::unix::fs::PermissionsExt, process::Command as Shell};

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::*;

/// A folder of hooks with one in it, written by another process: while a thread of ours had the file open for writing, a
/// child that another test starts at that moment would keep it busy.
fn hooks(name: &str, script: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let command = format!("printf '%s' \"$1\" > '{0}' && chmod 755 '{0}'", path.display());
    assert!(Shell::new("sh").args(["-c", &command, "sh", script]).status().unwrap().success());
    folder
}

fn record() -> TxtRecord {
    TxtRecord {
        name: "_acme-challenge.example.com".to_owned(),
        value: "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0".to_owned(),
    }
}

fn program(command: &str, timeout: Duration) -> Exec {
    Exec { command: command.to_owned(), timeout }
}

async fn present(command: &str, folder: &TempDir) -> Result<(), String> {
    run(&program(command, Duration::from_secs(20)), &record(), Change::Publish, Some(folder.path())).await
}

async fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 10 s");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_hook_gets_the_arguments_that_lego_gives_its_programs() {
    let folder = hooks("dns.sh", "#!/bin/sh\necho \"$#|$1|$2|$3|$PWD\" >> called\n");

    present("dns.sh", &folder).await.unwrap();
    let hook = program("dns.sh", Duration::from_secs(20));
    run(&hook, &record(), Change::Withdraw, Some(folder.path())).await.unwrap();

    let called = std::fs::read_to_string(folder.path().join("called")).unwrap();
    let (value, place) = (record().value, std::fs::canonicalize(folder.path()).unwrap());
    let line = |action| format!("3|{action}|_acme-challenge.example.com.|{value}|{}\n", place.display());
    assert_eq!(called, line("present") + &line("cleanup"));
}

#[tokio::test]
async fn a_hook_sees_neither_our_input_nor_our_environment() {
    let folder = hooks("dns.sh", "#!/bin/sh\ncat > input\nenv > environment\n");

    present("dns.sh", &folder).await.unwrap();

    assert_eq!(std::fs::read(folder.path().join("input")).unwrap(), b"");
    let seen = std::fs::read_to_string(folder.path().join("environment")).unwrap();
    let named = seen.lines().filter_map(|line| line.split('=').next());
    // The last ones are the shell's own.
    let known = ["PATH", "HOME", "LANG", "PWD", "OLDPWD", "SHLVL", "_"];
    assert_eq!(named.filter(|name| !known.contains(name)).collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(env::vars().any(|(name, _)| name.starts_with("CARGO")), "there is something to hide");
}

#[tokio::test]
async fn a_hook_that_fails_is_quoted_with_what_it_wrote_last() {
    let folder = hooks(
        "dns.sh",
        "#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' 'x' >&2\nprintf '\\033[31mno such zone\\n' >&2\nexit 3\n",
    );

    let error = present("dns.sh", &folder).await.unwrap_err();

    assert!(error.contains("dns.sh present _acme-challenge.example.com failed (exit status: 3): xxx"), "{error}");
    assert!(error.ends_with("xxx\\u{1b}[31mno such zone"), "{error}");
    assert!(error.matches('x').count() < SHOWN + 10, "{error}");
}

#[tokio::test]
async fn what_a_failed_hook_wrote_to_stdout_is_shown_when_stderr_is_empty() {
    let folder = hooks("dns.sh", "#!/bin/sh\necho quota\nexit 1\n");
    assert!(present("dns.sh", &folder).await.unwrap_err().ends_with("failed (exit status: 1): quota"));

    let folder = hooks("dns.sh", "#!/bin/sh\nkill -9 $$\n");
    let error = present("dns.sh", &folder).await.unwrap_err();
    assert!(error.ends_with("failed (signal: 9 (SIGKILL)): it wrote nothing about it"), "{error}");
}

#[tokio::test]
async fn a_hook_that_takes_too_long_is_ended_with_what_it_started() {
    let folder =
        hooks("dns.sh", "#!/bin/sh\nsleep 600 &\necho \"$$ $!\" > started.new\nmv started.new started\nwait\n");
    let started = || std::fs::read_to_string(folder.path().join("started"));

    let slow = program("dns.sh", Duration::from_secs(1));
    let error = run(&slow, &record(), Change::Publish, Some(folder.path())).await.unwrap_err();

    assert!(error.ends_with("was ended after 1 s: it takes too long"), "{error}");
    let group = started().unwrap();
    eventually(|| group.split_whitespace().all(has_ended)).await;
}

#[tokio::test]
async fn a_hook_is_ended_when_nobody_waits_for_it_any_more() {
    let folder =
        hooks("dns.sh", "#!/bin/sh\nsleep 600 &\necho \"$$ $!\" > started.new\nmv started.new started\nwait\n");
    let started = folder.path().join("started");
    let hook = program("dns.sh", Duration::from_secs(60));
    let record = record();

    tokio::select! {
        ended = run(&hook, &record, Change::Publish, Some(folder.path())) => panic!("{ended:?}"),
        () = eventually(|| started.exists()) => {}
    }

    let group = std::fs::read_to_string(&started).unwrap();
    eventually(|| group.split_whitespace().all(has_ended)).await;
}

/// True for a zombie too: nobody in a container may be there to wait for an orphan.
fn has_ended(process: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.trim_start().starts_with('Z'))
}

#[tokio::test]
async fn what_a_hook_leaves_behind_is_not_waited_for() {
    let folder = hooks("dns.sh", "#!/bin/sh\nsleep 5 &\nexit 0\n");
    let start = Instant::now();
    present("dns.sh", &folder).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_hook_that_cannot_be_run_says_why() {
    let folder = hooks("plain", "#!/bin/sh\n");
    std::fs::set_permissions(folder.path().join("plain"), std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    let reason = async |command| present(command, &folder).await.unwrap_err();

    assert!(reason("missing").await.ends_with("missing cannot be run: No such file or directory (os error 2)"));
    assert!(reason("folder").await.ends_with("folder is not a file"));
    let error = reason("plain").await;
    assert!(error.contains("cannot be started: Permission denied"), "{error}");
    assert!(error.ends_with("it has to be executable and to name its interpreter (#!)"), "{error}");
}

#[tokio::test]
async fn a_hook_is_never_a_path() {
    let folder = hooks("dns.sh", "#!/bin/sh\n");
    for command in ["", ".", "..", "../dns.sh", "/bin/true", "./dns.sh", "dns.sh/", "dns\0.sh"] {
        let error = present(command, &folder).await.unwrap_err();
        assert!(error.ends_with("has to be the name of a file in the folder of --acme-hooks, no path"), "{error}");
    }
}

#[tokio::test]
async fn a_link_that_lies_in_the_folder_is_followed() {
    let folder = hooks("dns-v2.sh", "#!/bin/sh\ntouch called\n");
    std::os::unix::fs::symlink("dns-v2.sh", folder.path().join("dns.sh")).unwrap();

    present("dns.sh", &folder).await.unwrap();

    assert!(folder.path().join("called").exists());
}

#[tokio::test]
async fn without_a_folder_the_flag_is_named() {
    let hook = program("dns.sh", Duration::from_secs(1));
    let error = run(&hook, &record(), Change::Publish, None).await.unwrap_err();
    assert!(error.contains("start the gateway with --acme-hooks FOLDER"), "{error}");

    let nowhere = tempfile::tempdir().unwrap().path().join("nowhere");
    let error = run(&hook, &record(), Change::Publish, Some(&nowhere)).await.unwrap_err();
    assert!(error.starts_with("the folder of --acme-hooks, ") && error.contains("No such file"), "{error}");
}
