//! The commands without arguments, and those that are known and not served.

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
    ConnectionTerminationDetails "CONNECTION_TERMINATION_DETAILS",
    DownstreamDirectRemoteAddress "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    DownstreamDirectRemoteAddressWithoutPort "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    DownstreamDirectRemotePort "DOWNSTREAM_DIRECT_REMOTE_PORT",
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
    Duration "DURATION",
    GrpcStatus "GRPC_STATUS",
    GrpcStatusNumber "GRPC_STATUS_NUMBER",
    Hostname "HOSTNAME",
    Protocol "PROTOCOL",
    RequestedServerName "REQUESTED_SERVER_NAME",
    RequestHeadersBytes "REQUEST_HEADERS_BYTES",
    ResponseCode "RESPONSE_CODE",
    ResponseCodeDetails "RESPONSE_CODE_DETAILS",
    ResponseDuration "RESPONSE_DURATION",
    ResponseFlags "RESPONSE_FLAGS",
    ResponseFlagsLong "RESPONSE_FLAGS_LONG",
    ResponseHeadersBytes "RESPONSE_HEADERS_BYTES",
    ResponseTxDuration "RESPONSE_TX_DURATION",
    RouteName "ROUTE_NAME",
    SpanId "SPAN_ID",
    StreamId "STREAM_ID",
    TraceId "TRACE_ID",
    UniqueId "UNIQUE_ID",
    UpstreamCluster "UPSTREAM_CLUSTER",
    UpstreamClusterRaw "UPSTREAM_CLUSTER_RAW",
    UpstreamHost "UPSTREAM_HOST",
    UpstreamLocalAddress "UPSTREAM_LOCAL_ADDRESS",
    UpstreamLocalAddressWithoutPort "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    UpstreamLocalPort "UPSTREAM_LOCAL_PORT",
    UpstreamPeerUriSan "UPSTREAM_PEER_URI_SAN",
    UpstreamProtocol "UPSTREAM_PROTOCOL",
    UpstreamRemoteAddress "UPSTREAM_REMOTE_ADDRESS",
    UpstreamRemoteAddressWithoutPort "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    UpstreamRemotePort "UPSTREAM_REMOTE_PORT",
    UpstreamRequestAttemptCount "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    UpstreamTlsCipher "UPSTREAM_TLS_CIPHER",
    UpstreamTlsVersion "UPSTREAM_TLS_VERSION",
    UpstreamTransportFailureReason "UPSTREAM_TRANSPORT_FAILURE_REASON",
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
        use Fact::{AccessLogType, ConnectionTerminationDetails, GrpcStatus, ResponseDuration, ResponseTxDuration};
        matches!(
            self,
            AccessLogType | ConnectionTerminationDetails | GrpcStatus | ResponseDuration | ResponseTxDuration
        )
    }

    /// Whether it is a number.
    pub(super) const fn is_number(self) -> bool {
        use Fact::{
            BytesReceived, BytesSent, DownstreamDirectRemotePort, DownstreamLocalPort, DownstreamRemotePort, Duration,
            GrpcStatusNumber, RequestHeadersBytes, ResponseCode, ResponseDuration, ResponseHeadersBytes,
            ResponseTxDuration, UpstreamLocalPort, UpstreamRemotePort, UpstreamRequestAttemptCount,
        };
        let bytes = matches!(self, BytesReceived | BytesSent | RequestHeadersBytes | ResponseHeadersBytes);
        let times = matches!(self, Duration | ResponseDuration | ResponseTxDuration);
        let ports = matches!(
            self,
            DownstreamDirectRemotePort
                | DownstreamLocalPort
                | DownstreamRemotePort
                | UpstreamLocalPort
                | UpstreamRemotePort
        );
        bytes || times || ports || matches!(self, GrpcStatusNumber | ResponseCode | UpstreamRequestAttemptCount)
    }
}

/// Commands with an argument.
pub(super) const WITH_ARGUMENT: [&str; 12] = [
    "CEL",
    "DYNAMIC_METADATA",
    "FILTER_STATE",
    "PATH",
    "REQ",
    "REQ_WITHOUT_QUERY",
    "QUERY_PARAM",
    "RESP",
    "ENVIRONMENT",
    "START_TIME",
    "DOWNSTREAM_PEER_CERT_V_START",
    "DOWNSTREAM_PEER_CERT_V_END",
];

/// Commands of which nothing is known before a request has ended.
const OF_THE_END: [&str; 9] = [
    "COMMON_DURATION",
    "REQUEST_DURATION",
    "REQUEST_TX_DURATION",
    "RESPONSE_TRAILERS_BYTES",
    "TRAILER",
    "UPSTREAM_HEADER_BYTES_RECEIVED",
    "UPSTREAM_HEADER_BYTES_SENT",
    "UPSTREAM_WIRE_BYTES_RECEIVED",
    "UPSTREAM_WIRE_BYTES_SENT",
];

/// Commands that tell of what there is in Envoy only, or that this proxy keeps nothing of.
const OF_ENVOY: [&str; 29] = [
    "BYTES_RETRANSMITTED",
    "CLUSTER_METADATA",
    "COALESCE",
    "CONNECTION_ID",
    "CUSTOM_FLAGS",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_DNS_SAN",
    "DOWNSTREAM_LOCAL_IP_SAN",
    "DOWNSTREAM_LOCAL_SUBJECT",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256",
    "DOWNSTREAM_PEER_CHAIN_SERIALS",
    "DOWNSTREAM_PEER_OTHERNAME_SAN",
    "DOWNSTREAM_TLS_SESSION_ID",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "FILTER_CHAIN_NAME",
    "LOCAL_REPLY_BODY",
    "METADATA",
    "PER_REQUEST_STATE",
    "START_TIME_LOCAL",
    "TLS_JA3_FINGERPRINT",
    "TLS_JA4_FINGERPRINT",
    "TYPED_JSON",
    "UPSTREAM_CONNECTION_ID",
    "UPSTREAM_FILTER_STATE",
    "UPSTREAM_HOST_NAME",
    "UPSTREAM_METADATA",
    "UPSTREAM_PEER_SUBJECT",
    "VIRTUAL_CLUSTER_NAME",
];

/// Of a command that nothing is kept for.
pub(super) const NOT_KEPT: &str = "tells of what this proxy does not keep";
/// Of a command that only logs tell.
pub(super) const ONLY_AT_THE_END: &str = "tells of what is known only when a request has ended";

/// Why a command of Envoy is not served; `None`: Envoy has no such command.
pub(super) fn why_not(name: &str) -> Option<&'static str> {
    if OF_THE_END.contains(&name) {
        Some(ONLY_AT_THE_END)
    } else if OF_ENVOY.contains(&name) {
        Some(NOT_KEPT)
    } else {
        None
    }
}

/// The fact of a name.
pub(super) fn fact(name: &str) -> Option<Fact> {
    FACTS.iter().find(|(_, text)| *text == name).map(|(fact, _)| *fact)
}

/// Every command that is served, in logs or everywhere.
pub(super) fn served(logs: bool) -> Vec<&'static str> {
    let facts = FACTS.iter().filter(|(fact, _)| logs || !fact.is_of_the_end());
    facts.map(|(_, name)| *name).chain(WITH_ARGUMENT).collect()
}
