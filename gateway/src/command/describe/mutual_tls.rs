//! What workloads accept (PeerAuthentication), and where that does not fit what clients send (DestinationRule).

use routing::{
    api::{PeerAuthentication, destination_rule::ClientTlsMode},
    compile::{MergedRule, NamedSubset, View, ViewedService},
    inbound::MtlsMode,
    resources::Object,
};

use super::{
    backends::Backend,
    clients::grouped,
    policies::{members, mode as client_mode},
    report::{Finding, MutualTls, MutualTlsPort},
};

/// Istio's name.
pub(super) fn mode(mode: MtlsMode) -> &'static str {
    match mode {
        MtlsMode::Disable => "DISABLE",
        MtlsMode::Permissive => "PERMISSIVE",
        MtlsMode::Strict => "STRICT",
    }
}

/// What the workloads of a service accept, those together that accept the same.
pub(super) fn of_service(view: &View<'_>, backends: &[Backend]) -> Vec<MutualTls> {
    let each = backends.iter().map(|backend| (backend.title(), of_workload(view, backend)));
    let groups = grouped(each).into_iter();
    groups.map(|(workloads, found)| MutualTls { workloads, ..found }).collect()
}

/// What one workload accepts; `workloads` is left empty.
pub(super) fn of_workload(view: &View<'_>, backend: &Backend) -> MutualTls {
    let found = view.mutual_tls(&backend.facts.namespace, &backend.facts.labels);
    let ports = found.ports().filter_map(|port| {
        let (mode, source) = found.at_port(port);
        (mode != found.default).then(|| MutualTlsPort {
            workload_port: port,
            mode: self::mode(mode),
            set_by: set_by(view, source),
        })
    });
    MutualTls {
        workloads: Vec::new(),
        mode: mode(found.default),
        set_by: set_by(view, found.source),
        ports: ports.collect(),
    }
}

fn set_by(view: &View<'_>, source: Option<&Object<PeerAuthentication>>) -> String {
    let Some(object) = source else { return "no PeerAuthentication, so it is Istio's default".to_owned() };
    let selects = object.spec.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
    let root = object.namespace() == view.root_namespace();
    let level = match (selects, root) {
        (true, _) => "for its workload",
        (false, true) => "for the whole mesh",
        (false, false) => "for its namespace",
    };
    format!("PeerAuthentication {}/{}, {level}", object.namespace(), object.name())
}

/// Where a client sends what a workload refuses.
pub(super) fn conflicts(view: &View<'_>, service: &ViewedService, backends: &[Backend]) -> Vec<Finding> {
    let Some((_, merged)) = view.destination_rule(&service.host) else { return Vec::new() };
    let mut found: Vec<Finding> = Vec::new();
    let subsets = merged.subsets().iter().map(Some);
    for subset in std::iter::once(None).chain(subsets) {
        for port in &service.ports {
            let pair = Pair { view, service, port: port.number, merged, subset };
            for finding in backends.iter().filter_map(|backend| pair.conflict(backend, backends)) {
                if !found.contains(&finding) {
                    found.push(finding);
                }
            }
        }
    }
    found
}

/// A port of the service, or of a subset of it, as one client sends to it.
struct Pair<'s, 'a> {
    view: &'s View<'a>,
    service: &'s ViewedService,
    port: u16,
    merged: &'s MergedRule<'a>,
    subset: Option<&'s NamedSubset<'a>>,
}

impl Pair<'_, '_> {
    fn conflict(&self, backend: &Backend, all: &[Backend]) -> Option<Finding> {
        let tls = self.merged.policy(self.subset, self.port).tls?;
        // A subset without own words has been told with the whole service.
        let inherited = self.subset.is_some_and(|_| {
            let whole = self.merged.policy(None, self.port).tls;
            whole.is_some_and(|whole| whole.field == tls.field && std::ptr::eq(whole.object, tls.object))
        });
        let inside = self.subset.is_none_or(|named| members(all, named).any(|member| std::ptr::eq(member, backend)));
        if inherited || !inside {
            return None;
        }
        let target = self.view.target_port(&backend.facts, &self.service.host, self.port)?;
        let policies = self.view.mutual_tls(&backend.facts.namespace, &backend.facts.labels);
        let (accepted, source) = policies.at_port(target);
        let subset = self.subset.map(|named| format!(" of subset {}", named.subset.name)).unwrap_or_default();
        let sent = format!(
            "DestinationRule {}/{} ({}) sends {} to port {}{subset}",
            tls.object.namespace(),
            tls.object.name(),
            tls.field,
            client_mode(tls.tls.mode),
            self.port
        );
        let mesh = tls.tls.mode == ClientTlsMode::IstioMutual;
        let bare = backend.sidecar == Some(false);
        let wrong = match (accepted, mesh) {
            (_, true) if bare => format!("but {} has no sidecar that could answer it", backend.title()),
            (_, false) if bare => return None,
            (MtlsMode::Strict, false) => {
                format!("but STRICT takes mutual TLS of the mesh only ({})", set_by(self.view, source))
            }
            (MtlsMode::Disable, true) => format!("but DISABLE takes plain text only ({})", set_by(self.view, source)),
            _ => return None,
        };
        Some(Finding::error(format!("{sent}, {wrong}: these requests fail")))
    }
}
