//! `mirror` and `mirrors` to where copies go.

use super::{
    context::Context,
    destinations::{self, Asked},
    entry::Entry,
    report,
};
use crate::{api::virtual_service as api, fault::Share, mirrors::Mirror};

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
    let one = |to: &api::Destination, share: Share, field: &str| {
        let asked = Asked { object, to, field, lost: "so nothing is copied there" };
        let found = destinations::resolve(context, entry, &asked);
        let cluster = found.cluster.filter(|_| !share.is_nothing())?;
        Some(Mirror { cluster, cluster_name: found.name, share, shadow })
    };
    let first = route.mirror.as_ref().and_then(|to| {
        let whole = route.mirror_percent.map_or(Share::ALL, |percent| Share::of_percent(percent.into()));
        let share = route.mirror_percentage.map_or(whole, |percent| Share::of_percent(percent.value));
        one(to, share, &format!("{at}.mirror"))
    });
    let others = route.mirrors.iter().enumerate().filter_map(|(number, policy)| {
        let share = policy.percentage.map_or(Share::ALL, |percent| Share::of_percent(percent.value));
        one(policy.destination.as_ref()?, share, &format!("{at}.mirrors[{number}].destination"))
    });
    let all: Box<[Mirror]> = first.into_iter().chain(others).collect();
    (!all.is_empty()).then_some(all)
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
