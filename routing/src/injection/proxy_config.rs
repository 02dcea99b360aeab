//! ProxyConfigs: what they say of proxies whose pods are made.
//!
//! Which wins, the weakest first: `defaultConfig` of the mesh, the object of the root namespace, that of the pod's namespace, the
//! annotation `proxy.istio.io/config`, the object whose selector is about the pod. Of several of one kind the oldest counts.

use super::Texts;
use super::settings::Settings;
use super::values::PodConfig;
use crate::api::ProxyConfig;
use crate::resources::{Object, Table};

/// What is below the pod's own annotation, and what is above it.
pub(super) struct Levels {
    pub(super) below: PodConfig,
    pub(super) above: PodConfig,
}

/// What holds for a pod of this namespace with these labels.
pub(super) fn levels(settings: &Settings, namespace: &str, labels: &Texts, warnings: &mut Vec<String>) -> Levels {
    let all = &settings.proxy_configs;
    let root = of_namespace(all, &settings.root_namespace);
    let own = if namespace == settings.root_namespace { None } else { of_namespace(all, namespace) };
    let mut below = settings.pod.clone();
    for object in root.into_iter().chain(own) {
        below = below.under(said(object, warnings));
    }
    let above = of_workload(all, namespace, labels).map(|object| said(object, warnings));
    Levels { below, above: above.unwrap_or_default() }
}

fn of_namespace<'a>(all: &'a Table<ProxyConfig>, namespace: &str) -> Option<&'a Object<ProxyConfig>> {
    let is_general = |object: &ProxyConfig| object.selector.as_ref().is_none_or(|it| it.match_labels.is_empty());
    all.iter().map(AsRef::as_ref).find(|object| object.namespace() == namespace && is_general(&object.spec))
}

fn of_workload<'a>(all: &'a Table<ProxyConfig>, namespace: &str, labels: &Texts) -> Option<&'a Object<ProxyConfig>> {
    let selects = |object: &ProxyConfig| {
        let wanted = object.selector.as_ref().map(|it| &it.match_labels).filter(|it| !it.is_empty());
        wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
    };
    all.iter().map(AsRef::as_ref).find(|object| object.namespace() == namespace && selects(&object.spec))
}

fn said(object: &Object<ProxyConfig>, warnings: &mut Vec<String>) -> PodConfig {
    let ProxyConfig { concurrency, environment_variables, image, .. } = &object.spec;
    if let Some(kind) = image.as_ref().map(|it| it.image_type.as_str()).filter(|it| !matches!(*it, "" | "default")) {
        warnings.push(format!(
            "spec.image.imageType `{kind}` of ProxyConfig {}/{} has no effect: there is one image, which is as small as `distroless`",
            object.namespace(),
            object.name()
        ));
    }
    PodConfig {
        // Below 0 it would not have been read.
        concurrency: concurrency.map(|number| u16::try_from(number).unwrap_or(u16::MAX)),
        proxy_metadata: environment_variables.clone(),
        ..PodConfig::default()
    }
}
