//! Where a redirect of the application leads.

use http::Uri;

/// What is to be asked next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The application, there.
    Here { tls: bool, port: u16, path: String },
    /// Somebody else, which is as good as an answer.
    Elsewhere,
}

/// Where `location` leads from what was asked; `hosts` are names of the application itself.
pub(super) fn follow(location: &str, (tls, port): (bool, u16), path: &str, hosts: &[&str]) -> Next {
    if let Some(rest) = location.strip_prefix("//") {
        return follow(&format!("{}://{rest}", if tls { "https" } else { "http" }), (tls, port), path, hosts);
    }
    if location.starts_with('/') {
        return Next::Here { tls, port, path: location.to_owned() };
    }
    let Ok(uri) = location.parse::<Uri>() else { return Next::Elsewhere };
    let Some(host) = uri.host() else {
        // Beside the last part of the path.
        let folder = path.split('?').next().and_then(|it| it.rsplit_once('/')).map_or("", |(folder, _)| folder);
        return Next::Here { tls, port, path: format!("{folder}/{location}") };
    };
    if !hosts.iter().any(|own| own.eq_ignore_ascii_case(host.trim_matches(['[', ']']))) {
        return Next::Elsewhere;
    }
    let secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Next::Elsewhere,
    };
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |it| it.as_str());
    Next::Here { tls: secure, port, path: path.to_owned() }
}
