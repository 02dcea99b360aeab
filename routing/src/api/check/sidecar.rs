//! Rules for Sidecar.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::{BAD_VALUE, CONFLICT, Findings, MISSING_FIELD, names, virtual_service::check_port};
use crate::api::Sidecar;
use crate::api::gateway::{Port, ServerTlsMode};
use crate::api::mesh_config::OutboundMode;
use crate::api::sidecar::{CaptureMode, EgressListener, IngressListener, SidecarOutboundPolicy};

impl Sidecar {
    /// Says what is wrong with the object by itself.
    pub fn check(&self, findings: &mut Findings) {
        if let Some(selector) = &self.workload_selector {
            findings.within("workloadSelector", |findings| names::selector(findings, "labels", &selector.labels));
        }
        let says_nothing = self.ingress.is_empty()
            && self.egress.is_empty()
            && self.outbound_traffic_policy.is_none()
            && self.inbound_connection_pool.is_none();
        if says_nothing {
            let message = "one of ingress, egress, outboundTrafficPolicy and inboundConnectionPool is wanted";
            findings.error_at("egress", MISSING_FIELD, message);
        }
        let mut ports = BTreeSet::new();
        findings.each("ingress", &self.ingress, |findings, _, listener| listener.check(&mut ports, findings));
        let last = self.egress.len().saturating_sub(1);
        findings.each("egress", &self.egress, |findings, index, listener| {
            if listener.port.is_none() && index < last {
                let message = "only the last entry may leave the port out, since it stands for all other ports";
                findings.error_at("port", MISSING_FIELD, message);
            }
            listener.check(findings);
        });
        if let Some(policy) = &self.outbound_traffic_policy {
            findings.within("outboundTrafficPolicy", |findings| policy.check(findings));
        }
    }
}

impl IngressListener {
    fn check(&self, ports: &mut BTreeSet<u16>, findings: &mut Findings) {
        match &self.port {
            None => findings.error_at("port", MISSING_FIELD, "a port is wanted, with number, protocol and name"),
            Some(port) => {
                port_of_sidecar(port, false, findings);
                if port.number != 0 && !ports.insert(port.number) {
                    let message = format!("port {} is listed twice; keep one", port.number);
                    findings.within("port", |findings| findings.error_at("number", CONFLICT, message));
                }
            }
        }
        bind(self.bind.as_deref(), false, findings);
        if let Some(fault) = self.default_endpoint.as_deref().and_then(endpoint_fault) {
            findings.error_at("defaultEndpoint", BAD_VALUE, fault);
        }
        let Some(tls) = &self.tls else { return };
        findings.within("tls", |findings| {
            let secrets = tls.credential_name.is_some() || !tls.credential_names.is_empty();
            let refused = [
                ("credentialName", secrets, "a sidecar reads certificates from files"),
                ("subjectAltNames", !tls.subject_alt_names.is_empty(), "names of clients are not looked at here"),
                ("httpsRedirect", tls.https_redirect, "a sidecar does not redirect"),
            ];
            for (field, _, why) in refused.into_iter().filter(|(_, given, _)| *given) {
                findings.error_at(field, CONFLICT, format!("{field} may not stand here: {why}"));
            }
            if matches!(tls.mode, ServerTlsMode::IstioMutual | ServerTlsMode::AutoPassthrough) {
                let message = "SIMPLE or MUTUAL is wanted here; mutual TLS of the mesh is PeerAuthentication's";
                findings.error_at("mode", BAD_VALUE, message);
            }
        });
    }
}

impl EgressListener {
    fn check(&self, findings: &mut Findings) {
        let unix = self.bind.as_deref().is_some_and(|bind| bind.starts_with("unix:"));
        if let Some(port) = &self.port {
            port_of_sidecar(port, unix, findings);
        } else if self.bind.is_some() {
            findings.error_at("bind", CONFLICT, "an address to listen on needs a port; add it");
        }
        bind(self.bind.as_deref(), true, findings);
        if unix && self.capture_mode == CaptureMode::Iptables {
            let message = "nothing can be captured into a unix socket; write NONE";
            findings.error_at("captureMode", CONFLICT, message);
        }
        if self.hosts.is_empty() {
            let message = "at least one host is wanted, as `./*` for the own namespace or `*/*` for all";
            findings.error_at("hosts", MISSING_FIELD, message);
        }
        findings.each("hosts", &self.hosts, |findings, _, host| {
            if let Some(fault) = host_fault(host) {
                findings.error(BAD_VALUE, fault);
            }
        });
    }
}

impl SidecarOutboundPolicy {
    fn check(&self, findings: &mut Findings) {
        let Some(proxy) = &self.egress_proxy else { return };
        findings.within("egressProxy", |findings| {
            if self.mode != OutboundMode::AllowAny {
                findings.error(CONFLICT, "an egressProxy needs mode ALLOW_ANY, which lets requests through");
            }
            if proxy.host.is_empty() || !proxy.host.contains('.') || proxy.host.contains('*') {
                let message = format!("`{}` is not a full host, as `proxy.istio-system.svc.cluster.local`", proxy.host);
                findings.error_at("host", BAD_VALUE, message);
            }
            match &proxy.port {
                None => findings.error_at("port", MISSING_FIELD, "the proxy's port is wanted, as `{number: 3128}`"),
                Some(port) => findings.within("port", |findings| check_port(findings, Some(port.number))),
            }
        });
        if self.mode == OutboundMode::AllowAnyDynamicDns {
            findings.error_at("mode", BAD_VALUE, "ALLOW_ANY_DYNAMIC_DNS is for the whole mesh only");
        }
    }
}

fn port_of_sidecar(port: &Port, unix: bool, findings: &mut Findings) {
    findings.within("port", |findings| {
        match (unix, port.number) {
            (false, 0) => findings.error_at("number", MISSING_FIELD, "a port number from 1 to 65535 is wanted"),
            (true, 1..) => {
                findings.error_at("number", CONFLICT, "a unix socket has no port number; remove it or write 0");
            }
            _ => {}
        }
        if port.protocol.is_none() {
            findings.error_at("protocol", MISSING_FIELD, "a protocol is wanted: HTTP, HTTP2, GRPC, TLS, HTTPS or TCP");
        }
        if port.target_port > 0 {
            findings.error_at("targetPort", CONFLICT, "a listener has no targetPort; say it with defaultEndpoint");
        }
    });
}

fn bind(address: Option<&str>, unix: bool, findings: &mut Findings) {
    let Some(address) = address else { return };
    if unix && address.starts_with("unix:") {
        if let Some(fault) = names::unix_fault(address) {
            findings.error_at("bind", BAD_VALUE, fault);
        }
    } else if address.parse::<IpAddr>().is_err() {
        findings.error_at("bind", BAD_VALUE, format!("`{address}` is not an IP address"));
    }
}

/// Says what is wrong with where an application listens.
fn endpoint_fault(text: &str) -> Option<String> {
    if text.starts_with("unix:") {
        return names::unix_fault(text);
    }
    let port = text.strip_prefix(':').map(str::parse::<u16>);
    if matches!(port, Some(Ok(1..))) {
        return None;
    }
    let own = text.parse::<SocketAddr>().is_ok_and(|address| {
        let ip = address.ip();
        address.port() != 0 && (ip.is_unspecified() || ip.to_string() == "127.0.0.1" || ip.to_string() == "::1")
    });
    (!own).then(|| {
        format!("`{text}` is not where an application listens; 127.0.0.1:PORT, 0.0.0.0:PORT or unix:///path is wanted")
    })
}

/// Says what is wrong with `namespace/host`.
fn host_fault(text: &str) -> Option<String> {
    let Some((namespace, host)) = text.split_once('/') else {
        return Some(format!("`{text}` names no namespace; write namespace/host, as `./*` or `*/{text}`"));
    };
    let namespace = namespace.strip_prefix('~').filter(|rest| !rest.is_empty()).unwrap_or(namespace);
    if !matches!(namespace, "*" | "." | "~") && !names::is_dns_label(namespace) {
        return Some(format!("`{namespace}` is not a namespace; `*`, `.`, `~` or a name is wanted"));
    }
    if host == "*" { None } else { names::wildcard_host_fault(host) }
}
