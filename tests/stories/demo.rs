//! `sluice demo examples/cloud-cargo`: what a newcomer sees first.

use std::time::Duration;

use harness::{
    binary::repository,
    demo::Demo,
    eventually::within,
    raw::probe,
    shell::{running_with, shell},
};

async fn start() -> Demo {
    Demo::start(&repository().join("examples/cloud-cargo")).await
}

#[tokio::test]
async fn every_printed_command_works_as_printed() {
    let demo = start().await;
    assert!(demo.facts["host"].is_string() && demo.facts["admin"].is_string(), "{}", demo.facts);
    assert!(demo.facts["https_port"].is_u64() && demo.facts["http_port"].is_u64(), "{}", demo.facts);
    assert!(demo.state.path().join("ca.pem").is_file());

    let mut answers = Vec::new();
    for command in demo.commands() {
        let (code, printed) = shell(&command).await;
        answers.push((code, format!("$ {command}\n{printed}")));
    }

    let all: String = answers.iter().map(|(code, printed)| format!("[{code}] {printed}\n")).collect();
    for service in ["freight-rating-server", "freight-tariff-server", "cargo-webapp"] {
        let answered = answers.iter().any(|(code, printed)| *code == 0 && printed.contains(&format!("\"{service}\"")));
        assert!(answered, "{service} does not answer:\n{all}");
    }
    let (host, https) = (demo.facts["host"].as_str().unwrap_or_default(), &demo.facts["https_port"]);
    let location = format!("location: https://{host}:{https}/");
    assert!(all.contains(&location), "httpsRedirect leads where TLS is spoken:\n{all}");
    assert!(all.contains("spiffe://cluster.local/ns/"), "the peer's identity is shown:\n{all}");
    let refused = answers.iter().filter(|(code, _)| *code != 0).count();
    assert_eq!(refused, 1, "exactly one command shows a refusal, plain text to a STRICT sidecar:\n{all}");
}

#[tokio::test]
async fn plain_text_to_a_strict_sidecar_is_refused() {
    let demo = start().await;
    let commands = demo.commands();
    let plain = commands.iter().filter_map(|command| command.split("http://127.").nth(1));
    let refused = plain.filter_map(|rest| format!("127.{}", rest.split(['/', ' ', '\'', '"']).next()?).parse().ok());

    let mut seen = 0;
    for address in refused {
        let heard = probe(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        seen += usize::from(heard.closed && heard.text.is_empty());
    }

    assert!(seen >= 1, "one command goes to a STRICT port in plain text: {commands:?}");
}

#[tokio::test]
async fn sigterm_ends_every_process_and_keeps_the_state() {
    let mut demo = start().await;
    let state = demo.state.path().display().to_string();
    assert!(running_with(&state) >= 5, "the demo, a gateway and three sidecars");

    demo.process.sigterm();
    let status = demo.process.wait_exit(Duration::from_secs(30)).await;

    assert!(status.success(), "{status}");
    within(Duration::from_secs(5), "every child is gone", async || running_with(&state) == 0).await;
    assert!(demo.state.path().join("logs").read_dir().expect("logs are kept").next().is_some());
}

#[tokio::test]
async fn ctrl_c_is_as_clean() {
    let mut demo = start().await;

    demo.process.signal("INT");

    assert!(demo.process.wait_exit(Duration::from_secs(30)).await.success());
}
