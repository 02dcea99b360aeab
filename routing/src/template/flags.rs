//! Envoy's response flags: in short, in words, and as bits.

/// In the order of Envoy's bits.
const FLAGS: [(&str, &str); 29] = [
    ("LH", "FailedLocalHealthCheck"),
    ("UH", "NoHealthyUpstream"),
    ("UT", "UpstreamRequestTimeout"),
    ("LR", "LocalReset"),
    ("UR", "UpstreamRemoteReset"),
    ("UF", "UpstreamConnectionFailure"),
    ("UC", "UpstreamConnectionTermination"),
    ("UO", "UpstreamOverflow"),
    ("NR", "NoRouteFound"),
    ("DI", "DelayInjected"),
    ("FI", "FaultInjected"),
    ("RL", "RateLimited"),
    ("UAEX", "UnauthorizedExternalService"),
    ("RLSE", "RateLimitServiceError"),
    ("DC", "DownstreamConnectionTermination"),
    ("URX", "UpstreamRetryLimitExceeded"),
    ("SI", "StreamIdleTimeout"),
    ("IH", "InvalidEnvoyRequestHeaders"),
    ("DPE", "DownstreamProtocolError"),
    ("UMSDR", "UpstreamMaxStreamDurationReached"),
    ("RFCF", "ResponseFromCacheFilter"),
    ("NFCF", "NoFilterConfigFound"),
    ("DT", "DurationTimeout"),
    ("UPE", "UpstreamProtocolError"),
    ("NC", "NoClusterFound"),
    ("OM", "OverloadManagerTerminated"),
    ("DF", "DnsResolutionFailed"),
    ("DO", "DropOverload"),
    ("DR", "DownstreamRemoteReset"),
];

/// The bits of flags in short, as `UF,URX`.
pub(crate) fn bits(short: &[u8]) -> i64 {
    short.split(|byte| *byte == b',').fold(0, |bits, flag| {
        bits | FLAGS.iter().position(|(known, _)| known.as_bytes() == flag).map_or(0, |at| 1 << at)
    })
}

/// Appends flags in words, of those in short.
pub fn write_long(short: &str, out: &mut Vec<u8>) {
    for (number, flag) in short.split(',').enumerate() {
        if number > 0 {
            out.push(b',');
        }
        let long = FLAGS.iter().find(|(known, _)| *known == flag).map_or(flag, |(_, long)| long);
        out.extend_from_slice(long.as_bytes());
    }
}
