//! The attributes: what they are called, what they are, and who knows them.

use http::HeaderName;

use super::{fault::Fault, read::Kind};
use crate::{
    api::decode::nearest::nearest,
    pattern::HeaderField,
    template::{Fact, ResponseField},
};

/// What an expression may ask for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Attribute {
    /// Of the request's head.
    Request(HeaderField),
    /// The path without its query.
    UrlPath,
    /// The query without `?`.
    Query,
    /// Of the answer's head.
    Response(ResponseField),
    /// Of what follows the answer's body.
    Trailer(HeaderName),
    /// A text that a command operator tells, too.
    Text(Fact),
    /// The first of the names of a certificate that it tells, as Envoy's expressions have it.
    First(Fact),
    /// A number that it tells.
    Number(Fact),
    /// Milliseconds that it tells.
    Milliseconds(Fact),
    /// Two numbers together.
    Sum(Fact, Fact),
    /// Whether a command operator tells anything.
    Told(Fact),
    /// The response flags as Envoy's bits.
    Flags,
    /// When the request began.
    Start,
    /// Of a workload.
    Peer(Side, PeerField),
}

/// Whose workload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// The client's.
    Downstream,
    /// The endpoint's.
    Upstream,
    /// The proxy's own.
    Own,
}

/// What is known of a workload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PeerField {
    /// Name of the workload.
    Workload,
    /// Its namespace.
    Namespace,
    /// Its cluster.
    Cluster,
    /// Its canonical service.
    Service,
    /// The revision of that.
    Revision,
    /// Label `app`.
    App,
    /// Label `version`.
    Version,
    /// Its SPIFFE id.
    Identity,
    /// What Istio calls its proxy; known of the own one alone.
    Node,
}

const PEER_FIELDS: [(&str, PeerField); 10] = [
    ("workload", PeerField::Workload),
    ("namespace", PeerField::Namespace),
    ("cluster", PeerField::Cluster),
    ("service", PeerField::Service),
    ("canonical_name", PeerField::Service),
    ("revision", PeerField::Revision),
    ("canonical_revision", PeerField::Revision),
    ("app", PeerField::App),
    ("version", PeerField::Version),
    ("identity", PeerField::Identity),
];

const LABELS: [(&str, PeerField); 4] = [
    ("app", PeerField::App),
    ("version", PeerField::Version),
    ("service.istio.io/canonical-name", PeerField::Service),
    ("service.istio.io/canonical-revision", PeerField::Revision),
];

const NODE: [(&str, PeerField); 3] =
    [("WORKLOAD_NAME", PeerField::Workload), ("NAMESPACE", PeerField::Namespace), ("CLUSTER_ID", PeerField::Cluster)];

const fn header(name: &'static str) -> Attribute {
    Attribute::Request(HeaderField::Name(HeaderName::from_static(name)))
}

/// Those of one name.
const ATTRIBUTES: [(&str, Kind, Attribute); 46] = [
    ("request.path", Kind::Text, Attribute::Request(HeaderField::Path)),
    ("request.url_path", Kind::Text, Attribute::UrlPath),
    ("request.query", Kind::Text, Attribute::Query),
    ("request.host", Kind::Text, Attribute::Request(HeaderField::Authority)),
    ("request.scheme", Kind::Text, Attribute::Request(HeaderField::Scheme)),
    ("request.method", Kind::Text, Attribute::Request(HeaderField::Method)),
    ("request.referer", Kind::Text, header("referer")),
    ("request.useragent", Kind::Text, header("user-agent")),
    ("request.id", Kind::Text, header("x-request-id")),
    ("request.time", Kind::Moment, Attribute::Start),
    ("request.protocol", Kind::Text, Attribute::Text(Fact::Protocol)),
    ("request.duration", Kind::Span, Attribute::Milliseconds(Fact::Duration)),
    ("request.size", Kind::Int, Attribute::Number(Fact::BytesReceived)),
    ("request.total_size", Kind::Int, Attribute::Sum(Fact::BytesReceived, Fact::RequestHeadersBytes)),
    ("response.code", Kind::Int, Attribute::Number(Fact::ResponseCode)),
    ("response.code_details", Kind::Text, Attribute::Text(Fact::ResponseCodeDetails)),
    ("response.flags", Kind::Int, Attribute::Flags),
    ("response.grpc_status", Kind::Int, Attribute::Number(Fact::GrpcStatusNumber)),
    ("response.size", Kind::Int, Attribute::Number(Fact::BytesSent)),
    ("response.total_size", Kind::Int, Attribute::Sum(Fact::BytesSent, Fact::ResponseHeadersBytes)),
    ("response.backend_latency", Kind::Span, Attribute::Milliseconds(Fact::ResponseDuration)),
    ("source.address", Kind::Text, Attribute::Text(Fact::DownstreamRemoteAddress)),
    ("source.port", Kind::Int, Attribute::Number(Fact::DownstreamRemotePort)),
    ("destination.address", Kind::Text, Attribute::Text(Fact::DownstreamLocalAddress)),
    ("destination.port", Kind::Int, Attribute::Number(Fact::DownstreamLocalPort)),
    ("connection.id", Kind::Int, Attribute::Number(Fact::ConnectionId)),
    ("connection.mtls", Kind::Bool, Attribute::Told(Fact::DownstreamPeerFingerprint256)),
    ("connection.requested_server_name", Kind::Text, Attribute::Text(Fact::RequestedServerName)),
    ("connection.tls_version", Kind::Text, Attribute::Text(Fact::DownstreamTlsVersion)),
    ("connection.subject_peer_certificate", Kind::Text, Attribute::Text(Fact::DownstreamPeerSubject)),
    ("connection.dns_san_peer_certificate", Kind::Text, Attribute::First(Fact::DownstreamPeerDnsSan)),
    ("connection.uri_san_peer_certificate", Kind::Text, Attribute::First(Fact::DownstreamPeerUriSan)),
    ("connection.uri_san_local_certificate", Kind::Text, Attribute::Text(Fact::DownstreamLocalUriSan)),
    ("connection.sha256_peer_certificate_digest", Kind::Text, Attribute::Text(Fact::DownstreamPeerFingerprint256)),
    ("connection.termination_details", Kind::Text, Attribute::Text(Fact::ConnectionTerminationDetails)),
    ("upstream.address", Kind::Text, Attribute::Text(Fact::UpstreamHost)),
    ("upstream.port", Kind::Int, Attribute::Number(Fact::UpstreamRemotePort)),
    ("upstream.local_address", Kind::Text, Attribute::Text(Fact::UpstreamLocalAddress)),
    ("upstream.tls_version", Kind::Text, Attribute::Text(Fact::UpstreamTlsVersion)),
    ("upstream.uri_san_peer_certificate", Kind::Text, Attribute::Text(Fact::UpstreamPeerUriSan)),
    ("upstream.transport_failure_reason", Kind::Text, Attribute::Text(Fact::UpstreamTransportFailureReason)),
    ("upstream.request_attempt_count", Kind::Int, Attribute::Number(Fact::UpstreamRequestAttemptCount)),
    ("xds.cluster_name", Kind::Text, Attribute::Text(Fact::UpstreamClusterRaw)),
    ("xds.route_name", Kind::Text, Attribute::Text(Fact::RouteName)),
    ("xds.node.id", Kind::Text, Attribute::Peer(Side::Own, PeerField::Node)),
    ("node.id", Kind::Text, Attribute::Peer(Side::Own, PeerField::Node)),
];

/// Those that are asked for by a name of their own.
const MAPS: [&str; 12] = [
    "request.headers",
    "response.headers",
    "response.trailers",
    "upstream_peer.labels",
    "downstream_peer.labels",
    "node.metadata",
    "xds.node.metadata",
    "upstream_peer",
    "downstream_peer",
    "filter_state.upstream_peer",
    "filter_state.downstream_peer",
    "filter_state",
];

/// What Envoy has and nobody keeps here.
const NOT_KEPT: [&str; 25] = [
    "connection.subject_local_certificate",
    "connection.dns_san_local_certificate",
    "connection.transport_failure_reason",
    "upstream.subject_local_certificate",
    "upstream.subject_peer_certificate",
    "upstream.dns_san_local_certificate",
    "upstream.dns_san_peer_certificate",
    "upstream.uri_san_local_certificate",
    "upstream.sha256_peer_certificate_digest",
    "upstream.cx_pool_ready_duration",
    "upstream.locality",
    "metadata",
    "filter_state",
    "upstream_filter_state",
    "upstream_peer",
    "downstream_peer",
    "node",
    "xds.node",
    "xds.cluster_metadata",
    "xds.route_metadata",
    "xds.upstream_host_metadata",
    "xds.listener_metadata",
    "xds.listener_direction",
    "xds.filter_chain_name",
    "xds.virtual_host_name",
];

/// The attribute of a path of names.
pub(super) fn attribute(path: &[&str]) -> Result<(Attribute, Kind), Fault> {
    let text = |attribute| Ok((attribute, Kind::Text));
    let name = path.join(".");
    match path {
        ["request", "headers", name] => text(Attribute::Request(request_header(name)?)),
        ["response", "headers", name] => text(Attribute::Response(response_header(name)?)),
        ["response", "trailers", name] => text(Attribute::Trailer(header_name(name)?)),
        ["filter_state", "upstream_peer" | "downstream_peer", ..] => attribute(&path[1..]),
        // Istio's older form of a label is an object with a value.
        [side, "labels", label] | [side, "labels", label, "value"] if let Some(side) = side_of(side) => {
            text(Attribute::Peer(side, one_of(&LABELS, label).ok_or(Fault::NotKept(name))?))
        }
        [side, field] if let Some(side) = side_of(side) => {
            text(Attribute::Peer(side, one_of(&PEER_FIELDS, field).ok_or(Fault::NotKept(name))?))
        }
        ["node", "metadata", key] | ["xds", "node", "metadata", key] => {
            text(Attribute::Peer(Side::Own, one_of(&NODE, key).ok_or(Fault::NotKept(name))?))
        }
        _ => {
            if let Some((_, kind, attribute)) = ATTRIBUTES.iter().find(|(known, ..)| *known == name) {
                return Ok((attribute.clone(), *kind));
            }
            if MAPS.contains(&&*name) {
                return Err(Fault::Meaning(format!(
                    "of `{name}` one is asked for by its name, as `{}`",
                    example(&name)
                )));
            }
            let below =
                |known: &&str| name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            if NOT_KEPT.iter().any(below) {
                return Err(Fault::NotKept(name));
            }
            let known: Vec<&'static str> = ATTRIBUTES.iter().map(|(known, ..)| *known).collect();
            let near = nearest(&name, &known);
            Err(Fault::Unknown(name, near))
        }
    }
}

/// Whether headers are asked for.
pub(super) fn headers(path: &[&str], name: &str) -> Result<Option<Attribute>, Fault> {
    Ok(match path {
        ["request", "headers"] => Some(Attribute::Request(request_header(name)?)),
        ["response", "headers"] => Some(Attribute::Response(response_header(name)?)),
        ["response", "trailers"] => Some(Attribute::Trailer(header_name(name)?)),
        _ => None,
    })
}

fn example(name: &str) -> String {
    match name {
        "request.headers" | "response.headers" | "response.trailers" => format!("{name}['x-user']"),
        "upstream_peer.labels" | "downstream_peer.labels" => format!("{name}['app']"),
        "filter_state" => "filter_state.upstream_peer.workload".to_owned(),
        name if name.ends_with("metadata") => format!("{name}['NAMESPACE']"),
        name => format!("{name}.workload"),
    }
}

fn side_of(name: &str) -> Option<Side> {
    match name {
        "upstream_peer" => Some(Side::Upstream),
        "downstream_peer" => Some(Side::Downstream),
        _ => None,
    }
}

/// The field of a peer, as `%FILTER_STATE(upstream_peer:FIELD:app)%` names it.
pub(crate) fn peer_field(name: &str) -> Option<PeerField> {
    one_of(&PEER_FIELDS, name)
}

fn one_of(table: &[(&str, PeerField)], name: &str) -> Option<PeerField> {
    table.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
}

fn request_header(name: &str) -> Result<HeaderField, Fault> {
    Ok(match &*name.to_ascii_lowercase() {
        ":method" => HeaderField::Method,
        ":scheme" => HeaderField::Scheme,
        ":authority" | "host" => HeaderField::Authority,
        ":path" => HeaderField::Path,
        name => HeaderField::Name(header_name(name)?),
    })
}

fn response_header(name: &str) -> Result<ResponseField, Fault> {
    Ok(match &*name.to_ascii_lowercase() {
        ":status" => ResponseField::Status,
        name => ResponseField::Name(header_name(name)?),
    })
}

fn header_name(name: &str) -> Result<HeaderName, Fault> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| Fault::Meaning(format!("`{name}` is no name of a header")))
}

/// What attributes begin with, in a sentence.
pub(super) fn roots() -> &'static str {
    "`request`, `response`, `connection`, `source`, `destination`, `upstream`, `upstream_peer`, `downstream_peer`, `xds`"
}

/// The functions, in a sentence.
pub(super) fn functions() -> &'static str {
    "`has`, `contains`, `startsWith`, `endsWith`, `matches`, `size`, `lowerAscii`, `upperAscii`, `string`, `int`, `double`, \
     `duration`"
}
