//! Handshakes in memory: both sides real, the network a pipe.

mod certificates;
mod chains;
mod challenge;
mod client;
mod csr;
mod forms;
mod mesh;
pub(crate) mod openssl;
mod pinned;
mod server;
mod writes;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ClientConfig;
use rustls::client::Resumption;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::accept;
use crate::authority::{Authority, Issued};
use crate::client::{Certificate, ClientSpec, ClientTls, Names, Roots};
use crate::server::{CertifiedPem, ClientAuth, ServerSpec, ServerTls};
use crate::stream::Stream;
use crate::verify::ServerVerifier;
use crate::workload::WorkloadIdentity;
use crate::{Error, provider};

const HOUR: Duration = Duration::from_secs(3600);
const RATING: &str = "spiffe://cluster.local/ns/cargo/sa/rating";
const WEBAPP: &str = "spiffe://cluster.local/ns/cargo/sa/webapp";

/// How a handshake and one request after it ended, on each side.
type Ends = (Result<Stream<DuplexStream>, Error>, Result<Stream<DuplexStream>, Error>);

fn authority() -> Authority {
    Authority::new("test root").expect("a CA can be made")
}

fn long_ago() -> SystemTime {
    SystemTime::now() - 24 * HOUR
}

fn server_spec(ca: &Authority) -> ServerSpec {
    let issued = ca.issue_server(&["cargo.example", "*.wild.example", "10.0.0.1"], HOUR).expect("issues");
    ServerSpec { certificates: vec![certified(&issued)], alpn: protocols(&["h2", "http/1.1"]), ..ServerSpec::default() }
}

fn certified(issued: &Issued) -> CertifiedPem {
    CertifiedPem { chain: issued.chain_pem.clone().into_bytes(), key: issued.key_pem.clone().into_bytes(), ocsp: None }
}

fn client_spec(ca: &Authority) -> ClientSpec {
    ClientSpec {
        roots: Roots::Pem(ca.root_pem().as_bytes().to_vec()),
        names: Names::Host,
        certificate: Certificate::None,
        alpn: Vec::new(),
        crl: None,
        cipher_suites: Vec::new(),
        curves: Vec::new(),
    }
}

fn with_certificate(spec: ClientSpec, issued: &Issued) -> ClientSpec {
    let certificate =
        Certificate::Pem { chain: issued.chain_pem.clone().into_bytes(), key: issued.key_pem.clone().into_bytes() };
    ClientSpec { certificate, ..spec }
}

fn workload(ca: &Authority, spiffe: &str) -> WorkloadIdentity {
    identity(ca, &ca.issue_workload(spiffe, HOUR).expect("issues"))
}

fn identity(ca: &Authority, issued: &Issued) -> WorkloadIdentity {
    WorkloadIdentity::from_pem(issued.chain_pem.as_bytes(), issued.key_pem.as_bytes(), ca.root_pem().as_bytes())
        .expect("is an identity")
}

fn mesh_server(identity: &WorkloadIdentity, trust_domains: &[&str]) -> ServerTls {
    let trust_domains = trust_domains.iter().map(|domain| (*domain).to_owned()).collect();
    let client = ClientAuth::Mesh { trust_domains, sans: Vec::new() };
    let spec = ServerSpec { client, alpn: protocols(&["h2", "http/1.1"]), ..ServerSpec::default() };
    ServerTls::build(&spec, Some(identity)).expect("is a mesh server")
}

fn mesh_client(identity: &WorkloadIdentity, expected: &[&str]) -> ClientTls {
    let spec = ClientSpec {
        roots: Roots::Mesh,
        names: Names::Sans(expected.iter().map(|name| (*name).to_owned()).collect()),
        certificate: Certificate::Mesh,
        alpn: protocols(&["istio-h2", "istio", "h2"]),
        crl: None,
        cipher_suites: Vec::new(),
        curves: Vec::new(),
    };
    ClientTls::build(&spec, Some(identity)).expect("is a mesh client")
}

fn protocols(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

fn server(spec: &ServerSpec) -> ServerTls {
    ServerTls::build(spec, None).expect("is a server")
}

fn client(spec: &ClientSpec) -> ClientTls {
    ClientTls::build(spec, None).expect("is a client")
}

/// Shake hands and exchange a byte each way, so that tickets and late alerts arrive.
async fn meet(server: &ServerTls, client: &ClientTls, sni: &str) -> Ends {
    let (near, far) = duplex(64 * 1024);
    let serve = async {
        let mut stream = accept::hello(Stream::new(far)).await?.accept(server).await?;
        stream.write_all(b"s").await.map_err(Error::from_io)?;
        stream.flush().await.map_err(Error::from_io)?;
        stream.read_u8().await.map_err(Error::from_io)?;
        Ok(stream)
    };
    let ask = async {
        let mut stream = client.connect(sni, near).await?;
        stream.write_all(b"c").await.map_err(Error::from_io)?;
        stream.flush().await.map_err(Error::from_io)?;
        stream.read_u8().await.map_err(Error::from_io)?;
        Ok(stream)
    };
    tokio::join!(serve, ask)
}

/// Both sides agreed.
async fn agree(server: &ServerTls, client: &ClientTls, sni: &str) -> (Stream<DuplexStream>, Stream<DuplexStream>) {
    let (served, asked) = meet(server, client, sni).await;
    (served.expect("the server accepts"), asked.expect("the client accepts"))
}

/// Neither side went on; their reasons.
async fn disagree(server: &ServerTls, client: &ClientTls, sni: &str) -> (Error, Error) {
    let (served, asked) = meet(server, client, sni).await;
    (served.expect_err("the server refuses"), asked.expect_err("the client refuses"))
}

/// A client of TLS 1.2 that takes any server.
fn tls12_client() -> ClientTls {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider::provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("TLS 1.2 is there")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(None, false, Names::Any, Vec::new())))
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(8);
    ClientTls { config: Arc::new(config), is_name_needed: false, remarks: Arc::default() }
}
