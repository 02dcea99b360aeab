//! The page of `sluice control` in a real browser: who holds certificates, and who got none.

use std::time::Duration;

use harness::{
    control_plane::{Folder, ask, broken_csr, key_and_csr},
    loopback::Loopback,
    program::{executable, run_within, script},
};
use serde_json::{Value, json};
use tls::request::KeyKind;

#[tokio::test]
async fn a_control_plane_shows_whom_it_has_issued_certificates_to_and_whom_not() {
    let story = "the page of a control plane in a browser";
    let Some(node) = executable(story, "node") else { return };
    let Some(chromium) = executable(story, "chromium") else { return };
    let Some(python) = executable(story, "python") else { return };
    let (here, folder) = (Loopback::claim(), Folder::new());
    let control = folder.start(&here, 1, &[]).await;
    let csr = || key_and_csr(KeyKind::EcdsaP256).1;
    let mut stranger = folder.request(&control, "shop/cart", &csr());
    stranger["token"] = "nobody.knows.this".into();
    let asked = [
        folder.request(&control, "shop/cart", &csr()),
        folder.request(&control, "shop/cart", &csr()),
        folder.request(&control, "pay/till", &csr()),
        folder.request(&control, "pay/till", &broken_csr()),
        stranger,
    ];
    let answers = ask(&python, &asked).await;
    assert_eq!(answers.iter().filter(|answer| answer.code == "OK").count(), 3, "{answers:?}");

    let pictures = tempfile::TempDir::new().expect("a folder");
    let axe = executable(story, "axe").map(|axe| axe.display().to_string()).unwrap_or_default();
    let page = format!("http://{}/", here.at(1, 15000));
    let arguments =
        [script("page_control.mjs"), chromium.display().to_string(), page, pictures.path().display().to_string(), axe];
    let output = run_within(Duration::from_secs(130), &node, &arguments, b"").await;
    super::long::keep_pictures(pictures.path());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {output:?}"));
    assert_eq!((&report["failed"], &report["errors"]), (&Value::Null, &json!([])), "{report:#}");
    assert_eq!(report["sections"], json!(["control", "proxies"]), "it serves no requests");
    assert_eq!(report["links"], json!(["#control", "#proxies"]));
    let text = report["control"].as_str().unwrap_or_default();
    for told in
        ["CA of the mesh (self-signed)", "shop/cart", "pay/till", "cart-1", "not known", "no rotation is under way"]
    {
        assert!(text.contains(told), "{told}: {text}");
    }
    assert_eq!(report["sideways"], 0, "nothing is scrolled sideways");
    if !arguments[4].is_empty() {
        assert_eq!(report["axe"], json!([]), "what axe-core finds");
    }
    control.stop().await;
}
