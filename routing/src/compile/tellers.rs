//! Providers that are told of requests: whose spans and lines go to which service, file or stream.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{context::Context, external, report::BAD_VALUE};
use crate::{
    api::{
        ProtoDuration, Telemetry,
        extension_provider::{ExtensionProvider, LogForm, OpenTelemetry, OtelAccessLog, TraceContext, Zipkin},
        telemetry::WorkloadMode,
    },
    attributes::Expression,
    log_format::LogFormat,
    resources::Object,
    telemetry::{
        Defaults, Level, Sides,
        access_log::{self, ENVOY, Log, STDOUT, To},
        tracing::{self, Collector, Context as Passed, Form, LONGEST_PATH, Tag, Tracing},
    },
    template::Template,
};

/// Istio's, where a collector by OTLP does not say.
const OTLP_TIMEOUT: Duration = Duration::from_secs(3);
/// Envoy's, where Zipkin does not say.
const ZIPKIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Whose providers are looked up.
pub(super) struct Own<'a, 'r> {
    pub(super) context: &'a Context<'r>,
    /// What the proxy is called by those who are told.
    pub(super) name: Arc<str>,
}

/// How requests are traced.
pub(super) fn traced(own: &Own<'_, '_>, levels: &[Level], defaults: &Defaults) -> Sides<Arc<Tracing>> {
    // `enableTracing` does not matter: in Istio it is asked where neither a Telemetry nor `defaultProviders` names anybody, and
    // then nobody is told here either way.
    let mesh = &own.context.proxy.mesh;
    let side = |side| {
        let settings = (mesh.proxy.tracing.as_ref(), own.context.proxy.trace_share);
        let terms = tracing::resolve(levels, settings, &defaults.tracing, side)?;
        one(own, &terms).map(Arc::new)
    };
    Sides { client: side(WorkloadMode::Client), server: side(WorkloadMode::Server) }
}

fn one(own: &Own<'_, '_>, terms: &tracing::Terms) -> Option<Tracing> {
    let (provider, index) = find(own.context, &terms.provider)?;
    let (form, longest) = match (&provider.opentelemetry, &provider.zipkin) {
        (Some(otel), _) => (Passed::W3c, otel.max_tag_length),
        (None, Some(zipkin)) => match zipkin.trace_context_option {
            TraceContext::UseB3 => (Passed::B3, zipkin.max_tag_length),
            TraceContext::UseB3WithW3cPropagation => (Passed::Both, zipkin.max_tag_length),
        },
        // Whoever names it is told that spans are not sent there.
        (None, None) => return None,
    };
    let collector = if terms.reports {
        let found = match (&provider.opentelemetry, &provider.zipkin) {
            (Some(otel), _) => of_otel(own, (&provider.name, index), otel),
            (None, Some(zipkin)) => of_zipkin(own, (&provider.name, index), zipkin),
            (None, None) => None,
        };
        found.map(Arc::new)
    } else {
        None
    };
    let longest = longest.map(|length| length as usize).filter(|length| *length > 0);
    let tags = terms.tags.iter().filter_map(|(name, tag)| Some((name.as_str().into(), Tag::of(tag)?)));
    Some(Tracing {
        share: terms.share,
        propagates: terms.propagates,
        by_request_id: terms.by_request_id,
        istio_tags: terms.istio_tags,
        tags: tags.collect(),
        longest_path: longest.or(terms.longest_path).unwrap_or(LONGEST_PATH),
        context: form,
        short_ids: provider.zipkin.as_ref().is_some_and(|zipkin| zipkin.enable_64bit_trace_id),
        collector,
    })
}

fn find<'a>(context: &Context<'a>, name: &str) -> Option<(&'a ExtensionProvider, usize)> {
    let all = &context.proxy.mesh.config.extension_providers;
    let index = all.iter().position(|one| one.name == name)?;
    Some((&all[index], index))
}

fn of_otel(own: &Own<'_, '_>, (name, index): (&str, usize), otel: &OpenTelemetry) -> Option<Collector> {
    let field = format!("extensionProviders[{index}].opentelemetry");
    let lost = format!("so `{name}` gets no spans");
    let cluster = external::service(own.context, (&otel.service, otel.port), &field, &lost)?;
    let (form, wait, headers) = match (&otel.http, &otel.grpc) {
        (Some(http), _) => (Form::Http(http.path.as_str().into()), http.timeout, http.headers.clone()),
        (None, Some(grpc)) => (Form::Grpc, grpc.timeout, grpc.initial_metadata.clone()),
        (None, None) => (Form::Grpc, None, Vec::new()),
    };
    let environment = otel.resource_detectors.as_ref().is_some_and(|all| all.contains_key("environment"));
    let timeout = timeout(wait, OTLP_TIMEOUT);
    let service_name = Arc::clone(&own.name);
    Some(Collector { provider: name.into(), cluster, form, timeout, headers, service_name, environment })
}

fn of_zipkin(own: &Own<'_, '_>, (name, index): (&str, usize), zipkin: &Zipkin) -> Option<Collector> {
    let field = format!("extensionProviders[{index}].zipkin");
    let lost = format!("so `{name}` gets no spans");
    let cluster = external::service(own.context, (&zipkin.service, zipkin.port), &field, &lost)?;
    let path = zipkin.path.as_deref().unwrap_or("/api/v2/spans").into();
    Some(Collector {
        provider: name.into(),
        cluster,
        form: Form::Zipkin(path),
        timeout: timeout(zipkin.timeout, ZIPKIN_TIMEOUT),
        headers: zipkin.headers.clone(),
        service_name: Arc::clone(&own.name),
        environment: false,
    })
}

fn timeout(written: Option<ProtoDuration>, default: Duration) -> Duration {
    written.map(Duration::from).filter(|time| !time.is_zero()).unwrap_or(default)
}

/// Who gets lines; `None`: what the mesh configuration says beside Telemetry.
pub(super) fn logged(own: &Own<'_, '_>, levels: &[Level], defaults: &Defaults) -> Option<Sides<Box<[Log]>>> {
    let side = |side| {
        let found = access_log::resolve(levels, &defaults.access_logging, side)?;
        Some(logs(own, &found))
    };
    let (client, server) = (side(WorkloadMode::Client), side(WorkloadMode::Server));
    (client.is_some() || server.is_some()).then_some(Sides { client, server })
}

fn logs(own: &Own<'_, '_>, found: &BTreeMap<String, access_log::Terms>) -> Box<[Log]> {
    let told = found.iter().filter(|(_, terms)| !terms.disabled);
    told.filter_map(|(name, terms)| {
        let filter = match &terms.filter {
            // One that cannot be read lets nothing pass; the object's own check tells.
            Some(text) => Some(Expression::condition(text).ok()?),
            None => None,
        };
        let (format, to) = match find(own.context, name) {
            Some((provider, index)) => destination(own, provider, index)?,
            None if name == ENVOY => (None, To::File(STDOUT.into())),
            None => return None,
        };
        Some(Log { filter, format, to })
    })
    .collect()
}

fn destination(own: &Own<'_, '_>, provider: &ExtensionProvider, index: usize) -> Option<(Option<LogFormat>, To)> {
    if let Some(file) = &provider.envoy_file_access_log {
        let path = file.path.as_deref().unwrap_or(STDOUT);
        return Some((file.log_format.as_ref().and_then(format), To::File(path.into())));
    }
    of_otel_log(own, (&provider.name, index), provider.envoy_otel_als.as_ref()?)
}

fn of_otel_log(
    own: &Own<'_, '_>,
    (name, index): (&str, usize),
    log: &OtelAccessLog,
) -> Option<(Option<LogFormat>, To)> {
    let field = format!("extensionProviders[{index}].envoyOtelAls");
    let lost = format!("so `{name}` gets no access log");
    let cluster = external::service(own.context, (&log.service, log.port), &field, &lost)?;
    let collector = Arc::new(Collector {
        provider: name.into(),
        cluster,
        form: Form::Grpc,
        timeout: OTLP_TIMEOUT,
        headers: Vec::new(),
        service_name: Arc::clone(&own.name),
        environment: false,
    });
    let body = log.log_format.as_ref().and_then(|form| form.text.as_deref());
    let format = body.and_then(|text| LogFormat::parse(text, false).ok()).map(|(format, _)| format);
    let labels = log.log_format.as_ref().and_then(|form| form.labels.as_ref()?.as_object());
    let attributes = labels.into_iter().flatten().filter_map(|(key, value)| {
        let (template, _) = Template::parse_for_log(value.as_str()?).ok()?;
        Some((key.as_str().into(), template))
    });
    let attributes = attributes.collect();
    let name = log.log_name.as_deref().unwrap_or("otel_envoy_accesslog").into();
    Some((format, To::Otlp { collector, name, attributes }))
}

fn format(form: &LogForm) -> Option<LogFormat> {
    let parsed = match (&form.text, &form.labels) {
        (Some(text), _) => LogFormat::parse(text, false),
        (None, Some(labels)) => LogFormat::parse(&labels.to_string(), true),
        (None, None) => return None,
    };
    // One that cannot be read is told of where the mesh configuration is checked.
    parsed.ok().map(|(format, _)| format)
}

/// Providers that a Telemetry names and that take nothing of what it sends them.
pub(super) fn review(context: &Context<'_>, object: &Object<Telemetry>) {
    let tell = |field: &str, name: &str, wanted: &str| {
        let Some((provider, _)) = find(context, name) else { return };
        let kind = provider.unused().next().unwrap_or("another one");
        let message = format!("`{name}` gets nothing: it is of the kind {kind}, and {wanted} is wanted here");
        context.report.warning(object, BAD_VALUE, field, message);
    };
    for (number, entry) in object.spec.tracing.iter().enumerate() {
        for (index, provider) in entry.providers.iter().enumerate() {
            let takes =
                find(context, &provider.name).is_some_and(|(it, _)| it.opentelemetry.is_some() || it.zipkin.is_some());
            if !takes {
                let field = format!("spec.tracing[{number}].providers[{index}].name");
                tell(&field, &provider.name, "opentelemetry or zipkin");
            }
        }
    }
    for (number, entry) in object.spec.access_logging.iter().enumerate() {
        for (index, provider) in entry.providers.iter().enumerate() {
            let takes = find(context, &provider.name)
                .is_some_and(|(it, _)| it.envoy_file_access_log.is_some() || it.envoy_otel_als.is_some());
            if !takes {
                let field = format!("spec.accessLogging[{number}].providers[{index}].name");
                tell(&field, &provider.name, "envoyFileAccessLog or envoyOtelAls");
            }
        }
    }
}
