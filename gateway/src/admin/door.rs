//! Who may ask the admin pages: programs of this machine, and pages that came from here. A page of somebody else in the same
//! browser may not, neither by a form nor by a name of its own that leads to 127.0.0.1 (DNS rebinding). Other machines may not,
//! whatever address is bound, unless `--admin-peers` lets them.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, Method, Request, Uri, header};
use routing::host::strip_port;

use crate::settings::AdminPeers;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Somebody on another machine; the extension of a request that is from this one does not exist.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stranger(SocketAddr);

impl Stranger {
    /// Who is at the other end of a connection (`far`, `near`), unless that is this machine.
    pub(super) fn of(far: SocketAddr, near: SocketAddr) -> Option<Self> {
        let ip = far.ip().to_canonical();
        (!ip.is_loopback() && ip != near.ip().to_canonical()).then_some(Self(far))
    }
}

/// Why somebody on another machine is refused; `None`: he is not.
pub(super) fn strangers_refusal<B>(request: &Request<B>, peers: AdminPeers) -> Option<String> {
    let Stranger(address) = request.extensions().get()?;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match peers {
        AdminPeers::All => None,
        AdminPeers::Read if reads => None,
        AdminPeers::Read => Some(format!(
            "{} is another machine, and those may only read here; --admin-peers all lets them change what runs",
            address.ip()
        )),
        AdminPeers::Local => Some(format!(
            "{} is another machine; start this process with --admin-peers read to let others read, or with all to let them \
             change what runs",
            address.ip()
        )),
    }
}

/// Why a request is refused; `None`: it is not.
pub(super) fn refusal<B>(request: &Request<B>) -> Option<String> {
    let headers = request.headers();
    let Some(host) = host(request.uri(), headers) else {
        // Browsers always send one.
        return (headers.contains_key(header::HOST)).then(|| "the Host header cannot be read".to_owned());
    };
    if !is_here(strip_port(host)) {
        return Some(format!(
            "the Host `{host}` is neither an address nor localhost: use http://127.0.0.1 and the port"
        ));
    }
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(origin) = text(&header::ORIGIN).filter(|origin| origin.strip_prefix("http://") != Some(host)) {
        return Some(format!("the page that asks is from `{origin}`, and not from here"));
    }
    let site = text(&FETCH_SITE).is_none_or(|site| matches!(site, "same-origin" | "none"));
    // A link may lead here; what it leads to, the other page does not get to see.
    let followed = request.method() == Method::GET && text(&FETCH_MODE) == Some("navigate");
    (!site && !followed).then(|| "the page that asks is from elsewhere".to_owned())
}

fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let mut given = headers.get_all(header::HOST).iter();
    match (given.next(), given.next()) {
        (Some(host), None) => host.to_str().ok(),
        (None, _) => uri.authority().map(|authority| authority.as_str()),
        (Some(_), Some(_)) => None,
    }
}

/// No other name can be trusted to lead here and nowhere else.
fn is_here(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = bare.to_ascii_lowercase();
    bare.parse::<std::net::IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri("/drain");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        refusal(&request.body(()).unwrap()).is_some()
    }

    #[test]
    fn other_machines_are_refused_unless_they_are_let() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let near = at("10.0.0.9:15000");
        for here in ["127.0.0.1:4000", "[::1]:4000", "[::ffff:127.0.0.1]:4000", "10.0.0.9:4000", "[::ffff:10.0.0.9]:1"]
        {
            assert!(Stranger::of(at(here), near).is_none(), "{here}");
        }
        let stranger = Stranger::of(at("10.0.0.8:4000"), near).unwrap();
        let refused = |method: &str, peers| {
            let mut request = Request::builder().method(method).body(()).unwrap();
            assert!(strangers_refusal(&request, peers).is_none(), "this machine");
            request.extensions_mut().insert(stranger);
            strangers_refusal(&request, peers).is_some()
        };
        let all = [AdminPeers::Local, AdminPeers::Read, AdminPeers::All];
        assert_eq!(all.map(|peers| refused("GET", peers)), [true, false, false]);
        assert_eq!(all.map(|peers| refused("POST", peers)), [true, true, false]);
    }

    #[test]
    fn names_of_others_are_refused() {
        for host in
            ["127.0.0.1:15000", "localhost", "localhost:1", "LOCALHOST", "a.localhost", "[::1]:15000", "10.0.0.1"]
        {
            assert!(!refused("GET", &[("host", host)]), "{host}");
        }
        for host in
            ["evil.example", "evil.example:15000", "127.0.0.1.evil.example", "localhost.evil.example", "", "a b"]
        {
            assert!(refused("GET", &[("host", host)]), "{host}");
        }
        assert!(refused("GET", &[("host", "127.0.0.1"), ("host", "evil.example")]));
    }

    #[test]
    fn pages_of_others_are_refused() {
        const HOST: (&str, &str) = ("host", "127.0.0.1:15000");
        assert!(!refused("POST", &[HOST]), "curl");
        assert!(!refused("POST", &[HOST, ("origin", "http://127.0.0.1:15000"), ("sec-fetch-site", "same-origin")]));
        for origin in
            ["http://evil.example", "null", "https://127.0.0.1:15000", "http://127.0.0.1:15001", "http://localhost"]
        {
            assert!(refused("POST", &[HOST, ("origin", origin)]), "{origin}");
            assert!(refused("GET", &[HOST, ("origin", origin)]), "{origin}");
        }
        assert!(refused("POST", &[HOST, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]), "a form");
        assert!(refused("GET", &[HOST, ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")]));
        assert!(!refused("GET", &[HOST, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]), "a link");
    }
}
