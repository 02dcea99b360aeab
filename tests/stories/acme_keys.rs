//! Keys of ordered certificates: of the kind that the issuer names, and a new one with each certificate.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use harness::{
    acme::{AcmeMesh, Served},
    ca_proxy::{Ari, Moment, Step},
    eventually::{SOON, eventually},
    mesh::{HOST, SHOP},
};

/// DER in a certificate's public key: the object identifier of RSA; the length of a modulus of 2048 bits; the object
/// identifiers of the curves P-256 and P-384.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
const BITS_2048: &[u8] = &[0x02, 0x82, 0x01, 0x01, 0x00];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

/// Whether these bytes stand in the first certificate that was shown.
fn holds(served: &Served, bytes: &[u8]) -> bool {
    let first = served.chain_pem.split("-----").nth(2).expect("a chain is PEM").replace('\n', "");
    let der = BASE64_STANDARD.decode(first).expect("PEM is base64");
    der.windows(bytes.len()).any(|window| window == bytes)
}

#[tokio::test]
async fn the_issuer_says_of_which_kind_keys_are_and_another_kind_means_another_certificate() {
    let Some(acme) = AcmeMesh::start("of kinds of keys", &[HOST]).await else { return };
    let _gateway = acme.gateway().await;
    let change = |kind: &str| {
        let mut issuer = acme.issuer();
        issuer["spec"]["keyType"] = kind.into();
        acme.write("issuer.yaml", &issuer);
    };

    let usual = acme.served_within(SOON, 1, HOST).await;
    change("RSA-2048");
    let rsa = acme.renewed_within(SOON, 1, &usual).await;
    change("ECDSA-P384");
    let long = acme.renewed_within(SOON, 1, &rsa).await;

    assert!(holds(&usual, P256));
    assert!(holds(&rsa, RSA) && holds(&rsa, BITS_2048));
    assert!(holds(&long, P384) && !holds(&long, P256));
    assert_eq!(acme.browser(1).status(SHOP).await, 200);
    assert_eq!(acme.pebble.issued(), [usual, rsa, long].map(|it| it.facts.serial));
}

#[tokio::test]
async fn a_leader_killed_when_the_certificate_is_stored_and_its_order_not_ended_leaves_nothing_to_order() {
    let Some(acme) = AcmeMesh::start("of a stored certificate", &[HOST]).await else { return };
    let retry_after = Duration::from_secs(7200);
    acme.ca.offer_ari(Some(Ari { start: 4_000_000_000, end: 4_000_086_400, explanation: None, retry_after }));
    // It asks when to renew as soon as the certificate is stored, before it writes down that the order has ended.
    let mut held = acme.ca.hold_next(Step::RenewalInfo, Moment::Before);
    let mut leader = acme.replica(1).await;
    held.reached().await;
    let first = acme.served_within(SOON, 1, HOST).await;
    leader.kill();
    leader.wait_exit(SOON).await;
    drop(held);

    let follower = acme.replica(2).await;

    eventually("the order is ended by another", async || acme.told(&follower).await["order"]["state"] == "issued")
        .await;
    let served = acme.served_within(SOON, 2, HOST).await;
    assert_eq!(served.facts.serial, first.facts.serial);
    assert_eq!(acme.pebble.issued(), [first.facts.serial]);
    assert_eq!((acme.ca.accepted(Step::NewOrder), acme.ca.accepted(Step::Finalize)), (1, 1));
    assert!(!follower.log().contains("a certificate is ordered"), "{}", follower.log());
}
