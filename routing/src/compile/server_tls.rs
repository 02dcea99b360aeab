//! `ServerTLSSettings` of a server that terminates TLS.

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::{
    certificates,
    context::Context,
    report::UNSUPPORTED,
    secrets::{self, Credential},
};
use crate::{
    api::{
        Gateway,
        gateway::{self as api, ServerTlsMode},
    },
    resources::Object,
    snapshot::{CertificateFiles, CertificateSource, ClientAuth, ClientCa, Pins, RootsSource, ServerTls, TlsVersion},
};

/// Compile the settings of a Gateway's server; `None` when it cannot be as strict as it was asked to be, and is not opened.
pub(super) fn compile(
    context: &Context<'_>,
    gateway: &Object<Gateway>,
    index: usize,
    tls: &api::ServerTls,
) -> Option<ServerTls> {
    of(context, gateway, (format!("spec.servers[{index}].tls"), certificates::are_ordered(gateway)), tls)
}

/// As [`compile`], of any object. `field`: where the settings stand; `ordered`: certificates are ordered for it.
pub(super) fn of<T>(
    context: &Context<'_>,
    object: &Object<T>,
    (field, ordered): (String, bool),
    tls: &api::ServerTls,
) -> Option<ServerTls> {
    let mesh = &context.proxy.mesh;
    let range = match tls.mode {
        ServerTlsMode::IstioMutual => mesh.mesh_tls(),
        _ => mesh.tls_defaults().unwrap_or_default(),
    };
    let own =
        |given: &Vec<String>, otherwise: &Vec<String>| if given.is_empty() { otherwise.clone() } else { given.clone() };
    let (cipher_suites, curves) = (own(&tls.cipher_suites, &range.cipher_suites), own(&tls.ecdh_curves, &range.curves));
    let server = Server { context, object, tls, lowest: range.min_version, field, ordered };
    let strict = server.as_strict_as_asked();
    let (min_version, max_version) = server.versions()?;
    strict.then(|| ServerTls {
        certificate: server.certificate(),
        client: server.client(),
        min_version,
        max_version,
        cipher_suites,
        curves,
    })
}

/// Stands for a server that is not opened: nobody is let in.
pub(super) fn rejected(name: &str) -> ServerTls {
    let roots = RootsSource::Missing(name.to_owned());
    let ca = ClientCa { roots, crl: None, crl_file: None, sans: Vec::new(), pins: Pins::default() };
    ServerTls {
        certificate: CertificateSource::Rejected,
        client: ClientAuth::Required(ca),
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
        cipher_suites: Vec::new(),
        curves: Vec::new(),
    }
}

/// Stands for a server whose TLS ends elsewhere.
pub(super) fn passed() -> ServerTls {
    ServerTls {
        certificate: CertificateSource::Elsewhere,
        client: ClientAuth::None,
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
        cipher_suites: Vec::new(),
        curves: Vec::new(),
    }
}

struct Server<'s, 'a, T> {
    context: &'s Context<'a>,
    object: &'s Object<T>,
    tls: &'s api::ServerTls,
    /// Where it does not say itself.
    lowest: TlsVersion,
    field: String,
    /// Whether certificates are ordered for it.
    ordered: bool,
}

impl<'s, T> Server<'s, '_, T> {
    fn error(&self, field: &str, message: &str) {
        self.context.report.error(self.object, UNSUPPORTED, &format!("{}.{field}", self.field), message);
    }

    fn credential<'n>(&'n self, name: &'n str, field: &'n str) -> Credential<'n, 's, T> {
        // One that is named in `credentialNames` is not.
        let ordered = self.tls.credential_names.is_empty() && self.ordered;
        Credential { name, object: self.object, field, ordered }
    }

    /// Whether nothing that restricts clients would be left out. Each thing that would is an error.
    fn as_strict_as_asked(&self) -> bool {
        let tls = self.tls;
        let mesh = tls.mode == ServerTlsMode::IstioMutual;
        let refused = [
            (mesh && !tls.verify_certificate_spki.is_empty(), "verifyCertificateSpki"),
            (mesh && !tls.verify_certificate_hash.is_empty(), "verifyCertificateHash"),
            (mesh && tls.ca_crl.is_some(), "caCrl"),
        ];
        let mut strict = true;
        for (_, field) in refused.into_iter().filter(|(given, _)| *given) {
            strict = false;
            self.error(
                field,
                &format!("{field} is not for mode ISTIO_MUTUAL, so the server is not opened; use MUTUAL"),
            );
        }
        let pins = pins(tls);
        if pins.is_none() {
            let message =
                "a digest is no SHA-256 (base64 of a key's, hex of a certificate's), so the server is not opened";
            self.context.report.error(self.object, super::report::BAD_VALUE, &self.field, message);
        }
        self.without_effect();
        strict && pins.is_some()
    }

    /// What restricts clients where no certificate is looked at.
    fn without_effect(&self) {
        let tls = self.tls;
        let asks = matches!(tls.mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
        let blind = asks && tls.insecure_skip_verify;
        let why = match (asks, blind) {
            (_, true) => "insecureSkipVerify believes every certificate",
            (false, _) if tls.mode != ServerTlsMode::IstioMutual => {
                "this mode asks for no client certificate; use MUTUAL"
            }
            _ => return,
        };
        let given = [
            (!tls.verify_certificate_spki.is_empty(), "verifyCertificateSpki"),
            (!tls.verify_certificate_hash.is_empty(), "verifyCertificateHash"),
            (!tls.subject_alt_names.is_empty(), "subjectAltNames"),
            (tls.ca_crl.is_some() && blind, "caCrl"),
            (tls.ca_certificates.is_some() && blind, "caCertificates"),
            (tls.ca_cert_credential_name.is_some() && blind, "caCertCredentialName"),
            (tls.insecure_skip_verify && !asks, "insecureSkipVerify"),
        ];
        for (_, field) in given.into_iter().filter(|(given, _)| *given) {
            let message = format!("{field} has no effect: {why}");
            self.context.report.warning(self.object, "no-effect", &format!("{}.{field}", self.field), message);
        }
    }

    fn versions(&self) -> Option<(TlsVersion, TlsVersion)> {
        let (min, max) = (self.tls.min_protocol_version, self.tls.max_protocol_version);
        let lowest = match min {
            api::TlsVersion::V1_3 => TlsVersion::V1_3,
            api::TlsVersion::V1_0 | api::TlsVersion::V1_1 => {
                let field = format!("{}.minProtocolVersion", self.field);
                let message = "TLS 1.0 and 1.1 are not supported; the lowest version is TLS 1.2";
                self.context.report.warning(self.object, UNSUPPORTED, &field, message);
                TlsVersion::V1_2
            }
            api::TlsVersion::Auto => self.lowest,
            api::TlsVersion::V1_2 => TlsVersion::V1_2,
        };
        let highest = match max {
            api::TlsVersion::V1_0 | api::TlsVersion::V1_1 => {
                let message = "TLS 1.0 and 1.1 are not supported, so this server is not opened; use TLSV1_2 or TLSV1_3";
                self.error("maxProtocolVersion", message);
                return None;
            }
            api::TlsVersion::V1_2 => TlsVersion::V1_2,
            api::TlsVersion::Auto | api::TlsVersion::V1_3 => TlsVersion::V1_3,
        };
        if lowest > highest {
            let field = format!("{}.maxProtocolVersion", self.field);
            let lowest = match min {
                api::TlsVersion::Auto => "the minProtocolVersion of the mesh configuration",
                _ => "minProtocolVersion",
            };
            let message = format!("maxProtocolVersion is below {lowest}, so this server is not opened; raise it");
            self.context.report.error(self.object, super::report::BAD_VALUE, &field, message);
            return None;
        }
        Some((lowest, highest))
    }

    fn certificate(&self) -> CertificateSource {
        let tls = self.tls;
        if tls.mode == ServerTlsMode::IstioMutual {
            return CertificateSource::Workload;
        }
        if !tls.credential_names.is_empty() {
            return self.certificates();
        }
        if let Some(name) = &tls.credential_name {
            let field = format!("{}.credentialName", self.field);
            return secrets::certificate(self.context, &self.credential(name, &field));
        }
        let pair = |certificate: &Option<String>, key: &Option<String>| {
            Some(CertificateFiles { certificate: certificate.clone()?, key: key.clone()? })
        };
        let listed = tls.tls_certificates.iter().filter_map(|it| pair(&it.server_certificate, &it.private_key));
        let mut files: Vec<_> = listed.collect();
        if tls.tls_certificates.is_empty() {
            files.extend(pair(&tls.server_certificate, &tls.private_key));
        }
        if files.is_empty() {
            let message = "no certificate is named; give credentialName, or serverCertificate and privateKey";
            self.context.report.error(self.object, super::report::MISSING_SECRET, &self.field, message);
            return CertificateSource::Missing(format!("{}/{}", self.object.namespace(), self.object.name()));
        }
        CertificateSource::Files(files)
    }

    /// `credentialNames`: every Secret that is right; `Missing` only when none is.
    fn certificates(&self) -> CertificateSource {
        let mut found = Vec::new();
        let mut other = None;
        for (index, name) in self.tls.credential_names.iter().enumerate() {
            let field = format!("{}.credentialNames[{index}]", self.field);
            match secrets::certificate(self.context, &self.credential(name, &field)) {
                CertificateSource::Secrets(secrets) => found.extend(secrets),
                source => other = other.or(Some(source)),
            }
        }
        match other {
            Some(source) if found.is_empty() => source,
            _ => CertificateSource::Secrets(found),
        }
    }

    fn client(&self) -> ClientAuth {
        let required = self.tls.mode == ServerTlsMode::Mutual;
        match self.tls.mode {
            ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual if self.tls.insecure_skip_verify => {
                ClientAuth::Unverified { required }
            }
            ServerTlsMode::Mutual => ClientAuth::Required(self.client_ca()),
            ServerTlsMode::OptionalMutual => ClientAuth::Optional(self.client_ca()),
            // A gateway accepts every trust domain that chains to the mesh roots.
            ServerTlsMode::IstioMutual => {
                ClientAuth::Mesh { trust_domains: Vec::new(), sans: self.tls.subject_alt_names.clone() }
            }
            ServerTlsMode::Simple | ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => ClientAuth::None,
        }
    }

    fn is_told_absent(&self, name: &str) -> bool {
        !self.credential(name, "").ordered && secrets::is_absent(self.context, name)
    }

    fn client_ca(&self) -> ClientCa {
        let tls = self.tls;
        let first = tls.credential_names.first().map(|name| (name, "credentialNames[0]"));
        let named = tls.ca_cert_credential_name.as_ref().map(|name| (name, "caCertCredentialName"));
        let named = named.or(first).or(tls.credential_name.as_ref().map(|name| (name, "credentialName")));
        let listed = || tls.tls_certificates.iter().find_map(|pair| pair.ca_certificates.as_ref());
        let file = tls.ca_certificates.as_ref().or_else(listed);
        let (roots, crl) = match (named, file) {
            // The certificate is looked for under the same name, which is told.
            (Some((name, field)), _) if field != "caCertCredentialName" && self.is_told_absent(name) => {
                (RootsSource::Missing(format!("{}/{name}", self.context.proxy.namespace)), None)
            }
            (Some((name, field)), _) => {
                let field = format!("{}.{field}", self.field);
                secrets::required_authority(self.context, &self.credential(name, &field))
            }
            (None, Some(file)) => (RootsSource::File(file.clone()), None),
            (None, None) => {
                let message = "client certificates have no CA to be checked against; give caCertificates";
                self.context.report.error(self.object, super::report::MISSING_SECRET, &self.field, message);
                (RootsSource::Missing(self.field.clone()), None)
            }
        };
        // What is no digest has kept the server from being opened.
        let pins = pins(tls).unwrap_or_default();
        ClientCa { roots, crl, crl_file: tls.ca_crl.clone(), sans: tls.subject_alt_names.clone(), pins }
    }
}

/// `None`: one of them is no digest.
fn pins(tls: &api::ServerTls) -> Option<Pins> {
    let key = |text: &String| BASE64_STANDARD.decode(text).ok()?.try_into().ok();
    let keys = tls.verify_certificate_spki.iter().map(key).collect::<Option<_>>()?;
    let certificates = tls.verify_certificate_hash.iter().map(|text| hex(text)).collect::<Option<_>>()?;
    Some(Pins { keys, certificates })
}

/// Two digits a byte, with colons between them or without.
fn hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        text.chars().filter(|c| *c != ':').map(|c| u8::try_from(c.to_digit(16)?).ok()).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    bytes.try_into().ok().filter(|_| digits.len() == 64)
}
