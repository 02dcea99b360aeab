//! Telemetry objects to what holds at a proxy: of the root namespace, of the own one, and what picks the workload, in this
//! order; of several at one level the oldest.

use std::sync::Arc;

use super::{context::Context, report::UNSUPPORTED, selection::Workload, tellers};
use crate::{
    api::{self, telemetry::WorkloadMode},
    resources::Object,
    snapshot,
    telemetry::{Defaults, Level, Providers, Telemetry, metrics, tracing},
};

/// A provider that nobody has defined.
const UNKNOWN_PROVIDER: &str = "unknown-provider";
/// Another object of the same reach is older.
const SHADOWED: &str = "shadowed-telemetry";

/// `None`: everything is as usual.
pub(super) fn compile(context: &Context<'_>, own: &snapshot::Workload) -> Option<Box<Telemetry>> {
    let workload = Workload::of(context.proxy);
    let levels: Vec<Level> = holding(context, &workload).into_iter().map(level).collect();
    let defaults = defaults(context);
    if levels.is_empty() && defaults == Defaults::default() {
        return None;
    }
    let providers = providers(context);
    let side = |side| metrics::resolve(&levels, &providers, &defaults.metrics, side).map(Arc::new);
    let (client, server) = (side(WorkloadMode::Client), side(WorkloadMode::Server));
    let name = tracing::service_name(context.proxy.mesh.proxy.tracing_service_name.unwrap_or_default(), own).into();
    let own = tellers::Own { context, name };
    let (traced, logged) = (tellers::traced(&own, &levels, &defaults), tellers::logged(&own, &levels, &defaults));
    Some(Box::new(Telemetry { client, server, levels, defaults, traced, logged }))
}

/// The objects that hold at a workload, the widest first.
pub(super) fn holding<'a>(context: &Context<'a>, workload: &Workload<'_>) -> Vec<&'a Object<api::Telemetry>> {
    let root = &context.proxy.root_namespace;
    let own = workload.namespace();
    let all = || context.resources.telemetries.iter().map(|object| &**object);
    let wide = |namespace: &str| all().find(|it| it.namespace() == namespace && it.spec.is_wide());
    let picked = |object: &Object<api::Telemetry>| {
        let spec = &object.spec;
        // A selector holds in its own namespace alone, in the root namespace, too.
        object.namespace() == own
            && !spec.is_wide()
            && workload.is_picked(object.namespace(), spec.selector.as_ref(), spec.targets())
    };
    let selected = all().find(|it| picked(it) && it.spec.targets().next().is_none());
    let attached = all().find(|it| picked(it) && it.spec.targets().next().is_some());
    let own_wide = if own == root { None } else { wide(own) };
    [wide(root), own_wide, selected, attached].into_iter().flatten().collect()
}

fn level(object: &Object<api::Telemetry>) -> Level {
    Level { namespace: object.namespace().to_owned(), name: object.name().to_owned(), spec: object.spec.clone() }
}

fn defaults(context: &Context<'_>) -> Defaults {
    let written = context.proxy.mesh.config.default_providers.clone().unwrap_or_default();
    Defaults { tracing: written.tracing, metrics: written.metrics, access_logging: written.access_logging }
}

fn providers(context: &Context<'_>) -> Providers {
    let all = &context.proxy.mesh.config.extension_providers;
    all.iter().map(|one| (one.name.clone(), one.prometheus.is_some())).collect()
}

/// What every Telemetry shows, whoever it is for.
pub(super) fn review(context: &Context<'_>) {
    for object in &context.resources.telemetries {
        shadowed(context, object);
        targets(context, object);
        overrides(context, object);
        tellers::review(context, object);
        providers_of(context, object);
    }
}

/// Of two that are for a whole namespace the older one counts, as in Istio.
fn shadowed(context: &Context<'_>, object: &Object<api::Telemetry>) {
    if !object.spec.is_wide() {
        return;
    }
    let mut all = context.resources.telemetries.iter();
    let first = all.find(|it| it.namespace() == object.namespace() && it.spec.is_wide());
    if let Some(first) = first.filter(|first| first.name() != object.name()) {
        let message = format!(
            "`{}` is for the whole namespace, too, and older, so this one has no effect; make them one object",
            first.name()
        );
        context.report.warning(object, SHADOWED, "metadata.name", message);
    }
}

fn targets(context: &Context<'_>, object: &Object<api::Telemetry>) {
    if let Some(target) = object.spec.targets().find(|target| !target.is_gateway()) {
        let message = format!(
            "a {} is no proxy here, so this has no effect; a Gateway of gateway.networking.k8s.io or a selector is wanted",
            target.kind
        );
        context.report.warning(object, UNSUPPORTED, "spec.targetRefs", message);
    }
    let selects = object.spec.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
    if selects && object.namespace() == context.proxy.root_namespace {
        let message = format!(
            "in the root namespace `{}` a selector picks workloads of that namespace alone; put it into the namespace of its \
             workloads, or leave the selector out for the whole mesh",
            context.proxy.root_namespace
        );
        context.report.info(object, "no-effect", "spec.selector", message);
    }
}

fn overrides(context: &Context<'_>, object: &Object<api::Telemetry>) {
    for (number, entry) in object.spec.metrics.iter().enumerate() {
        for (index, one) in entry.overrides.iter().enumerate() {
            let name = one.matches.as_ref().and_then(|matches| matches.custom_metric.as_deref());
            if let Some(name) = name.filter(|name| metrics::custom(name).is_none()) {
                let message = format!(
                    "there is no metric `{name}`, so this changes nothing; Istio's own are meant by metric, as REQUEST_COUNT"
                );
                let field = format!("spec.metrics[{number}].overrides[{index}].match.customMetric");
                context.report.warning(object, UNSUPPORTED, &field, message);
            }
        }
    }
}

fn providers_of(context: &Context<'_>, object: &Object<api::Telemetry>) {
    let spec = &object.spec;
    let tracing = spec.tracing.iter().map(|it| ("tracing", &it.providers));
    let metrics = spec.metrics.iter().map(|it| ("metrics", &it.providers));
    let logs = spec.access_logging.iter().map(|it| ("accessLogging", &it.providers));
    let known = &context.proxy.mesh.config.extension_providers;
    let mut numbers = [("tracing", 0), ("metrics", 0), ("accessLogging", 0)];
    for (list, providers) in tracing.chain(metrics).chain(logs) {
        let Some((_, next)) = numbers.iter_mut().find(|(name, _)| *name == list) else { continue };
        let number = std::mem::replace(next, *next + 1);
        for (index, provider) in providers.iter().enumerate() {
            let found = known.iter().find(|it| it.name == provider.name);
            let field = format!("spec.{list}[{number}].providers[{index}].name");
            match found {
                None if BUILT_IN.contains(&(list, provider.name.as_str())) => {}
                None => {
                    let message = format!(
                        "no extension provider `{}` is in the mesh configuration, so it gets nothing",
                        provider.name
                    );
                    context.report.warning(object, UNKNOWN_PROVIDER, &field, message);
                }
                Some(it) if list == "metrics" && it.prometheus.is_none() => {
                    let kind = it.unused().next().unwrap_or("external authorization");
                    let message = format!(
                        "`{}` is of the kind `{kind}`, to which no metrics are sent; they are fetched by Prometheus, whose \
                         provider is `prometheus`",
                        provider.name
                    );
                    context.report.warning(object, UNSUPPORTED, &field, message);
                }
                Some(_) => {}
            }
        }
    }
}

/// Providers that Istio's mesh configuration has by itself.
const BUILT_IN: [(&str, &str); 2] = [("metrics", metrics::PROMETHEUS), ("accessLogging", "envoy")];
