//! How a connection ends, and how the log says it.

use crate::net::standing::Outlived;

/// See the module. Flags are Envoy's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    /// Both sides said that they have sent everything.
    Done,
    /// No route is for it.
    NoRoute,
    /// The route names a service or subset that the configuration does not have.
    NoCluster,
    /// No service claims where the client meant to go (REGISTRY_ONLY).
    Blocked,
    /// There is no endpoint that may be used.
    NoEndpoint,
    /// No policy lets it in, or one keeps it out (`AuthorizationPolicy`): Envoy's details of that.
    Forbidden(Box<str>),
    /// Somebody outside says no, or could not be asked: Envoy's details of that.
    Denied(&'static str),
    /// `connectionPool` is exhausted.
    Overflow,
    /// No endpoint could be connected to; the reason in words.
    Connect(String),
    /// The client broke off.
    Client,
    /// The endpoint broke off.
    Endpoint,
    /// The client's TLS ended without saying so: something may be missing.
    ClientUnsaid,
    /// As [`Self::ClientUnsaid`], of the endpoint's.
    EndpointUnsaid,
    /// Nothing was sent for Istio's `tcp.idleTimeout`.
    Idle,
    /// It is as old as Istio's `tcp.maxConnectionDuration`.
    Old,
    /// It has outlived what let it in.
    Cut(Outlived),
}

impl Ending {
    /// Envoy's response flag.
    pub(super) fn flag(&self) -> &'static str {
        match self {
            Self::Done | Self::Idle | Self::Cut(_) | Self::Forbidden(_) => "-",
            Self::Denied(_) => "UAEX",
            Self::NoRoute => "NR",
            Self::NoCluster => "NC",
            Self::Blocked | Self::NoEndpoint => "UH",
            Self::Overflow => "UO",
            Self::Connect(_) => "UF",
            Self::Client | Self::ClientUnsaid => "DC",
            Self::Endpoint | Self::EndpointUnsaid => "UC",
            Self::Old => "DT",
        }
    }

    /// Why, in the place of response code details; empty = nothing to say.
    pub(super) fn details(&self) -> &str {
        match self {
            Self::Forbidden(why) => why,
            Self::Denied(why) => why,
            Self::Done => "",
            Self::NoRoute => "route_not_found",
            Self::NoCluster => "cluster_not_found",
            Self::Blocked => "block_all",
            Self::NoEndpoint => "no_healthy_upstream",
            Self::Overflow => "overflow",
            Self::Connect(_) => "connection_failure",
            Self::Client => "downstream_remote_disconnect",
            Self::Endpoint => "upstream_remote_disconnect",
            Self::ClientUnsaid => "downstream_ended_without_close_notify",
            Self::EndpointUnsaid => "upstream_ended_without_close_notify",
            Self::Idle => "tcp_session_idle_timeout",
            Self::Old => "max_connection_duration",
            Self::Cut(Outlived::Listener) => "listener_closed",
            Self::Cut(Outlived::Rule) => "rule_not_in_force",
        }
    }

    /// Whether something may be missing of what was sent.
    pub(super) fn is_abrupt(&self) -> bool {
        !matches!(self, Self::Done)
    }
}
