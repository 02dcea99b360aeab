//! Istio `ProxyConfig.proxyHeaders`: which headers of its own a proxy adds. Without it all of Istio's default ones.

use http::HeaderValue;

use crate::api::proxy_config::{ForwardClientCert, HeaderOn, HeaderSwitch, ProxyHeaders};

/// What becomes of `server` in answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Server {
    /// Istio's name.
    Usual,
    /// What the endpoint says stays.
    Endpoints,
    /// This.
    Named(HeaderValue),
}

/// What of its own a proxy says in headers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnHeaders {
    /// `server` of answers.
    pub server: Server,
    /// Requests without `x-request-id` get one, those from outside a new one.
    pub request_id: bool,
    /// Endpoints are told how often a request was sent, in `x-envoy-attempt-count`.
    pub attempts: bool,
    /// What was done with a request is told in further `x-envoy-...` headers.
    pub doings: bool,
    /// Endpoints are told a host that was rewritten, in `x-forwarded-host`.
    pub host: bool,
    /// Endpoints are told the port that the client came to, in `x-forwarded-port`.
    pub port: bool,
    /// What a sidecar does with `x-forwarded-client-cert` of what comes in.
    pub client_cert: ForwardClientCert,
    /// What our own element of that holds: the certificate, its subject, its URIs and its DNS names; `None` = what is usual.
    pub client_cert_details: Option<[bool; 4]>,
}

impl From<&ProxyHeaders> for OwnHeaders {
    fn from(written: &ProxyHeaders) -> Self {
        let is_on = |switch: Option<HeaderSwitch>| switch.and_then(|switch| switch.disabled) != Some(true);
        let is_wanted = |switch: Option<HeaderOn>| switch.and_then(|switch| switch.enabled) == Some(true);
        let server = written.server.as_ref();
        let named = server.and_then(|server| HeaderValue::from_str(server.value.as_deref()?).ok());
        Self {
            server: match (server.and_then(|server| server.disabled), named) {
                (Some(true), _) => Server::Endpoints,
                (_, Some(name)) => Server::Named(name),
                (_, None) => Server::Usual,
            },
            request_id: is_on(written.request_id),
            attempts: is_on(written.attempt_count),
            doings: is_on(written.envoy_debug_headers),
            host: is_wanted(written.x_forwarded_host),
            port: is_wanted(written.x_forwarded_port),
            client_cert: written.forwarded_client_cert,
            client_cert_details: written.set_current_client_cert_details.map(|details| {
                let or = |given: Option<bool>, otherwise| given.unwrap_or(otherwise);
                [or(details.cert, false), or(details.subject, true), or(details.uri, true), or(details.dns, true)]
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn own(written: serde_json::Value) -> OwnHeaders {
        OwnHeaders::from(&serde_json::from_value::<ProxyHeaders>(written).unwrap())
    }

    #[test]
    fn what_is_not_said_is_as_usual() {
        let usual = own(json!({}));
        assert_eq!(usual.server, Server::Usual);
        assert!(usual.request_id && usual.attempts && usual.doings && !usual.host && !usual.port);
        assert_eq!((usual.client_cert, usual.client_cert_details), (ForwardClientCert::Undefined, None));
    }

    #[test]
    fn each_header_is_turned_off_or_on_by_itself() {
        let off = json!({"disabled": true});
        assert_eq!(own(json!({"server": {"disabled": true, "value": "x"}})).server, Server::Endpoints);
        assert_eq!(own(json!({"server": {"value": "x"}})).server, Server::Named(HeaderValue::from_static("x")));
        assert!(!own(json!({"requestId": off})).request_id);
        assert!(!own(json!({"attemptCount": off})).attempts);
        assert!(!own(json!({"envoyDebugHeaders": off})).doings);
        assert!(own(json!({"requestId": {"disabled": false}})).request_id);
        let on = json!({"enabled": true});
        let both = own(json!({"xForwardedHost": on, "xForwardedPort": on}));
        assert!(both.host && both.port);
        let details = own(json!({"setCurrentClientCertDetails": {"cert": true, "subject": false}}));
        assert_eq!(details.client_cert_details, Some([true, false, true, true]));
    }
}
