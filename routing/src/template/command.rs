//! The commands without arguments, and those that are known and not served.

use super::Demands;

/// Declares the facts and their table.
macro_rules! facts {
    ($($id:ident $text:literal,)*) => {
        /// A command that stands for one thing and takes no argument.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Fact {
            $(#[doc = $text] $id,)*
        }

        /// In the order of [`Fact`].
        pub(super) const FACTS: &[(Fact, &str)] = &[$((Fact::$id, $text),)*];
    };
}

facts! {
    AccessLogType "ACCESS_LOG_TYPE",
    BytesReceived "BYTES_RECEIVED",
    BytesSent "BYTES_SENT",
    ConnectionId "CONNECTION_ID",
    ConnectionTerminationDetails "CONNECTION_TERMINATION_DETAILS",
    DownstreamDirectRemoteAddress "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    DownstreamDirectRemoteAddressWithoutPort "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    DownstreamDirectRemotePort "DOWNSTREAM_DIRECT_REMOTE_PORT",
    DownstreamHeaderBytesReceived "DOWNSTREAM_HEADER_BYTES_RECEIVED",
    DownstreamHeaderBytesSent "DOWNSTREAM_HEADER_BYTES_SENT",
    DownstreamLocalAddress "DOWNSTREAM_LOCAL_ADDRESS",
    DownstreamLocalAddressWithoutPort "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    DownstreamLocalPort "DOWNSTREAM_LOCAL_PORT",
    DownstreamLocalUriSan "DOWNSTREAM_LOCAL_URI_SAN",
    DownstreamPeerCert "DOWNSTREAM_PEER_CERT",
    DownstreamPeerDnsSan "DOWNSTREAM_PEER_DNS_SAN",
    DownstreamPeerEmailSan "DOWNSTREAM_PEER_EMAIL_SAN",
    DownstreamPeerFingerprint1 "DOWNSTREAM_PEER_FINGERPRINT_1",
    DownstreamPeerFingerprint256 "DOWNSTREAM_PEER_FINGERPRINT_256",
    DownstreamPeerIpSan "DOWNSTREAM_PEER_IP_SAN",
    DownstreamPeerIssuer "DOWNSTREAM_PEER_ISSUER",
    DownstreamPeerSerial "DOWNSTREAM_PEER_SERIAL",
    DownstreamPeerSubject "DOWNSTREAM_PEER_SUBJECT",
    DownstreamPeerUriSan "DOWNSTREAM_PEER_URI_SAN",
    DownstreamRemoteAddress "DOWNSTREAM_REMOTE_ADDRESS",
    DownstreamRemoteAddressWithoutPort "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    DownstreamRemotePort "DOWNSTREAM_REMOTE_PORT",
    DownstreamTlsCipher "DOWNSTREAM_TLS_CIPHER",
    DownstreamTlsVersion "DOWNSTREAM_TLS_VERSION",
    DownstreamTransportFailureReason "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    DownstreamWireBytesReceived "DOWNSTREAM_WIRE_BYTES_RECEIVED",
    DownstreamWireBytesSent "DOWNSTREAM_WIRE_BYTES_SENT",
    Duration "DURATION",
    GrpcStatus "GRPC_STATUS",
    GrpcStatusNumber "GRPC_STATUS_NUMBER",
    Hostname "HOSTNAME",
    Protocol "PROTOCOL",
    RequestedServerName "REQUESTED_SERVER_NAME",
    RequestDuration "REQUEST_DURATION",
    RequestHeadersBytes "REQUEST_HEADERS_BYTES",
    RequestTxDuration "REQUEST_TX_DURATION",
    ResponseCode "RESPONSE_CODE",
    ResponseCodeDetails "RESPONSE_CODE_DETAILS",
    ResponseDuration "RESPONSE_DURATION",
    ResponseFlags "RESPONSE_FLAGS",
    ResponseFlagsLong "RESPONSE_FLAGS_LONG",
    ResponseHeadersBytes "RESPONSE_HEADERS_BYTES",
    ResponseTrailersBytes "RESPONSE_TRAILERS_BYTES",
    ResponseTxDuration "RESPONSE_TX_DURATION",
    RouteName "ROUTE_NAME",
    SpanId "SPAN_ID",
    StreamId "STREAM_ID",
    TraceId "TRACE_ID",
    UniqueId "UNIQUE_ID",
    UpstreamCluster "UPSTREAM_CLUSTER",
    UpstreamClusterRaw "UPSTREAM_CLUSTER_RAW",
    UpstreamConnectionId "UPSTREAM_CONNECTION_ID",
    UpstreamHeaderBytesReceived "UPSTREAM_HEADER_BYTES_RECEIVED",
    UpstreamHeaderBytesSent "UPSTREAM_HEADER_BYTES_SENT",
    UpstreamHost "UPSTREAM_HOST",
    UpstreamHostsAttempted "UPSTREAM_HOSTS_ATTEMPTED",
    UpstreamHostsAttemptedWithoutPort "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT",
    UpstreamLocalAddress "UPSTREAM_LOCAL_ADDRESS",
    UpstreamLocalAddressWithoutPort "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    UpstreamLocalPort "UPSTREAM_LOCAL_PORT",
    UpstreamPeerUriSan "UPSTREAM_PEER_URI_SAN",
    UpstreamProtocol "UPSTREAM_PROTOCOL",
    UpstreamRemoteAddress "UPSTREAM_REMOTE_ADDRESS",
    UpstreamRemoteAddressWithoutPort "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    UpstreamRemotePort "UPSTREAM_REMOTE_PORT",
    UpstreamRequestAttemptCount "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    UpstreamServerName "UPSTREAM_SERVER_NAME",
    UpstreamTlsCipher "UPSTREAM_TLS_CIPHER",
    UpstreamTlsVersion "UPSTREAM_TLS_VERSION",
    UpstreamTransportFailureReason "UPSTREAM_TRANSPORT_FAILURE_REASON",
    UpstreamWireBytesReceived "UPSTREAM_WIRE_BYTES_RECEIVED",
    UpstreamWireBytesSent "UPSTREAM_WIRE_BYTES_SENT",
}

impl Fact {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        FACTS[self as usize].1
    }

    /// Whether it tells of an answer.
    pub(super) const fn is_of_answers(self) -> bool {
        matches!(
            self,
            Self::ResponseCode
                | Self::ResponseCodeDetails
                | Self::ResponseFlags
                | Self::ResponseFlagsLong
                | Self::ResponseHeadersBytes
                | Self::GrpcStatusNumber
        )
    }

    /// Whether nothing is known of it before a request has ended, so that only a log can tell it.
    pub(super) const fn is_of_the_end(self) -> bool {
        use Fact::{
            AccessLogType, ConnectionTerminationDetails, DownstreamTransportFailureReason, GrpcStatus, RequestDuration,
            RequestTxDuration, ResponseDuration, ResponseTrailersBytes, ResponseTxDuration, UpstreamHostsAttempted,
            UpstreamHostsAttemptedWithoutPort,
        };
        let times = matches!(self, RequestDuration | RequestTxDuration | ResponseDuration | ResponseTxDuration);
        let tries = matches!(self, UpstreamHostsAttempted | UpstreamHostsAttemptedWithoutPort);
        let others = matches!(
            self,
            AccessLogType
                | ConnectionTerminationDetails
                | DownstreamTransportFailureReason
                | GrpcStatus
                | ResponseTrailersBytes
        );
        times || tries || others || self.is_of_the_wire()
    }

    /// Whether it counts bytes as they pass a connection.
    const fn is_of_the_wire(self) -> bool {
        use Fact::{
            DownstreamHeaderBytesReceived, DownstreamHeaderBytesSent, DownstreamWireBytesReceived,
            DownstreamWireBytesSent, UpstreamHeaderBytesReceived, UpstreamHeaderBytesSent, UpstreamWireBytesReceived,
            UpstreamWireBytesSent,
        };
        let heads = matches!(
            self,
            DownstreamHeaderBytesReceived
                | DownstreamHeaderBytesSent
                | UpstreamHeaderBytesReceived
                | UpstreamHeaderBytesSent
        );
        heads
            || matches!(
                self,
                DownstreamWireBytesReceived
                    | DownstreamWireBytesSent
                    | UpstreamWireBytesReceived
                    | UpstreamWireBytesSent
            )
    }

    /// What has to be kept for it.
    pub(super) const fn demands(self) -> Demands {
        Demands {
            moments: matches!(self, Self::RequestDuration | Self::RequestTxDuration),
            trailers: matches!(self, Self::ResponseTrailersBytes),
            wire: self.is_of_the_wire(),
        }
    }

    /// Whether it is a number.
    pub(super) const fn is_number(self) -> bool {
        use Fact::{
            BytesReceived, BytesSent, ConnectionId, DownstreamDirectRemotePort, DownstreamLocalPort,
            DownstreamRemotePort, Duration, GrpcStatusNumber, RequestDuration, RequestHeadersBytes, RequestTxDuration,
            ResponseCode, ResponseDuration, ResponseHeadersBytes, ResponseTrailersBytes, ResponseTxDuration,
            UpstreamConnectionId, UpstreamLocalPort, UpstreamRemotePort, UpstreamRequestAttemptCount,
        };
        let bytes = matches!(
            self,
            BytesReceived | BytesSent | RequestHeadersBytes | ResponseHeadersBytes | ResponseTrailersBytes
        );
        let times =
            matches!(self, Duration | RequestDuration | RequestTxDuration | ResponseDuration | ResponseTxDuration);
        let ports = matches!(
            self,
            DownstreamDirectRemotePort
                | DownstreamLocalPort
                | DownstreamRemotePort
                | UpstreamLocalPort
                | UpstreamRemotePort
        );
        let ids = matches!(self, ConnectionId | UpstreamConnectionId);
        let others = matches!(self, GrpcStatusNumber | ResponseCode | UpstreamRequestAttemptCount);
        bytes || times || ports || ids || others || self.is_of_the_wire()
    }
}

/// Commands with an argument.
pub(super) const WITH_ARGUMENT: [&str; 17] = [
    "CEL",
    "DYNAMIC_METADATA",
    "FILTER_STATE",
    "PATH",
    "REQ",
    "REQUEST_HEADER",
    "REQ_WITHOUT_QUERY",
    "QUERY_PARAM",
    "QUERY_PARAMS",
    "RESP",
    "RESPONSE_HEADER",
    "ENVIRONMENT",
    "START_TIME",
    "DOWNSTREAM_PEER_CERT_V_START",
    "DOWNSTREAM_PEER_CERT_V_END",
    "TYPED_CEL",
    "REQUESTED_SERVER_NAME",
];

/// The same of a request that has ended.
pub(super) const WITH_ARGUMENT_AT_THE_END: [&str; 4] = ["COMMON_DURATION", "EMIT_TIME", "RESPONSE_TRAILER", "TRAILER"];

/// Of a command that tells of metadata.
pub(super) const METADATA: &str = "tells of metadata of Envoy's, which this proxy does not keep; `FILTER_STATE(upstream_peer:FIELD:workload)`, \
     `UPSTREAM_CLUSTER` and `ROUTE_NAME` tell of endpoints and routes";
/// Of a command that only logs tell.
pub(super) const ONLY_AT_THE_END: &str = "tells of what is known only when a request has ended";

const HTTP3: &str = "tells of HTTP/3, which is not served";
const OWN_CERTIFICATE: &str = "tells of our own certificate, of which the URI is kept (`DOWNSTREAM_LOCAL_URI_SAN`) and the rest is at \
     /certs";
const CHAIN: &str = "tells of certificates above the client's own, which are looked at and not kept";
const ENDPOINT_CERTIFICATE: &str =
    "tells of the endpoint's certificate, of which the identity is kept (`UPSTREAM_PEER_URI_SAN`)";
const OTHER_NAMES: &str = "tells of names in certificates that are neither hosts, addresses, URIs nor mailboxes, which are not read \
     tells of names in certificates that are neither hosts, addresses, URIs nor mailboxes, which are not read";
const RESUMED: &str = "tells of sessions of TLS, which have no name in TLS 1.3";
const GROUP: &str = "tells of the groups of key exchange, which are not kept";
const HELLO: &str = "tells of fingerprints of what clients offer, which are not taken";
const NAMES: &str = "tells of names of endpoints, which are known by their addresses (`UPSTREAM_HOST`)";
const INTERNAL: &str = "tells of Envoy's internal listeners, which there are not";
const CLOSE: &str = "tells of who closed a connection, which flags and details say here (`RESPONSE_FLAGS`, \
     `RESPONSE_CODE_DETAILS`)";
const FILTERS: &str = "tells of what filters of Envoy say, and there are none";
const LOCAL_TIME: &str = "tells of times in the zone of the machine; times are told in UTC (`START_TIME`, `EMIT_TIME`)";
const DECODED: &str = "tells of heads without their compression (`REQUEST_HEADERS_BYTES`, `RESPONSE_HEADERS_BYTES`)";
const PHYSICAL: &str = "tells of the address that a connection was accepted at, of which the one that was meant is kept \
     (`DOWNSTREAM_LOCAL_ADDRESS`)";
const POOL: &str = "tells of how long a request has waited for a connection: `COMMON_DURATION(DS_RX_BEG:US_TX_BEG:ms)`";
const HANDSHAKE: &str = "tells of how long handshakes take, which is not measured";
const REPLY: &str = "tells of bodies of our own answers, whose reason is in `RESPONSE_CODE_DETAILS`";
const VIRTUAL: &str = "tells of virtual clusters, which Istio has not";
const CHAINS: &str = "tells of filter chains of Envoy's listeners, which there are not";
const FIRST: &str = "tells the first of several commands that says something; `REQ(a?b)` does it for headers";

/// Commands of Envoy that are not served, and why.
pub(super) const UNSERVED: [(&str, &str); 59] = [
    ("BYTES_RETRANSMITTED", HTTP3),
    ("PACKETS_RETRANSMITTED", HTTP3),
    ("ROUNDTRIP_DURATION", HTTP3),
    ("CLUSTER_METADATA", METADATA),
    ("METADATA", METADATA),
    ("UPSTREAM_METADATA", METADATA),
    ("COALESCE", FIRST),
    ("CUSTOM_FLAGS", FILTERS),
    ("PER_REQUEST_STATE", FILTERS),
    ("UPSTREAM_FILTER_STATE", FILTERS),
    ("TYPED_JSON", FILTERS),
    ("DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED", DECODED),
    ("DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT", DECODED),
    ("UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED", DECODED),
    ("UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT", DECODED),
    ("DOWNSTREAM_DETECTED_CLOSE_TYPE", CLOSE),
    ("DOWNSTREAM_LOCAL_CLOSE_REASON", CLOSE),
    ("UPSTREAM_DETECTED_CLOSE_TYPE", CLOSE),
    ("UPSTREAM_LOCAL_CLOSE_REASON", CLOSE),
    ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS", PHYSICAL),
    ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT", PHYSICAL),
    ("DOWNSTREAM_DIRECT_LOCAL_PORT", PHYSICAL),
    ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID", INTERNAL),
    ("DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID", INTERNAL),
    ("UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID", INTERNAL),
    ("DOWNSTREAM_HANDSHAKE_DURATION", HANDSHAKE),
    ("DOWNSTREAM_LOCAL_DNS_SAN", OWN_CERTIFICATE),
    ("DOWNSTREAM_LOCAL_EMAIL_SAN", OWN_CERTIFICATE),
    ("DOWNSTREAM_LOCAL_IP_SAN", OWN_CERTIFICATE),
    ("DOWNSTREAM_LOCAL_OTHERNAME_SAN", OWN_CERTIFICATE),
    ("DOWNSTREAM_LOCAL_SUBJECT", OWN_CERTIFICATE),
    ("UPSTREAM_LOCAL_DNS_SAN", OWN_CERTIFICATE),
    ("UPSTREAM_LOCAL_IP_SAN", OWN_CERTIFICATE),
    ("UPSTREAM_LOCAL_URI_SAN", OWN_CERTIFICATE),
    ("DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1", CHAIN),
    ("DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256", CHAIN),
    ("DOWNSTREAM_PEER_CHAIN_SERIALS", CHAIN),
    ("DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256", CHAIN),
    ("DOWNSTREAM_PEER_ISSUER_SERIAL", CHAIN),
    ("DOWNSTREAM_PEER_OTHERNAME_SAN", OTHER_NAMES),
    ("DOWNSTREAM_TLS_GROUP", GROUP),
    ("UPSTREAM_TLS_GROUP", GROUP),
    ("DOWNSTREAM_TLS_SESSION_ID", RESUMED),
    ("UPSTREAM_TLS_SESSION_ID", RESUMED),
    ("EMIT_TIME_LOCAL", LOCAL_TIME),
    ("START_TIME_LOCAL", LOCAL_TIME),
    ("FILTER_CHAIN_NAME", CHAINS),
    ("LOCAL_REPLY_BODY", REPLY),
    ("TLS_JA3_FINGERPRINT", HELLO),
    ("TLS_JA4_FINGERPRINT", HELLO),
    ("UPSTREAM_CONNECTION_POOL_READY_DURATION", POOL),
    ("UPSTREAM_HOST_NAME", NAMES),
    ("UPSTREAM_HOST_NAME_WITHOUT_PORT", NAMES),
    ("UPSTREAM_PEER_CERT", ENDPOINT_CERTIFICATE),
    ("UPSTREAM_PEER_DNS_SAN", ENDPOINT_CERTIFICATE),
    ("UPSTREAM_PEER_IP_SAN", ENDPOINT_CERTIFICATE),
    ("UPSTREAM_PEER_ISSUER", ENDPOINT_CERTIFICATE),
    ("UPSTREAM_PEER_SUBJECT", ENDPOINT_CERTIFICATE),
    ("VIRTUAL_CLUSTER_NAME", VIRTUAL),
];

/// Why a command of Envoy is not served; `None`: Envoy has no such command.
pub(super) fn why_not(name: &str) -> Option<&'static str> {
    if WITH_ARGUMENT_AT_THE_END.contains(&name) {
        return Some(ONLY_AT_THE_END);
    }
    UNSERVED.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
}

/// The fact of a name.
pub(super) fn fact(name: &str) -> Option<Fact> {
    FACTS.iter().find(|(_, text)| *text == name).map(|(fact, _)| *fact)
}

/// Every command that is served, in logs or everywhere.
pub(super) fn served(logs: bool) -> Vec<&'static str> {
    let facts = FACTS.iter().filter(|(fact, _)| logs || !fact.is_of_the_end());
    let at_the_end = WITH_ARGUMENT_AT_THE_END.into_iter().filter(|_| logs);
    facts.map(|(_, name)| *name).chain(WITH_ARGUMENT).chain(at_the_end).collect()
}
