//! Configuration out of files: broken documents, mounted volumes, deletions.

use std::time::Duration;

use harness::{
    eventually::{eventually, within},
    mesh::{HOST, Mesh, SHOP},
    yaml::{edge_gateway, virtual_service},
};

/// A route that answers by itself.
fn says(word: &str) -> String {
    virtual_service("routes", HOST, &format!("- directResponse: {{status: 200, body: {{string: \"{word}\"}}}}"))
}

async fn hears(mesh: &Mesh, word: &str) -> bool {
    mesh.browser().send(harness::client::get(SHOP)).await.is_ok_and(|reply| reply.text() == word)
}

const A_SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_change_is_live_within_a_second() {
    let mesh = Mesh::with_edge();
    mesh.write("routes.yaml", &says("one"));
    let _gateway = mesh.gateway().await;
    assert!(hears(&mesh, "one").await);

    mesh.write("routes.yaml", &says("two"));

    within(A_SECOND, "the new answer", async || hears(&mesh, "two").await).await;
}

#[tokio::test]
async fn the_last_good_version_of_a_broken_document_keeps_serving() {
    let mesh = Mesh::with_edge();
    mesh.write("routes.yaml", &says("good"));
    let gateway = mesh.gateway().await;

    mesh.write("routes.yaml", &says("good").replace("status: 200", "status: plenty"));
    gateway.logs("routes.yaml:10").await;

    assert!(hears(&mesh, "good").await);
    assert!(gateway.log().contains("directResponse.status"), "{}", gateway.log());
    mesh.write("routes.yaml", &says("mended"));
    eventually("the mended document is live", async || hears(&mesh, "mended").await).await;
}

#[tokio::test]
async fn a_broken_document_hides_no_other_in_its_file() {
    let mesh = Mesh::with_edge();
    let broken = virtual_service("other", "other.example.com", "- directResponse: {status: [}");
    mesh.write("routes.yaml", &(broken + &says("still here")));

    let gateway = mesh.gateway().await;

    assert!(hears(&mesh, "still here").await);
    assert!(gateway.log().contains("routes.yaml"), "{}", gateway.log());
}

#[tokio::test]
async fn the_symlink_swap_of_a_mounted_config_map_is_seen() {
    let mesh = Mesh::with_edge();
    mesh.config.publish("mounted", &[("routes.yaml", &says("first mount"))]);
    let _gateway = mesh.gateway().await;
    assert!(hears(&mesh, "first mount").await);

    mesh.config.publish("mounted", &[("routes.yaml", &says("second mount"))]);
    within(A_SECOND, "the second mount", async || hears(&mesh, "second mount").await).await;

    mesh.config.publish("mounted", &[("routes.yaml", &says("third mount"))]);
    within(A_SECOND, "the third mount", async || hears(&mesh, "third mount").await).await;
}

#[tokio::test]
async fn a_deleted_file_takes_its_routes_with_it() {
    let mesh = Mesh::with_edge();
    mesh.write("routes.yaml", &says("here"));
    let _gateway = mesh.gateway().await;
    assert!(hears(&mesh, "here").await);

    mesh.config.remove("routes.yaml");

    within(A_SECOND, "404", async || mesh.browser().status(SHOP).await == 404).await;
}

#[tokio::test]
async fn a_folder_that_appears_later_is_read_too() {
    let mesh = Mesh::with_edge();
    let _gateway = mesh.gateway().await;
    assert_eq!(mesh.browser().status(SHOP).await, 404);

    mesh.write("team-a/deep/routes.yaml", &says("deep"));
    eventually("the new folder is read", async || hears(&mesh, "deep").await).await;

    mesh.write("team-a/deep/routes.yaml", &says("deeper"));
    within(A_SECOND, "the new folder is watched", async || hears(&mesh, "deeper").await).await;
}

#[tokio::test]
async fn a_file_written_in_place_is_seen() {
    let mesh = Mesh::with_edge();
    mesh.write("routes.yaml", &says("before"));
    let _gateway = mesh.gateway().await;

    mesh.config.overwrite("routes.yaml", &says("after"));

    within(A_SECOND, "the new text", async || hears(&mesh, "after").await).await;
}

#[tokio::test]
async fn a_gateway_that_was_told_no_labels_has_those_that_the_folder_selects() {
    let mesh = Mesh::with_edge();
    let edge = |selector: &str| {
        let gateway = edge_gateway("edge-cert", &["*.example.com"]);
        let own = gateway.replace(r#"{"istio":"ingressgateway"}"#, selector);
        assert_ne!(own, gateway, "the selector is there to be replaced");
        own
    };
    mesh.write("edge.yaml", &edge(r#"{"app":"shop-edge","tier":"public"}"#));
    mesh.write("egress.yaml", &edge(r#"{"istio":"egressgateway"}"#).replace("edge\"", "egress\""));
    mesh.write("routes.yaml", &says("served"));

    let gateway = mesh.gateway().await;

    assert!(hears(&mesh, "served").await);
    gateway.logs("--labels istio=egressgateway").await;
    mesh.write("edge.yaml", &edge(r#"{"app":"renamed"}"#));
    mesh.write("routes.yaml", &says("served still"));
    eventually("the labels follow the folder", async || hears(&mesh, "served still").await).await;
}
