//! Who a client is, behind proxies that are trusted (Istio `numTrustedProxies`, Envoy `xff_num_trusted_hops`).

use std::net::{IpAddr, SocketAddr};

use routing::forwarded::client;

use super::{head::Head, name::Name};

/// What trusted proxies say of a request.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The client; `None`: they do not say, so it is whoever connected.
    pub(crate) address: Option<IpAddr>,
    /// The same as text; empty = none.
    pub(crate) text: Box<str>,
    /// What the client spoke to the first of them; `None`: they do not say.
    pub(crate) scheme: Option<&'static str>,
}

impl Origin {
    /// What so many proxies say.
    pub(crate) fn behind(proxies: u32, request: &Head) -> Box<Self> {
        let address = client(request.values(Name::XForwardedFor), proxies).map(|address| address.to_canonical());
        let scheme = request.str(Name::XForwardedProto).and_then(|scheme| match scheme {
            "https" => Some("https"),
            "http" => Some("http"),
            _ => None,
        });
        let text = address.map(|address| address.to_string()).unwrap_or_default().into_boxed_str();
        Box::new(Self { address, text, scheme })
    }

    /// The client, as logs show it: nobody says which port it came from.
    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        self.address.map(|address| SocketAddr::new(address, 0))
    }
}
