use std::time::Duration;

use tls::authority::Authority;

use super::*;

const DAY: u64 = 24 * 3600;

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn indented(pem: &str) -> String {
    pem.lines().map(|line| format!("    {line}\n")).collect()
}

fn secret(pairs: &[(&str, &str)]) -> String {
    let mut text =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: cert, namespace: istio-system}\nstringData:\n".to_owned();
    for (key, pem) in pairs {
        text.push_str(&format!("  {key}: |\n{}", indented(pem)));
    }
    text
}

fn found(yaml: &str, now: i64) -> Vec<String> {
    let (resources, problems) = Resources::read([("a.yaml", yaml)]);
    assert!(problems.is_empty(), "{problems:?}");
    Audit::default().run(&resources, now).iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_certificate_is_silent_until_its_end_comes_near() {
    let authority = Authority::new("edge").unwrap();
    let issued = authority.issue_server(&["a.example.com"], Duration::from_secs(30 * DAY)).unwrap();
    let yaml = secret(&[("tls.crt", &issued.chain_pem), ("tls.key", &issued.key_pem)]);
    let days = |days: i64| now() + 3600 + days * i64::try_from(DAY).unwrap();

    assert_eq!(found(&yaml, days(0)), [""; 0]);
    assert_eq!(
        found(&yaml, days(20)),
        [
            "a.yaml:5:3: warning: Secret istio-system/cert stringData[\"tls.crt\"]: the certificate ends in 9 days; renew it \
          [expiring-certificate]"
        ]
    );
    assert_eq!(
        found(&yaml, days(33)),
        [
            "a.yaml:5:3: error: Secret istio-system/cert stringData[\"tls.crt\"]: the certificate ended 3 days ago; clients \
          refuse it, renew it [expired-certificate]"
        ]
    );
}

#[test]
fn a_key_of_another_certificate_is_found() {
    let authority = Authority::new("edge").unwrap();
    let [one, other] = ["a.example.com", "b.example.com"]
        .map(|it| authority.issue_server(&[it], Duration::from_secs(30 * DAY)).unwrap());
    let found = found(&secret(&[("cert", &one.chain_pem), ("key", &other.key_pem)]), now());
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains("error: Secret istio-system/cert stringData.key: the private key does not belong"),
        "{found:?}"
    );
}

#[test]
fn text_that_is_no_certificate_is_found() {
    let found = found(&secret(&[("tls.crt", "hello"), ("tls.key", "world"), ("ca.crt", "nothing")]), now());
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("stringData[\"tls.crt\"]"), "{found:?}");
    assert!(found[1].contains("stringData[\"ca.crt\"]"), "{found:?}");
}

#[test]
fn a_part_of_a_ca_bundle_that_is_no_ca_is_told() {
    let authority = Authority::new("edge").unwrap();
    let leaf = authority.issue_server(&["a.example.com"], Duration::from_secs(30 * DAY)).unwrap();
    let bundle = format!("{}{}", authority.root_pem(), leaf.chain_pem);

    let found = found(&secret(&[("ca.crt", &bundle)]), now());

    assert_eq!(
        found,
        [
            "a.yaml:5:3: warning: Secret istio-system/cert stringData[\"ca.crt\"]: CA certificate 2 (CN=a.example.com) may not \
             issue certificates by its key usage; it is trusted itself, and nothing it issued is [odd-certificate]"
        ]
    );
}

#[test]
fn the_ca_bundle_of_an_issuer_is_looked_at() {
    let authority = Authority::new("edge").unwrap();
    let leaf = authority.issue_server(&["a.example.com"], Duration::from_secs(30 * DAY)).unwrap();
    let issuer = |bundle: &str| {
        format!(
            "apiVersion: acme.sluice.dev/v1alpha1\nkind: Issuer\nmetadata: {{name: ca, namespace: istio-system}}\nspec:\n  \
             server: https://ca.example/directory\n  termsOfServiceAgreed: true\n  caBundle: |\n{}",
            indented(bundle)
        )
    };

    assert_eq!(found(&issuer(authority.root_pem()), now()), [""; 0]);
    let told = found(&issuer(&format!("{}{}", authority.root_pem(), leaf.chain_pem)), now());
    assert!(told.len() == 1 && told[0].contains("spec.caBundle: CA certificate 2 (CN=a.example.com)"), "{told:?}");
    let broken = "-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n";
    let told = found(&issuer(broken), now());
    assert!(told.len() == 1 && told[0].contains("error") && told[0].contains("[bad-certificate]"), "{told:?}");
}

#[test]
fn a_self_signed_certificate_that_is_its_own_ca_is_silent() {
    let authority = Authority::new("edge").unwrap();
    let (chain, key) = (authority.root_pem(), authority.key_pem());
    let pairs = [("tls.crt", chain), ("tls.key", &key), ("ca.crt", chain)];
    assert_eq!(found(&secret(&pairs), now()), [""; 0]);
}

#[test]
fn a_revocation_list_that_cannot_be_read_is_found() {
    let authority = Authority::new("edge").unwrap();
    let own = authority.issue_server(&["a.example.com"], Duration::from_secs(30 * DAY)).unwrap();
    let keys = [("cert", &*own.chain_pem), ("key", &own.key_pem), ("cacert", authority.root_pem()), ("crl", "nothing")];
    let found = found(&secret(&keys), now());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("stringData.crl"), "{found:?}");
}

#[test]
fn secrets_of_other_kinds_are_left_alone() {
    assert_eq!(
        found(&secret(&[("password", "x"), ("tls.crt", "a chain without key is somebody else's")]), now()),
        [""; 0]
    );
}

#[test]
fn cipher_suites_that_do_not_exist_here_are_named() {
    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw, namespace: shop}\nspec:\n  servers:\n  \
         - port: {number: 443, name: https, protocol: HTTPS}\n    hosts: ['*']\n    tls:\n      mode: SIMPLE\n      \
         credentialName: cert\n      cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256, AES128-SHA]\n";
    let found = found(gateway, now());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("warning: Gateway shop/gw spec.servers[0].tls.cipherSuites: AES128-SHA cannot be used"),
        "{found:?}"
    );
}
