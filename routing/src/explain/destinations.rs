//! Where a rule leads.

use super::{
    DestinationTold, Outcome,
    told::{End, Story},
    words::few,
};
use crate::{
    reach::Reach,
    rule::{Destination, Destinations},
    snapshot::Snapshot,
    upstream::Cluster,
};

pub(super) fn destination(
    snapshot: &Snapshot,
    all: &Destinations,
    one: &Destination,
    (target, authority): (String, String),
) -> DestinationTold {
    let cluster = one.cluster.map(|id| &**snapshot.cluster(id));
    DestinationTold {
        cluster: cluster.map_or(&one.cluster_name, |cluster| &cluster.name).to_string(),
        percent: f64::from(one.weight) * 100.0 / f64::from(all.total.max(1)),
        endpoints: cluster.map(|cluster| cluster.endpoints.len()),
        listed: cluster.is_some_and(|cluster| cluster.reach == Reach::Endpoints),
        tls: cluster.map_or("none", tls_of),
        target,
        authority,
    }
}

fn tls_of(cluster: &Cluster) -> &'static str {
    let Some(tls) = &cluster.tls else { return "none" };
    let encrypted = cluster.endpoints.iter().filter(|one| one.tls).count();
    match (encrypted, tls.mesh) {
        (0, _) if !cluster.endpoints.is_empty() => "none",
        (some, _) if some < cluster.endpoints.len() => "mixed",
        (_, true) => "mutual",
        (_, false) => "tls",
    }
}

/// `outbound|8080|v1|reviews.shop.svc.cluster.local` as people say it: `reviews.shop:8080, subset v1`.
fn service(cluster: &str) -> String {
    let mut parts = cluster.split('|');
    let (Some(_), Some(port), Some(subset), Some(host), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return cluster.to_owned();
    };
    let host = host.strip_suffix(".svc.cluster.local").unwrap_or(host);
    let subset = if subset.is_empty() { String::new() } else { format!(", subset {subset}") };
    format!("{host}:{port}{subset}")
}

/// What a client gets whose destination has nobody.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Cut {
    /// An answer.
    Answered,
    /// The end of its connection.
    Closed,
}

/// Why a destination takes nothing; `None`: it may.
fn dead(one: &DestinationTold) -> Option<String> {
    match one.endpoints {
        None => Some(format!("there is no cluster {}", one.cluster)),
        Some(0) if one.listed => Some(format!("{} has no endpoints", one.cluster)),
        Some(_) => None,
    }
}

/// The end of a way that leads to destinations.
pub(super) fn arrive(cut: Cut, story: &mut Story) -> Result<(), End> {
    let told = &story.told.destinations;
    let name = |one: &DestinationTold| match one.percent {
        100.0 => service(&one.cluster),
        share => format!("{} ({share:.0} %)", service(&one.cluster)),
    };
    let taken: Vec<&DestinationTold> = told.iter().filter(|one| one.percent > 0.0).collect();
    let reasons: Vec<String> = taken.iter().filter_map(|one| dead(one)).collect();
    if reasons.len() == taken.len() {
        let why = if reasons.is_empty() { "no destination takes anything".to_owned() } else { reasons.join(", ") };
        return Err(match cut {
            Cut::Answered => End::refused("destination", 503, why),
            Cut::Closed => End::closed("destination", why),
        });
    }
    let (answer, mut texts) = (format!("Forwarded to {}", few(told.iter().map(name))), Vec::new());
    for one in told {
        let tls = match one.tls {
            "mutual" => "over mutual TLS",
            "tls" => "over TLS",
            "mixed" => "some of them over TLS",
            _ => "in plain text",
        };
        let cluster = service(&one.cluster);
        texts.push(match (one.endpoints, cut) {
            (Some(_), _) if !one.listed => format!("{cluster}: its endpoints are found when a request comes"),
            (Some(count), _) => format!("{cluster}: {count} endpoint(s), {tls}"),
            (None, Cut::Answered) => {
                format!("{cluster}: there is no such service or subset, and its share is answered with 503")
            }
            (None, Cut::Closed) => format!("{cluster}: there is no such service or subset, and its share is closed"),
        });
    }
    for text in texts {
        story.passed("destination", text, "");
    }
    story.arrive(Outcome::Forwarded, None, answer);
    Ok(())
}
