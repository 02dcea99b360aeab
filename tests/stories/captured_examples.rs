//! The examples of a whole mesh with captured traffic: `sluice demo --captured`, whose applications call each other by name.

use std::{process::Stdio, time::Duration};

use harness::{
    binary::{repository, sluice},
    demo::Demo,
    eventually::within,
    shell::{running_with, shell},
};
use tokio::process::Command;

use super::examples::{copy, replace};

async fn start(story: &str, example: &str) -> Option<Demo> {
    Demo::start_captured(story, &repository().join("examples").join(example)).await
}

/// Exit code and output of every printed command.
async fn answers(demo: &Demo) -> Vec<(i32, String)> {
    let mut answers = Vec::new();
    for command in demo.commands() {
        let (code, printed) = shell(&command).await;
        answers.push((code, format!("$ {command}\n{printed}")));
    }
    answers
}

#[tokio::test]
async fn pets_call_each_other_by_name_and_nothing_of_it_is_left() {
    let Some(mut demo) = start("pets_call_each_other_by_name", "pets").await else { return };

    let answers = answers(&demo).await;
    let all: String = answers.iter().map(|(code, printed)| format!("[{code}] {printed}\n")).collect();
    assert_eq!(
        answers.iter().filter(|(code, _)| *code != 0).count(),
        1,
        "plain text from outside alone is refused:\n{all}"
    );
    let (_, refused) = answers.iter().find(|(code, _)| *code != 0).expect("one");
    assert!(refused.contains("reset"), "{all}");
    // No Host, no port of a sidecar: only the name of the service, which stands for an address that nobody has.
    let (_, called) =
        answers.iter().find(|(_, it)| it.contains("curl -sS http://order-service:3000/")).expect("a call");
    assert!(called.contains("\"peer\": \"spiffe://cluster.local/ns/pets/sa/store-front\""), "{called}");
    let (_, bytes) = answers.iter().find(|(_, it)| it.contains("telnet://rabbitmq:5672")).expect("a call of bytes");
    assert!(
        bytes.contains("220 rabbitmq v1 (rabbitmq-0) is ready") && bytes.contains("250 rabbitmq-0: hello"),
        "{bytes}"
    );

    let namespace =
        demo.command("curl -sS http://order-service").split_whitespace().nth(2).expect("a number").to_owned();
    demo.process.sigterm();
    assert!(demo.process.wait_exit(Duration::from_secs(30)).await.success());
    let state = demo.state.path().display().to_string();
    let gone = async || running_with(&state) == 0 && !std::path::Path::new("/proc").join(&namespace).exists();
    within(Duration::from_secs(5), "its processes and namespaces are gone", gone).await;
}

#[tokio::test]
async fn a_demo_that_is_killed_leaves_no_interface_behind() {
    let Some(mut demo) = start("a_demo_that_is_killed_leaves_no_interface", "dgraph").await else { return };
    let answers = answers(&demo).await;
    let all: String = answers.iter().map(|(code, printed)| format!("[{code}] {printed}\n")).collect();
    assert!(all.contains("\"service\": \"dgraph-alpha\""), "{all}");
    // Of the addresses that pods have here.
    let plain = demo.command("curl -sS http://10.");
    let block =
        plain.split("http://10.").nth(1).and_then(|rest| rest.split('.').next()).expect("an address").to_owned();
    let (code, told) = shell(&plain).await;
    assert!(code != 0 && told.contains("reset"), "{told}");
    assert_eq!(shell(&format!("ip link show sluice{block}")).await.0, 0);

    demo.process.signal("KILL");
    demo.process.wait_exit(Duration::from_secs(10)).await;

    let gone = async || shell(&format!("ip link show sluice{block}")).await.0 != 0;
    within(Duration::from_secs(10), "the kernel took everything away", gone).await;
}

#[tokio::test]
async fn strictness_changes_under_captured_traffic() {
    let folder = copy("pets");
    let Some(demo) = Demo::start_captured("strictness_changes_under_captured_traffic", folder.path()).await else {
        return;
    };
    let plain = demo.command("curl -sS http://10.");
    assert_ne!(shell(&plain).await.0, 0);

    replace(folder.path(), "peer-authentication.yaml", "mode: STRICT", "mode: PERMISSIVE");

    let answered = async || shell(&plain).await.0 == 0;
    within(Duration::from_secs(5), "plain text comes in", answered).await;
    let (_, called) = shell(&demo.command("curl -sS http://order-service")).await;
    assert!(called.contains("sa/store-front"), "who can goes on with mutual TLS: {called}");
}

#[tokio::test]
async fn who_may_not_make_namespaces_is_told_so_and_gets_the_ordinary_demo() {
    let readable = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(sluice())
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    if !readable.is_ok_and(|status| status.success()) {
        eprintln!(
            "SKIPPED story who_may_not_make_namespaces: this user cannot become another, or that one may not run sluice"
        );
        return;
    }
    let _alone = harness::process::alone("demo");
    let folder = copy("pets");
    harness::netns::readable(folder.path());
    let mut demo = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--pdeathsig", "KILL"])
        .arg(sluice())
        .args(["demo", "--captured"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a demo");
    let mut out = tokio::io::BufReader::new(demo.stdout.take().expect("its output"));
    let mut said = String::new();
    let until = async {
        while !said.contains("Ctrl-C ends the demo") {
            let read = tokio::io::AsyncBufReadExt::read_line(&mut out, &mut said).await.expect("text");
            assert_ne!(read, 0, "it ended: {said}");
        }
    };
    tokio::time::timeout(Duration::from_secs(60), until).await.expect("a demo starts");

    assert!(said.contains("traffic is NOT captured: network namespaces want root"), "{said}");
    let command = said.lines().find(|line| line.contains("Host: order-service:3000")).expect("the ordinary command");
    let (code, called) = shell(command.trim()).await;
    assert!(code == 0 && called.contains("sa/store-front"), "{called}");
}
