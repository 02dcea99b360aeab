//! What to try, taken from the compiled configuration itself: a command is offered only when the data path's own route
//! table says where it goes.

mod bearers;
mod bytes;
mod outside;
mod policies;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::HeaderMap;
use routing::{
    compile::{Compiled, Proxy, Role, compile},
    host::HostPattern,
    inbound::MtlsMode,
    pattern::PathKind,
    problem::{Problem, Problems},
    request::RequestView,
    resources::Resources,
    rule::{Action, Destinations, Rule},
    snapshot::{CertificateSource, ClientAuth, Content, Listener, Snapshot, TlsServer},
    table::{Route, VirtualHost},
    upstream::Cluster,
};

use self::bearers::Bearer;
use super::{
    addresses::{Addresses, ports},
    authorities::TRUST_DOMAIN,
    plan::{GatewayPlan, Plan, PodPlan},
    state::State,
};

/// One thing to try.
#[derive(Debug)]
pub(crate) struct Step {
    /// The URL, for the table; empty = not in the table.
    pub(crate) url: String,
    /// Who answers, or what happens.
    pub(crate) expect: String,
    /// To be pasted into a shell.
    pub(crate) command: String,
}

/// Everything to try, and what scripts want to know.
#[derive(Debug, Default)]
pub(crate) struct Tour {
    /// First host that is served; empty when no Gateway serves any.
    pub(crate) host: String,
    /// Port of the first HTTPS listener on 127.0.0.1.
    pub(crate) https_port: Option<u16>,
    /// Port of the first plain-text listener on 127.0.0.1.
    pub(crate) http_port: Option<u16>,
    /// Through the gateways.
    pub(crate) edge: Vec<Step>,
    /// At the sidecars.
    pub(crate) mesh: Vec<Step>,
    /// What compiling found, for all proxies together.
    pub(crate) problems: Vec<Problem>,
}

/// What the tour is made from.
pub(crate) struct Guide<'a> {
    /// The folder and what the demo added to it.
    pub(crate) resources: &'a Resources,
    /// Who runs.
    pub(crate) plan: &'a Plan,
    /// Where.
    pub(crate) addresses: &'a Addresses,
    /// Where `ca.pem` is.
    pub(crate) state: &'a State,
}

impl Guide<'_> {
    /// Compiles for every proxy and picks what to show.
    pub(crate) fn tour(&self) -> Tour {
        let mut tour = Tour::default();
        let mut problems = Problems::default();
        for (index, gateway) in self.plan.gateways.iter().enumerate() {
            let Compiled { snapshot, problems: found } = compile(self.resources, &gateway_proxy(gateway));
            problems.extend(found);
            self.through(&mut tour, index, &snapshot);
        }
        let mut strict = None;
        let mut outside = Vec::new();
        for (index, pod) in self.plan.pods.iter().enumerate().filter(|(_, pod)| pod.sidecar) {
            let Compiled { snapshot, problems: found } = compile(self.resources, &sidecar_proxy(pod));
            problems.extend(found);
            strict = strict.or_else(|| self.refusal(index, pod, &snapshot));
            if outside.is_empty() {
                outside = self.outside((index, pod), &snapshot);
            }
        }
        tour.mesh.extend(outside);
        tour.mesh.extend(strict);
        tour.mesh.extend(self.between_workloads());
        tour.mesh.extend(self.bytes_between_workloads());
        let metrics = (!self.plan.gateways.is_empty()).then(|| self.metrics(&tour.edge));
        tour.mesh.extend(metrics);
        tour.problems = problems.into_sorted();
        tour
    }

    /// One step for each route that a plain GET can reach.
    fn through(&self, tour: &mut Tour, index: usize, snapshot: &Snapshot) {
        let mut listeners: Vec<&Listener> = snapshot.listeners.iter().collect();
        listeners.sort_by_key(|listener| (listener.tls.is_none(), listener.port));
        let mut steps = Vec::new();
        let bearers = bearers::of(self.resources, snapshot);
        let at = self.addresses.bind(&self.plan.gateways[index]);
        for listener in listeners {
            let Some(port) = self.addresses.edge[index].get(&listener.port).copied() else { continue };
            if let Some(table) = &listener.bytes {
                steps.extend(bytes::step(snapshot, table, SocketAddr::new(at, port)));
                continue;
            }
            if !listener.tls.as_ref().is_none_or(|tls| tls.servers.iter().any(is_for_people)) {
                continue;
            }
            let known = if listener.tls.is_some() { &mut tour.https_port } else { &mut tour.http_port };
            known.get_or_insert(port);

            let mut hosts: Vec<(&HostPattern, &VirtualHost)> = listener.routes.hosts.iter().collect();
            hosts.sort_by_key(|(_, virtual_host)| virtual_host.domain.clone());
            for (pattern, virtual_host) in hosts {
                let place = Place { snapshot, listener, at, port, host: concrete(pattern), bearers: &bearers };
                if place.server().is_some_and(|server| !is_for_people(server)) {
                    continue;
                }
                if tour.host.is_empty() {
                    tour.host.clone_from(&place.host);
                }
                steps.extend(self.routes(&place, virtual_host));
            }
        }
        steps.truncate(MOST_ROUTES);
        tour.edge.append(&mut steps);
    }

    fn routes(&self, place: &Place<'_>, virtual_host: &VirtualHost) -> Vec<Step> {
        if virtual_host.https_redirect {
            return vec![self.step(place, "/", "-sSi", "301 to https (httpsRedirect)".to_owned())];
        }
        let mut steps = Vec::new();
        for route in virtual_host.routes.routes() {
            let path = match &route.when.path.kind {
                PathKind::Any => "/",
                PathKind::Exact(path) | PathKind::Prefix(path) if path.starts_with('/') => path,
                _ => continue,
            };
            for bearer in std::iter::once(None).chain(place.bearers.iter().map(Some)) {
                steps.extend(self.try_route(place, (virtual_host, route, path), bearer));
            }
        }
        steps
    }

    /// A step that gets to a route; with a token, where that is news.
    fn try_route(
        &self,
        place: &Place<'_>,
        (virtual_host, route, path): (&VirtualHost, &Route, &str),
        bearer: Option<&Bearer>,
    ) -> Option<Step> {
        let authority = format!("{}:{}", place.host, place.port);
        let headers = HeaderMap::new();
        let mut request = RequestView {
            method: "GET",
            scheme: place.scheme(),
            authority: &authority,
            path,
            query: "",
            port: place.listener.port,
            headers: &headers,
            token: bearer.map(|bearer| &bearer.token),
        };
        let reaches =
            |request: &RequestView<'_>| virtual_host.route(request).is_some_and(|rule| Arc::ptr_eq(rule, &route.rule));
        let allowed = |request: &RequestView<'_>| policies::allows(place.snapshot, "", *request);
        let (there, let_in) = (reaches(&request), allowed(&request));
        let expect = match let_in {
            true => self.outcome(place, &route.rule, &request),
            false => "403: policies let nobody in like this".to_owned(),
        };
        let options = if let_in && matches!(route.rule.action, Action::Route(_)) { "-sS" } else { "-sSi" };
        let Some(bearer) = bearer else { return there.then(|| self.step(place, path, options, expect)) };
        request.token = None;
        let is_news = !(reaches(&request) && allowed(&request) == let_in);
        let options = format!("{options} -H {}", quoted(&format!("Authorization: Bearer {}", bearer.text)));
        (there && is_news).then(|| self.step(place, path, &options, format!("as {}: {expect}", bearer.name)))
    }

    fn outcome(&self, place: &Place<'_>, rule: &Rule, request: &RequestView<'_>) -> String {
        match &rule.action {
            Action::Redirect(redirect) => format!("{} to {}", redirect.code, redirect.location(request)),
            Action::Direct(direct) => format!("{} from the gateway itself (directResponse)", direct.status),
            Action::Route(destinations) => {
                let ready = ready(place.snapshot, destinations);
                if ready.is_empty() {
                    let names: Vec<&str> = destinations.all.iter().map(|to| &*to.cluster_name).collect();
                    return format!("503: nobody is behind {}", names.join(", "));
                }
                let mutual = ready.iter().all(|cluster| cluster.tls.as_ref().is_some_and(|tls| tls.mesh));
                let how = if mutual { " over mutual TLS; `peer` is the gateway" } else { "" };
                format!("{} answers{how}", names(&ready))
            }
        }
    }

    fn step(&self, place: &Place<'_>, path: &str, options: &str, expect: String) -> Step {
        let Place { host, at, port, .. } = place;
        let url = format!("{}://{host}:{port}{path}", place.scheme());
        let mut command = format!("curl {options}");
        if let Some(TlsServer { settings: server, .. }) = place.server() {
            let made = self.made_certificates();
            let ours = match &server.certificate {
                CertificateSource::Secrets(secrets) => secrets.iter().all(|secret| made.contains(&secret.name)),
                _ => false,
            };
            match ours {
                true => command.push_str(&format!(" --cacert {}", quoted(&self.state_path("ca.pem")))),
                false => command.push_str(" --insecure"),
            }
            if matches!(server.client, ClientAuth::Required(_)) {
                let (certificate, key) = (self.state_path("client.pem"), self.state_path("client-key.pem"));
                command.push_str(&format!(" --cert {} --key {}", quoted(&certificate), quoted(&key)));
            }
        }
        if host.parse::<IpAddr>().is_err() && host != "localhost" {
            command.push_str(&format!(" --resolve {host}:{port}:{at}"));
        }
        command.push_str(&format!(" {}", quoted(&url)));
        Step { url, expect, command }
    }

    /// `namespace/name` of the Secrets whose certificates the demo signed.
    fn made_certificates(&self) -> BTreeSet<String> {
        let gateways = self.plan.gateways.iter();
        gateways
            .flat_map(|gateway| {
                gateway.credentials.iter().map(|credential| format!("{}/{}", gateway.namespace, credential.name))
            })
            .collect()
    }

    /// A plain-text request to the sidecar of a pod, which STRICT refuses.
    fn refusal(&self, index: usize, pod: &PodPlan, snapshot: &Snapshot) -> Option<Step> {
        let (_, port) = pod.ports.first()?;
        let strict = snapshot.inbound.as_ref()?.mtls(*port) == MtlsMode::Strict;
        let url = format!("http://{}:{port}/", self.addresses.pod(index));
        strict.then(|| Step {
            expect: format!("refused with a reset: the sidecar of {} is STRICT and this is plain text", pod.name),
            command: format!("curl -sS {url}"),
            url,
        })
    }

    /// What one workload sees of another, through the sidecars of both.
    fn between_workloads(&self) -> Option<Step> {
        let from = self.plan.pods.iter().rposition(|pod| pod.sidecar)?;
        let caller = &self.plan.pods[from];
        let speaks_http = |pod: &&PodPlan| pod.sidecar && pod.application.bytes.is_empty();
        let callee = self.plan.pods.iter().filter(speaks_http).find(|pod| pod.service != caller.service)?;
        let service = self.resources.services.get(&callee.namespace, &callee.service)?;
        let port = service.spec.spec.ports.first()?.port;
        let host = match callee.namespace == caller.namespace {
            true => callee.service.clone(),
            false => format!("{}.{}", callee.service, callee.namespace),
        };
        let url = format!("http://{}:{}/", self.addresses.pod(from), ports::OUTBOUND);
        let Compiled { snapshot, .. } = compile(self.resources, &sidecar_proxy(callee));
        let peer = format!("spiffe://{TRUST_DOMAIN}/ns/{}/sa/{}", caller.namespace, caller.service_account);
        let own = snapshot.inbound.iter().flat_map(|inbound| inbound.ports.keys()).next().copied();
        let asked = policies::method(&snapshot, &peer, &format!("{host}:{port}"), own.unwrap_or(port));
        let by = match asked {
            Some("GET") => String::new(),
            method => format!(" -X {}", method.unwrap_or("GET")),
        };
        let sees = match asked {
            Some(_) => "which sees in `peer` who called",
            None => "which policies do not allow: 403",
        };
        let expect = format!("{} calls {}, {sees}", caller.name, callee.service);
        Some(match self.inside(from) {
            Some(inside) => {
                let url = format!("http://{host}:{port}/");
                Step { expect, command: format!("{inside} curl -sS{by} {url}"), url }
            }
            None => Step { expect, command: format!("curl -sS{by} -H 'Host: {host}:{port}' {url}"), url },
        })
    }

    /// The same for what speaks no HTTP, where its traffic is captured.
    fn bytes_between_workloads(&self) -> Option<Step> {
        let pods = || self.plan.pods.iter().enumerate().filter(|(_, pod)| pod.sidecar);
        let (_, callee) = pods().find(|(_, pod)| !pod.application.bytes.is_empty())?;
        let (from, caller) =
            pods().find(|(_, pod)| pod.namespace == callee.namespace && pod.service != callee.service)?;
        let port = callee.application.bytes.first()?;
        let url = format!("{}{}:{port}", bytes::SCHEME, callee.service);
        let inside = self.inside(from)?;
        Some(Step {
            expect: format!("{} calls {}, which has the first word", caller.name, callee.service),
            command: format!(r"printf 'hello\nquit\n' | {inside} curl -sS {url}"),
            url,
        })
    }

    /// How a command begins that is run in a pod whose traffic is captured.
    fn inside(&self, index: usize) -> Option<String> {
        let process = self.addresses.namespace(index)?;
        Some(format!("nsenter --target {process} --net --mount"))
    }

    fn metrics(&self, edge: &[Step]) -> Step {
        let url = format!("http://{}:{}/stats/prometheus", self.addresses.gateway(0), ports::STATS);
        let is_bytes = |step: &Step| step.url.starts_with(bytes::SCHEME);
        let name = match !edge.is_empty() && edge.iter().all(is_bytes) {
            true => "istio_tcp_connections_opened_total",
            false => "istio_requests_total",
        };
        Step {
            expect: "the gateway's metrics, under Istio's names".to_owned(),
            command: format!("curl -sS {url} | grep {name}"),
            url,
        }
    }

    fn state_path(&self, name: &str) -> String {
        self.state.path(name).display().to_string()
    }
}

/// One host on one listener.
struct Place<'a> {
    snapshot: &'a Snapshot,
    listener: &'a Listener,
    at: IpAddr,
    port: u16,
    host: String,
    bearers: &'a [Bearer],
}

impl Place<'_> {
    fn scheme(&self) -> &'static str {
        if self.listener.tls.is_some() { "https" } else { "http" }
    }

    fn server(&self) -> Option<&TlsServer> {
        let tls = self.listener.tls.as_ref()?;
        tls.by_sni.get(&self.host).and_then(|index| tls.servers.get(*index))
    }
}

/// Whether curl is served: HTTP for others than the mesh's own proxies.
fn is_for_people(server: &TlsServer) -> bool {
    matches!(server.content, Content::Http) && !matches!(server.settings.client, ClientAuth::Mesh { .. })
}

/// The clusters of a route where somebody is.
fn ready<'s>(snapshot: &'s Snapshot, to: &Destinations) -> Vec<&'s Arc<Cluster>> {
    let clusters = to.all.iter().filter_map(|to| to.cluster).map(|id| snapshot.cluster(id));
    clusters.filter(|cluster| !cluster.endpoints.is_empty()).collect()
}

/// Their services, each once.
fn names(clusters: &[&Arc<Cluster>]) -> String {
    let mut names: Vec<&str> = clusters.iter().map(|cluster| &*cluster.service_name).collect();
    names.dedup();
    names.join(" or ")
}

/// A host that a pattern matches.
fn concrete(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Any => "localhost".to_owned(),
        HostPattern::Suffix(suffix) => format!("www{suffix}"),
        HostPattern::Exact(host) => host.to_string(),
    }
}

fn gateway_proxy(gateway: &GatewayPlan) -> Proxy {
    Proxy {
        role: Role::Gateway,
        name: gateway.name.clone(),
        namespace: gateway.namespace.clone(),
        labels: gateway.labels.clone(),
        service_account: gateway.service_account.clone(),
        trust_domain: TRUST_DOMAIN.to_owned(),
        ..Proxy::default()
    }
}

fn sidecar_proxy(pod: &PodPlan) -> Proxy {
    Proxy {
        role: Role::Sidecar { namespace: pod.namespace.clone(), workload: pod.name.clone() },
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        labels: pod.labels.clone(),
        service_account: pod.service_account.clone(),
        trust_domain: TRUST_DOMAIN.to_owned(),
        ..Proxy::default()
    }
}

/// As one word of a shell command.
fn quoted(text: &str) -> String {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/:._-+=@%,".contains(c));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// For each gateway: enough to see the idea, a folder may have thousands.
const MOST_ROUTES: usize = 8;

#[cfg(test)]
mod tests;
