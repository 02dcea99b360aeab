//! `sluice describe`: what applies to one service or workload. It asks the compiler, as each of the clients in question
//! would, and puts the answers together.
//!
//! ```text
//! load --> Resources, Problems --> service, workload --> Description --> print (text) or JSON
//! ```

mod authorization;
mod backends;
mod checks;
mod clients;
mod missing;
mod mutual_tls;
mod policies;
mod print;
mod report;
mod routes;
mod service;
mod workload;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, io, process::ExitCode};

use routing::{
    compile::{Proxy, compile},
    problem::{ObjectRef, Problem, Problems, Severity},
    resources::Resources,
};

use crate::{
    cli::{DescribeFlags, DescribeKind, output::Output},
    command::document,
    settings::SourceSettings,
    source,
};

pub(crate) use report::Description;

/// Describes and prints. Exit code 1 when there is no such object, 2 when the configuration cannot be read, else 0.
pub(crate) fn run(flags: &DescribeFlags, settings: &SourceSettings) -> ExitCode {
    let (resources, problems) = match source::once(settings) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("sluice: {error:#} (try `sluice help describe`)");
            return ExitCode::from(2);
        }
    };
    let (namespace, name) = (&flags.object.namespace, &flags.object.name);
    let mut description = match describe(flags.kind, (namespace, name), &resources, problems) {
        Ok(description) => description,
        Err(sentence) => {
            eprintln!("sluice: {sentence}");
            return ExitCode::FAILURE;
        }
    };
    if matches!(settings, SourceSettings::Kubernetes(_)) {
        // Secrets were not read, so nobody knows whether one is missing.
        description.problems.retain(|it| !matches!(it.code, "missing-secret" | "certificate-pending"));
    }
    let out = io::stdout().lock();
    // A reader that went away (`| head`) has seen enough.
    let _ = match flags.output {
        Output::Text => print::text(out, &description),
        Output::Json => document::json(out, &description),
        Output::Yaml => document::yaml(out, &description),
    };
    ExitCode::SUCCESS
}

/// Everything about one object; `problems` are those of loading.
///
/// # Errors
/// A sentence: there is no such object. It names near ones.
pub(crate) fn describe(
    kind: DescribeKind,
    (namespace, name): (&str, &str),
    resources: &Resources,
    problems: Vec<Problem>,
) -> Result<Description, String> {
    let mut concerned = Concerned::default();
    let (workload, services) = match kind {
        DescribeKind::Service => {
            let found = resources.services.get(namespace, name);
            let object = found.ok_or_else(|| missing::service(resources, &problems, namespace, name))?;
            (None, vec![service::describe(resources, object, &mut concerned)])
        }
        DescribeKind::Pod => {
            let found = backends::named(resources, namespace, name);
            let backend = found.ok_or_else(|| missing::workload(resources, &problems, namespace, name))?;
            let (workload, services) = workload::describe(resources, &backend, &mut concerned);
            (Some(workload), services)
        }
    };
    let unread = problems.iter().filter(|problem| is_unread(resources, problem)).cloned().collect();
    let problems = concerned.problems(resources, problems);
    Ok(Description { workload, services, problems, unread })
}

/// Whether a problem of loading kept back something that could have mattered.
fn is_unread(resources: &Resources, problem: &Problem) -> bool {
    let object = &problem.object;
    let (namespace, name) = (object.namespace.as_str(), object.name.as_str());
    problem.severity == Severity::Error
        && match object.kind.as_str() {
            "VirtualService" => resources.virtual_services.get(namespace, name).is_none(),
            "DestinationRule" => resources.destination_rules.get(namespace, name).is_none(),
            "PeerAuthentication" => resources.peer_authentications.get(namespace, name).is_none(),
            "AuthorizationPolicy" => resources.authorization_policies.get(namespace, name).is_none(),
            "RequestAuthentication" => resources.request_authentications.get(namespace, name).is_none(),
            "Telemetry" => resources.telemetries.get(namespace, name).is_none(),
            "Gateway" => resources.gateways.get(namespace, name).is_none(),
            "Pod" => resources.pods.get(namespace, name).is_none(),
            "" => true,
            _ => false,
        }
}

/// Which objects a description names, and for which proxies they were looked at.
#[derive(Debug, Default)]
struct Concerned {
    objects: BTreeSet<ObjectRef>,
    proxies: Vec<Proxy>,
}

impl Concerned {
    fn name(&mut self, kind: &str, namespace: &str, name: &str) {
        self.objects.insert(ObjectRef::new(kind, namespace, name));
    }

    fn looked_as(&mut self, proxy: &Proxy) {
        if !self.proxies.contains(proxy) {
            self.proxies.push(proxy.clone());
        }
    }

    /// What loading (given) and compiling say about these objects, by place.
    fn problems(&self, resources: &Resources, loading: Vec<Problem>) -> Vec<Problem> {
        let mut all = Problems::from(loading);
        for proxy in &self.proxies {
            all.extend(compile(resources, proxy).problems);
        }
        all.into_sorted().into_iter().filter(|problem| self.objects.contains(&problem.object)).collect()
    }
}
