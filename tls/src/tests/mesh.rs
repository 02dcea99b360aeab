//! Mutual TLS between workloads: ISTIO_MUTUAL on both sides.

use super::*;
use crate::xfcc::{self, Include};

const SNI: &str = "outbound_.8080_._.rating.cargo.svc.cluster.local";

#[tokio::test]
async fn two_workloads_of_one_mesh_know_each_other() {
    let ca = authority();
    let (rating, webapp) = (workload(&ca, RATING), workload(&ca, WEBAPP));

    let (served, asked) = agree(&mesh_server(&rating, &["cluster.local"]), &mesh_client(&webapp, &[RATING]), SNI).await;

    assert_eq!(served.sni(), Some(SNI));
    assert_eq!(served.alpn(), Some(&b"h2"[..]));
    assert_eq!(served.peer.as_ref().and_then(|peer| peer.spiffe.as_deref()), Some(WEBAPP));
    assert_eq!(served.local.as_deref(), Some(RATING));
    assert_eq!(asked.peer_spiffe().as_deref(), Some(RATING));
    assert_eq!(served.version(), "TLSv1.3");
}

#[tokio::test]
async fn a_workload_that_is_revoked_is_refused_on_both_sides() {
    let ca = authority();
    let (rating, webapp) = (workload(&ca, RATING), workload(&ca, WEBAPP));
    let revoked = ca.issue_workload(WEBAPP, HOUR).expect("issues");
    let list = server::revocation_list(&ca, &revoked);
    let gone = identity(&ca, &revoked);
    let looks = rating.clone().with_revocation_lists(&list).expect("reads them");
    assert!(looks.looks_at_lists() && looks.generation != rating.generation);
    assert_ne!(looks.roots_digest, rating.roots_digest, "what is made of the roots is made anew");

    agree(&mesh_server(&looks, &[]), &mesh_client(&webapp, &[RATING]), SNI).await;
    agree(&mesh_server(&rating, &[]), &mesh_client(&gone, &[RATING]), SNI).await;
    let (why, _) = disagree(&mesh_server(&looks, &[]), &mesh_client(&gone, &[RATING]), SNI).await;
    assert!(format!("{why:?}").to_lowercase().contains("revoked"), "{why:?}");
    let (_, why) = disagree(&mesh_server(&gone, &[]), &mesh_client(&looks, &[WEBAPP]), SNI).await;
    assert!(format!("{why:?}").to_lowercase().contains("revoked"), "{why:?}");
    agree(&mesh_server(&webapp, &[]), &mesh_client(&looks, &[WEBAPP]), SNI).await;
    assert!(rating.with_revocation_lists(b"nonsense").is_err());
}

#[tokio::test]
async fn the_peer_identity_is_written_as_envoy_writes_it() {
    let ca = authority();
    let (rating, webapp) = (workload(&ca, RATING), workload(&ca, WEBAPP));
    let (served, _) = agree(&mesh_server(&rating, &[]), &mesh_client(&webapp, &[RATING]), SNI).await;
    let peer = served.peer.expect("has a certificate");

    let text = xfcc::element(&peer, served.local.as_deref(), Include::SIDECAR);

    assert_eq!(text, format!("By={RATING};Hash={};Subject=\"\";URI={WEBAPP}", peer.sha256_hex));
}

#[tokio::test]
async fn a_server_that_is_another_workload_is_refused() {
    let ca = authority();
    let (rating, webapp) = (workload(&ca, RATING), workload(&ca, WEBAPP));
    let tariff = "spiffe://cluster.local/ns/cargo/sa/tariff";

    let (served, asked) = disagree(&mesh_server(&rating, &[]), &mesh_client(&webapp, &[tariff]), SNI).await;

    let text = format!("the server's identity {RATING} is not one of the expected {tariff}");
    assert_eq!((asked.reason(), asked.to_string()), ("WrongIdentity", text));
    assert_eq!(served.reason(), "AlertCertificateUnknown");
}

/// What starts as a SPIFFE id and breaks a rule of the standard.
const NO_IDS: [&str; 14] = [
    "spiffe://cluster.local",
    "spiffe://cluster.local/",
    "spiffe://cluster.local//sa/rating",
    "spiffe://cluster.local/ns/cargo/sa/rating/",
    "spiffe://cluster.local/ns/cargo/sa/../sa/rating",
    "spiffe://cluster.local/ns/./cargo/sa/rating",
    "spiffe://cluster.local/ns/cargo/sa/rating?x=y",
    "spiffe://cluster.local/ns/cargo/sa/rating#x",
    "spiffe://cluster.local/ns/cargo/sa/r%61ting",
    "spiffe://cluster.local/ns/cargo/sa/rating,URI",
    "spiffe://cluster.local:443/ns/cargo/sa/rating",
    "spiffe://me@cluster.local/ns/cargo/sa/rating",
    "spiffe://Cluster.local/ns/cargo/sa/rating",
    "SPIFFE://cluster.local/ns/cargo/sa/rating",
];

#[tokio::test]
async fn what_breaks_a_rule_of_spiffe_is_no_identity() {
    let ca = authority();
    let (rating, webapp) = (workload(&ca, RATING), workload(&ca, WEBAPP));
    for text in NO_IDS {
        let stranger = workload(&ca, text);
        assert_eq!(stranger.spiffe, None, "{text}");
        for domains in [&["cluster.local"][..], &[]] {
            let (served, _) = disagree(&mesh_server(&rating, domains), &mesh_client(&stranger, &[RATING]), SNI).await;
            assert_eq!(served.reason(), "WrongIdentity", "{text}");
            assert!(served.to_string().contains("SPIFFE id"), "{served}");
        }
        // Not even when somebody expects exactly this text.
        let (_, asked) = disagree(&mesh_server(&stranger, &[]), &mesh_client(&webapp, &[text, RATING]), SNI).await;
        assert_eq!(asked.reason(), "WrongIdentity", "{text}");
    }
}

#[tokio::test]
async fn a_client_of_a_foreign_trust_domain_is_refused() {
    let ca = authority();
    let (rating, stranger) = (workload(&ca, RATING), workload(&ca, "spiffe://cluster.local.evil/ns/a/sa/b"));
    let asking = mesh_client(&stranger, &[RATING]);

    let (served, _) = disagree(&mesh_server(&rating, &["cluster.local", "old.local"]), &asking, SNI).await;
    let text = "the client's identity spiffe://cluster.local.evil/ns/a/sa/b is in none of the trust domains cluster.local, old.local";
    assert_eq!((served.reason(), served.to_string().as_str()), ("WrongIdentity", text));

    agree(&mesh_server(&rating, &[]), &asking, SNI).await;
    agree(&mesh_server(&rating, &["old.local", "cluster.local.evil"]), &asking, SNI).await;
}

#[tokio::test]
async fn a_mesh_server_may_ask_for_certain_clients() {
    let ca = authority();
    let rating = workload(&ca, RATING);
    let client = ClientAuth::Mesh { trust_domains: Vec::new(), sans: vec![WEBAPP.into()] };
    let serving = ServerTls::build(&ServerSpec { client, ..ServerSpec::default() }, Some(&rating)).expect("builds");

    agree(&serving, &mesh_client(&workload(&ca, WEBAPP), &[]), SNI).await;
    let (served, _) = disagree(&serving, &mesh_client(&rating, &[]), SNI).await;

    assert_eq!(served.reason(), "WrongIdentity");
}

#[tokio::test]
async fn a_client_certificate_with_two_uris_is_refused() {
    let ca = authority();
    let rating = workload(&ca, RATING);
    let two = identity(&ca, &ca.issue_client("x", &[WEBAPP, RATING]).expect("issues"));
    assert_eq!(two.spiffe, None);

    let (served, _) = disagree(&mesh_server(&rating, &[]), &mesh_client(&two, &[]), SNI).await;

    assert!(served.to_string().contains("must have exactly one URI SAN"), "{served}");
}

#[tokio::test]
async fn a_server_certificate_with_two_uris_is_refused_where_spiffe_ids_are_expected() {
    let ca = authority();
    let names = ["spiffe://td/a", "spiffe://td/b"];
    let issued = ca.issue_server(&names, HOUR).expect("issues");
    let serving = server(&ServerSpec { certificates: vec![certified(&issued)], ..ServerSpec::default() });

    let (_, asked) = disagree(&serving, &mesh_client(&workload(&ca, WEBAPP), &["spiffe://td/a"]), SNI).await;

    assert!(asked.to_string().contains("must have exactly one URI SAN"), "{asked}");
}

#[tokio::test]
async fn a_workload_of_a_foreign_ca_is_refused_by_both_sides() {
    let (ours, theirs) = (authority(), Authority::new("other mesh").expect("a CA"));
    let (rating, webapp) = (workload(&ours, RATING), workload(&theirs, WEBAPP));

    let (served, asked) = disagree(&mesh_server(&rating, &[]), &mesh_client(&webapp, &[RATING]), SNI).await;
    assert_eq!((served.reason(), asked.reason()), ("AlertUnknownCa", "UnknownCa"));

    let trusting = ClientTls::build(
        &ClientSpec { certificate: Certificate::Mesh, names: Names::Any, ..client_spec(&ours) },
        Some(&webapp),
    );
    let (served, asked) = disagree(&mesh_server(&rating, &[]), &trusting.expect("builds"), SNI).await;
    assert_eq!((served.reason(), asked.reason()), ("UnknownCa", "AlertUnknownCa"));
}

#[tokio::test]
async fn an_expired_workload_is_refused_and_its_identity_says_so() {
    let ca = authority();
    let expired = identity(&ca, &ca.at(long_ago()).issue_workload(WEBAPP, HOUR).expect("issues"));
    let rating = workload(&ca, RATING);
    assert!(expired.not_after < rating.not_after - 20 * 3600);

    let (served, _) = disagree(&mesh_server(&rating, &[]), &mesh_client(&expired, &[]), SNI).await;
    let (_, asked) = disagree(&mesh_server(&expired, &[]), &mesh_client(&rating, &[]), SNI).await;

    assert_eq!((served.reason(), asked.reason()), ("CertificateExpired", "CertificateExpired"));
}

#[tokio::test]
async fn a_client_without_certificate_is_refused_by_a_mesh_server() {
    let ca = authority();
    let asking = client(&ClientSpec { names: Names::Any, ..client_spec(&ca) });

    let (served, _) = disagree(&mesh_server(&workload(&ca, RATING), &[]), &asking, SNI).await;

    assert_eq!(served.reason(), "CertificateRequired");
}

#[tokio::test]
async fn a_rotated_identity_is_shown_at_once_and_resumes_nothing() {
    let ca = authority();
    let (old, new) = (workload(&ca, WEBAPP), workload(&ca, WEBAPP));
    assert_ne!(old.generation, new.generation);
    let serving = mesh_server(&workload(&ca, RATING), &["cluster.local"]);
    let hash = |stream: &Stream<DuplexStream>| stream.peer.as_ref().map(|peer| peer.sha256_hex.clone());

    let asking = mesh_client(&old, &[RATING]);
    let (first, _) = agree(&serving, &asking, SNI).await;
    let (second, _) = agree(&serving, &asking, SNI).await;
    let (rotated, _) = agree(&serving, &mesh_client(&new, &[RATING]), SNI).await;

    assert!(second.resumed() && !rotated.resumed());
    assert_eq!(hash(&first), hash(&second));
    assert_ne!(hash(&first), hash(&rotated));
}

#[tokio::test]
async fn what_says_mesh_needs_the_identity() {
    let spec = ServerSpec {
        client: ClientAuth::Mesh { trust_domains: Vec::new(), sans: Vec::new() },
        ..ServerSpec::default()
    };
    assert_eq!(ServerTls::build(&spec, None).expect_err("has none").reason(), "NoIdentity");
    let spec = ClientSpec { roots: Roots::Mesh, ..client_spec(&authority()) };
    assert_eq!(ClientTls::build(&spec, None).expect_err("has none").reason(), "NoIdentity");
}
