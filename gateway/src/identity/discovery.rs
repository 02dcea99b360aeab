//! Envoy's secret discovery: certificate and roots are two resources, which come together or one after the other, and each
//! answer is acknowledged.

use http::HeaderMap;
use tls::{identity::SpiffeId, workload::WorkloadIdentity};
use tokio::time::timeout;

use super::workload_api::{LARGEST, PATIENCE};
use crate::grpc::{
    client::{Call, Channel, Failure, Says},
    messages::secret_discovery::{
        DEFAULT, DataSource, DiscoveryRequest, DiscoveryResponse, Node, ROOTCA, Refusal, SECRET, STREAM_SECRETS,
    },
};

/// gRPC's code for what makes no sense.
const INVALID_ARGUMENT: i32 = 3;

/// A stream of secrets.
pub(super) struct Discovery {
    call: Call,
    held: Held,
    /// What the last answer was.
    version: String,
    nonce: String,
    /// Version of the last one that was good.
    taken: String,
}

/// What was given so far.
#[derive(Default)]
struct Held {
    chain: Vec<u8>,
    key: Vec<u8>,
    roots: Vec<u8>,
    /// May be nothing.
    lists: Vec<u8>,
}

impl Discovery {
    /// Asks for both resources.
    pub(super) async fn begin(channel: &mut Channel, id: &SpiffeId) -> Result<Self, Failure> {
        let question = request(Some(Node { id: id.to_string() }));
        let begun = channel.call(STREAM_SECRETS, HeaderMap::new(), &question, Says::More(LARGEST));
        let call = timeout(PATIENCE, begun).await.map_err(|_| Failure::Silent(PATIENCE))??;
        Ok(Self { call, held: Held::default(), version: String::new(), nonce: String::new(), taken: String::new() })
    }

    /// The next identity with its revocation lists (PEM), or why what came is none; `None`: there is nothing more. Half of one is
    /// waited with.
    pub(super) async fn next(&mut self) -> Result<Option<Result<(WorkloadIdentity, Vec<u8>), String>>, Failure> {
        loop {
            let Some(answer) = self.call.hear::<DiscoveryResponse>().await? else { return Ok(None) };
            (self.version, self.nonce) = (answer.version_info.clone(), answer.nonce.clone());
            if let Err(why) = self.held.read(&answer) {
                return Ok(Some(Err(why)));
            }
            if self.held.is_whole() {
                return Ok(Some(self.held.identity().map(|identity| (identity, self.held.lists.clone()))));
            }
            self.answer(Ok(()));
        }
    }

    /// Says what became of the last answer.
    pub(super) fn answer(&mut self, told: Result<(), String>) {
        if told.is_ok() {
            self.taken.clone_from(&self.version);
        }
        let error_detail = told.err().map(|message| Refusal { code: INVALID_ARGUMENT, message });
        let (version_info, response_nonce) = (self.taken.clone(), self.nonce.clone());
        self.call.say(&DiscoveryRequest { version_info, response_nonce, error_detail, ..request(None) });
    }
}

fn request(node: Option<Node>) -> DiscoveryRequest {
    let resource_names = vec![DEFAULT.to_owned(), ROOTCA.to_owned()];
    DiscoveryRequest { node, resource_names, type_url: SECRET.to_owned(), ..DiscoveryRequest::default() }
}

impl Held {
    fn read(&mut self, answer: &DiscoveryResponse) -> Result<(), String> {
        for resource in &answer.resources {
            let secret = resource.secret().ok_or("a secret that cannot be read")?;
            if let Some(certificate) = &secret.tls_certificate {
                self.chain = inline(&secret.name, certificate.certificate_chain.as_ref())?;
                self.key = inline(&secret.name, certificate.private_key.as_ref())?;
            }
            if let Some(context) = &secret.validation_context {
                self.roots = inline(&secret.name, context.trusted_ca.as_ref())?;
                self.lists = match &context.crl {
                    None => Vec::new(),
                    crl => inline(&secret.name, crl.as_ref())?,
                };
            }
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        ![&self.chain, &self.key, &self.roots].iter().any(|part| part.is_empty())
    }

    fn identity(&self) -> Result<WorkloadIdentity, String> {
        WorkloadIdentity::from_pem(&self.chain, &self.key, &self.roots).map_err(|error| error.to_string())
    }
}

fn inline(name: &str, source: Option<&DataSource>) -> Result<Vec<u8>, String> {
    let bytes = source.and_then(DataSource::bytes).filter(|bytes| !bytes.is_empty());
    let why =
        || format!("the secret `{}` does not hold its content itself, and nothing else is read", name.escape_debug());
    bytes.map(<[u8]>::to_vec).ok_or_else(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::messages::secret_discovery::{Any, Inline, Secret, TlsCertificate, ValidationContext};

    fn inlined(bytes: &[u8]) -> Option<DataSource> {
        Some(DataSource { inline: Some(Inline::Bytes(bytes.to_vec())) })
    }

    fn answer(secrets: &[Secret]) -> DiscoveryResponse {
        DiscoveryResponse { resources: secrets.iter().map(Any::of).collect(), ..DiscoveryResponse::default() }
    }

    fn certificate(key: Option<DataSource>) -> Secret {
        let certificate = TlsCertificate { certificate_chain: inlined(b"chain"), private_key: key };
        Secret { name: DEFAULT.into(), tls_certificate: Some(certificate), validation_context: None }
    }

    fn roots() -> Secret {
        let context = ValidationContext { trusted_ca: inlined(b"roots"), crl: None };
        Secret { name: ROOTCA.into(), tls_certificate: None, validation_context: Some(context) }
    }

    #[test]
    fn the_two_halves_come_in_any_order() {
        let mut held = Held::default();
        held.read(&answer(&[roots()])).unwrap();
        assert!(!held.is_whole());
        held.read(&answer(&[certificate(inlined(b"key"))])).unwrap();
        assert!(held.is_whole());
        let mut held = Held::default();
        held.read(&answer(&[certificate(inlined(b"key")), roots()])).unwrap();
        assert!(held.is_whole());
        assert_eq!((&*held.chain, &*held.key, &*held.roots), (&b"chain"[..], &b"key"[..], &b"roots"[..]));
    }

    #[test]
    fn lists_come_with_the_roots_and_go_with_them() {
        let mut held = Held::default();
        let told = |crl| {
            let context = ValidationContext { trusted_ca: inlined(b"roots"), crl };
            answer(&[Secret { validation_context: Some(context), ..roots() }])
        };
        held.read(&told(inlined(b"lists"))).unwrap();
        assert_eq!(held.lists, b"lists");
        let why = held.read(&told(Some(DataSource { inline: None }))).unwrap_err();
        assert!(why.contains("does not hold its content itself"), "{why}");
        held.read(&told(None)).unwrap();
        assert!(held.lists.is_empty());
    }

    #[test]
    fn what_points_elsewhere_is_refused() {
        let elsewhere = Some(DataSource { inline: None });
        for key in [None, elsewhere, inlined(b"")] {
            let why = Held::default().read(&answer(&[certificate(key)])).unwrap_err();
            assert_eq!(why, "the secret `default` does not hold its content itself, and nothing else is read");
        }
    }
}
