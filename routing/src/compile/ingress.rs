//! `Sidecar.ingress`: what a workload accepts, in place of what its services say.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use super::{
    context::Context,
    inbound::{own_port, spoken},
    peer_authentication::WorkloadMtls,
    report::{BAD_VALUE, UNSUPPORTED},
    server_tls,
    services::{Service, ServicePort},
    workloads::WorkloadFacts,
};
use crate::{
    api::{
        Protocol, Sidecar,
        gateway::ServerTlsMode,
        sidecar::{CaptureMode, IngressListener},
    },
    inbound::{Application, InboundPort, MtlsMode, OwnTls},
    resources::Object,
    unix,
};

/// The ports that a workload's Sidecar names.
pub(super) fn compile(
    context: &Context<'_>,
    sidecar: &Object<Sidecar>,
    (workload, mtls): (&WorkloadFacts, &WorkloadMtls<'_>),
) -> Vec<InboundPort> {
    let ports = sidecar.spec.ingress.iter().enumerate();
    ports.filter_map(|(index, listener)| port(context, (sidecar, index, listener), workload, mtls)).collect()
}

fn port(
    context: &Context<'_>,
    (sidecar, index, listener): (&Object<Sidecar>, usize, &IngressListener),
    workload: &WorkloadFacts,
    mtls: &WorkloadMtls<'_>,
) -> Option<InboundPort> {
    let declared = listener.port.as_ref()?;
    let field = |name: &str| format!("spec.ingress[{index}].{name}");
    let application = listener.default_endpoint.as_deref().map(application);
    if let Some(Err(why)) =
        listener.default_endpoint.as_deref().filter(|_| application == Some(Application::Nowhere)).map(unix::address)
    {
        let message = format!("{why}, so what comes in on this port is refused");
        context.report.error(sidecar, BAD_VALUE, &field("defaultEndpoint"), message);
    }
    let bind = bind(listener);
    let as_bound = bind.map_or(Application::AsMeant, |bind| Application::beside(bind, declared.number));
    if application.is_none() && matches!(as_bound, Application::Given(_)) {
        let message = "the sidecar itself listens on the application's address and port, so what comes in is refused unless \
                       --app-address says where the application is; give 127.0.0.1:PORT of the application";
        context.report.warning(sidecar, UNSUPPORTED, &field("defaultEndpoint"), message);
    }
    let mode = mtls.port(declared.number);
    let tls = own_tls(context, (sidecar, index, listener), mode);
    // What is in HTTPS is HTTP, once its TLS has ended here.
    let inside = if tls.is_some() && declared.protocol == Some(Protocol::Https) {
        Some(Protocol::Http)
    } else {
        declared.protocol
    };
    let (protocol, application_speaks) = spoken(inside);
    let service = service_of(context, workload, declared.number);
    let text = |of: fn(&Service<'_>) -> Arc<str>| service.map(|(service, _)| of(service)).unwrap_or_default();
    Some(InboundPort {
        port: declared.number,
        mtls: mode,
        protocol,
        application: application_speaks,
        service_host: text(|service| service.host.clone()),
        service_name: text(|service| service.name.clone()),
        service_namespace: text(|service| service.namespace.clone()),
        service_port: service.map_or(0, |(_, port)| port.number),
        to: application.unwrap_or(as_bound),
        bind,
        tls,
        pool: None,
    })
}

/// TLS of a port's own. As in Istio it takes the place of the mesh's, so that has to be turned off first. One that cannot be as
/// strict as it was asked to be lets nobody in.
fn own_tls(
    context: &Context<'_>,
    (sidecar, index, listener): (&Object<Sidecar>, usize, &IngressListener),
    mode: MtlsMode,
) -> Option<Box<OwnTls>> {
    let tls = listener.tls.as_ref()?;
    let field = format!("spec.ingress[{index}].tls");
    if mode != MtlsMode::Disable {
        let message = "the port takes mutual TLS of the mesh, as its PeerAuthentication says, so this has no effect; `portLevelMtls` with \
                       mode DISABLE for it lets the port's own TLS take its place";
        context.report.warning(sidecar, "no-effect", &field, message);
        return None;
    }
    let port = listener.port.as_ref().map_or("", |port| &port.name);
    let name = format!("{}/{}/{port}", sidecar.namespace(), sidecar.name());
    if matches!(tls.mode, ServerTlsMode::Passthrough) {
        // The application's own.
        return None;
    }
    let settings = server_tls::of(context, sidecar, (field, false), tls);
    let settings = settings.unwrap_or_else(|| server_tls::rejected(&name));
    Some(Box::new(OwnTls { name: name.into(), settings }))
}

/// The service that leads to a port of the workload, for metrics.
fn service_of<'c, 'a>(
    context: &'c Context<'a>,
    workload: &WorkloadFacts,
    number: u16,
) -> Option<(&'c Service<'a>, &'c ServicePort<'a>)> {
    let ports = context.services.iter().flat_map(|service| service.ports.iter().map(move |port| (service, port)));
    ports.into_iter().find(|(service, port)| own_port(workload, service, port) == Some(number))
}

/// A listener of its own, for what is not captured.
fn bind(listener: &IngressListener) -> Option<IpAddr> {
    let given = listener.bind.as_deref().and_then(|bind| bind.parse().ok());
    match listener.capture_mode {
        CaptureMode::None => given.or(Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
        CaptureMode::Default => given.filter(|ip: &IpAddr| !ip.is_unspecified()),
        CaptureMode::Iptables => None,
    }
}

/// `defaultEndpoint`, whose form was checked when it was read.
fn application(text: &str) -> Application {
    if let Some(port) = text.strip_prefix(':').and_then(|port| port.parse().ok()) {
        return Application::OwnAddress(port);
    }
    if text.starts_with(unix::SCHEME) {
        return unix::address(text).map_or(Application::Nowhere, Application::Socket);
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => Application::OwnAddress(address.port()),
        Ok(address) => Application::Loopback(address.is_ipv6(), address.port()),
        Err(_) => Application::Nowhere,
    }
}

impl Application {
    /// Where the application may listen on a port that the sidecar has bound itself: what it was meant for is the sidecar.
    fn beside(bind: IpAddr, port: u16) -> Self {
        match bind.is_unspecified() || bind.is_loopback() {
            true => Self::Given(port),
            false => Self::Loopback(bind.is_ipv6(), port),
        }
    }

    /// Where a connection for `meant` goes; `given`: where the application listens, as the command line says.
    pub fn address(self, meant: SocketAddr, given: Option<IpAddr>) -> SocketAddr {
        let loopback = |v6: bool| if v6 { Ipv6Addr::LOCALHOST.into() } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
        match self {
            Self::AsMeant => SocketAddr::new(given.unwrap_or(meant.ip()), meant.port()),
            Self::OwnAddress(port) => SocketAddr::new(given.unwrap_or(meant.ip()), port),
            Self::Loopback(v6, port) => SocketAddr::new(given.unwrap_or(loopback(v6)), port),
            Self::Socket(address) => address,
            Self::Given(port) if given.is_some() => SocketAddr::new(given.unwrap_or(meant.ip()), port),
            // No connection to port 0 comes about.
            Self::Given(_) | Self::Nowhere => SocketAddr::new(loopback(false), 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_the_sidecar_has_bound_leads_elsewhere() {
        let meant: SocketAddr = "10.0.0.1:9080".parse().unwrap();
        let of = |bind: &str, given: Option<IpAddr>| {
            Application::beside(bind.parse().unwrap(), 9080).address(meant, given).to_string()
        };
        assert_eq!(of("10.0.0.1", None), "127.0.0.1:9080");
        assert_eq!(of("fd00::1", None), "[::1]:9080");
        for bind in ["0.0.0.0", "::", "127.0.0.1"] {
            assert_eq!(of(bind, None), "127.0.0.1:0", "{bind}: nothing is there");
            assert_eq!(of(bind, Some(Ipv4Addr::new(127, 0, 0, 9).into())), "127.0.0.9:9080", "{bind}");
        }
    }

    #[test]
    fn where_the_application_is_has_every_form_of_istio() {
        let meant: SocketAddr = "10.0.0.1:9080".parse().unwrap();
        for (text, wanted) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:8080", "[::1]:8080"),
            ("0.0.0.0:8080", "10.0.0.1:8080"),
            ("[::]:8080", "10.0.0.1:8080"),
            (":8080", "10.0.0.1:8080"),
        ] {
            assert_eq!(application(text).address(meant, None).to_string(), wanted, "{text}");
        }
        assert_eq!(Application::AsMeant.address(meant, None), meant);
        let socket = application("unix:///x").address(meant, None);
        assert_eq!(unix::path(socket).as_deref(), Some("/x"));
        let given = Some("127.0.0.9".parse().unwrap());
        assert_eq!(application("127.0.0.1:8080").address(meant, given).to_string(), "127.0.0.9:8080");
    }
}
