//! Who may ask the admin pages: programs of this machine, and pages that came from here. A page of somebody else in the same
//! browser may not, neither by a form nor by a name of its own that leads to 127.0.0.1 (DNS rebinding).

use http::{HeaderMap, HeaderName, Method, Request, Uri, header};
use routing::host::strip_port;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

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
