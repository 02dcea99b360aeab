//! The scene of stories about all combinations of HTTP versions: one gateway in front of two endpoints that do the same,
//! one below `/one` in HTTP/1.1, one below `/two` in HTTP/2.

use std::net::SocketAddr;

use harness::{
    client::{Client, Failure},
    endpoint::{Call, Endpoint},
    gateway::Proxy,
    mesh::{HOST, Mesh},
    message::{Answer, Ask, Version},
    talk::{self, Socket},
    yaml,
};

/// See the module.
pub(crate) struct Versions {
    pub(crate) mesh: Mesh,
    pub(crate) gateway: Proxy,
    _endpoints: Vec<Endpoint>,
}

impl Versions {
    /// Both endpoints play this for every request.
    pub(crate) async fn play<F>(play: impl Fn(Call) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mesh = Mesh::with_edge();
        let [one, two] = addresses(&mesh);
        let one = Endpoint::start(one, Version::One, play.clone()).await;
        let two = Endpoint::start(two, Version::Two, play).await;
        Self { _endpoints: vec![one, two], ..Self::stand(mesh).await }
    }

    /// Whatever listens at the [`addresses`] is the endpoint.
    pub(crate) async fn stand(mesh: Mesh) -> Self {
        routed(&mesh);
        let gateway = mesh.gateway().await;
        Self { mesh, gateway, _endpoints: Vec::new() }
    }

    /// One request; its path is below that of the endpoint.
    pub(crate) async fn ask(&self, (client, endpoint): (Version, Version), mut ask: Ask) -> Result<Answer, Failure> {
        ask.path = path(endpoint, &ask.path);
        talk::talk(&self.browser(), client, HOST, ask).await
    }

    /// The same when there has to be an answer.
    pub(crate) async fn answer(&self, combination: (Version, Version), ask: Ask) -> Answer {
        let what = format!("{} {} in {combination:?}", ask.method, ask.path);
        self.ask(combination, ask).await.unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// A WebSocket, or the answer that refuses it.
    pub(crate) async fn upgrade(
        &self,
        (client, endpoint): (Version, Version),
        below: &str,
    ) -> Result<Socket, Box<Answer>> {
        let opened = talk::upgrade(&self.browser(), client, HOST, &path(endpoint, below)).await;
        opened.unwrap_or_else(|error| panic!("an upgrade from {client:?} to {endpoint:?}: {error:?}"))
    }

    fn browser(&self) -> Client {
        self.mesh.browser()
    }
}

/// Where the endpoints listen: of HTTP/1.1, of HTTP/2.
pub(crate) fn addresses(mesh: &Mesh) -> [SocketAddr; 2] {
    [mesh.workload("reviews").declare(), mesh.workload("ratings").declare()]
}

/// `/one` leads to `reviews` in HTTP/1.1, `/two` to `ratings` in HTTP/2.
pub(crate) fn routed(mesh: &Mesh) {
    let services =
        yaml::service("shop", "reviews", &[(8080, "http")]) + &yaml::service("shop", "ratings", &[(8080, "http2")]);
    mesh.write("services.yaml", &services);
    mesh.routes(
        "- match: [{uri: {prefix: /one}}]\n  route: [{destination: {host: reviews, port: {number: 8080}}}]\n\
         - match: [{uri: {prefix: /two}}]\n  route: [{destination: {host: ratings, port: {number: 8080}}}]",
    );
}

fn path(endpoint: Version, below: &str) -> String {
    format!("{}{below}", if endpoint == Version::One { "/one" } else { "/two" })
}
