//! `mirror` and `mirrors` to where copies go.

use super::{
    context::Context,
    destinations::{self, Asked},
    entry::Entry,
    report,
};
use crate::{
    api::{Percent, virtual_service as api},
    mirrors::Mirror,
};

/// Of a VirtualService: its copies are for Envoy's host `HOST-shadow`, as they were with Istio before
/// `DISABLE_SHADOW_HOST_SUFFIX`.
const SHADOW: &str = "mirror.sluice.dev/shadow-host";

/// What a route copies, of each with its share; `None`: nothing.
pub(super) fn compile(context: &Context<'_>, entry: &Entry<'_, '_>) -> Option<Box<[Mirror]>> {
    let route = entry.route;
    let asks = route.mirror.is_some() || !route.mirrors.is_empty();
    if !asks || route.route.is_empty() {
        return None;
    }
    let shadow = shadow(context, entry);
    // A delegate has its root's mirrors when it has none.
    let (object, at) = entry.place(|route| route.mirror.is_some() || !route.mirrors.is_empty());
    let one = |to: &api::Destination, parts: u32, field: &str| {
        let asked = Asked { object, to, field, lost: "so nothing is copied there" };
        let found = destinations::resolve(context, entry, &asked);
        let cluster = found.cluster.filter(|_| parts > 0)?;
        Some(Mirror { cluster, cluster_name: found.name, parts, shadow })
    };
    let first = route.mirror.as_ref().and_then(|to| {
        let whole = route.mirror_percent.map_or(Mirror::ALL, |percent| percent.min(100) * 10_000);
        let parts = route.mirror_percentage.map_or(whole, millionths);
        one(to, parts, &format!("{at}.mirror"))
    });
    let others = route.mirrors.iter().enumerate().filter_map(|(number, policy)| {
        let parts = policy.percentage.map_or(Mirror::ALL, millionths);
        one(policy.destination.as_ref()?, parts, &format!("{at}.mirrors[{number}].destination"))
    });
    let all: Box<[Mirror]> = first.into_iter().chain(others).collect();
    (!all.is_empty()).then_some(all)
}

/// Validation keeps it within 0 and 100.
fn millionths(percent: Percent) -> u32 {
    (percent.value.clamp(0.0, 100.0) * 10_000.0).round() as u32
}

fn shadow(context: &Context<'_>, entry: &Entry<'_, '_>) -> bool {
    let (object, _) = entry.place(|route| route.mirror.is_some() || !route.mirrors.is_empty());
    let Some(value) = object.meta.annotations.get(SHADOW) else { return false };
    if !matches!(value.as_str(), "true" | "false") {
        let field = format!("metadata.annotations[{SHADOW:?}]");
        let message = format!("`{value}` is neither true nor false; copies keep the host of their request");
        context.report.warning(object, report::BAD_VALUE, &field, message);
    }
    value == "true"
}
