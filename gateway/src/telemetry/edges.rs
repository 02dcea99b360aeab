//! Who talks to whom, out of Istio's standard metrics: one edge for each pair of workloads and service, whatever the statuses.

use std::collections::BTreeMap;

use serde::Serialize;

use super::told::{Family, Sample};

/// Edges that are told; of more, those with the fewest requests are left out.
const MOST: usize = 1000;
const REQUESTS: &str = "istio_requests_total";
const OPENED: &str = "istio_tcp_connections_opened_total";
/// What tells of edges.
const STANDARD: [&str; 5] = [
    REQUESTS,
    "istio_request_duration_milliseconds",
    OPENED,
    "istio_tcp_sent_bytes_total",
    "istio_tcp_received_bytes_total",
];
/// What stands for what is not known.
const UNKNOWN: &str = "unknown";

/// One end of an edge.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(crate) struct End {
    /// Namespace; empty = not known.
    pub(crate) namespace: String,
    /// Workload; empty = not known.
    pub(crate) workload: String,
}

/// What identifies an edge.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(crate) struct Ends {
    /// `source` or `destination`: which end counts.
    pub(crate) reporter: String,
    /// Who asks.
    pub(crate) source: End,
    /// Who answers.
    pub(crate) destination: End,
    /// The service that was asked for, `name.namespace`; empty = none.
    pub(crate) service: String,
    /// `http`, `grpc` or `tcp`.
    pub(crate) protocol: String,
}

/// What was counted between two workloads. Counters only grow.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Edge {
    /// Which ones.
    #[serde(flatten)]
    pub(crate) ends: Ends,
    /// Finished requests.
    pub(crate) requests: u64,
    /// Answered with 4xx.
    pub(crate) client_errors: u64,
    /// Answered with 5xx, or not at all.
    pub(crate) server_errors: u64,
    /// Over mutual TLS of the mesh.
    pub(crate) mutual_tls: u64,
    /// Not over mutual TLS of the mesh, as far as it is known.
    pub(crate) plain: u64,
    /// Requests by duration; see `bounds`.
    pub(crate) durations: Vec<u64>,
    /// Connections that carry no HTTP.
    pub(crate) connections: u64,
    /// Bytes of those, both ways.
    pub(crate) bytes: u64,
}

/// All of them, and the upper bounds of their durations in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Edges {
    /// Upper bounds, without the last one, which is infinite.
    pub(crate) bounds: Vec<f64>,
    /// Those with most requests first.
    pub(crate) edges: Vec<Edge>,
    /// How many more there are.
    pub(crate) left_out: usize,
}

/// The edges of what is counted.
pub(crate) fn edges(families: &[Family]) -> Edges {
    let (mut all, mut bounds) = (BTreeMap::<Ends, Edge>::new(), Vec::new());
    for family in families.iter().filter(|family| STANDARD.contains(&family.name.as_str())) {
        // Of those that found no place in a full table nobody knows who they are.
        for sample in family.samples.iter().filter(|it| matches!(label(it, "reporter"), "source" | "destination")) {
            let ends = ends(sample);
            let edge = all.entry(ends.clone()).or_insert_with(|| Edge { ends, ..Edge::default() });
            match (family.name.as_str(), &sample.histogram) {
                (REQUESTS, _) => count(edge, sample),
                (OPENED, _) => {
                    let opened = whole(sample.value);
                    edge.connections += opened;
                    secure(edge, sample, opened);
                }
                (_, Some(histogram)) => {
                    bounds.clone_from(&histogram.bounds);
                    add(&mut edge.durations, &histogram.counts);
                }
                _ => edge.bytes += whole(sample.value),
            }
        }
    }
    let mut edges: Vec<Edge> = all.into_values().collect();
    edges.sort_by_key(|edge| std::cmp::Reverse(edge.requests + edge.connections));
    let left_out = edges.len().saturating_sub(MOST);
    edges.truncate(MOST);
    Edges { bounds, edges, left_out }
}

fn count(edge: &mut Edge, sample: &Sample) {
    let count = whole(sample.value);
    edge.requests += count;
    // As Kiali has it, a call that ends with another gRPC status than 0 has failed.
    let grpc = label(sample, "grpc_response_status");
    match label(sample, "response_code").as_bytes().first() {
        Some(b'0' | b'5') => edge.server_errors += count,
        Some(b'4') => edge.client_errors += count,
        _ if !matches!(grpc, "" | "0") => edge.server_errors += count,
        _ => {}
    }
    secure(edge, sample, count);
}

/// The destination says it; the source knows whom it has proven itself to.
fn secure(edge: &mut Edge, sample: &Sample, count: u64) {
    let proven = |name| !label(sample, name).is_empty();
    let mutual = match label(sample, "connection_security_policy") {
        "mutual_tls" => Some(true),
        "none" => Some(false),
        _ if proven("source_principal") && proven("destination_principal") => Some(true),
        // A request that reached nobody says nothing about how it would have gone.
        _ => proven("destination_workload").then_some(false),
    };
    match mutual {
        Some(true) => edge.mutual_tls += count,
        Some(false) => edge.plain += count,
        None => {}
    }
}

fn ends(sample: &Sample) -> Ends {
    let end = |namespace, workload| End {
        namespace: label(sample, namespace).to_owned(),
        workload: label(sample, workload).to_owned(),
    };
    let (name, namespace) = (label(sample, "destination_service_name"), label(sample, "destination_service_namespace"));
    let service = match (name, namespace) {
        ("", _) => String::new(),
        (name, "") => name.to_owned(),
        (name, namespace) => format!("{name}.{namespace}"),
    };
    Ends {
        reporter: label(sample, "reporter").to_owned(),
        source: end("source_workload_namespace", "source_workload"),
        destination: end("destination_workload_namespace", "destination_workload"),
        service,
        protocol: label(sample, "request_protocol").to_owned(),
    }
}

/// Empty where it is not known.
fn label<'a>(sample: &'a Sample, name: &str) -> &'a str {
    sample.labels.get(name).map(String::as_str).filter(|value| *value != UNKNOWN).unwrap_or_default()
}

fn add(sums: &mut Vec<u64>, counts: &[u64]) {
    sums.resize(sums.len().max(counts.len()), 0);
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum += count;
    }
}

/// Counters are whole numbers, and a float beyond what fits becomes the largest.
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(labels: &[(&str, &str)], value: f64) -> Sample {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Sample { labels, value, histogram: None }
    }

    fn requests(samples: Vec<Sample>) -> Vec<Edge> {
        let name = "istio_requests_total".to_owned();
        edges(&[Family { name, help: String::new(), kind: "counter", samples }]).edges
    }

    const WEB: [(&str, &str); 4] = [
        ("reporter", "source"),
        ("source_workload", "edge"),
        ("destination_workload", "web"),
        ("destination_service_name", "web"),
    ];

    fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        WEB.iter().chain(more).copied().collect()
    }

    #[test]
    fn statuses_and_principals_make_one_edge() {
        let proven = [("source_principal", "a"), ("destination_principal", "b")];
        let ok = with(&[("response_code", "200"), proven[0], proven[1]]);
        let unproven = with(&[("response_code", "404"), ("source_principal", UNKNOWN)]);
        let silent = with(&[("response_code", "0"), proven[0], proven[1]]);
        let call = with(&[("response_code", "200"), ("grpc_response_status", "14"), proven[0], proven[1]]);
        let nobody = [("reporter", "overflow"), ("response_code", UNKNOWN)];
        let found = requests(vec![
            sample(&ok, 5.0),
            sample(&unproven, 2.0),
            sample(&silent, 1.0),
            sample(&call, 3.0),
            sample(&nobody, 9.0),
        ]);
        let [edge] = &found[..] else { panic!("{found:?}") };
        assert_eq!([edge.requests, edge.client_errors, edge.server_errors], [11, 2, 4]);
        assert_eq!([edge.mutual_tls, edge.plain], [9, 2]);
    }

    #[test]
    fn the_destination_knows_how_it_was_asked() {
        let said = |policy| {
            let labels =
                [("reporter", "destination"), ("response_code", "200"), ("connection_security_policy", policy)];
            requests(vec![sample(&labels, 1.0)]).remove(0)
        };
        assert_eq!(said("mutual_tls").mutual_tls, 1);
        assert_eq!(said("none").plain, 1);
    }

    #[test]
    fn there_is_an_end_to_edges_and_the_busiest_stay() {
        let named: Vec<String> = (0..MOST + 7).map(|number| format!("w{number:04}")).collect();
        let samples = named
            .iter()
            .zip(1_u32..)
            .map(|(name, count)| sample(&[("reporter", "source"), ("source_workload", name)], count.into()));
        let name = "istio_requests_total".to_owned();
        let told = edges(&[Family { name, help: String::new(), kind: "counter", samples: samples.collect() }]);
        assert_eq!((told.edges.len(), told.left_out), (MOST, 7));
        assert_eq!(told.edges[0].ends.source.workload, named[MOST + 6]);
    }
}
