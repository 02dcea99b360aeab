//! Where and how providers are asked: about bytes, at a sidecar, over TLS; and which route is taken then.

use std::{net::SocketAddr, sync::Arc};

use harness::{
    authorizer::{Authorizer, CheckRequest, OkHttpResponse, Word, field, no, yes, yes_with},
    client::{Client, get},
    endpoint::{Call, Endpoint},
    eventually::eventually,
    listening::Listening,
    mesh::{Mesh, SHOP},
    message::{Answer, Version},
    pki::spiffe,
    raw::Raw,
    tls_peer,
    workload::Workload,
    yaml,
};
use tokio::{io::copy_bidirectional, net::TcpStream};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use super::{ASKED, asking, count, http};

/// A sidecar in front of `reviews`, HTTP on 8080 and bytes on 9000, that asks about everything; and where the provider is.
async fn sidecar(kind: &str) -> (Mesh, SocketAddr, Workload) {
    let mesh = Mesh::new();
    mesh.write("services.yaml", &yaml::service("shop", "reviews", &[(8080, "http"), (9000, "tcp")]));
    let protocol = if kind == "envoyExtAuthzGrpc" { "grpc" } else { "http" };
    mesh.write("auth.yaml", &yaml::service("shop", "auth", &[(8080, protocol)]));
    let provider = mesh.workload("auth").declare();
    mesh.write(
        "mesh.yaml",
        &format!(
            "extensionProviders:\n- name: auth\n  {kind}: {{service: shop/auth.shop.svc.cluster.local, port: 8080}}\n"
        ),
    );
    mesh.write(
        "policy.yaml",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: ask, namespace: shop}\n\
         spec: {selector: {matchLabels: {app: reviews}}, action: CUSTOM, provider: {name: auth}, rules: [{}]}\n",
    );
    let reviews = mesh.workload("reviews").ports(&[8080, 9000]).sidecar().start().await;
    (mesh, provider, reviews)
}

fn principal(question: &CheckRequest) -> String {
    question.attributes.clone().and_then(|all| all.source).map(|peer| peer.principal).unwrap_or_default()
}

fn is_of_a_friend(question: &CheckRequest) -> bool {
    principal(question) == spiffe("shop", "friend")
}

/// What is heard of the application, which answers HTTP on its port of bytes, too.
async fn heard(mesh: &Mesh, to: SocketAddr, account: &str) -> String {
    let stream = mesh.mesh_peer("shop", account, "1.1").offering(&["istio"]).connect(to, "reviews").await;
    let mut raw = Raw::over(Box::new(stream.expect("mesh TLS works")));
    raw.send("GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n").await.ok();
    raw.hear(std::time::Duration::from_secs(10)).await.text
}

#[tokio::test]
async fn connections_of_bytes_are_asked_about_by_grpc() {
    let (mesh, provider, reviews) = sidecar("envoyExtAuthzGrpc").await;
    let provider = Authorizer::start(provider, |question| match principal(question) {
        who if who == spiffe("shop", "friend") => yes(),
        who if who == spiffe("shop", "riddle") => Word::Fails(14),
        _ => no(403, vec![], ""),
    })
    .await;
    let bytes = SocketAddr::new(reviews.address.ip(), 9000);

    assert!(heard(&mesh, bytes, "friend").await.starts_with("HTTP/1.1 200"));
    let asked = provider.asked().pop().and_then(|question| question.attributes).expect("it was asked");
    assert!(asked.request.is_none(), "there is none: {asked:?}");
    let own = asked.destination.expect("a destination");
    assert_eq!(own.principal, spiffe("shop", "reviews"));
    let at = own.address.and_then(|it| it.socket_address).expect("an address");
    assert_eq!(at.port_value, 9000);

    assert_eq!(heard(&mesh, bytes, "stranger").await, "", "no byte of the application");
    eventually("the access log says why", async || reviews.proxy().access_log().contains("ext_authz_denied")).await;

    assert_eq!(heard(&mesh, bytes, "riddle").await, "", "there is no verdict");
    eventually("the access log says why", async || reviews.proxy().access_log().contains("ext_authz_error")).await;
    assert_eq!(count(reviews.proxy(), "allowed").await, 1.0);
}

#[tokio::test]
async fn connections_of_bytes_cannot_be_asked_about_over_http_and_are_refused() {
    let (mesh, provider, reviews) = sidecar("envoyExtAuthzHttp").await;
    let _provider = Endpoint::start(provider, Version::One, |mut call: Call| async move {
        call.read().await;
        call.answer(Answer::new(200, "")).await;
    })
    .await;
    assert_eq!(heard(&mesh, SocketAddr::new(reviews.address.ip(), 9000), "friend").await, "");
    reviews.proxy().logs("a connection can be asked about by gRPC alone").await;
    let http = Client::over(reviews.address, mesh.mesh_peer("shop", "friend", "http/1.1"));
    assert_eq!(http.status("https://reviews/").await, 200, "requests can");
}

#[tokio::test]
async fn a_sidecar_asks_about_what_comes_to_its_workload_and_not_about_what_that_sends() {
    let (mesh, provider, reviews) = sidecar("envoyExtAuthzGrpc").await;
    let provider = Authorizer::start(provider, |question| {
        if is_of_a_friend(question) {
            yes_with(OkHttpResponse { headers: vec![field("x-user", "friend", None)], ..OkHttpResponse::default() })
        } else {
            no(403, vec![], "of the provider")
        }
    })
    .await;
    for version in ["http/1.1", "h2"] {
        let of = |account: &str| {
            let client = Client::over(reviews.address, mesh.mesh_peer("shop", account, version));
            if version == "h2" { client.http2() } else { client }
        };
        let reply = of("friend").get("https://reviews/").await;
        assert_eq!((reply.code(), reply.saw("x-user").as_str()), (200, "friend"), "{}", reply.text());
        let question = provider.asked().pop().expect("it was asked");
        assert_eq!(http(&question).host, "reviews");
        let reply = of("stranger").get("https://reviews/").await;
        assert_eq!((reply.code(), reply.text().as_str()), (403, "of the provider"));
    }
    let plain = Client::plain(reviews.address).get("http://reviews/").await;
    assert_eq!(plain.code(), 403, "who proves nothing is nobody's friend");
    assert_eq!(principal(&provider.asked().pop().expect("it was asked")), "");

    let asked = provider.asked().len();
    mesh.write("ratings.yaml", &yaml::service("shop", "ratings", &[(8080, "http")]));
    let _ratings = mesh.workload("ratings").start().await;
    let out = Client::plain(reviews.outbound());
    eventually("the workload reaches others", async || out.status("http://ratings:8080/").await == 200).await;
    assert_eq!(provider.asked().len(), asked);
}

#[tokio::test]
async fn routes_are_chosen_by_what_a_provider_says_only_where_they_are_to_be() {
    for (clear, wanted) in [("", "/"), (", clearRouteCache: true", "of me"), (", clearRouteCache: false", "/")] {
        let (mesh, address) = asking("envoyExtAuthzGrpc", clear);
        let _reviews = mesh.workload("reviews").start().await;
        mesh.routes(
            "- match: [{headers: {x-user: {exact: me}}}]\n  directResponse: {status: 200, body: {string: of me}}\n\
             - route: [{destination: {host: reviews, port: {number: 8080}}}]",
        );
        let _provider = Authorizer::start(address, |_| {
            yes_with(OkHttpResponse { headers: vec![field("x-user", "me", None)], ..OkHttpResponse::default() })
        })
        .await;
        let _gateway = mesh.gateway().await;
        let reply = mesh.browser().get(ASKED).await;
        if wanted == "of me" {
            assert_eq!(reply.text(), wanted, "{clear}");
        } else {
            assert_eq!((reply.code(), reply.saw("x-user").as_str()), (200, "me"), "{clear}");
        }
    }
}

/// Ends TLS in front of an address.
async fn terminator(at: SocketAddr, config: Arc<ServerConfig>, to: SocketAddr) -> Listening {
    let acceptor = TlsAcceptor::from(config);
    Listening::start(at, move |stream| {
        let acceptor = acceptor.clone();
        async move {
            // Who shows the wrong certificate, or takes none of ours, is gone.
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let Ok(mut inner) = TcpStream::connect(to).await else { return };
            let _ = copy_bidirectional(&mut stream, &mut inner).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_provider_is_reached_over_tls_as_its_destination_rule_says() {
    let (mesh, address) = asking("envoyExtAuthzGrpc", "");
    let _reviews = mesh.workload("reviews").start().await;
    let inner = mesh.block.at(80, 8080);
    let provider = Authorizer::start(inner, |_| yes()).await;
    let ca = mesh.config.path().with_extension("ca.pem");
    std::fs::write(&ca, mesh.pki.edge.root_pem()).expect("the file can be written");
    let rule = format!("trafficPolicy: {{tls: {{mode: SIMPLE, caCertificates: {}}}}}", ca.display());
    mesh.write("rule.yaml", &yaml::destination_rule("auth", &rule));
    let name = "auth.shop.svc.cluster.local";
    let of = |names: &[&str]| tls_peer::server(&mesh.pki.server(names), None, &["h2"]);

    let wrong = terminator(address, of(&["other.shop.svc.cluster.local"]), inner).await;
    let _gateway = mesh.gateway().await;
    assert_eq!(mesh.browser().status(ASKED).await, 403, "somebody else's certificate gives no verdict");
    wrong.stop().await;
    let _right = terminator(address, of(&[name]), inner).await;
    eventually("its own does", async || mesh.browser().status(ASKED).await == 200).await;
    assert!(!provider.asked().is_empty());
}

#[tokio::test]
async fn a_provider_in_the_mesh_is_asked_over_mutual_tls_by_itself() {
    let (mesh, _) = asking("envoyExtAuthzGrpc", "");
    let _reviews = mesh.workload("reviews").start().await;
    let inner = mesh.block.at(80, 8080);
    let provider = Authorizer::start(inner, |_| yes()).await;
    let address = mesh.workload("auth").sidecar().declare();
    let of = |account: &str| {
        let identity = mesh.pki.workload(&spiffe("shop", account));
        tls_peer::server(&identity, Some(mesh.pki.mesh.root_pem()), &["h2"])
    };
    let wrong = terminator(address, of("thief"), inner).await;
    let _gateway = mesh.gateway().await;
    assert_eq!(mesh.browser().status(SHOP).await, 200, "this path is nobody's question");
    assert_eq!(mesh.browser().status(ASKED).await, 403, "another workload gives no verdict");
    assert!(provider.asked().is_empty());
    wrong.stop().await;
    let _right = terminator(address, of("auth"), inner).await;
    eventually("the provider does", async || mesh.browser().call(get(ASKED)).await.code() == 200).await;
    assert!(!provider.asked().is_empty());
}
