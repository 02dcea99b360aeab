//! Where a route leads, and what is sent there.

use super::{
    DestinationTold, Outcome,
    course::Asking,
    told::{End, Story},
    words::few,
};
use crate::{
    reach::Reach,
    rule::{Destination, Destinations, Rule},
    snapshot::Snapshot,
    upstream::Cluster,
};

/// Which headers change on the way to a destination.
pub(super) fn headers(rule: &Rule, to: &Destination, asking: &Asking<'_>, story: &mut Story) {
    let before = &asking.question.headers;
    let mut after = before.clone();
    rule.edit_request(Some(to), &mut after);
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let set = after.keys().filter(|name| !before.get_all(*name).iter().eq(after.get_all(*name).iter()));
    let set = set.map(|name| format!("{name}: {}", few(after.get_all(name).iter().map(text))));
    let gone = before.keys().filter(|name| !after.contains_key(*name)).map(|name| format!("{name} removed"));
    let changes: Vec<String> = set.chain(gone).collect();
    if !changes.is_empty() {
        story.passed("headers", format!("to {}: {}", to.cluster_name, few(changes)), &rule.source);
    }
}

pub(super) fn destination(
    snapshot: &Snapshot,
    all: &Destinations,
    one: &Destination,
    target: String,
    authority: String,
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

/// The end of a way that leads to destinations.
pub(super) fn arrive(to: &Destinations, story: &mut Story) -> Result<(), End> {
    let told = &story.told.destinations;
    let name = |one: &DestinationTold| match one.percent {
        100.0 => service(&one.cluster),
        share => format!("{} ({share:.0} %)", service(&one.cluster)),
    };
    if let [only] = &told[..] {
        let cluster = only.cluster.clone();
        let first = to.all.first().is_some_and(|one| one.cluster.is_none());
        match only.endpoints {
            None if first => return Err(End::refused("destination", 503, format!("there is no cluster {cluster}"))),
            Some(0) if only.listed => {
                return Err(End::refused("destination", 503, format!("{cluster} has no endpoints")));
            }
            _ => {}
        }
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
        texts.push(match one.endpoints {
            Some(_) if !one.listed => format!("{cluster}: its endpoints are found when a request comes"),
            Some(count) => format!("{cluster}: {count} endpoint(s), {tls}"),
            None => format!("{cluster}: there is no such service or subset, and its share is answered with 503"),
        });
    }
    for text in texts {
        story.passed("destination", text, "");
    }
    story.arrive(Outcome::Forwarded, None, answer);
    Ok(())
}
