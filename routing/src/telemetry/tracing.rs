//! How requests are traced, and who gets their spans.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::HeaderName;

use super::Level;
use crate::{
    api::{
        extension_provider::HttpHeader,
        proxy_config::{ProxyTracing, TracingServiceName},
        telemetry::{CustomTag, WorkloadMode},
    },
    template::Template,
    upstream::ClusterId,
};

/// Parts of a request that is traced by chance are counted in: a hundredth of a percent.
pub const SHARES: u32 = 10_000;
/// Istio's share where nothing is said: 1 %.
const SHARE: f64 = 1.0;
/// Envoy's longest path in a tag.
pub const LONGEST_PATH: usize = 256;

/// What holds on one side of a proxy, without whom its spans go to.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Name of who gets the spans.
    pub provider: String,
    /// So many of [`SHARES`] requests are traced whose sender has not decided it.
    pub share: u32,
    /// Spans are sent.
    pub reports: bool,
    /// Requests go on with headers of their trace.
    pub propagates: bool,
    /// `x-request-id` tells of the decision.
    pub by_request_id: bool,
    /// Istio's own tags are there.
    pub istio_tags: bool,
    /// Tags besides the usual ones.
    pub tags: BTreeMap<String, CustomTag>,
    /// Longest path in a tag, when the proxy's settings say it.
    pub longest_path: Option<usize>,
}

/// How requests are traced on one side of a proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// See [`Terms::share`].
    pub share: u32,
    /// See [`Terms::propagates`].
    pub propagates: bool,
    /// See [`Terms::by_request_id`].
    pub by_request_id: bool,
    /// See [`Terms::istio_tags`].
    pub istio_tags: bool,
    /// Tags besides the usual ones.
    pub tags: Box<[(Arc<str>, Tag)]>,
    /// Longest path in a tag, in bytes.
    pub longest_path: usize,
    /// By which headers traces are passed on.
    pub context: Context,
    /// Ids of traces that begin here have 64 bits, and else 128.
    pub short_ids: bool,
    /// Who gets the spans; `None` = nobody.
    pub collector: Option<Arc<Collector>>,
}

/// A tag of one's own.
#[derive(Clone, Debug, PartialEq)]
pub enum Tag {
    /// Always the same.
    Literal(Box<str>),
    /// A variable of the proxy's environment, or this.
    Environment(Box<str>, Box<str>),
    /// A header of the request, or this.
    Header(HeaderName, Box<str>),
    /// With commands.
    Format(Template),
}

/// Headers by which traces are passed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Context {
    /// `traceparent`.
    W3c,
    /// `x-b3-...`.
    B3,
    /// Both.
    Both,
}

/// Who is told, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Collector {
    /// Name of the provider.
    pub provider: Arc<str>,
    /// Its service.
    pub cluster: ClusterId,
    /// What it speaks.
    pub form: Form,
    /// It answers within this time.
    pub timeout: Duration,
    /// Headers that it is sent besides.
    pub headers: Vec<HttpHeader>,
    /// What the proxy is called.
    pub service_name: Arc<str>,
    /// The environment tells of the proxy, too (`OTEL_RESOURCE_ATTRIBUTES`).
    pub environment: bool,
}

/// What a collector speaks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Form {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP, at this path.
    Http(Box<str>),
    /// Zipkin's JSON, at this path.
    Zipkin(Box<str>),
}

/// What levels mean together on one side; `None`: nobody gets spans, and requests are not traced.
///
/// As in Istio: each field is what the narrowest level says that says it, then what the proxy's settings say. `usual`: the
/// share where nobody does.
pub fn resolve(
    levels: &[Level],
    (proxy, usual): (Option<&ProxyTracing>, Option<u32>),
    default: &[String],
    side: WorkloadMode,
) -> Option<Terms> {
    let mut provider = default.first().cloned();
    let said = proxy.and_then(|proxy| proxy.sampling).map(share);
    let mut terms = Terms {
        provider: String::new(),
        share: said.or(usual).unwrap_or_else(|| share(SHARE)),
        reports: true,
        propagates: true,
        by_request_id: true,
        istio_tags: true,
        tags: proxy.map(|proxy| proxy.custom_tags.clone()).unwrap_or_default(),
        longest_path: proxy.and_then(|proxy| proxy.max_path_tag_length).map(|length| length as usize),
    };
    for level in levels {
        let Some(entry) = level.spec.tracing.first() else { continue };
        if !entry.matches.unwrap_or_default().mode.covers(side) {
            continue;
        }
        if let Some(first) = entry.providers.first() {
            provider = Some(first.name.clone());
        }
        terms.share = entry.random_sampling_percentage.map_or(terms.share, share);
        terms.reports = entry.disable_span_reporting.map_or(terms.reports, |disabled| !disabled);
        terms.propagates = entry.disable_context_propagation.map_or(terms.propagates, |disabled| !disabled);
        terms.by_request_id = entry.use_request_id_for_trace_sampling.unwrap_or(terms.by_request_id);
        terms.istio_tags = entry.enable_istio_tags.unwrap_or(terms.istio_tags);
        if !entry.custom_tags.is_empty() {
            terms.tags.clone_from(&entry.custom_tags);
        }
    }
    terms.provider = provider?;
    Some(terms)
}

/// A percentage as Envoy keeps it.
pub fn share(percentage: f64) -> u32 {
    // A cast of Rust stays within the borders.
    ((percentage * f64::from(SHARES) / 100.0).round() as u32).min(SHARES)
}

impl Tag {
    /// Of what is written; `None`: it is nothing, which the object's own check tells.
    pub fn of(written: &CustomTag) -> Option<Self> {
        if let Some(literal) = &written.literal {
            return Some(Self::Literal(literal.value.as_str().into()));
        }
        if let Some(variable) = &written.environment {
            return Some(Self::Environment(variable.name.as_str().into(), variable.default_value.as_str().into()));
        }
        if let Some(header) = &written.header {
            let name = HeaderName::try_from(header.name.as_str()).ok()?;
            return Some(Self::Header(name, header.default_value.as_str().into()));
        }
        let (template, _) = Template::parse_for_log(&written.formatter.as_ref()?.value).ok()?;
        Some(Self::Format(template))
    }
}

/// What traces call a proxy, as Istio's proxies call themselves.
pub fn service_name(how: TracingServiceName, workload: &crate::snapshot::Workload) -> String {
    let canonical = &workload.canonical_service;
    let namespace = &workload.namespace;
    match how {
        TracingServiceName::CanonicalNameOnly => canonical.to_string(),
        TracingServiceName::CanonicalNameAndNamespace => format!("{canonical}.{namespace}"),
        TracingServiceName::AppLabelAndNamespace => {
            let fallback = if workload.name.is_empty() { "istio-proxy" } else { &workload.name };
            let name = if workload.app.is_empty() { fallback } else { &workload.app };
            format!("{name}.{namespace}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;

    fn level(yaml: serde_json::Value) -> Level {
        let spec: api::Telemetry = serde_json::from_value(yaml).unwrap();
        Level { namespace: "n".into(), name: "t".into(), spec }
    }

    #[test]
    fn each_field_is_what_the_narrowest_level_says() {
        let levels = [
            level(
                serde_json::json!({"tracing": [{"providers": [{"name": "wide"}], "randomSamplingPercentage": 10.0}]}),
            ),
            level(serde_json::json!({"tracing": [{"randomSamplingPercentage": 0.25, "disableSpanReporting": true}]})),
            level(serde_json::json!({"tracing": [{"match": {"mode": "SERVER"}, "enableIstioTags": false}]})),
        ];
        let client = resolve(&levels, (None, None), &[], WorkloadMode::Client).unwrap();
        assert_eq!(
            (client.provider.as_str(), client.share, client.reports, client.istio_tags),
            ("wide", 25, false, true)
        );
        let server = resolve(&levels, (None, None), &[], WorkloadMode::Server).unwrap();
        assert!(!server.istio_tags && server.propagates && server.by_request_id);
    }

    #[test]
    fn nobody_is_told_without_a_provider_and_one_percent_otherwise() {
        assert_eq!(resolve(&[], (None, None), &[], WorkloadMode::Client), None);
        let terms = resolve(&[], (None, None), &["otel".to_owned()], WorkloadMode::Client).unwrap();
        assert_eq!((terms.share, terms.reports), (100, true));
        let proxy = ProxyTracing { sampling: Some(50.0), ..ProxyTracing::default() };
        let terms = resolve(&[], (Some(&proxy), Some(7)), &["otel".to_owned()], WorkloadMode::Client).unwrap();
        assert_eq!(terms.share, 5000);
        let silent = ProxyTracing::default();
        let terms = resolve(&[], (Some(&silent), Some(7)), &["otel".to_owned()], WorkloadMode::Client).unwrap();
        assert_eq!(terms.share, 7);
        assert_eq!((share(0.001), share(0.01), share(100.0), share(250.0)), (0, 1, SHARES, SHARES));
    }
}
