//! `ServerTLSSettings` of a server that terminates TLS.

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
    snapshot::{CertificateSource, ClientAuth, ClientCa, RootsSource, ServerTls, TlsVersion},
};

/// Compile the settings; `None` when the server cannot be as strict as it was asked to be, and is not opened.
pub(super) fn compile(
    context: &Context<'_>,
    gateway: &Object<Gateway>,
    index: usize,
    tls: &api::ServerTls,
) -> Option<ServerTls> {
    let server = Server { context, gateway, tls, field: format!("spec.servers[{index}].tls") };
    let strict = server.as_strict_as_asked();
    let (min_version, max_version) = server.versions()?;
    strict.then(|| ServerTls {
        certificate: server.certificate(),
        client: server.client(),
        min_version,
        max_version,
        cipher_suites: tls.cipher_suites.clone(),
    })
}

/// Stands for a server that is not opened: nobody is let in.
pub(super) fn rejected(name: &str) -> ServerTls {
    let roots = RootsSource::Missing(name.to_owned());
    ServerTls {
        certificate: CertificateSource::Rejected,
        client: ClientAuth::Required(ClientCa { roots, crl: None, sans: Vec::new() }),
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
        cipher_suites: Vec::new(),
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
    }
}

struct Server<'s, 'a> {
    context: &'s Context<'a>,
    gateway: &'s Object<Gateway>,
    tls: &'s api::ServerTls,
    field: String,
}

impl<'s> Server<'s, '_> {
    fn error(&self, field: &str, message: &str) {
        self.context.report.error(self.gateway, UNSUPPORTED, &format!("{}.{field}", self.field), message);
    }

    fn credential<'n>(&'n self, name: &'n str, field: &'n str) -> Credential<'n, 's, Gateway> {
        // One that is named in `credentialNames` is not.
        let ordered = self.tls.credential_names.is_empty() && certificates::are_ordered(self.gateway);
        Credential { name, object: self.gateway, field, ordered }
    }

    /// Whether nothing that restricts clients would be left out. Each thing that would is an error.
    fn as_strict_as_asked(&self) -> bool {
        let tls = self.tls;
        let verifies = matches!(tls.mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
        let refused = [
            (!tls.verify_certificate_spki.is_empty() && verifies, "verifyCertificateSpki"),
            (!tls.verify_certificate_hash.is_empty() && verifies, "verifyCertificateHash"),
            (tls.ca_crl.is_some() && verifies, "caCrl"),
            (tls.insecure_skip_verify && verifies, "insecureSkipVerify"),
            (!tls.subject_alt_names.is_empty() && tls.mode == ServerTlsMode::IstioMutual, "subjectAltNames"),
        ];
        let mut strict = true;
        for (_, field) in refused.into_iter().filter(|(given, _)| *given) {
            strict = false;
            self.error(field, &format!("{field} is not supported with this mode yet, so the server is not opened"));
        }
        strict
    }

    fn versions(&self) -> Option<(TlsVersion, TlsVersion)> {
        let (min, max) = (self.tls.min_protocol_version, self.tls.max_protocol_version);
        let lowest = match min {
            api::TlsVersion::V1_3 => TlsVersion::V1_3,
            api::TlsVersion::V1_0 | api::TlsVersion::V1_1 => {
                let field = format!("{}.minProtocolVersion", self.field);
                let message = "TLS 1.0 and 1.1 are not supported; the lowest version is TLS 1.2";
                self.context.report.warning(self.gateway, UNSUPPORTED, &field, message);
                TlsVersion::V1_2
            }
            api::TlsVersion::Auto | api::TlsVersion::V1_2 => TlsVersion::V1_2,
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
            let message = "maxProtocolVersion is below minProtocolVersion, so this server is not opened; raise it";
            self.context.report.error(self.gateway, super::report::BAD_VALUE, &field, message);
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
        let listed = tls.tls_certificates.first();
        let certificate = listed.map_or(&tls.server_certificate, |pair| &pair.server_certificate);
        let key = listed.map_or(&tls.private_key, |pair| &pair.private_key);
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                CertificateSource::Files { certificate: certificate.clone(), key: key.clone() }
            }
            _ => {
                let message = "no certificate is named; give credentialName, or serverCertificate and privateKey";
                self.context.report.error(self.gateway, super::report::MISSING_SECRET, &self.field, message);
                CertificateSource::Missing(format!("{}/{}", self.gateway.namespace(), self.gateway.name()))
            }
        }
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
        match self.tls.mode {
            ServerTlsMode::Mutual => ClientAuth::Required(self.client_ca()),
            ServerTlsMode::OptionalMutual => ClientAuth::Optional(self.client_ca()),
            // A gateway accepts every trust domain that chains to the mesh roots.
            ServerTlsMode::IstioMutual => ClientAuth::Mesh { trust_domains: Vec::new() },
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
        let listed = || tls.tls_certificates.first().and_then(|pair| pair.ca_certificates.as_ref());
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
                self.context.report.error(self.gateway, super::report::MISSING_SECRET, &self.field, message);
                (RootsSource::Missing(self.field.clone()), None)
            }
        };
        ClientCa { roots, crl, sans: tls.subject_alt_names.clone() }
    }
}
