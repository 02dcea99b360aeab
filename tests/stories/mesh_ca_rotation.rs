//! A new root for a mesh that goes on: at every moment everybody accepts everybody.

use std::time::Duration;

use harness::{
    control_plane::{Answer, Folder, ask, key_and_csr, openssl_accepts},
    eventually::within,
    jwt::now,
    loopback::Loopback,
    program,
};
use serde_json::Value;
use tls::{facts::facts, request::KeyKind};

/// A workload: what it has got last, and the roots that came with it.
struct Workload {
    answer: Answer,
    end: u64,
}

fn status(folder: &Folder) -> Value {
    let (code, text) = folder.ca(&["status", "--output", "json"]);
    assert_eq!(code, 0, "{text}");
    serde_json::from_str(&text).expect("the status is JSON")
}

#[tokio::test]
async fn a_root_with_a_new_key_takes_over_and_nobody_is_refused() {
    let story = "that roots rotate while the CA serves";
    let Some(python) = program::executable(story, "python") else { return };
    let (loopback, folder) = (Loopback::claim(), Folder::new());
    let flags = ["--default-lifetime", "4s", "--propagation", "2s"];
    let control = folder.start(&loopback, 1, &flags).await;
    // Two that renew at different times.
    let mut workloads: Vec<Option<Workload>> = vec![None, None];
    let before = status(&folder);
    assert_eq!(before["rotation"], Value::Null);
    let (code, text) = folder.ca(&["rotate"]);
    assert_eq!(code, 0, "{text}");
    let mut phases: Vec<String> = Vec::new();
    let (mut turn, mut restarted) = (0, Some(control));
    within(Duration::from_secs(90), "the old root has left", async || {
        turn += 1;
        let control = restarted.as_ref().unwrap();
        let request = folder.request(control, "shop/cart", &key_and_csr(KeyKind::EcdsaP256).1);
        let answer = ask(&python, &[request]).await.remove(0);
        let end = u64::try_from(facts(answer.leaf().as_bytes()).unwrap().not_after).unwrap();
        workloads[turn % 2] = Some(Workload { answer, end });
        let at = now();
        let living: Vec<&Workload> = workloads.iter().flatten().filter(|workload| workload.end > at).collect();
        for one in &living {
            for other in &living {
                let accepted = openssl_accepts(&one.answer.chain, other.answer.roots(), Some(at)).await;
                accepted.unwrap_or_else(|why| panic!("after {phases:?} one is refused by the other: {why}"));
            }
        }
        let now = status(&folder);
        let phase = now["rotation"]["phase"].as_str().unwrap_or("none").to_owned();
        if phases.last() != Some(&phase) {
            phases.push(phase);
            if phases.len() == 2 {
                // What a rotation has come to outlasts the process.
                restarted.take().unwrap().stop().await;
                restarted = Some(folder.start(&loopback, 2, &flags).await);
            }
        }
        phases.last().is_some_and(|phase| phase == "none") && phases.len() > 1
    })
    .await;
    let signing = "both roots are handed out, the new one signs";
    assert!(phases.iter().any(|phase| phase == signing), "{phases:?}");
    let after = status(&folder);
    assert_ne!(after["serial"], before["serial"]);
    assert_eq!(after["roots"].as_array().map(Vec::len), Some(1));
    assert_eq!(after["roots"][0]["serial"], after["serial"]);
}

#[tokio::test]
async fn a_root_near_its_end_goes_on_with_its_key() {
    let Some(python) = program::executable("that a root is renewed with its key", "python") else { return };
    let (loopback, folder) = (Loopback::claim(), Folder::new());
    // It begins two minutes before it is made, so that a fifth of its life are 36 s.
    let flags = ["--root-lifetime", "60s", "--default-lifetime", "2s", "--propagation", "2s"];
    let control = folder.start(&loopback, 1, &flags).await;
    let before = folder.roots();
    within(Duration::from_secs(60), "the root is renewed", async || folder.roots() != before).await;
    control.logs("was renewed with its key").await;
    let after = folder.roots();
    let end = |pem: &str| facts(pem.as_bytes()).unwrap().not_after;
    assert!(end(&after) > end(&before));
    // Whoever has not heard of it accepts what is signed by it.
    let request = folder.request(&control, "shop/cart", &key_and_csr(KeyKind::EcdsaP256).1);
    let answer = ask(&python, &[request]).await.remove(0);
    openssl_accepts(&answer.chain, &before, None).await.unwrap_or_else(|why| panic!("it is the same CA: {why}"));
}
