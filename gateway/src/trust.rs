//! From what a snapshot says about TLS to configurations that can shake hands. Equal content shares one configuration,
//! so an unrelated change costs no session resumption and no kept connection.

mod findings;
mod policies;

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
    sync::Arc,
};

use routing::{
    connections::Preamble,
    inbound::{Inbound, OwnTls},
    snapshot::{self, CertificateFiles, CertificateSource, ClientCa, Listener, RootsSource, TlsVersion},
    upstream::{self, ClientCertificate, ClientRoots, Cluster, ServerNames, UpstreamProtocol},
};
use tls::{
    client::{Certificate, ClientSpec, ClientTls, Names, Roots},
    pins::Pins,
    placeholder::placeholder,
    server::{CertifiedPem, ClientAuth, Part, ServerSpec, ServerTls, Version},
    workload::WorkloadIdentity,
};

pub(crate) use self::findings::{Complaint, Findings, PLACEHOLDER, Served, WORKLOAD};
use self::policies::Policies;
use crate::{
    live::{ClientPolicy, Server, Termination},
    peers::exchange,
    upstream::dial::{Dial, DialBook, Dials},
};

/// Built configurations, kept while they are used, and the last good one of each server.
#[derive(Default)]
pub(crate) struct Trust {
    identity: Option<Arc<WorkloadIdentity>>,
    servers: HashMap<(u64, ServerSpec), Server>,
    clients: HashMap<(u64, ClientSpec), Result<ClientTls, Arc<str>>>,
    last_good: HashMap<Arc<str>, Good>,
    /// Self-signed certificates by their hosts: the same one until the first ordered one is there.
    placeholders: HashMap<Vec<String>, CertifiedPem>,
    policies: Policies,
    round: Round,
}

/// The last good configuration of a server.
struct Good {
    client: snapshot::ClientAuth,
    policy: ClientPolicy,
    server: ServerTls,
    /// Where its certificate came from.
    secret: String,
}

/// What one install has used.
#[derive(Default)]
struct Round {
    servers: HashMap<(u64, ServerSpec), Server>,
    clients: HashMap<(u64, ClientSpec), Result<ClientTls, Arc<str>>>,
    placeholders: HashMap<Vec<String>, CertifiedPem>,
    files: BTreeSet<PathBuf>,
    complaints: Vec<Complaint>,
    certificates: Vec<Served>,
}

/// Largest file of certificates or keys. A bundle of all public CAs has a quarter of a megabyte.
const LARGEST_PEM: u64 = 4 << 20;

impl Trust {
    /// Uses this workload identity from now on.
    pub(crate) fn set_identity(&mut self, identity: Arc<WorkloadIdentity>) {
        self.identity = Some(identity);
    }

    /// The workload identity in use.
    pub(crate) fn identity(&self) -> Option<&Arc<WorkloadIdentity>> {
        self.identity.as_ref()
    }

    /// The servers of a listener, in order.
    pub(crate) fn listener(&mut self, listener: &Listener) -> Vec<Termination> {
        let Some(tls) = &listener.tls else { return Vec::new() };
        let mut hosts = vec![Vec::new(); tls.servers.len()];
        for (host, server) in tls.by_sni.iter() {
            if let Some(hosts) = hosts.get_mut(*server) {
                hosts.push(host.to_string());
            }
        }
        let servers = tls.servers.iter().zip(hosts);
        servers.map(|(server, hosts)| self.server(&server.name, hosts, &server.settings)).collect()
    }

    /// A server whose clients name no host.
    pub(crate) fn own(&mut self, own: &OwnTls) -> Termination {
        self.server(&own.name, Vec::new(), &own.settings)
    }

    fn server(&mut self, name: &Arc<str>, mut hosts: Vec<String>, settings: &snapshot::ServerTls) -> Termination {
        if settings.certificate == CertificateSource::Elsewhere {
            let tls = Err("TLS of this host ends elsewhere".into());
            return Termination { tls, policy: ClientPolicy::PASSED };
        }
        hosts.sort_unstable();
        let spec = self.server_spec(settings);
        let policy = self.policy(settings, &spec);
        match spec.and_then(|spec| self.build_server(spec)) {
            Ok(server) => {
                let secret = secret_name(&settings.certificate);
                self.remark(name, settings, &server);
                self.serves(name, hosts, (&server, &secret), None);
                let client = settings.client.clone();
                self.last_good.insert(Arc::clone(name), Good { client, policy, server: server.clone(), secret });
                Termination { tls: Ok(server), policy }
            }
            Err(why) => {
                // Another CA is another rule, wherever it is written; one that cannot be read is not known to be another.
                let same = |good: &Good| good.policy == policy || policy == ClientPolicy::UNMET;
                let kept = self.last_good.get(name).filter(|good| good.client == settings.client && same(good));
                if let Some(Good { policy, server, secret, .. }) = kept {
                    let (policy, server, secret) = (*policy, server.clone(), secret.clone());
                    self.serves(name, hosts, (&server, &secret), Some(&why));
                    self.complain(name, &format!("{why}; the last good certificate keeps serving"));
                    return Termination { tls: Ok(server), policy };
                }
                Termination { tls: self.meanwhile(name, hosts, settings, why), policy }
            }
        }
    }

    /// Tells what is odd about certificates in files; those in Secrets are told of with their Secret (`source/audit.rs`).
    fn remark(&mut self, name: &str, settings: &snapshot::ServerTls, server: &ServerTls) {
        let ca = match &settings.client {
            snapshot::ClientAuth::Required(ca) | snapshot::ClientAuth::Optional(ca) => Some(&ca.roots),
            snapshot::ClientAuth::None
            | snapshot::ClientAuth::Unverified { .. }
            | snapshot::ClientAuth::Mesh { .. } => None,
        };
        let in_file = |part: Part| match part {
            Part::Chain => matches!(settings.certificate, CertificateSource::Files(_)),
            Part::Roots => matches!(ca, Some(RootsSource::File(_))),
        };
        for remark in server.remarks().iter().filter(|remark| in_file(remark.part)) {
            self.complain(name, &remark.text);
        }
    }

    /// What stands for a server that never had a good certificate.
    fn meanwhile(
        &mut self,
        name: &Arc<str>,
        hosts: Vec<String>,
        settings: &snapshot::ServerTls,
        why: Arc<str>,
    ) -> Server {
        let placeholder = self.placeholder(settings).transpose();
        let Some(server) = placeholder.inspect_err(|error| self.complain(name, error)).ok().flatten() else {
            let pending = matches!(settings.certificate, CertificateSource::Pending { .. });
            let until = if pending { "there" } else { "right" };
            self.complain(name, &format!("{why}; handshakes are refused until it is {until}"));
            return Err(why);
        };
        self.serves(name, hosts, (&server, PLACEHOLDER), Some(&why));
        self.complain(name, &format!("{why}; a self-signed placeholder serves, which no client should trust"));
        Ok(server)
    }

    /// What is asked of clients, also by a server that has no certificate.
    fn policy(&mut self, settings: &snapshot::ServerTls, spec: &Result<ServerSpec, Arc<str>>) -> ClientPolicy {
        match spec {
            Ok(spec) => self.policies.number((&spec.client, &spec.pins), self.identity.as_deref()),
            Err(_) => match self.settings_spec(settings) {
                Ok(spec) => self.policies.number((&spec.client, &spec.pins), self.identity.as_deref()),
                Err(_) => ClientPolicy::UNMET,
            },
        }
    }

    /// Notes that a certificate is served, and why it is not the one that is asked for.
    fn serves(&mut self, name: &str, hosts: Vec<String>, (server, secret): (&ServerTls, &str), why: Option<&Arc<str>>) {
        self.round.certificates.push(Served {
            server: name.to_owned(),
            hosts,
            secret: secret.to_owned(),
            not_after: server.not_after(),
            serial: server.serial().to_owned(),
            issuer: server.issuer().to_owned(),
            kept: why.cloned(),
        });
    }

    /// A self-signed server, where the Gateway asks for one until the first ordered certificate is there.
    fn placeholder(&mut self, settings: &snapshot::ServerTls) -> Option<Server> {
        let CertificateSource::Pending { placeholder: true, hosts, .. } = &settings.certificate else { return None };
        let known = self.round.placeholders.get(hosts).or_else(|| self.placeholders.get(hosts)).cloned();
        let made = known.map_or_else(|| placeholder(hosts).map_err(|error| sentence(&error)), Ok);
        let spec = made.and_then(|certificate| {
            self.round.placeholders.insert(hosts.clone(), certificate.clone());
            Ok(ServerSpec { certificates: vec![certificate], ..self.settings_spec(settings)? })
        });
        Some(spec.and_then(|spec| self.build_server(spec)))
    }

    /// A sidecar's side of mesh TLS; `None` when the workload has no identity. `bytes`: what follows is no HTTP.
    pub(crate) fn inbound(&mut self, inbound: &Inbound, bytes: bool) -> Option<Termination> {
        self.identity.as_ref()?;
        let exchange = bytes.then_some(exchange::PROTOCOL);
        let spec = ServerSpec {
            client: ClientAuth::Mesh { trust_domains: inbound.trust_domains.clone(), sans: Vec::new() },
            alpn: exchange.into_iter().chain([&b"h2"[..], b"http/1.1"]).map(<[u8]>::to_vec).collect(),
            min_version: version(inbound.tls.min_version),
            cipher_suites: inbound.tls.cipher_suites.clone(),
            curves: inbound.tls.curves.clone(),
            ..ServerSpec::default()
        };
        let policy = self.policies.number((&spec.client, &spec.pins), self.identity.as_deref());
        Some(Termination { tls: self.build_server(spec), policy })
    }

    fn server_spec(&mut self, settings: &snapshot::ServerTls) -> Result<ServerSpec, Arc<str>> {
        let certificates = match &settings.certificate {
            CertificateSource::Workload => Vec::new(),
            other => self.certificates(other)?,
        };
        Ok(ServerSpec { certificates, ..self.settings_spec(settings)? })
    }

    /// All of the settings but the certificates.
    fn settings_spec(&mut self, settings: &snapshot::ServerTls) -> Result<ServerSpec, Arc<str>> {
        let client = match &settings.client {
            snapshot::ClientAuth::None => ClientAuth::None,
            snapshot::ClientAuth::Unverified { required } => ClientAuth::Unverified { required: *required },
            snapshot::ClientAuth::Mesh { trust_domains, sans } => {
                ClientAuth::Mesh { trust_domains: trust_domains.clone(), sans: sans.clone() }
            }
            snapshot::ClientAuth::Required(ca) => {
                let (roots_pem, crl, sans) = self.client_ca(ca)?;
                ClientAuth::Required { roots_pem, crl, sans }
            }
            snapshot::ClientAuth::Optional(ca) => {
                let (roots_pem, crl, sans) = self.client_ca(ca)?;
                ClientAuth::Optional { roots_pem, crl, sans }
            }
        };
        Ok(ServerSpec {
            certificates: Vec::new(),
            client,
            min_version: version(settings.min_version),
            max_version: version(settings.max_version),
            cipher_suites: settings.cipher_suites.clone(),
            curves: settings.curves.clone(),
            pins: pins(&settings.client),
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        })
    }

    #[expect(clippy::type_complexity, reason = "the three fields of both mutual variants")]
    fn client_ca(&mut self, ca: &ClientCa) -> Result<(Vec<u8>, Option<Vec<u8>>, Vec<String>), Arc<str>> {
        let mut lists = ca.crl.as_deref().map(<[u8]>::to_vec);
        if let Some(path) = &ca.crl_file {
            // Both count.
            let all = lists.get_or_insert_default();
            all.push(b'\n');
            all.extend(self.file(path)?);
        }
        Ok((self.roots(&ca.roots)?, lists, ca.sans.clone()))
    }

    fn certificates(&mut self, source: &CertificateSource) -> Result<Vec<CertifiedPem>, Arc<str>> {
        match source {
            CertificateSource::Secrets(secrets) => Ok(secrets
                .iter()
                .map(|secret| CertifiedPem {
                    chain: secret.chain.to_vec(),
                    key: secret.key.to_vec(),
                    ocsp: secret.ocsp.as_deref().map(<[u8]>::to_vec),
                })
                .collect()),
            CertificateSource::Files(files) => {
                let read = |it: &CertificateFiles| {
                    Ok(CertifiedPem { chain: self.file(&it.certificate)?, key: self.file(&it.key)?, ocsp: None })
                };
                files.iter().map(read).collect()
            }
            CertificateSource::Missing(name) => Err(format!("the certificate of Secret {name} is missing").into()),
            CertificateSource::Rejected => Err("the server of this host was rejected, as the problems say".into()),
            CertificateSource::Pending { secret, issuer, .. } => {
                Err(format!("waiting for the first certificate from issuer `{issuer}` (Secret {secret})").into())
            }
            CertificateSource::Workload | CertificateSource::Elsewhere => {
                Err("the workload's own certificate cannot stand here".into())
            }
        }
    }

    fn roots(&mut self, source: &RootsSource) -> Result<Vec<u8>, Arc<str>> {
        match source {
            RootsSource::Pem(pem) => Ok(pem.to_vec()),
            RootsSource::File(path) => self.file(path),
            RootsSource::Missing(name) => Err(format!("the CA certificate of Secret {name} is missing").into()),
        }
    }

    fn file(&mut self, path: &str) -> Result<Vec<u8>, Arc<str>> {
        self.round.files.insert(path.into());
        crate::source::bounded::read(path.as_ref(), LARGEST_PEM)
            .map_err(|error| format!("reading {path}: {error}").into())
    }

    fn build_server(&mut self, spec: ServerSpec) -> Server {
        let mesh = matches!(spec.client, ClientAuth::Mesh { .. });
        let key = (if mesh { self.generation() } else { 0 }, spec);
        let found = self.round.servers.get(&key).or_else(|| self.servers.get(&key)).cloned();
        let server = found.unwrap_or_else(|| {
            let identity = self.identity.as_deref().filter(|_| mesh);
            ServerTls::build(&key.1, identity).map_err(|error| sentence(&error))
        });
        self.round.servers.insert(key, server.clone());
        server
    }

    /// The ways to dial a cluster's endpoints.
    pub(crate) fn dials(&mut self, cluster: &Cluster, book: &DialBook) -> Dials {
        let protocols: &[bool] = match cluster.protocol {
            UpstreamProtocol::Http1 | UpstreamProtocol::Opaque => &[false],
            UpstreamProtocol::Http2 => &[true],
            UpstreamProtocol::Downstream => &[false, true],
        };
        let mut dials = Dials::default();
        for &h2 in protocols {
            if cluster.endpoints.iter().any(|endpoint| !endpoint.tls) || cluster.tls.is_none() {
                dials.set(false, h2, book.enter(Dial::new(cluster, None, h2, ())));
            }
            if let Some(settings) = &cluster.tls {
                let client = self.client(settings, offered(cluster, settings.mesh, h2));
                match &client {
                    Err(why) => self.complain(&cluster.name, &format!("{why}; requests to it are answered with 503")),
                    Ok((client, _)) if in_files(settings) => {
                        client.remarks().iter().for_each(|remark| self.complain(&cluster.name, remark));
                    }
                    Ok(_) => {}
                }
                let (client, content) = match client {
                    Ok((client, content)) => (Ok(client), content),
                    Err(why) => (Err(why), 0),
                };
                dials.set(true, h2, book.enter(Dial::new(cluster, Some(client), h2, (content, &settings.sni))));
            }
        }
        dials
    }

    /// A client configuration and the hash of all that went into it.
    fn client(&mut self, settings: &upstream::ClientTls, alpn: &[&[u8]]) -> Result<(ClientTls, u64), Arc<str>> {
        let roots = match &settings.roots {
            ClientRoots::Mesh => Roots::Mesh,
            ClientRoots::System => Roots::System,
            ClientRoots::Insecure => Roots::Insecure,
            ClientRoots::Given(source) => Roots::Pem(self.roots(source)?),
        };
        let certificate = match &settings.certificate {
            ClientCertificate::None => Certificate::None,
            ClientCertificate::Workload => Certificate::Mesh,
            ClientCertificate::Given(source) => {
                let first = self.certificates(source)?.into_iter().next().ok_or("there is no client certificate")?;
                Certificate::Pem { chain: first.chain, key: first.key }
            }
        };
        let names = match &settings.names {
            ServerNames::Sans(sans) => Names::Sans(sans.clone()),
            ServerNames::Host => Names::Host,
            ServerNames::Any => Names::Any,
        };
        let crl = settings.crl.as_ref().map(|source| self.roots(source)).transpose()?;
        let alpn = alpn.iter().map(|one| one.to_vec()).collect();
        let range = settings.range.as_deref();
        let cipher_suites = range.map(|range| range.cipher_suites.clone()).unwrap_or_default();
        let curves = range.map(|range| range.curves.clone()).unwrap_or_default();
        let spec = ClientSpec { roots, names, certificate, alpn, crl, cipher_suites, curves };
        let generation = if uses_identity(settings) { self.generation() } else { 0 };
        let key = (generation, spec);
        let found = self.round.clients.get(&key).or_else(|| self.clients.get(&key)).cloned();
        let client = found
            .unwrap_or_else(|| ClientTls::build(&key.1, self.identity.as_deref()).map_err(|error| sentence(&error)));
        let mut content = DefaultHasher::new();
        key.hash(&mut content);
        self.round.clients.insert(key, client.clone());
        client.map(|client| (client, content.finish()))
    }

    /// Ends an install: what it did not use is forgotten, what it found is told.
    pub(crate) fn finish(&mut self) -> Findings {
        let round = std::mem::take(&mut self.round);
        self.servers = round.servers;
        self.clients = round.clients;
        self.placeholders = round.placeholders;
        self.policies.finish(self.last_good.values().map(|good| good.policy));
        let mut certificates = round.certificates;
        if let Some(identity) = &self.identity {
            certificates.push(Served {
                server: WORKLOAD.to_owned(),
                secret: WORKLOAD.to_owned(),
                not_after: identity.not_after,
                serial: identity.serial.to_string(),
                issuer: identity.issuer.to_string(),
                ..Served::default()
            });
        }
        Findings { files: round.files.into_iter().collect(), complaints: round.complaints, certificates }
    }

    fn generation(&self) -> u64 {
        self.identity.as_ref().map_or(0, |identity| identity.generation)
    }

    fn complain(&mut self, subject: &str, message: &str) {
        self.round.complaints.push(Complaint { subject: subject.to_owned(), message: message.to_owned() });
    }
}

fn version(version: TlsVersion) -> Version {
    match version {
        TlsVersion::V1_2 => Version::Tls12,
        TlsVersion::V1_3 => Version::Tls13,
    }
}

/// The protocols to offer. Who agrees on `istio-peer-exchange` says who it is before any byte of the connection's own, which a
/// proxy that is asked for a tunnel does not.
fn offered(cluster: &Cluster, mesh: bool, h2: bool) -> &'static [&'static [u8]] {
    let preamble = cluster.connections.as_ref().and_then(|settings| settings.preamble.as_ref());
    let tunnel = matches!(preamble, Some(Preamble::Tunnel(_)));
    match (mesh, h2) {
        (true, _) if cluster.protocol == UpstreamProtocol::Opaque && tunnel => &[b"istio"],
        (true, _) if cluster.protocol == UpstreamProtocol::Opaque => &[exchange::PROTOCOL, b"istio"],
        (true, false) => &[b"istio-http/1.1", b"istio", b"http/1.1"],
        (true, true) => &[b"istio-h2", b"istio", b"h2"],
        (false, false) => &[],
        (false, true) => &[b"h2"],
    }
}

/// Whether what is odd about a client's certificates is told here; Secrets are told of in `source/audit.rs`.
fn in_files(settings: &upstream::ClientTls) -> bool {
    matches!(settings.roots, ClientRoots::Given(RootsSource::File(_)))
        || matches!(settings.certificate, ClientCertificate::Given(CertificateSource::Files(_)))
}

fn uses_identity(settings: &upstream::ClientTls) -> bool {
    matches!(settings.roots, ClientRoots::Mesh) || matches!(settings.certificate, ClientCertificate::Workload)
}

/// The certificates that a server names by their digest.
fn pins(client: &snapshot::ClientAuth) -> Pins {
    match client {
        snapshot::ClientAuth::Required(ca) | snapshot::ClientAuth::Optional(ca) => {
            Pins { keys: ca.pins.keys.clone(), certificates: ca.pins.certificates.clone() }
        }
        _ => Pins::default(),
    }
}

/// As in [`Served::secret`].
fn secret_name(source: &CertificateSource) -> String {
    match source {
        CertificateSource::Secrets(secrets) => {
            secrets.iter().map(|secret| secret.name.as_str()).collect::<Vec<_>>().join(",")
        }
        CertificateSource::Files(files) => files.iter().map(|it| it.certificate.as_str()).collect::<Vec<_>>().join(","),
        CertificateSource::Workload => WORKLOAD.to_owned(),
        CertificateSource::Rejected | CertificateSource::Elsewhere => "rejected".to_owned(),
        CertificateSource::Missing(name) | CertificateSource::Pending { secret: name, .. } => name.clone(),
    }
}

/// An error with its causes, as one sentence.
fn sentence(error: &tls::Error) -> Arc<str> {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text.into()
}
