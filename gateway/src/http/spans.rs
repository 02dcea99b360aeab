//! From a finished exchange to its spans: Envoy's tags under Envoy's names, and Istio's.

use std::{sync::Arc, time::UNIX_EPOCH};

use routing::{
    api::telemetry::WorkloadMode,
    request::Headers as _,
    snapshot::Workload,
    telemetry::tracing::{Tag, Tracing},
};

use super::{
    exchange::{Exchange, Heads, Target},
    failure::Failure,
    name::Name,
    record,
    told::Told,
    trace::{self, Trace},
};
use crate::{
    net::facts::Arrival,
    telemetry::{
        Telemetry,
        exports::{Destination, Item, Span},
        labels::cluster_of,
    },
};

/// The longest value of a tag that a client chooses, in bytes.
const LONGEST: usize = 1024;

/// Tells of a request that is traced.
pub(super) fn finish(telemetry: &Telemetry, exchange: &Exchange, heads: &Heads) {
    let Some((trace, teller)) = Teller::of(telemetry, exchange, heads) else { return };
    let end = End { status: exchange.status, flags: record::flags(exchange), grpc: exchange.grpc_status };
    // There is none of an endpoint that nobody has chosen.
    let called =
        exchange.upstream.is_some() || matches!(exchange.failure, Some(Failure::Connect(_) | Failure::ConnectTimeout));
    if trace.next != trace.span && called {
        teller.push(telemetry, teller.call(&trace, &end));
    }
    teller.push(telemetry, teller.whole(&trace, &end));
}

/// Tells of a try that another one follows; `failure`: why there was no answer to it.
pub(super) fn tried(telemetry: &Telemetry, exchange: &Exchange, heads: &Heads, failure: Option<&Failure>) {
    let Some((trace, teller)) = Teller::of(telemetry, exchange, heads) else { return };
    if trace.next == trace.span {
        return;
    }
    let end = match failure {
        Some(failure) => End { status: 0, flags: failure.answer().flag, grpc: None },
        None => End { status: heads.response.status, flags: "-", grpc: exchange.grpc_status },
    };
    teller.push(telemetry, teller.call(&trace, &end));
}

/// How a request or a try ended.
struct End {
    /// 0 = without an answer.
    status: u16,
    flags: &'static str,
    grpc: Option<u16>,
}

struct Teller<'a> {
    exchange: &'a Exchange,
    heads: &'a Heads,
    tracing: &'a Tracing,
    to: Arc<Destination>,
}

/// Tags that are being gathered.
#[derive(Default)]
struct Tags(Vec<(Arc<str>, String)>);

impl Tags {
    fn add(&mut self, name: &str, value: impl Into<String>) {
        let mut value: String = value.into();
        value.truncate(cut(&value, LONGEST).len());
        self.0.push((name.into(), value));
    }
}

impl<'a> Teller<'a> {
    /// `None`: the request's spans are not told.
    fn of(telemetry: &Telemetry, exchange: &'a Exchange, heads: &'a Heads) -> Option<(Trace, Self)> {
        let trace = exchange.trace.filter(|trace| trace.sampled)?;
        let tracing = trace::tracing(exchange)?;
        let to = telemetry.collector(&exchange.installed, trace::side(exchange))?;
        Some((trace, Self { exchange, heads, tracing, to }))
    }

    fn push(&self, telemetry: &Telemetry, span: Span) {
        telemetry.exports.push(Item::span(Arc::clone(&self.to), Box::new(span)));
    }

    /// The whole request.
    fn whole(&self, trace: &Trace, end: &End) -> Span {
        let exchange = self.exchange;
        let side = trace::side(exchange);
        let request = &self.heads.request;
        let mut tags = Tags::default();
        tags.add("node_id", &*self.to.node);
        tags.add("guid:x-request-id", self.sent(Name::XRequestId));
        // It has a limit of its own, which the settings say.
        tags.0.push(("http.url".into(), self.url()));
        tags.add("http.method", request.method());
        tags.add("downstream_cluster", "-");
        tags.add("user_agent", or_dash(request.str(Name::UserAgent).unwrap_or_default()));
        tags.add("http.protocol", record::protocol(request.version));
        tags.add("peer.address", exchange.facts.remote.ip().to_canonical().to_string());
        tags.add("request_size", exchange.request.bytes.to_string());
        tags.add("response_size", exchange.response.bytes.to_string());
        self.grpc(&mut tags);
        let error = self.outcome(&mut tags, end);
        self.istios(&mut tags);
        self.custom(&mut tags);
        Span {
            trace: trace.id,
            id: trace.span,
            parent: trace.parent,
            // Of a sidecar's outbound side the application is the one that calls.
            server: side == WorkloadMode::Server || matches!(exchange.arrival(), Arrival::Gateway { .. }),
            name: self.name(),
            start: exchange.start.duration_since(UNIX_EPOCH).unwrap_or_default(),
            duration: exchange.started.elapsed(),
            tags: tags.0,
            error,
        }
    }

    /// What a gateway has asked of an endpoint, in the current try.
    fn call(&self, trace: &Trace, end: &End) -> Span {
        let exchange = self.exchange;
        let mut tags = Tags::default();
        let upstream = exchange.upstream.as_ref().map(|facts| facts.remote);
        if upstream.is_some() {
            tags.add("http.protocol", record::upstream_protocol(exchange));
        }
        if let Some(endpoint) = upstream.or_else(|| record::tried(exchange)) {
            tags.add("upstream_address", endpoint.to_string());
            tags.add("peer.address", endpoint.to_string());
        }
        if exchange.tries.count > 1 {
            tags.add("retry.count", (exchange.tries.count - 1).to_string());
        }
        let error = self.outcome(&mut tags, end);
        let begun = trace.begun.unwrap_or(exchange.started);
        let start = exchange.start.duration_since(UNIX_EPOCH).unwrap_or_default();
        Span {
            trace: trace.id,
            id: trace.next,
            parent: trace.span,
            server: false,
            name: format!("router {} egress", record::cluster(exchange, &mut String::new())),
            start: start.saturating_add(begun.saturating_duration_since(exchange.started)),
            duration: begun.elapsed(),
            tags: tags.0,
            error,
        }
    }

    /// What Envoy and Istio call it: where it goes, as the route says.
    fn name(&self) -> String {
        let exchange = self.exchange;
        let inbound = matches!(exchange.arrival(), Arrival::Inbound { .. });
        if let Some(Target::Cluster { upstream, .. }) = &exchange.target {
            return upstream.decorator.to_str().unwrap_or_default().to_owned();
        }
        // The sender has said what it is to him.
        if let Some(said) =
            self.heads.request.str(Name::XEnvoyDecorator).filter(|_| inbound && exchange.facts.proven().is_some())
        {
            let mut said = said.to_owned();
            said.truncate(cut(&said, LONGEST).len());
            return said;
        }
        match &exchange.target {
            Some(Target::Direct { port: Some(port), address, .. }) if !port.service_host.is_empty() => {
                format!("{}:{}/*", port.service_host, address.port())
            }
            _ if inbound => "ingress".to_owned(),
            _ => format!("egress {}", self.heads.request.authority()),
        }
    }

    fn sent(&self, name: Name) -> &str {
        let heads = self.heads;
        heads.sent.str(name).or_else(|| heads.request.str(name)).unwrap_or_default()
    }

    /// As the client has asked for it, with a path that may be cut.
    fn url(&self) -> String {
        let request = &self.heads.request;
        let target = request.target();
        let path = cut(target, self.tracing.longest_path);
        format!("{}://{}{path}", self.exchange.scheme(), request.authority())
    }

    /// How it ended; `true`: badly.
    fn outcome(&self, tags: &mut Tags, end: &End) -> bool {
        let exchange = self.exchange;
        tags.add("upstream_cluster", or_dash(record::cluster(exchange, &mut String::new())));
        tags.add("upstream_cluster.name", or_dash(record::cluster(exchange, &mut String::new())));
        tags.add("http.status_code", end.status.to_string());
        tags.add("response_flags", end.flags);
        tags.add("component", "proxy");
        // Of gRPC's statuses those that are a server's fault.
        let failed = matches!(end.grpc, Some(2 | 4 | 12..=15));
        let error = end.status == 0 || end.status >= 500 || failed;
        if error {
            tags.add("error", "true");
        }
        error
    }

    fn grpc(&self, tags: &mut Tags) {
        if !self.exchange.grpc {
            return;
        }
        let request = &self.heads.request;
        tags.add("grpc.path", request.path());
        tags.add("grpc.authority", request.authority());
        tags.add("grpc.content_type", request.str(Name::ContentType).unwrap_or_default());
        if let Some(status) = self.exchange.grpc_status {
            tags.add("grpc.status_code", status.to_string());
        }
    }

    /// Istio's own.
    fn istios(&self, tags: &mut Tags) {
        if !self.tracing.istio_tags {
            return;
        }
        let own: &Workload = &self.exchange.installed.snapshot.workload;
        tags.add("istio.canonical_revision", or(&own.canonical_revision, "latest"));
        tags.add("istio.canonical_service", or(&own.canonical_service, "unknown"));
        tags.add("istio.mesh_id", or(&self.to.mesh, "unknown"));
        tags.add("istio.namespace", or(&own.namespace, "default"));
        tags.add("istio.cluster_id", cluster_of(own));
        if let Some(judgement) = self.exchange.tried.as_deref() {
            let verdicts = [("allow", &judgement.tried_allow), ("deny", &judgement.tried_deny)];
            for (kind, trial) in verdicts.into_iter().filter_map(|(kind, trial)| Some((kind, trial.as_ref()?))) {
                tags.add(&format!("istio.authorization.dry_run.{kind}_policy.name"), &*trial.rule);
                let result = if trial.denied { "denied" } else { "allowed" };
                tags.add(&format!("istio.authorization.dry_run.{kind}_policy.result"), result);
            }
        }
    }

    fn custom(&self, tags: &mut Tags) {
        let told = Told::of_ended(self.exchange, self.heads);
        for (name, tag) in &self.tracing.tags {
            let value = match tag {
                Tag::Literal(text) => text.to_string(),
                Tag::Environment(variable, fallback) => {
                    std::env::var(&**variable).unwrap_or_else(|_| fallback.to_string())
                }
                Tag::Header(header, fallback) => {
                    // What a client must not say has been taken away there.
                    let value = self.heads.told().nth(header, 0);
                    value.map_or_else(|| fallback.to_string(), |value| String::from_utf8_lossy(value).into_owned())
                }
                Tag::Format(template) => {
                    let mut text = Vec::new();
                    template.fill(&told, "-", &mut text);
                    String::from_utf8_lossy(&text).into_owned()
                }
            };
            // Envoy leaves out what there is none of.
            if !value.is_empty() {
                tags.add(name, value);
            }
        }
    }
}

/// The beginning of a text, of so many bytes at most.
fn cut(text: &str, longest: usize) -> &str {
    let mut end = longest.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn or<'t>(text: &'t str, fallback: &'t str) -> &'t str {
    if text.is_empty() { fallback } else { text }
}

fn or_dash(text: &str) -> &str {
    or(text, "-")
}
