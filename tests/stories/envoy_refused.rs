//! Real Envoy that is not of the mesh, or cannot prove it: refused in every direction, and our log says why.

use std::time::{Duration, SystemTime};

use harness::{
    client::Client,
    envoy::{Envoy, executable},
    eventually::eventually,
    gateway::Proxy,
    mesh::Mesh,
    peer_metadata,
    pki::{authority, spiffe},
    raw::probe,
    yaml::{self, peer_authentication},
};
use tls::{authority::Issued, placeholder::placeholder};

use super::{
    envoy::{bootstrap, cluster},
    envoy_directions::{REVIEWS, chain, credentials, downstream_tls, listener, manager, outbound, services},
    opaque::gateway,
};

/// An identity with something wrong, and what the log says of it.
struct Flaw {
    name: &'static str,
    shown: Option<Issued>,
    /// Word of the metric.
    reason: &'static str,
    /// Of the log.
    says: &'static str,
}

/// `account`: whose identity it would be; `server`: it is to be a server's.
fn flaws(mesh: &Mesh, account: impl Fn(&str) -> String, server: bool) -> Vec<Flaw> {
    let ca = &mesh.pki.mesh;
    let hour = Duration::from_secs(3600);
    let before = ca.at(SystemTime::now() - 48 * hour);
    let two = |account: &str| {
        let sans = [account, "spiffe://cluster.local/ns/shop/sa/somebody-else"];
        if server { ca.issue_server(&sans, hour) } else { ca.issue_client("", &sans) }
    };
    let alone = if server {
        let own = placeholder(&["reviews.shop".to_owned()]).expect("it can be made");
        let text = |pem: Vec<u8>| String::from_utf8(pem).expect("PEM is text");
        Issued { chain_pem: text(own.chain), key_pem: text(own.key) }
    } else {
        let own = authority("nobody");
        Issued { chain_pem: own.root_pem().to_owned(), key_pem: own.key_pem() }
    };
    // A client's own CA is recognised as what it is before anybody looks for its issuer.
    let self_signed = match server {
        true => ("UnknownCa", "was not issued by a trusted CA"),
        false => ("CaAsEndEntity", "is a CA certificate (basic constraints), and not itself among the trusted ones"),
    };
    let nobody = if server { "the peer refused the handshake: certificate required" } else { "certificate" };
    let flaw = |name, shown, reason, says| Flaw { name, shown, reason, says };
    vec![
        flaw(
            "elsewhere",
            Some(mesh.pki.workload(&account("elsewhere").replace("cluster.local", "other.domain"))),
            "WrongIdentity",
            "spiffe://other.domain/",
        ),
        flaw(
            "expired",
            Some(before.issue_workload(&account("expired"), hour).expect("issues")),
            "CertificateExpired",
            "is expired",
        ),
        flaw("alone", Some(alone), self_signed.0, self_signed.1),
        flaw("double", Some(two(&account("double")).expect("issues")), "WrongIdentity", "exactly one URI SAN"),
        flaw("nobody", None, "CertificateRequired", nobody),
    ]
}

#[tokio::test]
async fn an_envoy_that_is_not_of_the_mesh_gets_nowhere_and_our_log_says_why() {
    let Some(envoy) = executable("an_envoy_that_is_not_of_the_mesh_gets_nowhere_and_our_log_says_why") else { return };
    let mesh = Mesh::new();
    mesh.write("services.yaml", &services());
    mesh.write("peers.yaml", &peer_authentication("shop", "STRICT"));
    let reviews = mesh.workload("reviews").ports(&REVIEWS.map(|(port, _)| port)).sidecar().start().await;
    // As a sidecar and as a gateway: whose identity it would be.
    for (slot, namespace) in [(91, "shop"), (93, "istio-system")] {
        let all = flaws(&mesh, |_| spiffe(namespace, "ratings"), false);
        let (mut listeners, mut clusters) = (String::new(), String::new());
        for (port, flaw) in (15_100..).zip(&all) {
            let context = credentials(&mesh, flaw.shown.as_ref(), "spiffe://cluster.local/");
            let filter = manager(flaw.name, (true, &peer_metadata::of("ratings-v7")));
            listeners += &listener(mesh.block.at(slot, port), false, &chain("{}", None, &filter));
            clusters += &outbound(flaw.name, reviews.address, &context, "http/1.1");
        }
        let admin = mesh.block.at(slot, 9901);
        let _envoy = Envoy::start(&envoy, &bootstrap(admin, &listeners, &clusters), admin).await;
        for (port, flaw) in (15_100..).zip(&all) {
            let refused = async || {
                reviews.proxy().metrics().await.sum("sluice_tls_handshake_failures_total", &[("reason", flaw.reason)])
            };
            let before = refused().await;
            let status = Client::plain(mesh.block.at(slot, port)).status("http://reviews:8080/").await;
            assert_eq!(status, 503, "{namespace}: {}", flaw.name);
            eventually(&format!("{} is counted as {}", flaw.name, flaw.reason), async || refused().await > before)
                .await;
            reviews.proxy().logs(flaw.says).await;
        }
    }
    let samples = reviews.proxy().metrics().await;
    assert_eq!(samples.sum("istio_requests_total", &[]), 0.0, "no request came in");
    assert!(probe(reviews.address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.text.is_empty(), "nor does plain text");
}

/// The access logs of both of ours say so.
async fn both_say(proxies: [&Proxy; 2], flaw: &Flaw) {
    for proxy in proxies {
        let line = format!("{}.shop.svc.cluster.local", flaw.name);
        let said = || proxy.access_log().lines().any(|it| it.contains(&line) && it.contains(flaw.says));
        eventually(&format!("the access log says {:?} of {}", flaw.says, flaw.name), async || said()).await;
    }
}

#[tokio::test]
async fn an_envoy_that_cannot_prove_whose_it_is_is_sent_nothing_and_our_log_says_why() {
    let Some(envoy) = executable("an_envoy_that_cannot_prove_whose_it_is_is_sent_nothing_and_our_log_says_why") else {
        return;
    };
    let mesh = Mesh::new();
    let all = flaws(&mesh, |name| spiffe("shop", name), true);
    let (mut listeners, mut objects) =
        (String::new(), gateway("  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}\n"));
    let app = mesh.workload("app").unpublished().start().await;
    let filter = manager("app", (false, &peer_metadata::of("any-v1")));
    for flaw in &all {
        let pod = mesh.workload(flaw.name).sidecar().declare();
        objects += &format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec:\n  hosts: [{name}.test]\n  gateways: [istio-system/bytes]\n  \
             http: [{{retries: {{attempts: 0}}, route: [{{destination: {{host: {name}}}}}]}}]\n---\n",
            name = flaw.name
        );
        objects += &yaml::service("shop", flaw.name, &[(8080, "http")]);
        // The last one is itself, and we are whoever shows nothing.
        let good = mesh.pki.workload(&spiffe("shop", flaw.name));
        let shown = flaw.shown.as_ref().unwrap_or(&good);
        let tls = downstream_tls(&credentials(&mesh, Some(shown), "spiffe://cluster.local/"), "[h2, http/1.1]", true);
        listeners += &listener(pod, false, &chain("{}", Some(&tls), &filter));
    }
    objects += "---\n";
    objects += &yaml::destination_rule("nobody", "trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}");
    mesh.write("all.yaml", &objects);
    let admin = mesh.block.at(90, 9901);
    let _envoy = Envoy::start(&envoy, &bootstrap(admin, &listeners, &cluster("app", app.app, "")), admin).await;
    let web = mesh.workload("web").sidecar().start().await;
    let proxy = mesh.gateway().await;

    for flaw in &all {
        let inside = Client::plain(web.outbound()).get(&format!("http://{}:8080/", flaw.name)).await;
        let outside = Client::plain(proxy.addresses().second).get(&format!("http://{}.test/", flaw.name)).await;
        assert_eq!((inside.code(), outside.code()), (503, 503), "{}: {}", flaw.name, inside.text());
        both_say([web.proxy(), &proxy], flaw).await;
    }
    assert!(!app.app_process().stdout().contains("GET"), "nothing has come through");
}
