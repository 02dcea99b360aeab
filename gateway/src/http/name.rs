//! Field names that the data path knows by number, so that finding one in a head compares no text.

/// Declares the known names and their table.
macro_rules! names {
    ($($id:ident $text:literal,)*) => {
        /// A known field name, or [`Name::Other`].
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[repr(u8)]
        pub(crate) enum Name {
            /// Any other.
            Other,
            $(#[doc = $text] $id,)*
        }

        /// In the order of [`Name`]; lower case.
        const TABLE: &[(Name, &str)] = &[(Name::Other, ""), $((Name::$id, $text),)*];
    };
}

names! {
    Authorization "authorization",
    Connection "connection",
    ContentLength "content-length",
    ContentType "content-type",
    Cookie "cookie",
    Date "date",
    Expect "expect",
    Forwarded "forwarded",
    GrpcMessage "grpc-message",
    GrpcStatus "grpc-status",
    Host "host",
    Http2Settings "http2-settings",
    KeepAlive "keep-alive",
    Location "location",
    ProxyConnection "proxy-connection",
    Server "server",
    Te "te",
    Trailer "trailer",
    TransferEncoding "transfer-encoding",
    Upgrade "upgrade",
    UserAgent "user-agent",
    SecWebSocketAccept "sec-websocket-accept",
    SecWebSocketKey "sec-websocket-key",
    XEnvoyAttemptCount "x-envoy-attempt-count",
    XEnvoyDecorator "x-envoy-decorator-operation",
    XEnvoyExpectedTimeout "x-envoy-expected-rq-timeout-ms",
    XEnvoyExternalAddress "x-envoy-external-address",
    XEnvoyOriginalPath "x-envoy-original-path",
    XEnvoyOverloaded "x-envoy-overloaded",
    XEnvoyPeerMetadata "x-envoy-peer-metadata",
    XEnvoyPeerMetadataId "x-envoy-peer-metadata-id",
    XEnvoyServiceTime "x-envoy-upstream-service-time",
    XForwardedClientCert "x-forwarded-client-cert",
    XForwardedFor "x-forwarded-for",
    XForwardedProto "x-forwarded-proto",
    XRealIp "x-real-ip",
    XRequestId "x-request-id",
}

/// How many names there are, [`Name::Other`] among them.
pub(crate) const COUNT: usize = TABLE.len();

/// Slots of the hash table; a power of two.
const SLOTS: usize = 256;
/// What is tried after a slot that is taken.
const BUCKETS: [u8; SLOTS] = buckets();

const fn slot(name: &[u8]) -> usize {
    let (first, last) = (name[0] | 0x20, name[name.len() - 1] | 0x20);
    let middle = name[name.len() / 2] | 0x20;
    (name.len() * 31 + first as usize * 7 + last as usize * 3 + middle as usize * 17) % SLOTS
}

const fn buckets() -> [u8; SLOTS] {
    let mut buckets = [0; SLOTS];
    let mut number = 1;
    while number < TABLE.len() {
        let mut at = slot(TABLE[number].1.as_bytes());
        while buckets[at] != 0 {
            at = (at + 1) % SLOTS;
        }
        buckets[at] = number as u8;
        number += 1;
    }
    buckets
}

impl Name {
    /// The known name that this text is, in any case.
    pub(crate) fn of(text: &[u8]) -> Self {
        if text.is_empty() {
            return Self::Other;
        }
        let mut at = slot(text);
        while BUCKETS[at] != 0 {
            let (name, known) = TABLE[BUCKETS[at] as usize];
            if known.len() == text.len() && known.as_bytes().eq_ignore_ascii_case(text) {
                return name;
            }
            at = (at + 1) % SLOTS;
        }
        Self::Other
    }

    /// The name as text, lower-case; empty for [`Name::Other`].
    pub(crate) const fn text(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// Whether a proxy must not pass the field on (RFC 9110 section 7.6.1, RFC 9113 section 8.2.2).
    pub(crate) const fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
                | Self::Http2Settings
        )
    }

    /// Whether a field may follow a body (RFC 9110 section 6.5.1). Whoever merges trailers into heads, and takes `_` for `-`,
    /// would take the others for what the sender of the head has said.
    pub(crate) fn may_trail(text: &[u8]) -> bool {
        let dashed: Vec<u8> = text.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
        let begins = |with: &[u8]| dashed.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
        !Self::of(&dashed).is_for_heads() && !begins(b"x-envoy-") && !begins(b"x-forwarded-")
    }

    /// Whether a field means something only in a head: as a trailer it is dropped.
    const fn is_for_heads(self) -> bool {
        self.is_hop_by_hop()
            || matches!(
                self,
                Self::ContentLength
                    | Self::ContentType
                    | Self::Host
                    | Self::Trailer
                    | Self::Authorization
                    | Self::Expect
                    | Self::Cookie
                    | Self::Forwarded
                    | Self::XRealIp
                    | Self::XRequestId
            )
    }

    /// Whether `Connection` may not name the field as one of its own: removing it would change what a request means to
    /// whoever comes next.
    pub(crate) const fn is_end_to_end(self) -> bool {
        matches!(
            self,
            Self::Host
                | Self::ContentLength
                | Self::ContentType
                | Self::Authorization
                | Self::Cookie
                | Self::Forwarded
                | Self::XForwardedFor
                | Self::XForwardedProto
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        for (name, text) in &TABLE[1..] {
            assert_eq!(Name::of(text.as_bytes()), *name);
            assert_eq!(Name::of(text.to_ascii_uppercase().as_bytes()), *name);
            assert_eq!(Name::of(format!("{text}x").as_bytes()), Name::Other);
            assert_eq!(name.text(), *text);
        }
        assert_eq!(Name::of(b""), Name::Other);
    }
}
