//! One request to the CA.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use tls::{
    client::{Certificate, ClientSpec, ClientTls, Names, Roots},
    csr::{Application, Grant},
    identity::SpiffeId,
    jwt::Jwt,
    stream::Stream,
    workload::WorkloadIdentity,
};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use crate::{
    grpc::{
        client::{Channel, Failure},
        messages::istio_ca::{CREATE_CERTIFICATE, IstioCertificateRequest, IstioCertificateResponse},
    },
    identity::board::now,
    settings::CaSettings,
    source::bounded,
    tcp,
    telemetry::metrics::Attempt,
};

/// From the name of the CA to its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// For one of its addresses.
const CONNECT: Duration = Duration::from_secs(3);
/// A chain and a bundle of roots have some kilobytes.
const LARGEST: usize = 1024 * 1024;
/// As the API server's own limit.
const LONGEST_TOKEN: u64 = 64 * 1024;
/// gRPC's code for who is not known.
const UNAUTHENTICATED: u16 = 16;

/// Why there is no certificate.
pub(super) struct Refusal {
    pub(super) counts: Attempt,
    pub(super) text: String,
    /// The CA does not believe the token.
    unknown: bool,
}

/// Nothing is known of the token.
pub(super) fn refusal(counts: Attempt, text: impl Into<String>) -> Refusal {
    Refusal { counts, text: text.into(), unknown: false }
}

/// Who asks.
enum Caller<'a> {
    /// Whoever this token is of.
    Token(String),
    /// Whoever it was before, by the certificate that is held.
    Identity(&'a WorkloadIdentity),
}

/// What was given.
pub(super) struct Answered {
    pub(super) grant: Grant,
    /// Why the certificate that was held had to prove who asks, in the place of a token.
    pub(super) without_token: Option<String>,
}

/// Asks for a certificate for this identity, by the token. Where that is gone or not believed, the certificate that is held
/// proves the same as long as it lasts. `held`: the one that is in use. `lists`: who is revoked, which whoever answers for the CA
/// must not be.
///
/// # Errors
/// There is none, and why, as far as possible in the CA's words.
pub(super) async fn ask(
    settings: &CaSettings,
    id: &SpiffeId,
    held: Option<&WorkloadIdentity>,
    lists: Option<&[u8]>,
) -> Result<Answered, Refusal> {
    let held = held.filter(|held| held.not_after > now() / 1000);
    let (why, refused) = match token(settings) {
        Err(why) => (why.clone(), refusal(Attempt::Unprepared, why)),
        Ok(token) => match by(settings, id, &Caller::Token(token), lists).await {
            Ok(grant) => return Ok(Answered { grant, without_token: None }),
            Err(why) if why.unknown => (why.text.clone(), why),
            Err(why) => return Err(why),
        },
    };
    let Some(held) = held else { return Err(refused) };
    match by(settings, id, &Caller::Identity(held), lists).await {
        Ok(grant) => Ok(Answered { grant, without_token: Some(why) }),
        // The CA may know no certificates, and the token is what somebody has to see to.
        Err(other) => Err(Refusal { text: format!("{why}; and by the certificate: {}", other.text), ..other }),
    }
}

async fn by(settings: &CaSettings, id: &SpiffeId, caller: &Caller<'_>, lists: Option<&[u8]>) -> Result<Grant, Refusal> {
    let unprepared = |text: String| refusal(Attempt::Unprepared, text);
    let tls = client(settings, caller, lists).map_err(unprepared)?;
    let (kind, id) = (settings.key, id.clone());
    // RSA keys take their time.
    let made = tokio::task::spawn_blocking(move || Application::new(kind, &id)).await;
    let application = made.map_err(|error| unprepared(format!("no key could be made: {error}")))?;
    let application = application.map_err(|error| unprepared(error.to_string()))?;
    let question = IstioCertificateRequest {
        csr: application.pem().to_owned(),
        validity_duration: i64::try_from(settings.lifetime.as_secs()).unwrap_or(i64::MAX),
        metadata: None,
    };
    let asked = timeout(PATIENCE, exchange(settings, &tls, metadata(settings, caller)?, &question)).await;
    let answer =
        asked.unwrap_or(Err(Failure::Silent(PATIENCE))).map_err(|failure| failed(settings, caller, &failure))?;
    application
        .accept(&answer.cert_chain, now() / 1000)
        .map_err(|error| refusal(Attempt::Unfit, format!("what the CA gave cannot be used: {error}")))
}

/// PEM of the roots that are mounted.
///
/// # Errors
/// A sentence.
pub(super) fn roots(settings: &CaSettings) -> Result<Vec<u8>, String> {
    bounded::read(&settings.root, LARGEST as u64)
        .map_err(|error| format!("the roots of the mesh cannot be read ({}): {error}", settings.root.display()))
}

fn token(settings: &CaSettings) -> Result<String, String> {
    let path = settings.token.display();
    match bounded::read(&settings.token, LONGEST_TOKEN) {
        Ok(bytes) => match std::str::from_utf8(&bytes).map(str::trim) {
            Ok(token) if !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(token.to_owned()),
            _ => Err(format!("{path} holds no token")),
        },
        Err(error) => Err(format!("the token for the CA cannot be read ({path}): {error}")),
    }
}

fn client(settings: &CaSettings, caller: &Caller<'_>, lists: Option<&[u8]>) -> Result<ClientTls, String> {
    let (certificate, held) = match caller {
        Caller::Token(_) => (Certificate::None, None),
        Caller::Identity(held) => (Certificate::Mesh, Some(*held)),
    };
    let spec = ClientSpec {
        roots: Roots::Pem(roots(settings)?),
        names: Names::Host,
        certificate,
        alpn: vec![b"h2".to_vec()],
        crl: lists.map(<[u8]>::to_vec),
        cipher_suites: Vec::new(),
        curves: Vec::new(),
    };
    ClientTls::build(&spec, held).map_err(|error| format!("{}: {error}", settings.root.display()))
}

fn metadata(settings: &CaSettings, caller: &Caller<'_>) -> Result<HeaderMap, Refusal> {
    let value = |text: &str| {
        HeaderValue::from_str(text).map_err(|_| refusal(Attempt::Unprepared, "the cluster's name is none for a header"))
    };
    let mut metadata = HeaderMap::new();
    metadata.insert("clusterid", value(&settings.cluster)?);
    if let Caller::Token(token) = caller {
        let mut bearer = value(&format!("Bearer {token}"))?;
        bearer.set_sensitive(true);
        metadata.insert(header::AUTHORIZATION, bearer);
    }
    Ok(metadata)
}

async fn exchange(
    settings: &CaSettings,
    tls: &ClientTls,
    metadata: HeaderMap,
    question: &IstioCertificateRequest,
) -> Result<IstioCertificateResponse, Failure> {
    let stream = connect(settings, tls).await.map_err(Failure::Broken)?;
    let mut channel = Channel::over(stream, ("https", &settings.address.to_string())).await?;
    channel.unary(CREATE_CERTIFICATE, metadata, question, (PATIENCE, LARGEST)).await
}

async fn connect(settings: &CaSettings, tls: &ClientTls) -> Result<Stream<TcpStream>, String> {
    let (host, port) = (settings.address.host.as_str(), settings.address.port);
    let addresses = lookup_host((host, port)).await.map_err(|error| format!("{host} has no address: {error}"))?;
    let mut why = format!("{host} has no address");
    for address in addresses {
        let tcp = match timeout(CONNECT, tcp::connect(address, None)).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => {
                why = format!("{address}: {error}");
                continue;
            }
            Err(_) => {
                why = format!("{address}: no connection within {} s", CONNECT.as_secs());
                continue;
            }
        };
        let stream = tls.connect(&settings.name, tcp).await.map_err(|error| format!("{address}: TLS: {error}"))?;
        if stream.alpn() != Some(b"h2") {
            return Err(format!("{address}: it does not agree on HTTP/2, which gRPC needs"));
        }
        return Ok(stream);
    }
    Err(why)
}

fn failed(settings: &CaSettings, caller: &Caller<'_>, failure: &Failure) -> Refusal {
    let (counts, who) = match failure {
        Failure::Status(..) => (Attempt::Refused, "the CA refuses"),
        Failure::Broken(_) | Failure::Silent(_) => (Attempt::Unreachable, "the CA cannot be asked"),
        Failure::NotGrpc(_) | Failure::Malformed(_) => (Attempt::Unfit, "what answers is no CA"),
    };
    let mut text = format!("{who} ({}): {failure}", settings.address);
    if let (Failure::Status(UNAUTHENTICATED, _), Caller::Token(token)) = (failure, caller)
        && let Some(end) = Jwt::read(token).ok().and_then(|token| token.claims.get("exp")?.as_i64())
        && end <= now() / 1000
    {
        let ended = jiff::Timestamp::from_second(end).map(|end| end.to_string()).unwrap_or_default();
        text.push_str(&format!("; the token in {} has ended at {ended}", settings.token.display()));
    }
    let unknown = matches!((failure, caller), (Failure::Status(UNAUTHENTICATED, _), Caller::Token(_)));
    Refusal { unknown, ..refusal(counts, text) }
}
