//! A thousand identities, issued and renewed while requests go on by identities of the same CA, through a change of its root.

use std::time::{Duration, Instant};

use harness::{
    ca_mesh::CaMesh,
    control_plane::{Folder, key_and_csr, openssl_accepts},
    crowd::{Crowd, Told},
    eventually::within,
    load::Load,
    mesh::SHOP,
    program,
};
use serde_json::{Value, json};
use tls::request::KeyKind;

const MANY: u64 = 1000;
/// Seconds that certificates last: a rotation takes twice as long, and the time of propagation.
const LIFE: u32 = 8;

/// Everybody has got one, and some of them accept one another as `openssl` judges.
async fn sound(told: &Told, roots: &str) {
    eprintln!("{}, {} of {} by certificate", told.figures, told.by_certificate, told.issued);
    assert_eq!((told.issued, told.failed.as_slice()), (MANY, [].as_slice()));
    assert!(told.held.len() >= 5);
    for ((one, at), (other, _)) in told.held.iter().zip(told.held.iter().rev()) {
        for trusted in [other.roots(), roots] {
            openssl_accepts(&one.chain, trusted, Some(*at)).await.expect("openssl accepts it");
        }
    }
}

fn phase(folder: &Folder) -> String {
    let (code, text) = folder.ca(&["status", "--output", "json"]);
    assert_eq!(code, 0, "{text}");
    let status: Value = serde_json::from_str(&text).expect("the status is JSON");
    status["rotation"]["phase"].as_str().unwrap_or("none").to_owned()
}

#[tokio::test]
async fn a_thousand_identities_live_through_a_change_of_roots_under_traffic() {
    let story = "that a thousand identities are issued and renewed under traffic";
    let Some(python) = program::executable(story, "python") else { return };
    let scene = CaMesh::start(Folder::new(), "8s", &["--propagation", "3s"]).await;
    let (folder, control) = (scene.folder(), &scene.control);
    let keys: Vec<(String, String)> = (0..20).map(|_| key_and_csr(KeyKind::EcdsaP256)).collect();
    let workload = |number: usize| {
        let (key, csr) = &keys[number % keys.len()];
        let token = folder.token(&format!("shop/workload-{number}"), &Value::Null);
        json!({"token": token, "csr": csr, "key": key, "by": if number.is_multiple_of(5) { "certificate" } else { "token" }})
    };
    let workloads: Vec<Value> = (0..1000).map(workload).collect();

    let (before, begin) = (folder.roots(), Instant::now());
    let load = Load::start(&scene.mesh.browser(), 4, SHOP);
    let mut crowd = Crowd::start(&python, control.ca, &folder.path("state/root-cert.pem"), LIFE, &workloads).await;
    sound(&crowd.renew("issued").await, &before).await;
    let renewed = crowd.renew("renewed").await;
    sound(&renewed, &before).await;
    assert!(renewed.by_certificate > 0, "who holds a certificate needs no token");

    let (code, text) = folder.ca(&["rotate"]);
    assert_eq!(code, 0, "{text}");
    let mut seen = Vec::new();
    while seen.last().is_none_or(|phase: &String| phase != "none") {
        let last = seen.last().cloned().unwrap_or_else(|| "none".to_owned());
        within(Duration::from_secs(60), "the rotation goes on", async || phase(folder) != last).await;
        seen.push(phase(folder));
        sound(&crowd.renew(seen.last().unwrap()).await, &folder.roots()).await;
    }
    let signing = "both roots are handed out, the new one signs";
    assert_eq!((seen.len(), seen[1].as_str()), (3, signing), "{seen:?}");
    let after = folder.roots();
    assert!(after != before && after.matches("BEGIN").count() == 1);

    // The proxies have renewed by the new root alone.
    scene.renewed(1.0).await;
    let result = load.stop().await;
    eprintln!("{} requests in {:?}, p99 {:?}, {} failed", result.sent, begin.elapsed(), result.p99, result.failed);
    assert_eq!((result.failed, result.sent > 500), (0, true), "{result:?}");
    let issued = control.metrics().await.sum("citadel_server_success_cert_issuance_count", &[]);
    assert!(issued >= 5000.0 + 8.0, "{issued}");
    scene.control.stop().await;
}
