//! Why the proxy answers a request itself, and what the client, the access log and the retry loop see of it.

use std::{borrow::Cow, sync::Arc};

use routing::{authority::BadAuthority, fault::AbortError};
use tls::jwt::Refusal;

use super::external::{DENIED, ERROR, verdict::Denial};

/// A request that got no answer from upstream. Source of codes, flags and details: Envoy's response flags and response
/// code details.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    /// No virtual host or no route matched.
    NoRoute,
    /// The route names a service or subset that the configuration does not have.
    NoCluster,
    /// No service has this host, and nothing says where the client meant to go.
    UnknownHost,
    /// No service has this host, and the mesh allows no others (Istio's `block_all`).
    Blocked,
    /// The cluster has no endpoint that may be used.
    NoHealthyEndpoint,
    /// A circuit breaker is open (`connectionPool`).
    Overflow,
    /// The endpoint refused, was unreachable or failed the TLS handshake; the reason in words.
    Connect(String),
    /// The endpoint did not accept within `connectTimeout`.
    ConnectTimeout,
    /// The connection ended before the response head.
    UpstreamClosed,
    /// A new plain connection ended before a byte of an answer: what servers of TLS do with plain HTTP, most of them without
    /// an alert.
    UpstreamSilent,
    /// A new connection ended before a byte of an answer by an alert of TLS; the reason in words.
    UpstreamRefused(String),
    /// The endpoint reset the stream.
    UpstreamReset,
    /// The endpoint does not speak HTTP properly; the reason in words.
    UpstreamProtocol(String),
    /// `HTTPRoute.timeout` passed.
    RouteTimeout,
    /// `retries.perTryTimeout` passed and no retry was left.
    PerTryTimeout,
    /// The client is gone.
    DownstreamClosed,
    /// The client does not speak HTTP properly; the reason in words.
    BadRequest(&'static str),
    /// The path cannot be normalised.
    BadPath,
    /// HTTP/1.1 without Host.
    MissingHost,
    /// HTTP/1.0 and older.
    LowVersion,
    /// Neither HTTP/1.0 nor HTTP/1.1 where one of them has to stand (RFC 9110 section 15.6.6).
    BadVersion,
    /// A transfer coding other than chunked (RFC 9112 section 6.1).
    UnknownCoding,
    /// CONNECT, or TRACE with a body.
    MethodNotServed,
    /// The request line alone is longer than a head may be.
    TargetTooLong,
    /// The head was not complete in time.
    HeadTimeout,
    /// The body brought nothing for too long.
    BodyTimeout,
    /// The host's server asks for other client certificates than the one that took this connection (RFC 9110 section
    /// 15.5.20).
    Misdirected,
    /// The rule that let this connection in is not in force any more.
    Outdated,
    /// A TLS handshake where plain HTTP is spoken.
    TlsToPlain,
    /// More than 60 KiB or 100 headers.
    HeadTooLarge,
    /// Memory is short.
    Overloaded,
    /// No policy lets it in, or one keeps it out (`AuthorizationPolicy`): the id of its rule, `none` = none that lets it in.
    Forbidden(Arc<str>),
    /// Somebody outside who was asked says no (`CUSTOM`), and how.
    Denied(Box<Denial>),
    /// Nobody outside could be asked (`CUSTOM`); the status for that.
    Unasked(u16),
    /// The body is longer than what somebody outside is to be shown.
    BodyTooLarge,
    /// More than a rate limit lets through.
    RateLimited {
        /// `namespace/name/rule` of the RateLimit.
        limit: Arc<str>,
        /// What the client is told.
        status: u16,
        /// A service counted.
        global: bool,
    },
    /// A service that counts said nothing, and nothing passes without its word: the name of the limit.
    LimiterFailed(Arc<str>),
    /// A token is not right (`RequestAuthentication`), and the `WWW-Authenticate` to say so.
    Token(Refusal, Box<str>),
    /// A fault on purpose (`fault.abort`).
    Abort(AbortError),
    /// A defect of ours.
    Internal(&'static str),
}

/// One row of Envoy's tables.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// Response flag.
    pub(crate) flag: &'static str,
    /// Response code details.
    pub(crate) details: Cow<'static, str>,
    /// Text for the client: why.
    pub(crate) body: Cow<'static, str>,
    /// Whether the connection may be used for the next request.
    pub(crate) keep: bool,
}

const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";
/// What stands before the reason of a reset.
pub(crate) const RESET_REASON: &str = "reset reason: ";

/// See [`Failure::UpstreamSilent`].
pub(crate) const SILENT: &str = "the endpoint closed the new connection without a word: it fails, or it speaks TLS, which a \
                                 DestinationRule's tls would have to say";

impl Failure {
    /// What the client and the log see. One row per variant: a new one does not compile until its row is here.
    #[expect(clippy::too_many_lines, reason = "a table")]
    pub(crate) fn answer(&self) -> Answer {
        let row = |status, flag, details: &'static str, body: &'static str, keep| Answer {
            status,
            flag,
            details: Cow::Borrowed(details),
            body: Cow::Borrowed(body),
            keep,
        };
        let reset = |status, flag, reason: &'static str, why: &str| Answer {
            status,
            flag,
            details: Cow::Owned(details(reason, why)),
            body: if why.is_empty() {
                Cow::Owned(format!("{RESET}{reason}"))
            } else {
                Cow::Owned(format!("{RESET}{reason}, transport failure reason: {why}"))
            },
            keep: true,
        };
        match self {
            Self::NoRoute => row(404, "NR", "route_not_found", "no route for this host and path", true),
            Self::NoCluster => row(
                503,
                "NC",
                "cluster_not_found",
                "the route names a service or subset that is not in the configuration",
                true,
            ),
            Self::UnknownHost => {
                row(502, "-", "direct_response", "no service in the mesh has this host and port", true)
            }
            Self::Blocked => row(
                502,
                "-",
                "direct_response",
                "no service in the mesh has this host and port, and no others are allowed (outboundTrafficPolicy: REGISTRY_ONLY)",
                true,
            ),
            Self::NoHealthyEndpoint => row(503, "UH", "no_healthy_upstream", "no healthy upstream", true),
            Self::Overflow => reset(503, "UO", "overflow", ""),
            Self::Connect(why) => reset(503, "UF", "remote connection failure", why),
            Self::ConnectTimeout => reset(503, "UF", "connection timeout", ""),
            Self::UpstreamClosed => reset(503, "UC", "connection termination", ""),
            Self::UpstreamSilent => reset(503, "UC", "connection termination", SILENT),
            Self::UpstreamRefused(why) => reset(503, "UC", "connection termination", why),
            Self::UpstreamReset => reset(503, "UR", "remote reset", ""),
            Self::UpstreamProtocol(why) => reset(502, "UPE", "protocol error", why),
            Self::RouteTimeout => row(504, "UT", "response_timeout", "upstream request timeout", true),
            Self::PerTryTimeout => row(504, "UT", "upstream_per_try_timeout", "upstream request timeout", true),
            Self::DownstreamClosed => row(0, "DC", "downstream_remote_disconnect", "", false),
            Self::BadRequest(why) => row(400, "DPE", "http1.codec_error", why, false),
            Self::BadPath => row(400, "-", "path_normalization_failed", "the path cannot be normalised", false),
            Self::MissingHost => row(400, "-", "missing_host_header", "the Host header is missing", false),
            Self::LowVersion => row(426, "-", "low_version", "HTTP/1.1 or newer is needed", false),
            Self::BadVersion => {
                row(505, "DPE", "http1.codec_error", "the version of the request is not HTTP/1.1", false)
            }
            Self::UnknownCoding => {
                row(501, "DPE", "http1.codec_error", "the only transfer coding accepted is chunked", false)
            }
            Self::MethodNotServed => {
                row(405, "DPE", "http1.codec_error", "CONNECT is not served, and TRACE not with a body", false)
            }
            Self::TargetTooLong => {
                row(414, "DPE", "http1.codec_error", "the request line is longer than 60 KiB", false)
            }
            Self::HeadTimeout => row(
                408,
                "-",
                "request_header_timeout",
                "the request head was not complete within 10 s of its first byte",
                false,
            ),
            Self::BodyTimeout => row(408, "-", "request_timeout", "the request body brought nothing for 60 s", false),
            Self::Misdirected => row(
                421,
                "-",
                "misdirected_request",
                "this host asks for other client certificates than this connection has met: it needs one of its own",
                true,
            ),
            Self::Outdated => row(
                421,
                "-",
                "connection_outdated",
                "what is asked of client certificates has changed since this connection was opened: open another one",
                false,
            ),
            Self::TlsToPlain => row(
                400,
                "DPE",
                "tls_to_plain_http",
                "this port speaks plain HTTP, and a TLS handshake was sent to it: use http://",
                false,
            ),
            Self::HeadTooLarge => row(
                431,
                "DPE",
                "request_headers_too_large",
                "the request head has more than 60 KiB or 100 headers",
                false,
            ),
            Self::Forbidden(rule) => Answer {
                details: Cow::Owned(format!("rbac_access_denied_matched_policy[{rule}]")),
                ..row(403, "-", "", "RBAC: access denied", true)
            },
            Self::Denied(denial) => row(denial.status, "UAEX", DENIED, "", true),
            Self::Unasked(status) => row(*status, "UAEX", ERROR, "external authorization gave no verdict", true),
            Self::BodyTooLarge => row(413, "-", "request_payload_too_large", "Payload Too Large", false),
            Self::RateLimited { limit, status, global } => Answer {
                details: Cow::Owned(format!("{}_rate_limited[{limit}]", if *global { "request" } else { "local" })),
                ..row(*status, "RL", "", "too many requests: the rate limit is reached", true)
            },
            Self::LimiterFailed(limit) => Answer {
                details: Cow::Owned(format!("rate_limiter_error[{limit}]")),
                ..row(500, "RLSE", "", "the rate limit service does not answer", true)
            },
            Self::Token(refusal, _) => {
                let status = if *refusal == Refusal::WrongAudience { 403 } else { 401 };
                let text = refusal.to_string();
                let details = format!("jwt_authn_access_denied{{{}}}", text.replace(' ', "_"));
                Answer { details: details.into(), body: text.into(), ..row(status, "-", "", "", true) }
            }
            // By gRPC status; what is no gRPC is told 200, as by Envoy.
            Self::Abort(AbortError::Grpc(_)) => row(200, "FI", "fault_filter_abort", "fault filter abort", true),
            Self::Abort(AbortError::Http(status)) => {
                row(*status, "FI", "fault_filter_abort", "fault filter abort", true)
            }
            Self::Overloaded => row(503, "OM", "overload", "the proxy is short of memory", false),
            Self::Internal(why) => row(500, "-", "internal_error", why, false),
        }
    }
}

impl Failure {
    /// A word for the log when it is the client that is turned away, by what it sent or by what is asked of it; `None` when
    /// routes or endpoints are the reason, of which the access log tells.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::BadRequest(_) => Some("BadRequest"),
            Self::BadPath => Some("BadPath"),
            Self::MissingHost => Some("MissingHost"),
            Self::LowVersion => Some("LowVersion"),
            Self::BadVersion => Some("BadVersion"),
            Self::UnknownCoding => Some("UnknownCoding"),
            Self::MethodNotServed => Some("MethodNotServed"),
            Self::TargetTooLong => Some("TargetTooLong"),
            Self::HeadTimeout => Some("HeadTimeout"),
            Self::BodyTimeout => Some("BodyTimeout"),
            Self::Misdirected => Some("Misdirected"),
            Self::Outdated => Some("Outdated"),
            Self::TlsToPlain => Some("TlsToPlain"),
            Self::HeadTooLarge => Some("HeadTooLarge"),
            Self::Overloaded => Some("Overloaded"),
            Self::Forbidden(_) => Some("Forbidden"),
            Self::BodyTooLarge => Some("BodyTooLarge"),
            Self::RateLimited { .. } => Some("RateLimited"),
            Self::Token(..) => Some("Token"),
            Self::NoRoute
            | Self::NoCluster
            | Self::UnknownHost
            | Self::Blocked
            | Self::NoHealthyEndpoint
            | Self::Overflow
            | Self::Connect(_)
            | Self::ConnectTimeout
            | Self::UpstreamClosed
            | Self::UpstreamSilent
            | Self::UpstreamRefused(_)
            | Self::UpstreamReset
            | Self::UpstreamProtocol(_)
            | Self::RouteTimeout
            | Self::PerTryTimeout
            | Self::DownstreamClosed
            | Self::Denied(_)
            | Self::Unasked(_)
            | Self::Abort(_)
            | Self::LimiterFailed(_)
            | Self::Internal(_) => None,
        }
    }
}

impl From<BadAuthority> for Failure {
    fn from(bad: BadAuthority) -> Self {
        match bad {
            BadAuthority::Missing => Self::MissingHost,
            BadAuthority::Host | BadAuthority::Port => Self::BadRequest(bad.text()),
        }
    }
}

/// Envoy's form: the reason and what the transport says of it, without spaces.
fn details(reason: &str, why: &str) -> String {
    let bar = if why.is_empty() { "" } else { "|" };
    let text = format!("upstream_reset_before_response_started{{{reason}{bar}{why}}}");
    text.replace(|c: char| c.is_whitespace(), "_")
}

/// The response flags of a request that was held back on purpose as well, in the order of Envoy's list.
pub(crate) fn with_delay(flags: &'static str) -> &'static str {
    match flags {
        "-" => "DI",
        "UH" => "UH,DI",
        "UT" => "UT,DI",
        "UR" => "UR,DI",
        "UF" => "UF,DI",
        "UC" => "UC,DI",
        "UO" => "UO,DI",
        "UO,UF" => "DI,UO,UF",
        "UO,UC" => "DI,UO,UC",
        "UO,UR" => "DI,UO,UR",
        "UO,UT" => "DI,UO,UT",
        "UO,DC" => "DI,UO,DC",
        "URX,DC" => "DI,URX,DC",
        "FI" => "DI,FI",
        "DC" => "DI,DC",
        "DPE" => "DI,DPE",
        "UPE" => "DI,UPE",
        "NC" => "DI,NC",
        "URX" => "DI,URX",
        "URX,UF" => "DI,URX,UF",
        "URX,UC" => "DI,URX,UC",
        "URX,UR" => "DI,URX,UR",
        "URX,UT" => "DI,URX,UT",
        other => other,
    }
}

/// gRPC status of a local reply (Envoy's HTTP to gRPC mapping).
pub(crate) const fn grpc_status(http: u16) -> u16 {
    match http {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_says_its_reason_in_the_body_and_without_spaces_in_the_details() {
        let answer = Failure::Connect("TLS: unknown CA".into()).answer();
        assert_eq!((answer.status, answer.flag), (503, "UF"));
        assert_eq!(answer.details, "upstream_reset_before_response_started{remote_connection_failure|TLS:_unknown_CA}");
        assert!(answer.body.ends_with("transport failure reason: TLS: unknown CA"));
        let answer = Failure::UpstreamClosed.answer();
        assert_eq!(answer.details, "upstream_reset_before_response_started{connection_termination}");
    }

    #[test]
    fn local_replies_map_to_grpc_as_envoy_does() {
        assert_eq!([404, 503, 403, 401, 400, 504, 418].map(grpc_status), [12, 14, 7, 16, 13, 14, 2]);
    }
}
