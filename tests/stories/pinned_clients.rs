//! Clients that a server names by the digest of their key or certificate, with OpenSSL on the other side.

use std::path::Path;

use harness::{
    mesh::{HOST, Mesh},
    pki::authority,
    program::run,
    yaml,
};
use serde_json::json;
use tls::authority::{Authority, Issued};

async fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let output = run(Path::new("openssl"), arguments, input).await;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What Istio's documentation tells users to run: the digest of a key in base64, of a certificate in hex with colons.
async fn digests(certificate: &Issued) -> (String, String) {
    let pem = certificate.chain_pem.as_bytes();
    let key = openssl(&["x509", "-pubkey", "-noout"], pem).await;
    let der = openssl(&["pkey", "-pubin", "-outform", "DER"], &key).await;
    let digest = openssl(&["dgst", "-sha256", "-binary"], &der).await;
    let base64 = openssl(&["enc", "-base64", "-A"], &digest).await;
    let fingerprint = openssl(&["x509", "-noout", "-fingerprint", "-sha256"], pem).await;
    let fingerprint = String::from_utf8(fingerprint).expect("text");
    let (_, hex) = fingerprint.trim().split_once('=').expect("a fingerprint");
    (String::from_utf8(base64).expect("text").trim().to_owned(), hex.to_owned())
}

fn edge(mesh: &Mesh, clients: &Authority, more: &serde_json::Value) {
    let mut tls = json!({"mode": "MUTUAL", "credentialName": "edge-cert"});
    for (name, value) in more.as_object().expect("fields") {
        tls[name] = value.clone();
    }
    let server = json!({"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": [HOST], "tls": tls});
    let gateway = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "edge", "namespace": "istio-system"},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]},
    });
    mesh.write("edge.yaml", &gateway.to_string());
    let ca = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "edge-cert-cacert", "namespace": "istio-system"},
        "stringData": {"ca.crt": clients.root_pem()},
    });
    mesh.write("clients.yaml", &ca.to_string());
    let hello = "- directResponse: {status: 200, body: {string: hello}}";
    mesh.write("routes.yaml", &yaml::virtual_service("routes", HOST, hello));
}

/// What `openssl s_client` is answered, with this certificate and these further flags; its errors, too.
async fn asks(mesh: &Mesh, name: &str, certificate: &Issued, flags: &[&str]) -> String {
    let write =
        |ending: &str, text: &str| mesh.config.write(&format!("{name}.{ending}.txt"), text).display().to_string();
    let (chain, key) = (write("crt", &certificate.chain_pem), write("key", &certificate.key_pem));
    let address = mesh.block.at(1, 8443).to_string();
    let fixed =
        ["s_client", "-connect", &address, "-servername", HOST, "-cert", &chain, "-key", &key, "-quiet", "-ign_eof"];
    let arguments: Vec<&str> = fixed.into_iter().chain(flags.iter().copied()).collect();
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let output = run(Path::new("openssl"), &arguments, request.as_bytes()).await;
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn only_the_client_whose_key_or_certificate_is_named_is_served() {
    let clients = authority("clients");
    let issue = |name: &str| clients.issue_client(name, &[]).expect("a certificate");
    let (own, other) = (issue("own"), issue("other"));
    let (key, hash) = digests(&own).await;
    for more in [
        json!({"verifyCertificateSpki": [key]}),
        json!({"verifyCertificateHash": [hash]}),
        json!({"verifyCertificateSpki": [key], "verifyCertificateHash": ["00".repeat(32)]}),
        json!({"mode": "OPTIONAL_MUTUAL", "verifyCertificateHash": [hash.replace(':', "").to_lowercase()]}),
    ] {
        let mesh = Mesh::with_edge();
        edge(&mesh, &clients, &more);
        let gateway = mesh.gateway().await;

        for version in ["-tls1_2", "-tls1_3"] {
            let served = asks(&mesh, "own", &own, &[version]).await;
            assert!(served.contains("200 OK") && served.contains("hello"), "{more} {version}: {served}");
            let refused = asks(&mesh, "other", &other, &[version]).await;
            assert!(!refused.contains("hello"), "{more} {version}: {refused}");
        }
        gateway.logs("none of those that are named by their digest").await;
    }
}

#[tokio::test]
async fn only_the_named_curves_are_spoken() {
    let clients = authority("clients");
    let own = clients.issue_client("own", &[]).expect("a certificate");
    let mesh = Mesh::with_edge();
    edge(&mesh, &clients, &json!({"ecdhCurves": ["P-384"]}));
    let _gateway = mesh.gateway().await;

    let agreed = asks(&mesh, "own", &own, &["-groups", "P-384:X25519"]).await;
    assert!(agreed.contains("hello"), "{agreed}");
    let refused = asks(&mesh, "own", &own, &["-groups", "X25519:P-256"]).await;
    assert!(!refused.contains("hello"), "{refused}");
}
