//! Many workloads at once that ask the mesh's CA.

use std::{collections::HashSet, time::Instant};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use harness::{
    control_plane::{Answer, Folder, ask, key_and_csr, openssl_accepts},
    loopback::Loopback,
    program,
};
use serde_json::Value;
use tls::{facts::facts, identity::PeerIdentity, request::KeyKind};

/// The one identity in a certificate.
fn named(pem: &str) -> Option<String> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = BASE64_STANDARD.decode(body).expect("PEM is Base64");
    PeerIdentity::from_der(&der).expect("it is a certificate").spiffe.as_deref().map(str::to_owned)
}

/// How many workloads there are.
const MANY: usize = 1000;

#[tokio::test]
async fn a_thousand_identities_are_issued_and_renewed() {
    let Some(python) = program::executable("that a thousand identities are issued", "python") else { return };
    let (loopback, folder) = (Loopback::claim(), Folder::new());
    let control = folder.start(&loopback, 1, &[]).await;
    // Keys are the workloads' own affair: some serve all of them.
    let requests: Vec<String> = (0..20).map(|_| key_and_csr(KeyKind::EcdsaP256).1).collect();
    let account = |number: usize| format!("shop/workload-{number}");
    let asked: Vec<Value> = (0..MANY)
        .map(|number| folder.request(&control, &account(number), &requests[number % requests.len()]))
        .collect();
    let mut rounds: Vec<Vec<Answer>> = Vec::new();
    for round in ["issued", "renewed"] {
        let begin = Instant::now();
        rounds.push(ask(&python, &asked).await);
        eprintln!("{MANY} certificates {round} in {:?}", begin.elapsed());
    }
    let mut serials = HashSet::new();
    for answers in &rounds {
        assert_eq!(answers.len(), MANY);
        for (number, answer) in answers.iter().enumerate() {
            let facts = facts(answer.leaf().as_bytes()).unwrap();
            assert!(serials.insert(facts.serial), "a serial twice");
            let name = format!("spiffe://cluster.local/ns/shop/sa/workload-{number}");
            assert_eq!(named(answer.leaf()), Some(name));
            if number % 50 == 0 {
                openssl_accepts(&answer.chain, &folder.roots(), None).await.unwrap();
            }
        }
    }
    let issued = control.metrics().await.sum("citadel_server_success_cert_issuance_count", &[]);
    assert!((issued - 2000.0).abs() < 0.1, "{issued}");
    control.stop().await;
}
