//! Sidecars: those that hold for nobody, and what of a workload's own has no effect. WorkloadGroups and ProxyConfigs, too.

use std::collections::HashMap;

use crate::{
    api::{Sidecar, sidecar::EgressListener},
    compile::{
        context::Context,
        report::{BAD_VALUE, UNKNOWN_HOST, UNSUPPORTED},
        scope::{self, Listener},
    },
    host::HostPattern,
    resources::Object,
    unix,
};

const NO_EFFECT: &str = "no-effect";

pub(super) fn review(context: &Context<'_>) {
    let mut wide: HashMap<&str, &Object<Sidecar>> = HashMap::new();
    for object in &context.resources.sidecars {
        if scope::selector(object).is_some() {
            continue;
        }
        match wide.get(object.namespace()) {
            Some(first) => {
                let message = format!(
                    "{} is for the whole namespace, too, and older, so this one holds for nobody; give it a workloadSelector, or \
                     write one object",
                    first.reference()
                );
                context.report.warning(object, NO_EFFECT, "spec", message);
            }
            None => drop(wide.insert(object.namespace(), object)),
        }
    }
    if let Some(own) = context.scope.sidecar {
        own_one(context, own);
    }
    beside(context);
}

/// What of the proxy's own Sidecar it does not do.
fn own_one(context: &Context<'_>, own: &Object<Sidecar>) {
    for (index, listener) in own.spec.egress.iter().enumerate() {
        let socket = listener.bind.as_deref().filter(|bind| bind.starts_with(unix::SCHEME)).map(unix::address);
        if let Some(Err(why)) = socket {
            let message = format!("{why}, so it is not opened");
            context.report.error(own, BAD_VALUE, &format!("spec.egress[{index}].bind"), message);
        }
    }
    for (listener, written) in context.scope.listeners().zip(&own.spec.egress) {
        unknown_hosts(context, own, listener, written);
    }
}

/// Hosts by which nothing is known: a misspelt name, mostly.
fn unknown_hosts(context: &Context<'_>, own: &Object<Sidecar>, listener: &Listener, written: &EgressListener) {
    for (number, text) in written.hosts.iter().enumerate() {
        let single = scope::Hosts::new(std::slice::from_ref(text), &context.proxy.namespace);
        let one_host = text.split_once('/').is_some_and(|(space, host)| !space.starts_with('~') && host != "*");
        let mut services = context.services.iter();
        let holds =
            |host: &str, namespace: &str| host.parse::<HostPattern>().is_ok_and(|host| single.hold(&host, namespace));
        if one_host && !services.any(|service| holds(&service.host, &service.namespace)) {
            let field = format!("spec.egress[{}].hosts[{number}]", listener.index);
            let message = format!("no service that this workload may see is `{text}`, so nothing is known by it");
            context.report.warning(own, UNKNOWN_HOST, &field, message);
        }
    }
}

fn beside(context: &Context<'_>) {
    for object in &context.resources.workload_groups {
        if object.spec.probe.is_some() {
            let message = "a probe is for workloads that register themselves, which is a control plane's work; a WorkloadEntry counts as long as it \
                           is there";
            context.report.warning(object, UNSUPPORTED, "spec.probe", message);
        }
    }
    for object in &context.resources.proxy_configs {
        // The rest is for who makes pods: `crate::injection`.
        let kind = object.spec.image.as_ref().map_or("", |image| image.image_type.as_str());
        if !matches!(kind, "" | "default") {
            let message = "there is one image, which is as small as `distroless`";
            context.report.warning(object, UNSUPPORTED, "spec.image.imageType", message);
        }
    }
}
