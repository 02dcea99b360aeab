//! Rules for Gateway.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{BAD_VALUE, CONFLICT, DEPRECATED_FIELD, Findings, MISSING_FIELD, NO_EFFECT, names};
use crate::api::Gateway;
use crate::api::gateway::{Port, Server, ServerTls, ServerTlsMode, TlsVersion};

impl Gateway {
    /// Says what is wrong with the object by itself.
    pub fn check(&self, findings: &mut Findings) {
        if self.servers.is_empty() {
            findings.error_at("servers", MISSING_FIELD, "a Gateway needs at least one server with port and hosts");
        }
        self.check_selector(findings);
        let mut port_names = BTreeSet::new();
        findings.each("servers", &self.servers, |findings, _, server| {
            server.check(findings);
            if let Some(port) = &server.port
                && !port.name.is_empty()
                && !port_names.insert(port.name.as_str())
            {
                let message =
                    format!("port name `{}` is used by another server; names are unique in a Gateway", port.name);
                findings.within("port", |findings| findings.error_at("name", BAD_VALUE, message));
            }
        });
    }

    /// Istio takes any text here, since nobody but a gateway's labels is compared with it.
    fn check_selector(&self, findings: &mut Findings) {
        findings.each_key("selector", &self.selector, |findings, key, value| {
            if let Some(fault) = names::label_fault(key, value) {
                findings.warn(BAD_VALUE, format!("{fault}; as it is no gateway is selected"));
            }
        });
    }
}

impl Server {
    fn check(&self, findings: &mut Findings) {
        let unix = self.bind.as_ref().is_some_and(|bind| bind.starts_with("unix://"));
        match &self.port {
            Some(port) => findings.within("port", |findings| port.check(unix, findings)),
            None => {
                let message = "a server needs a port, as `{number: 443, name: https, protocol: HTTPS}`";
                findings.error_at("port", MISSING_FIELD, message);
            }
        }
        if self.hosts.is_empty() {
            findings.error_at("hosts", MISSING_FIELD, "a server needs hosts; write `\"*\"` for every host");
        }
        findings.each("hosts", &self.hosts, |findings, _, host| {
            if let Some(fault) = server_host_fault(host) {
                findings.error(BAD_VALUE, fault);
            }
        });
        match &self.bind {
            Some(bind) if unix => {
                if let Some(fault) = names::unix_fault(bind) {
                    findings.error_at("bind", BAD_VALUE, fault);
                }
            }
            Some(bind) if bind.parse::<IpAddr>().is_err() => {
                findings.error_at("bind", BAD_VALUE, format!("`{bind}` is neither an IP address nor a `unix://` path"));
            }
            _ => {}
        }
        self.check_tls(findings);
    }

    fn check_tls(&self, findings: &mut Findings) {
        let Some(protocol) = self.port.as_ref().and_then(|port| port.protocol) else { return };
        let Some(tls) = &self.tls else {
            if protocol.is_tls() {
                let message =
                    format!("a port of protocol {protocol} needs tls, as `{{mode: SIMPLE, credentialName: my-cert}}`");
                findings.error_at("tls", MISSING_FIELD, message);
            }
            return;
        };
        if protocol.is_plain_http() {
            let redirect_only = ServerTls { https_redirect: tls.https_redirect, ..ServerTls::default() };
            let message = format!(
                "a port of protocol {protocol} is plaintext, only httpsRedirect may stand here; use protocol HTTPS for TLS"
            );
            let terminates = !matches!(tls.mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough);
            let files = [&tls.server_certificate, &tls.private_key, &tls.ca_certificates];
            if terminates || files.into_iter().any(Option::is_some) {
                findings.error_at("tls", CONFLICT, message);
            } else if *tls != redirect_only {
                findings.warn_at("tls", NO_EFFECT, message);
            }
            return;
        }
        if !protocol.is_tls() {
            let message = format!("a port of protocol {protocol} has no TLS; remove tls, or use protocol TLS or HTTPS");
            findings.error_at("tls", CONFLICT, message);
            return;
        }
        findings.within("tls", |findings| {
            if tls.https_redirect {
                let message = format!("a port of protocol {protocol} cannot redirect to https; only HTTP ports can");
                findings.warn_at("httpsRedirect", NO_EFFECT, message);
            }
            tls.check(findings);
        });
    }
}

impl Port {
    fn check(&self, unix: bool, findings: &mut Findings) {
        match (unix, self.number) {
            (false, 0) => findings.error_at("number", MISSING_FIELD, "a port number from 1 to 65535 is wanted"),
            (true, 1..) => {
                findings.error_at("number", CONFLICT, "a unix socket has no port number; remove it or write 0")
            }
            _ => {}
        }
        if self.protocol.is_none() {
            let message = "a protocol is wanted: HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, TLS, TCP or MONGO";
            findings.error_at("protocol", MISSING_FIELD, message);
        }
        if self.name.is_empty() {
            findings.error_at("name", MISSING_FIELD, "a port needs a name, as `https-web`");
        }
        if self.target_port > 0 {
            findings.error_at(
                "targetPort",
                DEPRECATED_FIELD,
                "a Gateway's targetPort is no longer part of Istio; remove it",
            );
        }
    }
}

/// Where a server's certificate comes from; Istio allows one of them.
fn certificate_sources(tls: &ServerTls) -> Vec<&'static str> {
    let files = tls.server_certificate.is_some() || tls.private_key.is_some() || tls.ca_certificates.is_some();
    [
        ("the file paths", files),
        ("credentialName", tls.credential_name.is_some()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ]
    .into_iter()
    .filter_map(|(name, used)| used.then_some(name))
    .collect()
}

impl ServerTls {
    fn check(&self, findings: &mut Findings) {
        let sources = certificate_sources(self);
        match self.mode {
            ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => {
                self.check_certificates(&sources, findings);
            }
            ServerTlsMode::IstioMutual => {
                if !sources.is_empty() {
                    let message =
                        format!("ISTIO_MUTUAL uses the workload's mesh certificate; remove {}", sources.join(" and "));
                    findings.error(CONFLICT, message);
                }
            }
            ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
                if !sources.is_empty() {
                    let message = format!(
                        "TLS is passed through, {} has no effect; was mode SIMPLE meant?",
                        sources.join(" and ")
                    );
                    findings.warn_at("mode", NO_EFFECT, message);
                }
            }
        }
        self.check_details(findings);
    }

    fn check_certificates(&self, sources: &[&str], findings: &mut Findings) {
        let mode = match self.mode {
            ServerTlsMode::Simple => "SIMPLE",
            ServerTlsMode::Mutual => "MUTUAL",
            _ => "OPTIONAL_MUTUAL",
        };
        match sources {
            [] => {
                let message =
                    format!("mode {mode} needs a certificate: credentialName, or serverCertificate and privateKey");
                findings.error_at("credentialName", MISSING_FIELD, message);
            }
            [_] => self.check_files(mode, findings),
            _ => {
                let message = format!("the certificate comes from {}; keep one of them", sources.join(" and "));
                findings.error(CONFLICT, message);
            }
        }
        if self.ca_crl.is_some() && self.mode == ServerTlsMode::Simple {
            findings.error_at(
                "caCrl",
                CONFLICT,
                "mode SIMPLE asks for no client certificate; remove caCrl or use MUTUAL",
            );
        }
    }

    fn check_files(&self, mode: &str, findings: &mut Findings) {
        if self.credential_name.is_some() || !self.credential_names.is_empty() {
            return;
        }
        let needs_ca = mode != "SIMPLE" && self.ca_cert_credential_name.is_none();
        if self.tls_certificates.is_empty() {
            if self.server_certificate.is_none() {
                findings.error_at(
                    "serverCertificate",
                    MISSING_FIELD,
                    format!("mode {mode} needs the path of a certificate file"),
                );
            }
            if self.private_key.is_none() {
                findings.error_at(
                    "privateKey",
                    MISSING_FIELD,
                    format!("mode {mode} needs the path of a private key file"),
                );
            }
            if needs_ca && self.ca_certificates.is_none() {
                findings.error_at("caCertificates", MISSING_FIELD, format!("mode {mode} needs the path of a CA file"));
            }
            return;
        }
        findings.each("tlsCertificates", &self.tls_certificates, |findings, _, certificate| {
            if certificate.server_certificate.is_none() || certificate.private_key.is_none() {
                findings.error(MISSING_FIELD, "an entry needs serverCertificate and privateKey, both paths of files");
            }
            if needs_ca && certificate.ca_certificates.is_none() {
                findings.error_at("caCertificates", MISSING_FIELD, format!("mode {mode} needs the path of a CA file"));
            }
        });
    }

    fn check_details(&self, findings: &mut Findings) {
        for (field, count) in
            [("credentialNames", self.credential_names.len()), ("tlsCertificates", self.tls_certificates.len())]
        {
            if count > 2 {
                findings.error_at(field, BAD_VALUE, format!("{count} entries are given; one or two are allowed"));
            }
        }
        let (low, high) = (self.min_protocol_version, self.max_protocol_version);
        if high != TlsVersion::Auto && low > high {
            // Istio does not check this, so the object is not refused.
            let message = "the lowest version is above maxProtocolVersion, no handshake can succeed; exchange them";
            findings.warn_at("minProtocolVersion", CONFLICT, message);
        }
        findings.each("verifyCertificateSpki", &self.verify_certificate_spki, |findings, _, digest| {
            use base64::Engine as _;
            let decoded = base64::engine::general_purpose::STANDARD.decode(digest);
            if decoded.is_ok_and(|bytes| bytes.len() == 32) {
                return;
            }
            findings.error(BAD_VALUE, format!("`{digest}` is not the base64 of a SHA-256 digest (44 letters)"));
        });
        findings.each("verifyCertificateHash", &self.verify_certificate_hash, |findings, _, digest| {
            let hex = digest.replace(':', "");
            if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                findings.error(
                    BAD_VALUE,
                    format!("`{digest}` is not the hex of a SHA-256 digest (64 digits, colons allowed)"),
                );
            }
        });
    }
}

/// `[namespace/]host`.
fn server_host_fault(text: &str) -> Option<String> {
    let host = match text.split_once('/') {
        _ if text.contains("://") => text,
        None => text,
        Some((namespace, host)) => {
            if !matches!(namespace, "*" | ".") && !names::is_dns_label(namespace) {
                return Some(format!("`{namespace}` in `{text}` is not a namespace; `*`, `.` or a name is wanted"));
            }
            host
        }
    };
    if let Some(fault) = names::wildcard_host_fault(host) {
        return Some(fault);
    }
    if names::is_partial_wildcard(host) {
        return Some(format!(
            "`{host}` has `*` inside a label; in a Gateway it may only be the whole first label, as `*.example.com`"
        ));
    }
    let short = host != "*" && !host.contains('.') && host.parse::<IpAddr>().is_err();
    short.then(|| format!("`{host}` is a short name; a Gateway needs the full name, as `{host}.example.com`"))
}
